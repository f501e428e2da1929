"""Softmax over the last axis: scores to probabilities.

    y[n, k] = exp(x[n, k] - m) / sum over j of exp(x[n, j] - m),  m = max over j of x[n, j], so that exp cannot overflow

A row that holds NaN or plus infinity, or nothing but minus infinity, gives NaN throughout.

The ladder: softmax_reference (NumPy), softmax_cpu (Numba, sums in float64); softmax is softmax_cpu.
"""

from __future__ import annotations

import math

import numpy as np

from . import threads as _threads
from .arrays import Array, matrix, result
from .jit import jit

__all__ = ["check_scores", "softmax", "softmax_cpu", "softmax_reference"]


def softmax_reference(x: Array) -> Array:
    """Softmax of each row of x dtype[n, k]."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as documented
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_scores(x: Array) -> None:
    """Refuse rows without a score: ValueError."""
    if x.shape[1] == 0:
        raise ValueError(f"softmax: got shape {tuple(x.shape)}; each row must hold at least one score")


@jit
def _softmax(x, out, start, stop):
    for n in range(start, stop):
        row, place = x[n], out[n]
        largest = row[0]
        for k in range(len(row)):
            largest = max(largest, row[k])
        total = 0.0
        for k in range(len(row)):
            place[k] = math.exp(row[k] - largest)
            total += place[k]
        for k in range(len(row)):
            place[k] = place[k] / total


def softmax_cpu(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Softmax of each row of x float32[n, k], k >= 1; ``out`` may be x. TypeError, ValueError for other arrays."""
    x = matrix("softmax: x", x)
    check_scores(x)
    out = result("softmax", out, x.shape)
    _threads.run(_softmax, x.shape[0], _threads.resolve_threads(threads), x, out)
    return out


softmax = softmax_cpu
