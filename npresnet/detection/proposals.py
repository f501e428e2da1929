"""Proposals: of all anchors those that most probably hold something, moved as the network says, without those that overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..kernels import nms
from .boxes import Boxes, clipped, moved
from .config import DetectorConfig

__all__ = ["best", "proposals"]

_WHOLE = np.array([0, 0, 1, 1], np.float32)


def best(scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """The places of the ``count`` best ``scores`` float32[n], the best first, of equals the lower place: as ``tf.nn.top_k``."""
    if 0 < count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        above = np.flatnonzero(scores > least)
        places = np.sort(np.concatenate([above, np.flatnonzero(scores == least)[: count - len(above)]]))
    else:
        places = np.arange(len(scores))
    order: npt.NDArray[np.intp] = places[np.argsort(-scores[places], kind="stable")]
    return order[:count]


def proposals(
    scores: npt.NDArray[np.float32], shifts: Boxes, anchors: Boxes, config: DetectorConfig
) -> tuple[Boxes, int]:
    """(normalised boxes, float32[POST_NMS_ROIS_INFERENCE, 4], the best first and zeros at their end; how many are not those).

    scores  float32[n], the probability of each of the anchors that it holds something
    shifts  float32[n, 4]; anchors  float32[n, 4], normalised
    """
    places = best(scores, min(config.PRE_NMS_LIMIT, len(scores)))
    scaled = shifts[places] * np.array(config.RPN_BBOX_STD_DEV, np.float32)
    boxes = clipped(moved(anchors[places], scaled), _WHOLE)
    count = config.POST_NMS_ROIS_INFERENCE
    kept = nms(boxes, scores[places], most=count, threshold=config.RPN_NMS_THRESHOLD)
    found = np.zeros((count, 4), np.float32)
    found[: len(kept)] = boxes[kept]
    return found, len(kept)
