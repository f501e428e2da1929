"""Average-pooling against TensorFlow, and against the same means in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import LADDER, avgpool, avgpool_reference, global_avgpool

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(TensorFlow's result, the float64 truth)."""
    (x,) = case.arrays()
    padding, stride = case.padding, case.window if case.stride is None else case.stride
    if padding in ("same", "valid"):
        means = tf.nn.avg_pool2d(x, case.window, stride, padding.upper())
    else:  # TensorFlow has no pads in pixels: the mean with zeros, divided by the share of the window that is image
        top, bottom, left, right = (padding,) * 4 if isinstance(padding, int) else padding
        border = [[0, 0], [top, bottom], [left, right], [0, 0]]
        image = tf.ones([1, *x.shape[1:3], 1])
        total, share = (tf.nn.avg_pool2d(tf.pad(y, border), case.window, stride, "VALID") for y in (x, image))
        means = total / share
    return means.numpy(), case.run(avgpool_reference, dtype=np.float64)


@cases.each("avgpool")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth)


@cases.each("global_avgpool")
def test_global(tf, version, case):
    (x,) = case.arrays()
    with np.errstate(all="ignore"):  # infinity minus infinity is meant
        actual, truth = case.run(version), x.astype(np.float64).mean((1, 2))
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, tf.keras.layers.GlobalAveragePooling2D()(x).numpy(), truth)


@pytest.mark.parametrize("version", LADDER["avgpool"], ids=cases.name_of)
def test_padding_does_not_count(version):
    x = np.full((1, 3, 3, 1), 6, np.float32)
    for padding in ("same", 1, 2, (2, 0, 1, 2)):
        assert (version(x, 3, stride=1, padding=padding) == 6).all()


def test_sums_cannot_overflow():
    """TensorFlow adds in float32 and gives infinity here."""
    assert avgpool(np.full((1, 2, 2, 1), 3e38, np.float32), 2).item() == np.float32(3e38)


@pytest.mark.parametrize("version", LADDER["avgpool"], ids=cases.name_of)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"window": (6, 2)}, ["5x4", "6x2"]),
        ({"window": (0, 2)}, ["window", "(0, 2)"]),
        ({"window": 2, "stride": 0}, ["stride", "got 0"]),
        ({"window": 2, "padding": (0, -1, 0, 0)}, ["padding", "(0, -1, 0, 0)"]),
    ],
    ids=str,
)
def test_refuses(version, given, said):
    with cases.refuses(ValueError, *said):
        version(np.zeros((1, 5, 4, 3), np.float32), **given)


@pytest.mark.parametrize("padding", [(2, 0, 0, 0), (0, 2, 0, 0), (0, 0, 3, 0), (0, 0, 0, 3)], ids=str)
def test_refuses_windows_of_padding(padding):
    with cases.refuses(ValueError, f"avgpool: got padding {padding}", "(2, 3)"):
        avgpool(np.zeros((1, 5, 4, 3), np.float32), (2, 3), padding=padding)


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 0, 4, 3)], ids=str)
def test_global_refuses(shape):
    with pytest.raises(ValueError, match=r"\(5, 4, 3\)|\(0, 4\)"):
        global_avgpool(np.zeros(shape, np.float32))
