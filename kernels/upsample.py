"""Up-sampling: maps that are ``size`` = (a, b) times as high and as wide.

    nearest    out[n, oh, ow, c] = x[n, oh // a, ow // b, c]
    bilinear   by straight lines between the two rows, and the two columns, that a pixel's centre lies between:

    top    = x[lower, left] + (x[lower, right] - x[lower, left]) * share_w            a centre is at (oh + 0.5) / a - 0.5
    bottom = x[upper, left] + (x[upper, right] - x[upper, left]) * share_w            rows of x; beyond the first and the last
    out    = top + (bottom - top) * share_h                                           row of x there are no others

Where a centre lies TensorFlow finds in float32, and so do all versions here: in large maps that is some 1e-5 from the truth.

The ladder: upsample_reference (NumPy), upsample_cpu (Numba, rows in parallel); upsample is upsample_cpu. Memory-bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .arrays import Array, images, result
from .geometry import pair
from .jit import jit
from .steps.intrinsics import pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = [
    "Interpolation",
    "UpSampleStep",
    "is_bilinear",
    "pixels_per_pixel",
    "upsample",
    "upsample_cpu",
    "upsample_reference",
]

Interpolation = Literal["nearest", "bilinear"]


def is_bilinear(interpolation: str) -> bool:
    """Which of the two it is; ValueError for any other."""
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"upsample: interpolation: got {interpolation!r}; it must be 'nearest' or 'bilinear'")
    return interpolation == "bilinear"


def pixels_per_pixel(size: int, factor: int) -> float:
    """How far it is from one pixel of the result to the next, in pixels of the map that has ``size`` of them, as a float32."""
    return float(np.float32(size) / np.float32(size * factor)) if size else 0.0


def _between(size: int, factor: int) -> tuple[Array, Array, Array]:
    """For each position along one axis of the result: the pixel before it, the one behind it, and how far it is from the one to
    the other, float32."""
    centre = np.arange(size * factor, dtype=np.float32) + np.float32(0.5)
    at = centre * np.float32(pixels_per_pixel(size, factor)) - np.float32(0.5)
    before, behind = np.floor(at), np.ceil(at)
    return np.maximum(before, 0).astype(int), np.minimum(behind, size - 1).astype(int), at - before


def upsample_reference(x: Array, size: int | Sequence[int], *, interpolation: Interpolation = "nearest") -> Array:
    """Maps x dtype[n, h, w, c], ``size`` times as large: dtype[n, a * h, b * w, c]."""
    a, b = pair("size", size)
    if not is_bilinear(interpolation):
        return x.repeat(a, axis=1).repeat(b, axis=2)
    lower, upper, share_h = _between(x.shape[1], a)
    left, right, share_w = _between(x.shape[2], b)
    share_h, share_w = share_h.astype(x.dtype)[:, None, None], share_w.astype(x.dtype)[:, None]
    wide = x[:, :, left] + (x[:, :, right] - x[:, :, left]) * share_w
    return np.ascontiguousarray(wide[:, lower] + (wide[:, upper] - wide[:, lower]) * share_h)


@dataclass(frozen=True, kw_only=True)
class UpSampleStep(Step):
    """Maps made larger; an item is a row of output pixels.

    n, height, width     of the maps that are read
    a, b                 how many times as many rows and columns there are to be
    bilinear             1 where they lie between pixels, 0 where they are copies of the nearest
    per_row, per_column  rows and columns of the maps that are read for each that is written
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    a: int
    b: int
    bilinear: int
    per_row: float
    per_column: float

    @classmethod
    def of(cls, x: Map, out: Map, images: tuple[int, int, int], size: tuple[int, int], bilinear: bool) -> UpSampleStep:
        """Of ``images`` = (n, height, width)."""
        (n, height, width), (a, b) = images, size
        return cls(
            x=x, out=out, n=n, height=height, width=width, a=a, b=b, bilinear=int(bilinear),
            per_row=pixels_per_pixel(height, a), per_column=pixels_per_pixel(width, b),
        )  # fmt: skip

    @property
    def items(self) -> int:
        return self.n * self.height * self.a


_view = view_of(UpSampleStep)


@jit
def _around(index, scale, size):
    """As ``_between``, of one position. The product is exact in float64 and then rounded: in float32 it would be contracted with
    the subtraction into one rounding, which TensorFlow does not do."""
    at = np.float32((index + 0.5) * np.float64(scale)) - np.float32(0.5)
    before = math.floor(at)
    return max(before, 0), min(math.ceil(at), size - 1), at - np.float32(before)


@UpSampleStep.native
def _upsample_item(step, item, scratch):
    s = _view(step)
    width, wide, channels = s.width, s.width * s.b, s.x.channels
    n, oh = divmod(item, s.height * s.a)
    if not s.bilinear:
        row = (n * s.height + oh // s.a) * width
        for ow in range(wide):
            seen, out = pixel_of(s.x, row + ow // s.b), pixel_of(s.out, item * wide + ow)
            for c in range(channels):
                out[c] = seen[c]
        return
    lower, upper, share_h = _around(oh, s.per_row, s.height)
    lower, upper = (n * s.height + lower) * width, (n * s.height + upper) * width
    for ow in range(wide):
        left, right, share_w = _around(ow, s.per_column, width)
        x00, x01 = pixel_of(s.x, lower + left), pixel_of(s.x, lower + right)
        x10, x11 = pixel_of(s.x, upper + left), pixel_of(s.x, upper + right)
        out = pixel_of(s.out, item * wide + ow)
        for c in range(channels):
            top = x00[c] + (x01[c] - x00[c]) * share_w
            bottom = x10[c] + (x11[c] - x10[c]) * share_w
            out[c] = top + (bottom - top) * share_h


def upsample_cpu(
    x: Array,
    size: int | Sequence[int],
    *,
    interpolation: Interpolation = "nearest",
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Make maps larger.

    x              float32[n, h, w, c]
    size           (a, b), how many times as high and as wide, or one number for both
    interpolation  "nearest" or "bilinear"
    out            float32[n, a * h, b * w, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank, a size below one, or another interpolation.
    """
    x = images("upsample: x", x)
    (a, b), bilinear = pair("size", size), is_bilinear(interpolation)
    n, h, w, c = x.shape
    out = result("upsample", out, (n, a * h, b * w, c))
    run(UpSampleStep.of(Map.of(x), Map.of(out), (n, h, w), (a, b), bilinear), resolve_threads(threads), x, out)
    return out


upsample = upsample_cpu
