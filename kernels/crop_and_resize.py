"""Regions of maps, each brought to one size: what a detector's heads see of a box (RoIAlign with one sample for each pixel).

A box is (y1, x1, y2, x2) in shares of the map, from 0 in the centre of its first pixel to 1 in that of its last. Of ``size`` = (a, b)
samples the first and the last lie on the box's own edges:

    y = y1 * (h - 1) + i * ((y2 - y1) * (h - 1) / (a - 1))            i = 0..a-1; in the middle of the box for a = 1

    top    = x[floor(y), left] + (x[floor(y), right] - x[floor(y), left]) * (share of the way from left to right)
    bottom = the same of row ceil(y)
    out    = top + (bottom - top) * (share of the way from top to bottom)

A sample beyond the map is zero, and rounding may put one there whose box ends with it. So every operation is rounded to float32 by
itself, as TensorFlow does it: contracted to FMA, a few samples of a picture would be zero where TensorFlow's are not. Like this all
have its bits.

The ladder: crop_and_resize_reference (NumPy), crop_and_resize_cpu (Numba, boxes in parallel); crop_and_resize is
crop_and_resize_cpu. Memory-bound. Source: ``tf.image.crop_and_resize``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, floats, images, result
from .geometry import pair
from .numba_later import carray
from .steps.intrinsics import float_pointer, pixel_of
from .steps.loop import run
from .steps.records import Address, Map, Step, view_of
from .threads import resolve_threads

__all__ = ["CropAndResizeStep", "crop_and_resize", "crop_and_resize_cpu", "crop_and_resize_reference"]


def _check(x: Array, boxes: Array) -> None:
    """Refuse boxes that are not those of the maps, and maps without pixels: ValueError."""
    if boxes.shape[2] != 4 or boxes.shape[0] != x.shape[0]:
        raise ValueError(
            f"crop_and_resize: got boxes of shape {tuple(boxes.shape)} for maps of shape {tuple(x.shape)}; they must be "
            "[n, k, 4], k for each of the n maps"
        )
    if x.shape[1] * x.shape[2] == 0:
        raise ValueError(f"crop_and_resize: got shape {tuple(x.shape)}; there must be a pixel")


def _samples(first: Array, last: Array, pixels: int, count: int) -> Array:
    """Where the samples lie along one axis, float32[..., count]."""
    end, one = np.float32(pixels - 1), np.float32(1)
    if count == 1:
        return (np.float32(0.5) * (first + last) * end)[..., None]
    step = (last - first) * end / (np.float32(count) - one)
    return (first * end)[..., None] + np.arange(count, dtype=np.float32) * step[..., None]


def crop_and_resize_reference(x: Array, boxes: Array, *, size: int | Sequence[int]) -> Array:
    """The ``boxes`` float32[n, k, 4] of maps x dtype[n, h, w, c], as dtype[n, k, *size, c]."""
    a, b = pair("size", size)
    _check(x, boxes)
    n, h, w, _ = x.shape
    boxes = boxes.astype(np.float32)
    with np.errstate(invalid="ignore"):  # of a box that is infinite
        y, x_ = _samples(boxes[..., 0], boxes[..., 2], h, a), _samples(boxes[..., 1], boxes[..., 3], w, b)
    inside = ((y >= 0) & (y <= h - 1))[..., :, None] & ((x_ >= 0) & (x_ <= w - 1))[..., None, :]
    y = np.where((y >= 0) & (y <= h - 1), y, 0)
    x_ = np.where((x_ >= 0) & (x_ <= w - 1), x_, 0)
    upper, lower = (edge(y).astype(int)[..., :, None] for edge in (np.floor, np.ceil))
    left, right = (edge(x_).astype(int)[..., None, :] for edge in (np.floor, np.ceil))
    down = (y - np.floor(y)).astype(x.dtype)[..., :, None, None]
    along = (x_ - np.floor(x_)).astype(x.dtype)[..., None, :, None]
    of = np.arange(n)[:, None, None, None]
    top = x[of, upper, left] + (x[of, upper, right] - x[of, upper, left]) * along
    bottom = x[of, lower, left] + (x[of, lower, right] - x[of, lower, left]) * along
    out: Array = np.where(inside[..., None], top + (bottom - top) * down, x.dtype.type(0))
    return out


@dataclass(frozen=True, kw_only=True)
class CropAndResizeStep(Step):
    """Boxes of maps of height x width pixels, as rows x columns samples each; an item is a box.

    boxes  address of float32[count * each, 4], ``each`` for each map
    """

    x: Map
    out: Map
    boxes: Address
    count: int
    each: int
    height: int
    width: int
    rows: int
    columns: int

    @property
    def items(self) -> int:
        return self.count * self.each


_view = view_of(CropAndResizeStep)


@CropAndResizeStep.rounding_each
def _crop_and_resize_item(step, item, scratch):
    s = _view(step)
    box = carray(float_pointer(s.boxes + 16 * item), (4,))
    y1, x1, y2, x2 = box[0], box[1], box[2], box[3]
    tall, wide, one, half = np.float32(s.height - 1), np.float32(s.width - 1), np.float32(1.0), np.float32(0.5)
    rows, columns, channels = s.rows, s.columns, s.x.channels
    per_row = (y2 - y1) * tall / (np.float32(rows) - one) if rows > 1 else np.float32(0.0)
    per_column = (x2 - x1) * wide / (np.float32(columns) - one) if columns > 1 else np.float32(0.0)
    first = item // s.each * s.height
    for i in range(rows):
        y = y1 * tall + np.float32(i) * per_row if rows > 1 else half * (y1 + y2) * tall
        seen = y >= np.float32(0.0) and y <= tall  # not so for NaN
        upper = first + math.floor(y) if seen else 0
        lower = first + math.ceil(y) if seen else 0
        down = y - np.float32(math.floor(y)) if seen else np.float32(0.0)
        for j in range(columns):
            x = x1 * wide + np.float32(j) * per_column if columns > 1 else half * (x1 + x2) * wide
            out = pixel_of(s.out, (item * rows + i) * columns + j)
            if not (seen and x >= np.float32(0.0) and x <= wide):
                for c in range(channels):
                    out[c] = 0.0
                continue
            left, right = math.floor(x), math.ceil(x)
            along = x - np.float32(left)
            x00, x01 = pixel_of(s.x, upper * s.width + left), pixel_of(s.x, upper * s.width + right)
            x10, x11 = pixel_of(s.x, lower * s.width + left), pixel_of(s.x, lower * s.width + right)
            for c in range(channels):
                top = x00[c] + (x01[c] - x00[c]) * along
                bottom = x10[c] + (x11[c] - x10[c]) * along
                out[c] = top + (bottom - top) * down


def crop_and_resize_cpu(
    x: Array, boxes: Array, *, size: int | Sequence[int], out: Array | None = None, threads: int | None = 1
) -> Array:
    """Boxes of maps, each brought to one size.

    x      float32[n, h, w, c], a pixel or more
    boxes  float32[n, k, 4]: y1, x1, y2, x2 in shares of the map; what is beyond it is zero
    size   (rows, columns) of samples, or one number for both
    out    float32[n, k, rows, columns, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for shapes that do not fit, or a size below one.
    """
    x, boxes = images("crop_and_resize: x", x), floats("crop_and_resize: boxes", boxes, 3, "n, k, 4")
    _check(x, boxes)
    (rows, columns), (n, h, w, c) = pair("size", size), x.shape
    out = result("crop_and_resize", out, (n, boxes.shape[1], rows, columns, c))
    step = CropAndResizeStep(
        x=Map.of(x), out=Map.of(out), boxes=boxes.ctypes.data, count=n, each=boxes.shape[1], height=h, width=w,
        rows=rows, columns=columns,
    )  # fmt: skip
    run(step, resolve_threads(threads), x, boxes, out)
    return out


crop_and_resize = crop_and_resize_cpu
