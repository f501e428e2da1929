"""Times as a study states them: the median of some runs, how far they spread, and on what machine that was."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.threads import available_threads, run
from ..peers.machine import describe
from ..peers.measure import summary

__all__ = ["Ceilings", "Timing", "ceilings", "measured", "timing_of"]

_COPIED = 1 << 26  # bytes: more than any cache but the largest servers' holds


@dataclass(frozen=True)
class Timing:
    """Seconds: the median of ``repeats`` runs after one that does not count, and the quartiles between which half of them lie."""

    seconds: float
    quartiles: tuple[float, float]
    repeats: int


@dataclass(frozen=True)
class Ceilings:
    """What this machine can do at most, as it was measured just now.

    peak       FLOP per second of fused multiply-adds in registers, on ``threads`` threads, the best of some tries
    bandwidth  bytes per second read and written while 64 MB are copied, on as many threads, the best of some tries
    """

    machine: str
    threads: int
    peak: float
    bandwidth: float
    how: str = (
        "peak: twelve independent vectors multiplied and added to in registers, best of 5; bandwidth: 64 MB copied, bytes "
        "read and written, best of 5"
    )


def timing_of(samples: Sequence[float]) -> Timing:
    """Of the seconds of some runs."""
    found = summary([samples])
    low, high = found["quartiles"]
    return Timing(found["median"], (low, high), len(samples))


def measured(call: Callable[[], Any], repeats: int = 5) -> Timing:
    """``repeats`` runs of ``call``, after one that does not count."""
    call()
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return timing_of(samples)


def ceilings(threads: int | None = None) -> Ceilings:
    """Measure this machine; takes about two seconds, and some more where the loop is to be compiled."""
    from .roofline import fma_peak  # here, because it takes Numba

    threads = threads or available_threads()
    return Ceilings(describe(), threads, fma_peak(threads), _bandwidth(threads))


def _bandwidth(threads: int, repeats: int = 5) -> float:
    source, to = np.zeros(_COPIED, np.uint8), np.empty(_COPIED, np.uint8)

    def copy(start: int, stop: int) -> None:
        np.copyto(to[start:stop], source[start:stop])

    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run(copy, _COPIED, threads)
        best = min(best, time.perf_counter() - start)
    return 2 * _COPIED / best
