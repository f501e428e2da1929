"""A part of a study in a process of its own: what kernels are made for, widths of registers and tiles, is fixed when a process
imports them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UsageError

__all__ = ["ProcessEnded", "call"]

_CHILD = "from npresnet.study.elsewhere import _answer; _answer()"


class ProcessEnded(UsageError):
    """The other process has ended without an answer; ``how``: by which signal or status, and its last words."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(f"{what} failed in a process of its own ({how})")
        self.how = how


def call(
    what: str, environment: Mapping[str, str], function: Callable[..., Any], *arguments: Any, limit: float | None = None
) -> Any:
    """``function(*arguments)`` of this package, by another Python with ``environment`` besides this one's.

    what   is being done, for the message
    limit  seconds after which that process is killed

    Raises UsageError as the function; ProcessEnded where that process ends without an answer; TimeoutError after ``limit``.
    """
    command = [sys.executable, "-c", _CHILD]
    given = pickle.dumps((function, arguments))
    try:
        done = subprocess.run(
            command, input=given, env=os.environ | environment, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{what}: no answer after {limit} seconds") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        raise ProcessEnded(what, ", ".join([how, *last]))
    found = pickle.loads(done.stdout)
    if isinstance(found, UsageError):
        raise found
    return found


def _answer() -> None:
    """In the other process: do what is asked on stdin; its answer goes to what was stdout, where nobody else can write."""
    function, arguments = pickle.load(sys.stdin.buffer)
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        try:
            found = function(*arguments)
        except UsageError as error:
            found = error
        pickle.dump(found, answer)
