"""Non-maximum suppression beside TensorFlow's: what is kept, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import CHOOSING, nms

VERSIONS = CHOOSING["nms"]


def boxes_and_scores(count: int, seed: int = 0):
    """With ties of scores, boxes that are the same, turned round, or without an area."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 1, (count, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(-0.1, 0.2, (count, 2)).astype(np.float32)
    boxes[::7] = boxes[:1]
    boxes[5::11, 2] = boxes[5::11, 0]
    return boxes, rng.choice(np.linspace(0, 1, 20), count).astype(np.float32)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.__name__)
@pytest.mark.parametrize(("most", "threshold"), [(1000, 0.3), (20, 0.7), (1000, 0.0), (1000, 1.0), (0, 0.5)])
def test_beside_tensorflow(tf, version, most, threshold):
    boxes, scores = boxes_and_scores(400)
    expected = tf.image.non_max_suppression(boxes, scores, most, threshold).numpy()
    found = version(boxes, scores, most=most, threshold=threshold)
    assert found.dtype == np.int64
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.__name__)
def test_by_its_definition(version):
    boxes = np.array([[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 1, 1], [5, 5, 5, 9], [5, 5, 5, 9]], np.float32)
    scores = np.array([0.5, 0.9, 0.9, 0.1, 0.1], np.float32)
    # the second half of the first, the third half of the second: just as much as may be, or more
    assert version(boxes, scores, most=9, threshold=0.5).tolist() == [1, 2, 0, 3, 4]
    assert version(boxes, scores, most=9, threshold=0.4999).tolist() == [1, 3, 4]
    assert version(boxes, scores, most=2, threshold=0.5).tolist() == [1, 2]
    scores[1] = np.nan
    assert version(boxes, scores, most=9, threshold=0.5).tolist() == [2, 0, 3, 4]
    assert version(boxes[:0], scores[:0], most=9, threshold=0.5).tolist() == []


def test_refuses():
    boxes, scores = boxes_and_scores(10)
    for wrong in ((boxes[:, :3], scores, 1), (boxes, scores, -1)):
        with pytest.raises(ValueError, match="nms: got boxes of shape"):
            nms(*wrong[:2], most=wrong[2], threshold=0.5)
    with pytest.raises(ValueError, match="got 9 numbers"):
        nms(boxes, scores[:9], most=1, threshold=0.5)
    with pytest.raises(TypeError, match="float64"):
        nms(boxes.astype(np.float64), scores, most=1, threshold=0.5)
