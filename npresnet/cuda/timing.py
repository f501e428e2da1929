"""How long the card takes, by the card's own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["timed"]


def timed(stream: Any, queues: Sequence[Callable[[Any], None]], launches: int = 1) -> list[float]:
    """Seconds on the card of each piece of work: all are queued with events between them, and only then waited for.
    ``launches``: of how many kernels each piece is, at most. The simulator, which has no card, takes none."""
    from numba import cuda

    from ..kernels.cuda.fused import hold
    from ..kernels.cuda.launch import SIMULATED

    if SIMULATED:
        return [0.0] * len(queues)
    events = [cuda.event() for _ in range(len(queues) + 1)]
    hold(stream, 1e-4 * len(events) * launches)  # queueing a step takes some 50 us
    events[0].record(stream)
    for queue, event in zip(queues, events[1:], strict=True):
        queue(stream)
        event.record(stream)
    stream.synchronize()
    return [a.elapsed_time(b) / 1e3 for a, b in pairwise(events)]
