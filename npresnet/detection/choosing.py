"""Choosing: the best class of each proposal, its box, and of those of one class that overlap the best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..kernels import nms
from .boxes import Boxes, clipped, moved
from .config import DetectorConfig
from .proposals import best

__all__ = ["Chosen", "choose"]


class Chosen(NamedTuple):
    """What is detected, the best first.

    boxes      float32[n, 4], normalised
    class_ids  int64[n], from 1 on
    scores     float32[n]
    """

    boxes: Boxes
    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def choose(
    proposals: Boxes,
    probabilities: npt.NDArray[np.float32],
    shifts: npt.NDArray[np.float32],
    window: Boxes,
    config: DetectorConfig,
) -> Chosen:
    """The detections among ``proposals``.

    proposals      float32[k, 4], normalised, those that are zeros included: they may be detected, too, and take a place
    probabilities  float32[k, classes]; shifts  float32[k, classes, 4]
    window         float32[4], the part of the image that is picture, normalised
    """
    rows = np.arange(len(proposals))
    class_ids = probabilities.argmax(axis=1)
    scores = probabilities[rows, class_ids]
    scaled = shifts[rows, class_ids] * np.array(config.BBOX_STD_DEV, np.float32)
    boxes = clipped(moved(proposals, scaled), window)
    wanted = class_ids > 0
    if config.DETECTION_MIN_CONFIDENCE:  # 0 stands for no threshold
        wanted &= scores >= np.float32(config.DETECTION_MIN_CONFIDENCE)
    most, threshold = config.DETECTION_MAX_INSTANCES, config.DETECTION_NMS_THRESHOLD
    candidates = np.flatnonzero(wanted)
    by_class = candidates[np.argsort(class_ids[candidates], kind="stable")]
    ends = np.flatnonzero(np.diff(class_ids[by_class])) + 1
    kept = [
        of_class[nms(boxes[of_class], scores[of_class], most=most, threshold=threshold)]
        for of_class in np.split(by_class, ends)
    ]
    places = np.sort(np.concatenate(kept))
    places = places[best(scores[places], min(most, len(places)))]
    return Chosen(boxes[places], class_ids[places], scores[places])
