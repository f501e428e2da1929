"""Work on a stream recorded as a CUDA graph, to be queued again and again as one piece."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .driver import checked, driver, simulated, stream_handle

__all__ = ["Recorded", "record", "wait_for_all"]

_alone = threading.Lock()
"""Held while something is being recorded, and by whoever waits for all that a card does: the driver refuses such a wait as long
as any stream is recorded, with an error for the thread that waits, and the recording is lost, too."""


def wait_for_all() -> None:
    """Wait until all that is queued on the current card is done, whichever stream and whichever library's it is."""
    if not simulated():  # which never waits
        with _alone:
            checked(driver().cuCtxSynchronize())


class Recorded:
    """A recorded piece of work. Made by ``record``."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        weakref.finalize(self, driver().cuGraphExecDestroy, graph).atexit = False

    def queue(self, stream: Any) -> None:
        """Queue all of it on ``stream``."""
        checked(driver().cuGraphLaunch(self._graph, stream_handle(stream)))


def record(stream: Any, queue: Callable[[Any], None]) -> Recorded | None:
    """What ``queue`` queues on ``stream``, recorded and not run; None where that cannot be: in the simulator, or when
    something in it cannot be recorded, which a warning says."""
    if simulated():
        return None
    try:
        with _alone:
            return _record(stream, queue)
    except Exception as error:  # the work itself is right, it ran before: going on step by step is only slower
        logging.getLogger("npresnet").warning(
            "npresnet: the steps could not be recorded as a CUDA graph (%s); they are queued one by one", error
        )
        return None


def _record(stream: Any, queue: Callable[[Any], None]) -> Recorded:
    from numba import cuda

    handle = stream_handle(stream)
    mode = driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL  # other threads go on with theirs
    checked(driver().cuStreamBeginCapture(handle, mode))
    graph = None
    try:
        with cuda.defer_cleanup():  # memory that is freed meanwhile would end the recording
            queue(stream)
    finally:  # ended in any case, or the stream could not be used again
        error, graph = driver().cuStreamEndCapture(handle)
    checked((error,))
    try:
        return Recorded(checked(driver().cuGraphInstantiate(graph, 0)))
    finally:
        driver().cuGraphDestroy(graph)
