"""Boxes: (y1, x1, y2, x2), in pixels or normalised. Normalised they are float32, 0 in the centre of the first pixel and 1 in that of
the last, so that y2 and x2, which are one behind the last pixel, lose one before they are divided."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["anchors", "clipped", "in_pixels", "moved", "normalised"]

Boxes = npt.NDArray[np.float32]

_STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6
_LAST = np.array([0, 0, 1, 1])


def _ends(size: tuple[int, int]) -> npt.NDArray[np.int64]:
    return np.array([*size, *size]) - 1


def normalised(boxes: Any, size: tuple[int, int]) -> Boxes:
    """Boxes in pixels of an image of ``size`` (height, width), normalised: float32[..., 4]."""
    found: Boxes = np.divide(boxes - _LAST, _ends(size)).astype(np.float32)
    return found


def in_pixels(boxes: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Normalised boxes in whole pixels of an image of ``size``, halves to even: int32[..., 4]."""
    found: npt.NDArray[np.int32] = np.around(np.multiply(boxes, _ends(size)) + _LAST).astype(np.int32)
    return found


def moved(boxes: Boxes, shifts: Boxes) -> Boxes:
    """Boxes with their centres moved by shares of their sizes, and their sizes multiplied by exponentials of shares.

    boxes, shifts  float32[n, 4]; of shifts y, x, height, width
    """
    half = np.float32(0.5)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + half * size
    centre = centre + shifts[:, :2] * size
    with np.errstate(over="ignore", invalid="ignore"):  # infinite boxes are clipped
        size = size * np.exp(shifts[:, 2:])
        first = centre - half * size
        return np.concatenate([first, first + size], axis=1)


def clipped(boxes: Boxes, window: Boxes) -> Boxes:
    """Boxes cut off at the edges of a ``window`` float32[4]; an infinite one, whose end is no number, is as large as that."""
    least, most = np.tile(window[:2], 2), np.tile(window[2:], 2)
    return np.fmax(np.fmin(boxes, most), least)


@lru_cache(maxsize=4)
def anchors(size: tuple[int, int], scales: Sequence[float], ratios: Sequence[float]) -> Boxes:
    """The anchors of all pixels of P2 to P6 for an image of ``size`` (height, width), normalised: float32[n, 4].

    scales  their sides on each of the five maps, in pixels; a tuple
    ratios  width over height of each pixel's anchors, at the same area; a tuple

    Map by map, row by row, pixel by pixel, ratio by ratio. The result is kept and must not be written to.
    """
    found = []
    root = np.sqrt(np.array(ratios))
    for scale, stride in zip(scales, _STRIDES, strict=True):
        rows, columns = (np.arange(-(-side // stride)) * stride for side in size)
        sides = np.stack([scale / root, scale * root], axis=1)
        centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)[:, :, None]
        half = 0.5 * np.broadcast_to(sides, (len(rows), len(columns), *sides.shape))
        found.append(np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4))
    boxes = normalised(np.concatenate(found), size)
    boxes.flags.writeable = False
    return boxes
