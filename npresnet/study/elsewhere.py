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

__all__ = ["call"]

_CHILD = "from npresnet.study.elsewhere import _answer; _answer()"


def call(what: str, environment: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` of this package, by another Python with ``environment`` besides this one's.

    what  is being done, for the message

    Raises what the function raises of the package's own errors; UsageError where that process ends in another way.
    """
    done = subprocess.run(
        [sys.executable, "-c", _CHILD], input=pickle.dumps((function, arguments)), env=os.environ | environment,
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
        raise UsageError(f"{what} failed in a process of its own: {last[0]}")
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
