"""ReLU: no arithmetic, so every version gives TensorFlow's very bits, NaN included."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("relu")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    if case.values in cases.FLUSHED:
        expected = np.where(x > 0, x, np.float32(0))
    else:
        expected = tf.nn.relu(x).numpy()
    cases.assert_same_bits(case.run(version), expected)


@pytest.mark.parametrize("version", LADDER["relu"], ids=cases.name_of)
def test_special_values(version):
    x = np.array([cases.NAN, cases.INF, -cases.INF, -0.0, 0.0, -1e-45, 1e-45], np.float32).reshape(1, 1, 7, 1)
    y = version(x)
    assert np.array_equal(y.ravel(), np.array([cases.NAN, cases.INF, 0, 0, 0, 0, 1e-45], np.float32), equal_nan=True)
    assert not np.signbit(y.ravel()[1:]).any()
