"""Masks of boxes, brought to the size of their boxes in a picture, and cut at one half.

    out[k, y, x] = True where  mask k, resized to its box, is 0.5 or more at y - y1, x - x1;  False outside of the box

The resize is bilinear between the centres of pixels, in float64, and black beyond the mask's border: the outer half of its rim is
darkened, but never below the darkest pixel of the mask. Its result is rounded to float32 before it is cut.

The ladder: paste_masks_reference (NumPy), paste_masks_cpu (Numba, masks in parallel); paste_masks is paste_masks_cpu. Source:
matterport's ``utils.unmold_mask`` on scikit-image, whose ``resize`` adds up in this order, so that masks have the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Array, floats
from .geometry import pair, resize_axis
from .numba_later import carray
from .steps.intrinsics import byte_pointer, float_pointer, int_pointer
from .steps.loop import run
from .steps.records import Address, Step, view_of
from .threads import resolve_threads

__all__ = ["PasteMaskStep", "paste_masks", "paste_masks_cpu", "paste_masks_reference"]

Masks = npt.NDArray[np.bool_]


def _checked(masks: Array, boxes: Array, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Boxes as int64[k, 4]. ValueError for boxes that are not those of the masks, are empty, or not within the picture."""
    if masks.ndim != 3 or 0 in masks.shape[1:] or boxes.shape != (len(masks), 4) or boxes.dtype.kind not in "iu":
        raise ValueError(
            f"paste_masks: got masks of shape {tuple(masks.shape)} and boxes of shape {tuple(boxes.shape)} and {boxes.dtype}; "
            "they must be [k, h, w] and whole numbers [k, 4]"
        )
    found = np.ascontiguousarray(boxes, np.int64)
    first, last = found[:, :2], found[:, 2:]
    if (first < 0).any() or (first >= last).any() or (last > size).any():
        raise ValueError(
            f"paste_masks: boxes must have pixels, and lie within the picture of {size[0]}x{size[1]} pixels"
        )
    return found


def paste_masks_reference(masks: Array, boxes: Array, *, size: int | Sequence[int]) -> Masks:
    """The ``masks`` float32[k, h, w] of ``boxes`` int[k, 4] in a picture of ``size``: bool[k, *size]."""
    height, width = pair("size", size)
    boxes = _checked(masks, boxes, (height, width))
    out = np.zeros((len(masks), height, width), np.bool_)
    for mask, (y1, x1, y2, x2), picture in zip(masks, boxes, out, strict=True):
        (upper, lower), (above, below) = resize_axis(mask.shape[0], y2 - y1)
        (left, right), (before, behind) = resize_axis(mask.shape[1], x2 - x1)
        top, bottom = mask[upper] * above[:, None], mask[lower] * below[:, None]
        resized = top[:, left] * before + top[:, right] * behind
        resized += bottom[:, left] * before
        resized += bottom[:, right] * behind
        picture[y1:y2, x1:x2] = resized.clip(mask.min(), mask.max()).astype(np.float32) >= 0.5
    return out


@dataclass(frozen=True, kw_only=True)
class PasteMaskStep(Step):
    """``count`` masks of rows x columns pixels into pictures of height x width, where nothing but False is; an item is a mask.

    masks  address of float32[count, rows, columns]
    boxes  address of int64[count, 4]
    out    address of bool[count, height, width]
    """

    masks: Address
    boxes: Address
    out: Address
    count: int
    rows: int
    columns: int
    height: int
    width: int

    @property
    def items(self) -> int:
        return self.count


_view = view_of(PasteMaskStep)


@PasteMaskStep.rounding_each
def _paste_mask_item(step, item, scratch):
    s = _view(step)
    rows, columns = s.rows, s.columns
    mask = carray(float_pointer(s.masks + 4 * item * rows * columns), (rows, columns))
    box = carray(int_pointer(s.boxes + 32 * item), (4,))
    out = carray(byte_pointer(s.out + item * s.height * s.width), (s.height, s.width))
    lowest = highest = mask[0, 0]
    for i in range(rows):
        for j in range(columns):
            lowest, highest = min(lowest, mask[i, j]), max(highest, mask[i, j])
    tall, wide = box[2] - box[0], box[3] - box[1]
    per_row, per_column = np.float64(rows) / np.float64(tall), np.float64(columns) / np.float64(wide)
    for y in range(tall):
        row = (y + 0.5) * per_row - 0.5
        upper = math.floor(row)
        lower = upper + 1
        above = 0.0 if upper < 0 else 1.0 - (row - np.float64(upper))
        below = 0.0 if lower >= rows else row - np.float64(upper)
        upper, lower = max(upper, 0), min(lower, rows - 1)
        for x in range(wide):
            column = (x + 0.5) * per_column - 0.5
            left = math.floor(column)
            right = left + 1
            before = 0.0 if left < 0 else 1.0 - (column - np.float64(left))
            behind = 0.0 if right >= columns else column - np.float64(left)
            left, right = max(left, 0), min(right, columns - 1)
            value = (mask[upper, left] * above) * before + (mask[upper, right] * above) * behind
            value += (mask[lower, left] * below) * before
            value += (mask[lower, right] * below) * behind
            value = min(max(value, np.float64(lowest)), np.float64(highest))
            out[box[0] + y, box[1] + x] = np.float32(value) >= np.float32(0.5)


def paste_masks_cpu(masks: Array, boxes: Array, *, size: int | Sequence[int], threads: int | None = 1) -> Masks:
    """Each mask where its box lies in a picture.

    masks  float32[k, h, w], from 0 to 1
    boxes  whole numbers [k, 4]: y1, x1, y2, x2 in pixels, the last two one behind the end
    size   (height, width) of the picture

    Returns bool[k, height, width]. Raises TypeError for another dtype; ValueError for shapes that do not fit, and boxes that are
    empty or not within the picture.
    """
    masks = floats("paste_masks: masks", masks, 3, "k, h, w")
    height, width = pair("size", size)
    boxes = _checked(masks, boxes, (height, width))
    out = np.zeros((len(masks), height, width), np.bool_)
    step = PasteMaskStep(
        masks=masks.ctypes.data, boxes=boxes.ctypes.data, out=out.ctypes.data, count=len(masks),
        rows=masks.shape[1], columns=masks.shape[2], height=height, width=width,
    )  # fmt: skip
    run(step, resolve_threads(threads), masks, boxes, out)
    return out


paste_masks = paste_masks_cpu
