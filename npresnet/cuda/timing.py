"""How long the card takes, by the card's own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from .driver import checked, driver, simulated, stream_handle
from .recorded import record

__all__ = ["timed"]


def timed(
    stream: Any, queues: Sequence[Callable[[Any], None]], rounds: int = 1, prepare: Callable[[], None] = lambda: None
) -> list[list[float]]:
    """Seconds on the card of each piece of work, by rounds: one list for each of them.

    All pieces, with events between them, are recorded as one CUDA graph, after a run that compiles what is new: so they follow
    each other as fast as the card can, and not as fast as the host queues them. ``prepare`` queues what comes before each
    round. The simulator, which has no card, takes no time.
    """
    from numba import cuda

    if simulated():
        return [[0.0] * len(queues) for _ in range(rounds)]
    events = [cuda.event() for _ in range(len(queues) + 1)]

    def queue_all(stream: Any, recording: bool = True) -> None:
        _mark(events[0], stream, recording)
        for queue, event in zip(queues, events[1:], strict=True):
            queue(stream)
            _mark(event, stream, recording)

    prepare()
    for queue in queues:
        queue(stream)
    recorded = record(stream, queue_all)
    seconds = []
    for _ in range(rounds):
        prepare()
        if recorded is not None:
            recorded.queue(stream)
        else:
            queue_all(stream, recording=False)
        stream.synchronize()
        seconds.append([a.elapsed_time(b) / 1e3 for a, b in pairwise(events)])
    return seconds


def _mark(event: Any, stream: Any, recording: bool) -> None:
    """Note the time when the stream gets here; ``recording``: whenever the graph that is being recorded does."""
    flags = driver().CUevent_record_flags
    flag = flags.CU_EVENT_RECORD_EXTERNAL if recording else flags.CU_EVENT_RECORD_DEFAULT
    at = driver().CUevent(int(event.handle))
    checked(driver().cuEventRecordWithFlags(at, stream_handle(stream), int(flag)))
