"""Times as a study states them: the middle of some runs, how far they spread, and on what machine that was."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels.threads import available_threads, run
from ..peers.machine import describe
from ..peers.measure import summary

__all__ = ["Ceilings", "Timing", "ceilings", "measured", "timing_of", "timings_of_parts"]

Array = npt.NDArray[Any]

_COPIED = 1 << 26  # bytes: more than any cache but the largest servers' holds


@dataclass(frozen=True)
class Timing:
    """Seconds: the middle of ``repeats`` runs after one that does not count, and the quartiles between which half of them lie. The
    middle is the median or, where times of parts are to add up, the mean of that half."""

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


def timings_of_parts(samples: Array) -> list[Timing]:
    """Of each part of some runs, float64[runs, parts]: its mean over the half of the runs whose whole times lie in the middle, and
    between which times it lay in them. Medians would not add up: of fifty parts, each is undisturbed in most runs, but no run is."""
    quarter = len(samples) // 4
    kept = samples[np.argsort(samples.sum(axis=1))[quarter : len(samples) - quarter]]
    return [Timing(float(part.mean()), (float(part.min()), float(part.max())), len(samples)) for part in kept.T]


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
