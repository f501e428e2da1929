"""Mean and largest value over the channels against TensorFlow; the mean also against float64."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("channel_reduce")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    reduce = tf.reduce_mean if case.function == "mean" else tf.reduce_max
    expected, actual = reduce(x, axis=-1, keepdims=True).numpy(), case.run(version)
    truth = case.run(LADDER["channel_reduce"][0], dtype=np.float64)
    if case.function == "max":
        cases.assert_equal(actual, truth.astype(np.float32))
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth)


@pytest.mark.parametrize("version", LADDER["channel_reduce"], ids=cases.name_of)
def test_refuses(version):
    x = np.zeros((1, 2, 2, 3), np.float32)
    with cases.refuses(ValueError, "'sum'", "'mean' or 'max'"):
        version(x, function="sum")


@pytest.mark.parametrize("version", LADDER["channel_reduce"][1:], ids=cases.name_of)
@pytest.mark.parametrize("function", ["mean", "max"])
def test_refuses_pixels_without_channels(version, function):
    with cases.refuses(ValueError, "(1, 2, 2, 0)", "must have a channel"):
        version(np.zeros((1, 2, 2, 0), np.float32), function=function)
