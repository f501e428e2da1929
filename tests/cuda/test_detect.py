"""``detect`` on a card: a whole Mask R-CNN, as small as there can be, beside the processor."""

from __future__ import annotations

import numpy as np

from npresnet.network.detector import CLASS_HEAD, MASK_HEAD

from ..support.small_detector import CONFIG, small_detector


def test_detections():
    """The same boxes, classes and masks, chosen from numbers that differ in their last bits; all of it by plan."""
    picture = np.random.default_rng(1).integers(0, 256, (50, 64, 3), np.uint8)
    net = small_detector("cuda")
    (found,), (expected,) = net.detect(picture, CONFIG), small_detector("cpu").detect(picture, CONFIG)
    assert len(expected) == 3
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
    assert 0 < np.count_nonzero(expected.masks) < expected.masks.size
    np.testing.assert_array_equal(found.masks, expected.masks)
    for one in (net, net.heads[CLASS_HEAD], net.heads[MASK_HEAD]):
        (program,) = one._runner._programs.kept().values()
        assert program.planned
