"""Rows of length one: each row over the square root of the sum of its squares.

    y[n, k] = x[n, k] / max(sqrt(sum over j of x[n, j]**2), least)

The ladder: unitnorm_reference (NumPy), unitnorm_cpu (Numba, sums in float64); unitnorm is unitnorm_cpu.
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

__all__ = ["UnitNormStep", "unitnorm", "unitnorm_cpu", "unitnorm_reference"]


def unitnorm_reference(x: Array, *, least: float) -> Array:
    """Each row of x dtype[n, k] over its length, or over ``least`` if that is larger."""
    with np.errstate(all="ignore"):  # a length that is infinite makes zeros, and of infinity NaN
        length = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
        result: Array = x / np.maximum(length, x.dtype.type(least))
    return result


@dataclass(frozen=True, kw_only=True)
class UnitNormStep(Step):
    """The channels of each of ``pixels`` pixels over their length; an item is a pixel."""

    x: Map
    out: Map
    least: float
    pixels: int

    @property
    def items(self) -> int:
        return self.pixels


_view = view_of(UnitNormStep)


@UnitNormStep.native
def _unitnorm_item(step, item, scratch):
    s = _view(step)
    row, place = pixel_of(s.x, item), pixel_of(s.out, item)
    total = 0.0
    for k in range(len(row)):
        total += np.float64(row[k]) * row[k]
    length = math.sqrt(total)
    length = s.least if length < s.least else length
    for k in range(len(row)):
        place[k] = row[k] / length


def unitnorm_cpu(x: Array, *, least: float, out: Array | None = None, threads: int | None = 1) -> Array:
    """Each row of x float32[n, k] over its length, or over ``least`` if that is larger; ``out`` may be x.

    TypeError, ValueError for other arrays.
    """
    x = matrix("unitnorm: x", x)
    out = result("unitnorm", out, x.shape)
    run(UnitNormStep(x=Map.of(x), out=Map.of(out), least=least, pixels=len(x)), resolve_threads(threads), x, out)
    return out


unitnorm = unitnorm_cpu
