"""The logistic function: y = 1 / (1 + exp(-x)). NaN stays NaN.

The ladder: sigmoid_reference (NumPy), sigmoid_cpu (Numba, in float64 inside); sigmoid is sigmoid_cpu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .arrays import Array, floats, result
from .steps.intrinsics import part_of, pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = ["SigmoidStep", "sigmoid", "sigmoid_cpu", "sigmoid_reference"]


_ROW = 1024  # numbers that are one pixel for the public function


def sigmoid_reference(x: Array) -> Array:
    """1 / (1 + exp(-x)) for an array of any float dtype and shape."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite: then the result is 0, as it should be
        return 1 / (1 + np.exp(-x))


@dataclass(frozen=True, kw_only=True)
class SigmoidStep(Step):
    """The logistic function of ``pixels`` pixels; an item is one of ``blocks`` parts of them."""

    x: Map
    out: Map
    pixels: int
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(SigmoidStep)


@SigmoidStep.native
def _sigmoid_item(step, item, scratch):
    s = _view(step)
    first, last = part_of(s.pixels, item, s.blocks, 1)
    for pixel in range(first, last):
        x, out = pixel_of(s.x, pixel), pixel_of(s.out, pixel)
        for c in range(len(x)):
            out[c] = 1.0 / (1.0 + math.exp(-np.float64(x[c])))


def sigmoid_cpu(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """1 / (1 + exp(-x)) of x float32, of any shape; ``out`` may be x itself. TypeError for another dtype."""
    x = floats("sigmoid: x", x)
    out = result("sigmoid", out, x.shape)
    threads = resolve_threads(threads)
    channels = math.gcd(x.size, _ROW) or 1  # whatever its shape: rows that are long, but enough to share
    pixels = x.size // channels
    rows, place = (Map.of(array.reshape(pixels, channels)) for array in (x, out))
    run(SigmoidStep(x=rows, out=place, pixels=pixels, blocks=min(4 * threads, pixels)), threads, x, out)
    return out


sigmoid = sigmoid_cpu
