"""Masks in pictures beside scikit-image, on which matterport's code runs: the same pixels."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import CHOOSING, paste_masks

VERSIONS = CHOOSING["paste_masks"]
SIZE = (90, 70)


def masks_and_boxes():
    """Of all sizes from one pixel to the whole picture; darkest pixels above one half, all alike, black."""
    rng = np.random.default_rng(0)
    masks = rng.uniform(0, 1, (24, 28, 28)).astype(np.float32)
    masks[0] = masks[0] / 4 + 0.6
    masks[1], masks[2] = 0.5, 0
    boxes = np.concatenate([rng.integers(0, 30, (24, 2)), rng.integers(31, 71, (24, 2))], axis=1)
    boxes[:4] = [[0, 0, 90, 70], [3, 5, 4, 6], [0, 0, 90, 1], [1, 1, 29, 29]]
    return masks, boxes


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.__name__)
def test_beside_scikit_image(version):
    transform = pytest.importorskip("skimage.transform")
    masks, boxes = masks_and_boxes()
    found = version(masks, boxes, size=SIZE)
    assert found.dtype == np.bool_
    assert found.shape == (24, *SIZE)
    for mask, (y1, x1, y2, x2), picture in zip(masks, boxes, found, strict=True):
        options = {"order": 1, "mode": "constant", "cval": 0, "clip": True, "preserve_range": False}
        resized = transform.resize(mask, (y2 - y1, x2 - x1), anti_aliasing=False, **options)
        expected = np.zeros(SIZE, bool)
        expected[y1:y2, x1:x2] = resized >= 0.5
        assert np.array_equal(picture, expected)


def test_versions_and_threads():
    masks, boxes = masks_and_boxes()
    expected = VERSIONS[0](masks, boxes, size=SIZE)
    for threads in (1, 3, None):
        assert np.array_equal(paste_masks(masks, boxes.astype(np.int32), size=SIZE, threads=threads), expected)
    assert paste_masks(masks[:0], boxes[:0], size=SIZE).shape == (0, *SIZE)


@pytest.mark.parametrize("box", [(0, 0, 91, 70), (-1, 0, 5, 5), (5, 5, 5, 9), (9, 0, 3, 4)])
def test_refuses_boxes(box):
    masks, _ = masks_and_boxes()
    with pytest.raises(ValueError, match="lie within the picture of 90x70"):
        paste_masks(masks[:1], np.array([box]), size=SIZE)


def test_refuses_others():
    masks, boxes = masks_and_boxes()
    for wrong in ((masks[:3], boxes[:2]), (masks, boxes.astype(float)), (masks[:, :0], boxes)):
        with pytest.raises(ValueError, match="paste_masks: got masks of shape"):
            paste_masks(*wrong, size=SIZE)
    with pytest.raises(TypeError, match="float64"):
        paste_masks(masks.astype(np.float64), boxes, size=SIZE)
