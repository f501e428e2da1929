"""Max-pooling: no arithmetic, so every version gives TensorFlow's very numbers, also where NaN and infinity stand."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER, maxpool_reference

from ..support import cases


@cases.each("maxpool")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    if case.values in cases.FLUSHED:
        expected = case.run(maxpool_reference, dtype=np.float64).astype(np.float32)
    else:
        padding = case.padding
        if padding not in ("same", "valid"):  # max_pool2d knows no pads in pixels on all versions
            top, bottom, left, right = (padding,) * 4 if isinstance(padding, int) else padding
            border = [[0, 0], [top, bottom], [left, right], [0, 0]]
            x, padding = tf.pad(x, border, constant_values=-cases.INF), "valid"
        stride = case.window if case.stride is None else case.stride
        expected = tf.nn.max_pool2d(x, case.window, stride, padding.upper()).numpy()
    cases.assert_equal(case.run(version), expected)


@pytest.mark.parametrize("version", LADDER["maxpool"], ids=cases.name_of)
@pytest.mark.parametrize(
    ("window", "largest"),
    [
        ([cases.NAN, 1, 2, 0], 2),
        ([1, cases.NAN, -5, cases.NAN], 1),
        ([cases.INF, cases.NAN, 0, 0], cases.INF),
        ([-cases.INF, cases.NAN, -7, -cases.INF], -7),
        ([cases.NAN] * 4, cases.LOWEST),
        ([-cases.INF] * 4, cases.LOWEST),
        ([cases.NAN, -cases.INF, cases.NAN, -cases.INF], cases.LOWEST),
    ],
    ids=str,
)
def test_special_values(tf, version, window, largest):
    """NaN never wins, and what nothing wins is the smallest finite number: the start of TensorFlow's search."""
    x = np.array(window, np.float32).reshape(1, 2, 2, 1)
    assert version(x, 2).item() == np.float32(largest)
    assert tf.nn.max_pool2d(x, 2, 2, "VALID").numpy().item() == np.float32(largest)


@pytest.mark.parametrize("version", LADDER["maxpool"], ids=cases.name_of)
def test_padding_never_wins(version):
    x = np.full((1, 2, 2, 1), -5, np.float32)
    y = version(x, 3, stride=1, padding=(3, 0, 0, 4))
    assert y.shape == (1, 3, 4, 1)
    assert (y[0, 0, :, 0] == cases.LOWEST).all()  # the window's rows are all padding
    assert (y[0, 1:, :2, 0] == -5).all()


@pytest.mark.parametrize("version", LADDER["maxpool"], ids=cases.name_of)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"window": (6, 2)}, ["5x4", "6x2"]),
        ({"window": (2, 6), "padding": (9, 9, 0, 1)}, ["5x4", "2x6", "(9, 9, 0, 1)"]),
        ({"window": (0, 2)}, ["window", "(0, 2)"]),
        ({"window": 2, "stride": -1}, ["stride", "-1"]),
        ({"window": 2, "padding": (0, 0, -3, 0)}, ["padding", "(0, 0, -3, 0)"]),
    ],
    ids=str,
)
def test_refuses(version, given, said):
    with cases.refuses(ValueError, *said):
        version(np.zeros((1, 5, 4, 3), np.float32), **given)
