"""Which kernels this process has compiled, and what is said of it."""

from __future__ import annotations

import logging

from .cache import NOWHERE, lasting_directory

__all__ = ["compiled", "compiling", "not_kept", "unkept"]

compiled: list[str] = []
"""The names of the kernels that this process has compiled, not found in the cache."""

unkept: list[str] = []
"""Those among them that could not be written to the cache."""

_log = logging.getLogger("npresnet")


def compiling(name: str, into: list[str], machine: str) -> None:
    """Note in ``into`` that a kernel is about to be compiled; before the first one, say what takes so long."""
    if not into:
        directory = lasting_directory()
        kept = f"once, for they are kept in {directory}" if directory else f"each time, for {NOWHERE}"
        _log.warning("npresnet: compiling kernels for this %s, some seconds; %s", machine, kept)
    into.append(name)


def not_kept(name: str, reason: str) -> None:
    """Note that a kernel could not be written to the cache; of the first one, say so. Where no cache lasts, that was said."""
    if not unkept and (directory := lasting_directory()):
        _log.warning(
            "npresnet: kernels cannot be kept in %s (%s): the next process compiles them again", directory, reason
        )
    unkept.append(name)
