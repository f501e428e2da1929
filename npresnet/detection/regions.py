"""Regions: what a head sees of a box. Each is cut from the map of the pyramid whose pixels suit its size, by RoIAlign with one sample
for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels import crop_and_resize
from .boxes import Boxes

__all__ = ["levels", "regions"]


def levels(boxes: Boxes, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """From which of P2 to P5 each of ``boxes`` float32[k, 4] of an image of ``size`` is cut: int64[k] of 2 to 5.

    A box of 224 pixels from P4, one of twice or half the side from the next. All in float32, halves to even. A box without an
    area is cut from P2.
    """
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    usual = np.float32(224) / np.sqrt(np.float32(size[0] * size[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(np.sqrt(height * width) / usual) / np.log(np.float32(2))
    rounded: npt.NDArray[np.int64] = np.clip(np.round(np.nan_to_num(steps, nan=-2)), -2, 1).astype(np.int64)
    return 4 + rounded


def regions(
    maps: Sequence[npt.NDArray[np.float32]],
    boxes: Boxes,
    side: int,
    size: tuple[int, int],
    threads: int,
    cut: Any = crop_and_resize,
    out: npt.NDArray[np.float32] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """(regions, float32[k, side, side, c]; which of ``boxes`` each is of): they are in the order of the maps they come from.

    maps   P2 to P5 of one image, float32[1, h, w, c]
    boxes  float32[k, 4], normalised
    size   (height, width) of the image
    cut    a version of ``crop_and_resize``
    out    where regions go, float32[k, side, side, c]; made if None
    """
    level = levels(boxes, size)
    order = np.argsort(level, kind="stable")
    ends = np.searchsorted(level[order], range(2, 7))
    sorted_boxes = np.ascontiguousarray(boxes[order])
    if out is None:
        out = np.empty((len(boxes), side, side, maps[0].shape[-1]), np.float32)
    for x, first, last in zip(maps, ends, ends[1:], strict=False):
        if first < last:
            cut(x, sorted_boxes[None, first:last], size=side, out=out[None, first:last], threads=threads)
    return out, order
