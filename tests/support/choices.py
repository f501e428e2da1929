"""What a detector chooses from, as hard as it gets: ties, boxes on edges and without an area, rows of zeros. The same on all machines.

Numbers are multiples of powers of two, from a generator that NumPy has frozen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from npresnet.detection.boxes import anchors, normalised
from npresnet.detection.config import DetectorConfig

Array = npt.NDArray[Any]

SIZE = (128, 128)
CONFIG = DetectorConfig.preset("shapes", POST_NMS_ROIS_INFERENCE=300, DETECTION_MIN_CONFIDENCE=0.5)
WINDOW = normalised(np.array([32, 0, 96, 128]), SIZE)
KINDS = ("plain", "ties", "padded", "saturated")


class DetectionCase(NamedTuple):
    """The arguments of ``choose``, but for the config."""

    proposals: Array
    probabilities: Array
    shifts: Array
    window: Array


class ProposalCase(NamedTuple):
    """The arguments of ``proposals``, but for the config."""

    scores: Array
    shifts: Array
    anchors: Array


def _numbers(random: np.random.RandomState, shape: tuple[int, ...], least: float, most: float, steps: int) -> Array:
    whole = random.randint(0, steps + 1, shape)
    return (least + (most - least) * whole / steps).astype(np.float32)


def detection_case(kind: str, count: int = 300, classes: int = 5) -> DetectionCase:
    random = np.random.RandomState(KINDS.index(kind))
    corners = _numbers(random, (count, 2), 0, 0.75, 64)
    boxes = np.concatenate([corners, corners + _numbers(random, (count, 2), 0, 0.375, 24)], axis=1).clip(0, 1)
    if kind == "padded":
        boxes[200:] = 0
    steps = {"ties": 4, "saturated": 1}.get(kind, 1 << 16)
    probable = _numbers(random, (count, classes), 0, 1, steps)
    shifts = _numbers(random, (count, classes, 4), -2, 2, 256)
    return DetectionCase(boxes, probable, shifts, WINDOW)


def proposal_case(kind: str) -> ProposalCase:
    random = np.random.RandomState(10 + KINDS.index(kind))
    places = anchors(SIZE, CONFIG.RPN_ANCHOR_SCALES, CONFIG.RPN_ANCHOR_RATIOS)
    steps = {"ties": 4, "saturated": 1}.get(kind, 1 << 20)
    shifts = _numbers(random, (len(places), 4), -4, 4, 256)
    if kind == "padded":  # nearly all beyond one corner, where they have no area
        shifts[50:, :2] = -1000
    return ProposalCase(_numbers(random, (len(places),), 0, 1, steps), shifts, places)
