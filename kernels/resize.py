"""Maps of another size, larger or smaller: ``size`` = (height, width).

A pixel's centre in the result lies at (oh + 0.5) * h / height - 0.5 rows of x, and so for columns.

    nearest    out[n, oh, ow, c] = x[n, row, column, c]      of the pixel in which the centre lies
    bilinear   by straight lines between the two rows, and the two columns, that it lies between; beyond the first and the last
               there are no others:

    top    = x[lower, left] + (x[lower, right] - x[lower, left]) * share_w
    bottom = x[upper, left] + (x[upper, right] - x[upper, left]) * share_w
    out    = top + (bottom - top) * share_h

Nothing is averaged where maps become smaller (no ``antialias``): pixels are left out. Where a centre lies TensorFlow finds in
float32, and so do all versions here: in large maps that is some 1e-5 from the truth.

The ladder: resize_reference (NumPy), resize_cpu (Numba, rows in parallel); resize is resize_cpu. Memory-bound.
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
    "ResizeStep",
    "check_pixels",
    "is_bilinear",
    "pixels_per_pixel",
    "resize",
    "resize_cpu",
    "resize_reference",
]

Interpolation = Literal["nearest", "bilinear"]


def is_bilinear(name: str, interpolation: str) -> bool:
    """Which of the two it is; ValueError, by the operator's name, for any other."""
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"{name}: interpolation: got {interpolation!r}; it must be 'nearest' or 'bilinear'")
    return interpolation == "bilinear"


def check_pixels(x: Array) -> None:
    """Refuse images without pixels: ValueError."""
    if x.shape[1] * x.shape[2] == 0:
        raise ValueError(f"resize: got shape {tuple(x.shape)}; there must be a pixel")


def pixels_per_pixel(size: int, wanted: int) -> float:
    """How far it is from one of ``wanted`` pixels to the next, in pixels of a map that has ``size`` of them, as a float32."""
    return float(np.float32(size) / np.float32(wanted)) if wanted else 0.0


def _centres(size: int, wanted: int) -> Array:
    """Where the centres of ``wanted`` pixels lie, float32, in a map whose own ``size`` pixels begin at whole numbers."""
    return (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * np.float32(pixels_per_pixel(size, wanted))


def _between(size: int, wanted: int) -> tuple[Array, Array, Array]:
    """For each position along one axis of the result: the pixel before it, the one behind it, and how far it is from the one to
    the other, float32."""
    at = _centres(size, wanted) - np.float32(0.5)
    before, behind = np.floor(at), np.ceil(at)
    return np.maximum(before, 0).astype(int), np.minimum(behind, size - 1).astype(int), at - before


def resize_reference(x: Array, size: int | Sequence[int], *, interpolation: Interpolation = "bilinear") -> Array:
    """Maps x dtype[n, h, w, c] as dtype[n, *size, c]."""
    height, width = pair("size", size)
    if not is_bilinear("resize", interpolation):
        rows, columns = (
            np.minimum(_centres(*axis).astype(int), axis[0] - 1) for axis in ((x.shape[1], height), (x.shape[2], width))
        )
        return np.ascontiguousarray(x[:, rows][:, :, columns])
    lower, upper, share_h = _between(x.shape[1], height)
    left, right, share_w = _between(x.shape[2], width)
    share_h, share_w = share_h.astype(x.dtype)[:, None, None], share_w.astype(x.dtype)[:, None]
    wide = x[:, :, left] + (x[:, :, right] - x[:, :, left]) * share_w
    return np.ascontiguousarray(wide[:, lower] + (wide[:, upper] - wide[:, lower]) * share_h)


@dataclass(frozen=True, kw_only=True)
class ResizeStep(Step):
    """Maps of another size; an item is a row of output pixels.

    n, height, width     of the maps that are read
    rows, columns        of the maps that are written
    bilinear             1 where their pixels lie between those, 0 where they are copies of the nearest
    per_row, per_column  rows and columns of the maps that are read for each that is written
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    rows: int
    columns: int
    bilinear: int
    per_row: float
    per_column: float

    @classmethod
    def of(cls, x: Map, out: Map, images: tuple[int, int, int], size: tuple[int, int], bilinear: bool) -> ResizeStep:
        """Of ``images`` = (n, height, width)."""
        (n, height, width), (rows, columns) = images, size
        return cls(
            x=x, out=out, n=n, height=height, width=width, rows=rows, columns=columns, bilinear=int(bilinear),
            per_row=pixels_per_pixel(height, rows), per_column=pixels_per_pixel(width, columns),
        )  # fmt: skip

    @property
    def items(self) -> int:
        return self.n * self.rows


_view = view_of(ResizeStep)


@jit
def _centre(index, scale):
    """As ``_centres``, of one position. The product is exact in float64 and then rounded: in float32 it would be contracted with
    the subtraction behind it into one rounding, which TensorFlow does not do."""
    return np.float32((index + 0.5) * np.float64(scale))


@jit
def _around(index, scale, size):
    """As ``_between``, of one position."""
    at = _centre(index, scale) - np.float32(0.5)
    before = math.floor(at)
    return max(before, 0), min(math.ceil(at), size - 1), at - np.float32(before)


@ResizeStep.native
def _resize_item(step, item, scratch):
    s = _view(step)
    width, channels = s.width, s.x.channels
    n, oh = divmod(item, s.rows)
    if not s.bilinear:
        row = (n * s.height + min(math.floor(_centre(oh, s.per_row)), s.height - 1)) * width
        for ow in range(s.columns):
            seen = pixel_of(s.x, row + min(math.floor(_centre(ow, s.per_column)), width - 1))
            out = pixel_of(s.out, item * s.columns + ow)
            for c in range(channels):
                out[c] = seen[c]
        return
    lower, upper, share_h = _around(oh, s.per_row, s.height)
    lower, upper = (n * s.height + lower) * width, (n * s.height + upper) * width
    for ow in range(s.columns):
        left, right, share_w = _around(ow, s.per_column, width)
        x00, x01 = pixel_of(s.x, lower + left), pixel_of(s.x, lower + right)
        x10, x11 = pixel_of(s.x, upper + left), pixel_of(s.x, upper + right)
        out = pixel_of(s.out, item * s.columns + ow)
        for c in range(channels):
            top = x00[c] + (x01[c] - x00[c]) * share_w
            bottom = x10[c] + (x11[c] - x10[c]) * share_w
            out[c] = top + (bottom - top) * share_h


def resize_cpu(
    x: Array,
    size: int | Sequence[int],
    *,
    interpolation: Interpolation = "bilinear",
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Bring maps to another size.

    x              float32[n, h, w, c], a pixel or more
    size           (height, width) in pixels, or one number for both
    interpolation  "nearest" or "bilinear"
    out            float32[n, height, width, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank, no pixels, a size below one, or another interpolation.
    """
    x = images("resize: x", x)
    (height, width), bilinear = pair("size", size), is_bilinear("resize", interpolation)
    check_pixels(x)
    n, h, w, c = x.shape
    out = result("resize", out, (n, height, width, c))
    run(ResizeStep.of(Map.of(x), Map.of(out), (n, h, w), (height, width), bilinear), resolve_threads(threads), x, out)
    return out


resize = resize_cpu
