"""The logistic function against TensorFlow, and against the same formula in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import LADDER, sigmoid_reference

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(TensorFlow's result, the float64 truth)."""
    return tf.sigmoid(*case.arrays()).numpy(), case.run(sigmoid_reference, dtype=np.float64)


@cases.each("sigmoid")
def test_tensorflow(tf, case, version):
    cases.assert_close(case.run(version), *oracle(tf, case))


@pytest.mark.parametrize("version", LADDER["sigmoid"], ids=cases.name_of)
def test_extremes(version):
    """No overflow, no warning; TensorFlow's float32 formula gives 0 for -200 as well."""
    x = np.array([-cases.INF, -1e30, -200, 0, 200, 1e30, cases.INF], np.float32)
    y = version(x)
    assert 0 <= y[2] < 1e-38
    cases.assert_equal(np.delete(y, 2), np.array([0, 0, 0.5, 1, 1, 1], np.float32))
