"""Grouped convolutions against Keras's, and against the same sums in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import (
    LADDER,
    depthwise_kernel,
    grouped_conv2d,
    grouped_conv2d_lanes,
    grouped_conv2d_reference,
    grouped_conv2d_tiled,
    grouped_conv2d_winograd,
    summed_depthwise_kernel,
)
from npresnet.kernels.rowwinograd import row_winograd_reference
from npresnet.verify.compare import compare

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(Keras's result, the float64 truth)."""
    (x, w, bias), padding = case.arrays(), case.padding
    if padding not in ("same", "valid"):
        top, bottom, left, right = padding
        x, padding = np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)]), "valid"
    layer = tf.keras.layers.Conv2D(
        case.co, case.taps, case.stride, padding,
        dilation_rate=case.dilation, groups=case.groups, use_bias=bias is not None,
    )  # fmt: skip
    layer.build(x.shape)
    layer.set_weights([w] if bias is None else [w, bias])
    return layer(x).numpy(), case.run(grouped_conv2d_reference, dtype=np.float64)


@cases.each("grouped_conv2d")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth, winograd=version.__name__ in cases.WINOGRAD)


# every way in which the tiled version gets its inputs, tiles with and without a rest, several bands of rows, tails of
# channels; and borders that reach past a whole tile
TILED = [
    *[cases.GroupedConv2d((1, 9, 16, 12 * q), (3, 3), 12 * q, padding="same", groups=12) for q in (1, 2, 4, 8, 16, 32)],
    cases.GroupedConv2d((2, 40, 57, 36), (3, 3), 36, padding="same", groups=9),
    cases.GroupedConv2d((1, 31, 30, 64), (3, 3), 64, (2, 2), "same", groups=4),
    cases.GroupedConv2d((1, 31, 14, 18), (3, 5), 30, (1, 2), "same", groups=6),
    cases.GroupedConv2d((1, 13, 23, 8), (3, 3), 64, dilation=(3, 2), groups=2),
    cases.GroupedConv2d((1, 3, 2, 8), (2, 3), 8, (2, 3), (9, 0, 17, 20), groups=4),
    cases.GroupedConv2d((2, 5, 4, 40), (1, 1), 80, groups=5, bias=False),
]


@pytest.mark.parametrize("case", TILED, ids=str)
def test_tiled(tf, case):
    expected, truth = oracle(tf, case)
    found = case.run(grouped_conv2d_tiled)
    cases.assert_close(found, expected, truth)
    cases.assert_same_bits(case.run(grouped_conv2d_tiled, threads=3), found)


# every size of group, in one bundle and in two; strides and dilation; maps narrower than a tile, and bands
LANES_CASES = [
    *[cases.GroupedConv2d((1, 6, 15, 16 * p), (3, 3), 16 * p, padding="same", groups=16) for p in (4, 8, 16, 32)],
    cases.GroupedConv2d((2, 60, 57, 128), (3, 3), 128, padding="same", groups=32),
    cases.GroupedConv2d((1, 31, 14, 128), (3, 5), 128, (1, 2), "same", groups=16),
    cases.GroupedConv2d((1, 13, 23, 64), (3, 3), 64, (2, 1), (1, 0, 7, 2), (3, 2), groups=16),
    cases.GroupedConv2d((3, 2, 1, 128), (3, 3), 128, padding="same", groups=16, bias=False),
]


@pytest.mark.parametrize("case", LANES_CASES, ids=str)
def test_lanes(case):
    """A group in each lane: the same bits as by shuffles, for any number of threads; by Winograd nearly the same."""
    expected = case.run(grouped_conv2d_tiled)
    for threads in (1, 3):
        cases.assert_same_bits(case.run(grouped_conv2d_lanes, threads=threads), expected)
    found = case.run(grouped_conv2d_winograd)
    assert compare(found, expected).agrees()
    cases.assert_same_bits(case.run(grouped_conv2d_winograd, threads=3), found)


def test_winograd_along_rows():
    """The formula is the definition, and the kernel follows the formula."""
    p, groups = 8, 16
    x, w = cases.numbers("x", (2, 5, 9, p * groups)), cases.numbers("w", (3, 3, p, p * groups))
    truth = grouped_conv2d_reference(x.astype(np.float64), w.astype(np.float64), groups=groups, padding="same")
    parts = zip(np.split(x.astype(np.float64), groups, axis=3), np.split(w, groups, axis=3), strict=True)
    formula = np.concatenate([row_winograd_reference(a, b) for a, b in parts], axis=3)
    assert np.abs(formula - truth).max() < 1e-12 * np.abs(truth).max()
    found = grouped_conv2d_winograd(x, w, groups=groups, padding="same")
    assert not np.array_equal(found, grouped_conv2d_lanes(x, w, groups=groups, padding="same"))
    assert compare(found, truth).relative < 4e-7


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_kernel(tf, multiplier):
    x, w = cases.numbers("x", (2, 6, 5, 4)), cases.numbers("w", (3, 3, 4, multiplier))
    expected = tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME").numpy()
    wide = depthwise_kernel(w.astype(np.float64))
    truth = grouped_conv2d_reference(x.astype(np.float64), wide, groups=4, padding="same")
    cases.assert_close(grouped_conv2d(x, depthwise_kernel(w), groups=4, padding="same"), expected, truth)


def test_summed_depthwise_kernel(tf):
    """keras-applications' grouped convolution: a depthwise one, then a sum over the inputs of each group."""
    groups, c = 3, 4
    x, w = cases.numbers("x", (1, 6, 5, groups * c)), cases.numbers("w", (3, 3, groups * c, c))
    y = tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME").numpy()
    expected = y.reshape(1, 6, 5, groups, c, c).sum(axis=4).reshape(1, 6, 5, groups * c)
    wide = summed_depthwise_kernel(w.astype(np.float64))
    truth = grouped_conv2d_reference(x.astype(np.float64), wide, groups=groups, padding="same")
    ours = grouped_conv2d(x, summed_depthwise_kernel(w), groups=groups, padding="same")
    cases.assert_close(ours, expected, truth)


X, W = np.zeros((1, 4, 4, 6), np.float32), np.zeros((3, 3, 2, 6), np.float32)


@pytest.mark.parametrize("version", LADDER["grouped_conv2d"], ids=cases.name_of)
@pytest.mark.parametrize(
    ("w", "groups", "said"),
    [
        (W, 2, "6 channels, w takes 2"),
        (W, 0, "in 0 groups"),
        (W, -3, "in -3 groups"),
        (np.zeros((3, 3, 2, 7), np.float32), 3, "makes 7"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_groups(version, w, groups, said):
    with cases.refuses(ValueError, "grouped_conv2d", said):
        version(X, w, groups=groups)


def test_refuses_arrays():
    with cases.refuses(ValueError, "4x4", "5x5"):
        grouped_conv2d(X, np.zeros((5, 5, 2, 6), np.float32), groups=3)
    with cases.refuses(TypeError, "grouped_conv2d: w", "float64"):
        grouped_conv2d(X, W.astype(np.float64), groups=3)
    with cases.refuses(ValueError, "grouped_conv2d: bias", "5 numbers; it must be 6"):
        grouped_conv2d(X, W, np.zeros(5, np.float32), groups=3)
