"""Activations of the user's own, which run on the processor alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import UsageError

__all__ = ["compiled"]


def compiled(custom: Mapping[str, Callable[[float], float]] | None, device: str) -> dict[str, str]:
    """{name: activation in the table of functions} of the user's own activations. Raises UsageError."""
    if not custom:
        return {}
    if device != "cpu":
        raise UsageError(
            f"custom: got {', '.join(map(repr, custom))} with device={device!r}; they run on the CPU alone"
        )
    from ..kernels.custom import register

    try:
        return {name: register(name, function) for name, function in custom.items()}
    except ValueError as error:
        raise UsageError(f"custom: {error}") from None
