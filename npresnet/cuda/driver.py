"""NVIDIA's driver, asked by handle, address and number of bytes: for what each call of a network needs.

Numba asks it the same, and looks before at contexts, arrays and streams, each time: some thousand calls of Python, once.
"""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["checked", "driver", "simulated", "stream_handle", "wait_for"]


# cached, because an import statement costs as much as a call of the driver, each time


@functools.cache
def simulated() -> bool:
    """Whether there is no driver, but Numba's simulator."""
    from numba import config

    return bool(config.ENABLE_CUDASIM)


@functools.cache
def driver() -> Any:
    """The driver's functions, each of which returns a tuple: an error, and results."""
    from cuda.bindings import driver as functions

    return functions


def checked(answer: tuple[Any, ...]) -> Any:
    """The driver's result; RuntimeError with its words for an error."""
    if int(answer[0]) != 0:
        _, text = driver().cuGetErrorString(answer[0])
        raise RuntimeError(text.decode() if isinstance(text, bytes) else str(answer[0]))
    return answer[1] if len(answer) > 1 else None


def stream_handle(stream: Any) -> int:
    """A stream of Numba's in the driver's terms."""
    return int(stream.handle)


def wait_for(stream: Any) -> None:
    """Wait until all that is queued on a stream of Numba's is done; None: the default stream. The simulator never waits."""
    if not simulated():
        checked(driver().cuStreamSynchronize(0 if stream is None else stream_handle(stream)))
