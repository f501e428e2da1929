"""Detections in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..kernels import paste_masks
from .boxes import Boxes, in_pixels
from .choosing import Chosen

__all__ = ["Detections", "placed"]


class Detections(NamedTuple):
    """What was found in one picture, the best first.

    boxes      int32[n, 4]: y1, x1, y2, x2 in the picture's pixels, the last two one behind the end
    class_ids  int32[n], from 1 on: 0 is the background
    scores     float32[n], from 0 to 1
    masks      bool[h, w, n], as large as the picture; None of a network without a mask head
    """

    boxes: npt.NDArray[np.int32]
    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        """How many detections there are."""
        return len(self.scores)


def placed(
    chosen: Chosen,
    window: Boxes,
    size: tuple[int, int],
    masks_of: Callable[[Chosen], npt.NDArray[np.float32]] | None,
    threads: int,
    paste: Any = paste_masks,
) -> Detections:
    """What was chosen in an image, in pixels of the picture of ``size`` (height, width) that is its ``window``, normalised.

    masks_of  gives float32[n, a, b] for boxes that are in the image; None: there are no masks
    paste     a version of ``paste_masks``

    A box that has no area in the picture is left out.
    """
    shift, extent = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    boxes = in_pixels((chosen.boxes - shift) / extent, size)
    seen = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > 0
    chosen, boxes = Chosen(chosen.boxes[seen], chosen.class_ids[seen], chosen.scores[seen]), boxes[seen]
    masks = None
    if masks_of is not None:
        found = masks_of(chosen) if len(boxes) else np.zeros((0, 1, 1), np.float32)
        masks = np.moveaxis(paste(found, boxes, size=size, threads=threads), 0, -1)
    return Detections(boxes, chosen.class_ids.astype(np.int32), chosen.scores, masks)
