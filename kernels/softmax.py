"""Softmax over the last axis: scores to probabilities.

    y[n, k] = exp(x[n, k] - m) / sum over j of exp(x[n, j] - m),  m = max over j of x[n, j], so that exp cannot overflow

A row that holds NaN or plus infinity, or nothing but minus infinity, gives NaN throughout.

The ladder: softmax_reference (NumPy), softmax_cpu (Numba, sums in float64); softmax is softmax_cpu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .arrays import Array, matrix, result
from .steps.intrinsics import pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = ["SoftmaxStep", "check_scores", "softmax", "softmax_cpu", "softmax_reference"]


def softmax_reference(x: Array) -> Array:
    """Softmax of each row of x dtype[n, k]."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as documented
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_scores(x: Array) -> None:
    """Refuse rows without a score: ValueError."""
    if x.shape[1] == 0:
        raise ValueError(f"softmax: got shape {tuple(x.shape)}; each row must hold at least one score")


@dataclass(frozen=True, kw_only=True)
class SoftmaxStep(Step):
    """Softmax over the channels of each of ``pixels`` pixels; an item is so many of them that claiming it costs little."""

    x: Map
    out: Map
    pixels: int

    @property
    def items(self) -> int:
        return -(-self.pixels // max(1, _NUMBERS // self.x.channels))


_NUMBERS = 1024  # of an item: some microseconds' work, beside which claiming it, some 60 ns, is nothing

_view = view_of(SoftmaxStep)


@SoftmaxStep.native
def _softmax_item(step, item, scratch):
    s = _view(step)
    pixels = max(1, _NUMBERS // s.x.channels)
    for pixel in range(item * pixels, min((item + 1) * pixels, s.pixels)):
        row, place = pixel_of(s.x, pixel), pixel_of(s.out, pixel)
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
    run(SoftmaxStep(x=Map.of(x), out=Map.of(out), pixels=len(x)), resolve_threads(threads), x, out)
    return out


softmax = softmax_cpu
