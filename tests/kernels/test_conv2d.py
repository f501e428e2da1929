"""Convolutions against ``tf.nn.conv2d``, and against the same sums in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import LADDER, conv2d_reference

from ..support import cases


def by_tensorflow(tf, case, padding):
    x, w, bias = case.arrays()
    sums = tf.nn.conv2d(x, w, case.stride, padding, dilations=case.dilation)
    return (sums if bias is None else tf.nn.bias_add(sums, bias)).numpy()


@functools.cache
def oracle(tf, case):
    """(TensorFlow's result, the float64 truth)."""
    padding = case.padding
    if padding in ("same", "valid"):
        padding = padding.upper()
    else:
        top, bottom, left, right = (padding,) * 4 if isinstance(padding, int) else padding
        padding = [[0, 0], [top, bottom], [left, right], [0, 0]]
    return by_tensorflow(tf, case, padding), case.run(conv2d_reference, dtype=np.float64)


@cases.each("conv2d")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        terms = case.taps[0] * case.taps[1] * case.shape[3]
        cases.assert_close(
            actual,
            expected,
            truth,
            terms=terms if version.__name__ in cases.SEQUENTIAL else 0,
            winograd=version.__name__ in cases.WINOGRAD,
        )


def zeros(*shape):
    return np.zeros(shape, np.float32)


X, W = zeros(1, 7, 6, 4), zeros(3, 2, 4, 5)


@pytest.mark.parametrize("version", LADDER["conv2d"][1:], ids=cases.name_of)
@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ((X.astype(np.float64), W), TypeError, ["conv2d: x", "float64"]),
        ((X, W.astype(np.float16)), TypeError, ["conv2d: w", "float16"]),
        ((X, W, np.zeros(5)), TypeError, ["bias", "float64"]),
        ((X[0], W), ValueError, ["conv2d: x", "(7, 6, 4)", "NHWC"]),
        ((X, W[0]), ValueError, ["conv2d: w", "(2, 4, 5)", "HWIO"]),
        ((X, zeros(3, 2, 3, 5)), ValueError, ["4 channels", "1x7x6x4", "takes 3", "3x2x3x5"]),
        ((X, W, zeros(4)), ValueError, ["bias", "4", "5"]),
        ((X, W, zeros(5, 1)), ValueError, ["bias", "(5, 1)"]),
    ],
    ids=lambda value: None,
)
def test_refuses_arrays(version, arguments, kind, said):
    with cases.refuses(kind, *said):
        version(*arguments)


@pytest.mark.parametrize("version", LADDER["conv2d"], ids=cases.name_of)
@pytest.mark.parametrize(
    ("x", "w", "given", "said"),
    [
        (X, zeros(8, 2, 4, 5), {}, ["7x6", "8x2", "(0, 0, 0, 0)"]),
        (X, W, {"dilation": (4, 1)}, ["7x6", "3x2", "(4, 1)"]),
        (X, zeros(3, 9, 4, 5), {"padding": (0, 0, 1, 1)}, ["7x6", "3x9", "(0, 0, 1, 1)"]),
        (X[:, :0], W, {"padding": 2}, ["0x6"]),
        (X, W[:0], {}, ["0x2"]),
        (X, W, {"padding": -1}, ["padding", "-1"]),
        (X, W, {"padding": (0, 1, -2, 0)}, ["padding", "(0, 1, -2, 0)"]),
        (X, W, {"padding": (1, 1)}, ["padding", "(1, 1)"]),
        (X, W, {"padding": "SAME"}, ["padding", "'SAME'", "'same'"]),
        (X, W, {"padding": 0.5}, ["padding", "0.5"]),
        (X, W, {"stride": 0}, ["stride", "got 0"]),
        (X, W, {"stride": (1, 2, 3)}, ["stride", "(1, 2, 3)"]),
        (X, W, {"stride": 1.0}, ["stride", "1.0"]),
        (X, W, {"dilation": (1, -1)}, ["dilation", "(1, -1)"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_refuses_geometry(version, x, w, given, said):
    with cases.refuses(ValueError, *said):
        version(x, w, **given)
