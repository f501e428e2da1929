"""Softmax against TensorFlow, and against the same formula in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import LADDER, softmax, softmax_reference

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(TensorFlow's result, the float64 truth)."""
    return tf.nn.softmax(*case.arrays()).numpy(), case.run(softmax_reference, dtype=np.float64)


@cases.each("softmax")
def test_tensorflow(tf, case, version):
    cases.assert_close(case.run(version), *oracle(tf, case))


@pytest.mark.parametrize("version", LADDER["softmax"], ids=cases.name_of)
@pytest.mark.parametrize(
    "row",
    [
        [cases.NAN, 1, 2, 3],
        [1, 2, 3, cases.NAN],
        [cases.INF, 1, 2, 3],
        [1, cases.INF, 2, cases.INF],
        [cases.INF, -cases.INF, cases.NAN, 0],
        [cases.NAN] * 4,
        [cases.INF] * 4,
        [-cases.INF] * 4,
    ],
    ids=str,
)
def test_rows_without_an_answer(tf, version, row):
    """NaN throughout, and in no other row. TensorFlow agrees where the odd numbers stand; some of its builds give 0 in
    the rest of the row."""
    x = np.array([[1, 2, 3, 4], row, [4, 3, 2, 1]], np.float32)
    with np.errstate(all="ignore"):
        y = version(x)
    assert np.isnan(y[1]).all()
    assert np.isnan(tf.nn.softmax(x).numpy()[1][~np.isfinite(x[1]) & (x[1] != -cases.INF)]).all()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("version", LADDER["softmax"], ids=cases.name_of)
@pytest.mark.parametrize(
    "row", [[-cases.INF, 1, 2, 3], [1000, 999, -1000, 0], [3e38, -3e38, 0, 0], [-1e4, -1e4, -1e4, -1e4]], ids=str
)
def test_extremes(tf, version, row):
    x = np.array([row], np.float32)
    with np.errstate(all="ignore"):
        truth = softmax_reference(x.astype(np.float64))
        cases.assert_close(version(x), tf.nn.softmax(x).numpy(), truth)


def test_refuses_rows_of_nothing():
    with pytest.raises(ValueError, match=r"\(3, 0\)"):
        softmax(np.zeros((3, 0), np.float32))
