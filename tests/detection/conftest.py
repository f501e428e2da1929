"""A narrow Mask R-CNN that was trained, and what matterport's own code made of a few pictures (``tests/record_mask_rcnn.py``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="package")
def weights() -> Path:
    return DATA / "shapes.h5"


@pytest.fixture(scope="package")
def net(weights) -> npresnet.ResNet:
    return npresnet.load(weights, threads=1)


@pytest.fixture(scope="package")
def recorded() -> dict[str, Any]:
    """{"0/image": ..., "0/rois": ..., "ROI": ..., ...}"""
    with np.load(DATA / "shapes.npz") as file:
        found = dict(file)
    for number in range(5):
        masks = np.unpackbits(found[f"{number}/masks"]).astype(bool)
        size = 128 * 128 * len(found[f"{number}/scores"])
        found[f"{number}/masks"] = masks[:size].reshape(128, 128, -1)
    return found
