"""The operators that some families and users' own networks need: each version gives TensorFlow's result, the float64
reference is the truth for both, and wrong arguments are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npresnet.kernels.globalmaxpool import global_maxpool, global_maxpool_reference
from npresnet.kernels.grouped import (
    depthwise_kernel,
    grouped_conv2d,
    grouped_conv2d_reference,
    summed_depthwise_kernel,
)
from npresnet.kernels.multiply import multiply, multiply_reference
from npresnet.kernels.scale import scale, scale_reference
from npresnet.kernels.sigmoid import sigmoid, sigmoid_reference

from . import cases

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 7, 9, 65), (3, 4, 4, 16)]
KINDS = sorted(set(cases.VALUES) - cases.FLUSHED)


def _check(tf_result: Any, ours: Any, truth: Any) -> None:
    cases.assert_close(ours, tf_result, truth)


# Grouped convolution -------------------------------------------------------------------------------------------------

# (input, taps, co, groups, stride, padding, dilation)
GROUPED: list[tuple[Any, ...]] = [
    ((1, 5, 6, 4), (3, 3), 8, 2, (1, 1), "same", (1, 1)),
    ((2, 7, 5, 6), (3, 3), 6, 6, (1, 1), "valid", (1, 1)),  # depthwise
    ((1, 8, 8, 3), (3, 3), 12, 3, (2, 2), "same", (1, 1)),  # depthwise with a multiplier
    ((1, 9, 8, 32), (3, 3), 32, 8, (2, 2), "same", (1, 1)),
    ((1, 6, 7, 128), (3, 3), 128, 32, (1, 1), "same", (1, 1)),  # as in ResNeXt
    ((1, 4, 4, 10), (1, 1), 20, 5, (1, 1), "valid", (1, 1)),
    ((1, 11, 9, 4), (3, 2), 4, 4, (1, 1), "same", (2, 2)),
    ((1, 6, 6, 65), (2, 3), 13, 13, (1, 1), "valid", (1, 1)),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "taps", "co", "groups", "stride", "padding", "dilation"), GROUPED, ids=str)
def test_grouped_convolution(tf, shape, taps, co, groups, stride, padding, dilation, bias):
    import keras

    x = cases.numbers("x", shape)
    w = cases.numbers("w", (*taps, shape[3] // groups, co))
    b = cases.numbers("b", (co,)) if bias else None
    options = {"groups": groups, "stride": stride, "padding": padding, "dilation": dilation}
    layer = keras.layers.Conv2D(
        co, taps, strides=stride, padding=padding, dilation_rate=dilation, groups=groups, use_bias=bias
    )
    layer.build(shape)
    layer.set_weights([w] if b is None else [w, b])
    expected = layer(x).numpy()
    wide = b if b is None else b.astype(np.float64)
    truth = grouped_conv2d_reference(x.astype(np.float64), w.astype(np.float64), wide, **options)
    assert truth.dtype == np.float64
    for version in (grouped_conv2d_reference, grouped_conv2d):
        _check(expected, version(x, w, b, **options), truth)
    cases.assert_same_bits(grouped_conv2d(x, w, b, threads=3, **options), grouped_conv2d(x, w, b, **options))


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_kernel(tf, multiplier):
    x, w = cases.numbers("x", (2, 6, 5, 4)), cases.numbers("w", (3, 3, 4, multiplier))
    expected = tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME").numpy()
    wide = depthwise_kernel(w.astype(np.float64))
    truth = grouped_conv2d_reference(x.astype(np.float64), wide, groups=4, padding="same")
    _check(expected, grouped_conv2d(x, depthwise_kernel(w), groups=4, padding="same"), truth)


def test_summed_depthwise_kernel(tf):
    """keras-applications' grouped convolution: a depthwise one, then a sum over the inputs of each group."""
    groups, c = 3, 4
    x, w = cases.numbers("x", (1, 6, 5, groups * c)), cases.numbers("w", (3, 3, groups * c, c))
    y = tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME").numpy()
    expected = y.reshape(1, 6, 5, groups, c, c).sum(axis=4).reshape(1, 6, 5, groups * c)
    wide = summed_depthwise_kernel(w.astype(np.float64))
    truth = grouped_conv2d_reference(x.astype(np.float64), wide, groups=groups, padding="same")
    ours = grouped_conv2d(x, summed_depthwise_kernel(w), groups=groups, padding="same")
    assert cases.compare(ours, expected).agrees()
    assert cases.compare(ours, truth).agrees()


def test_grouped_convolution_refuses():
    x, w = np.zeros((1, 4, 4, 6), np.float32), np.zeros((3, 3, 2, 6), np.float32)
    for groups, words in ((2, "6 channels, w takes 2"), (0, "in 0 groups")):
        with cases.refuses(ValueError, "grouped_conv2d", words):
            grouped_conv2d(x, w, groups=groups)
    with cases.refuses(ValueError, "grouped_conv2d", "makes 7"):
        grouped_conv2d(x, np.zeros((3, 3, 2, 7), np.float32), groups=3)
    with cases.refuses(ValueError, "4x4", "5x5"):
        grouped_conv2d(x, np.zeros((5, 5, 2, 6), np.float32), groups=3)
    with cases.refuses(TypeError, "float64"):
        grouped_conv2d(x.astype(np.float64), w, groups=3)


# Element by element --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_multiply(tf, shape, values):
    a, gate = cases.numbers("a", shape, values), cases.numbers("b", (shape[0], 1, 1, shape[3]), values)
    with np.errstate(all="ignore"):
        for b in (np.flip(a).copy(), gate):
            expected = tf.multiply(a, b).numpy()
            for left, right in ((a, b), (b, a)):
                cases.assert_equal(multiply_reference(left, right), expected)
                cases.assert_equal(multiply(left, right, threads=2), expected)


def test_multiply_refuses():
    a = np.zeros((2, 3, 5, 7), np.float32)
    for shape in [(2, 3, 5, 1), (1, 1, 1, 7), (2, 1, 5, 7)]:
        with cases.refuses(ValueError, "multiply", str(shape)):
            multiply(a, np.zeros(shape, np.float32))


@pytest.mark.parametrize("values", sorted(set(KINDS) - {"few"}))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scale(tf, shape, values):
    x = cases.numbers("x", shape, values)
    c = shape[3]
    for factor, offset in (
        (cases.numbers("f", (c,)), cases.numbers("o", (c,))),
        (np.array([1 / 255], np.float32), np.array([0.5], np.float32)),
    ):
        with np.errstate(all="ignore"):
            expected = tf.add(tf.multiply(x, factor), offset).numpy()
            truth = scale_reference(x.astype(np.float64), factor.astype(np.float64), offset.astype(np.float64))
        for version in (scale_reference, scale):
            with np.errstate(all="ignore"):
                _check(expected, version(x, factor, offset), truth)


def test_scale_refuses():
    x, one = np.zeros((1, 2, 2, 3), np.float32), np.ones(1, np.float32)
    with cases.refuses(ValueError, "factor", "(2,)"):
        scale(x, np.ones(2, np.float32), one)
    with cases.refuses(TypeError, "offset", "float64"):
        scale(x, one, np.ones(3))


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 7)], ids=str)
def test_sigmoid(tf, shape, values):
    x = cases.numbers("x", shape, values)
    truth = sigmoid_reference(x.astype(np.float64))
    expected = tf.sigmoid(x).numpy()
    for version in (sigmoid_reference, sigmoid):
        y = version(x)
        assert cases.compare(y, expected).agrees()
        assert cases.compare(y, truth.astype(np.float32)).agrees(2e-7)


def test_sigmoid_of_large_numbers():
    x = np.array([-1e30, -200, 200, 1e30, -np.inf, np.inf], np.float32)
    for version in (sigmoid_reference, sigmoid):
        cases.assert_equal(version(x), np.array([0, version(x)[1], 1, 1, 0, 1], np.float32))
        assert 0 <= version(x)[1] < 1e-38


# Global max-pool -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_global_maxpool(tf, shape, values):
    x = cases.numbers("x", shape, values)
    expected = tf.reduce_max(x, axis=(1, 2)).numpy()
    for version in (global_maxpool_reference, global_maxpool):
        cases.assert_equal(version(x), expected)


def test_global_maxpool_refuses():
    with cases.refuses(ValueError, "global_maxpool", "(1, 0, 2, 3)"):
        global_maxpool(np.zeros((1, 0, 2, 3), np.float32))
