"""Regions of maps beside ``tf.image.crop_and_resize``: the same bits, also of samples that rounding puts beyond the map."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("crop_and_resize")
def test_tensorflow(tf, case, version):
    x, boxes = case.arrays()
    n, each = boxes.shape[:2]
    size = case.size if isinstance(case.size, tuple) else (case.size,) * 2
    theirs = tf.image.crop_and_resize(x, boxes.reshape(-1, 4), np.repeat(np.arange(n), each), size).numpy()
    actual = case.run(version)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, case.run(LADDER["crop_and_resize"][0], dtype=np.float64))
    else:
        cases.assert_equal(actual, theirs.reshape(actual.shape))


@pytest.mark.parametrize("version", LADDER["crop_and_resize"], ids=cases.name_of)
def test_what_lies_beyond_is_zero(version):
    """And so is a box that is no number."""
    x = np.ones((1, 4, 4, 2), np.float32)
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 2, 2], [np.nan, 0, 1, 1], [0, -1, 1, np.inf]]], np.float32)
    found = version(x, boxes, size=3)[0, ..., 0]
    assert found[0].all()
    assert found[1].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert not found[2].any()
    assert not found[3].any()


@pytest.mark.parametrize("version", LADDER["crop_and_resize"], ids=cases.name_of)
def test_refuses(version):
    x, boxes = np.zeros((1, 4, 5, 2), np.float32), np.zeros((1, 3, 4), np.float32)
    for wrong in (np.zeros((2, 3, 4), np.float32), np.zeros((1, 3, 5), np.float32)):
        with cases.refuses(ValueError, "crop_and_resize: got boxes", str(wrong.shape)):
            version(x, wrong, size=7)
    with cases.refuses(ValueError, "there must be a pixel"):
        version(x[:, :0], boxes, size=7)
    with cases.refuses(ValueError, "size", "0"):
        version(x, boxes, size=0)
