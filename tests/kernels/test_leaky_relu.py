"""Leaky ReLU: one product, so every version gives TensorFlow's very bits, NaN and infinity included."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("leaky_relu")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    if case.values in cases.FLUSHED:
        expected = np.where(x > 0, x, x * np.float32(case.slope))
    else:
        expected = tf.raw_ops.LeakyRelu(features=x, alpha=case.slope).numpy()
    cases.assert_same_bits(case.run(version), expected)


@pytest.mark.parametrize("version", LADDER["leaky_relu"], ids=cases.name_of)
def test_special_values(version):
    x = np.array([cases.NAN, cases.INF, -cases.INF, -0.0, 0.0, -2.0, 1e-45], np.float32).reshape(1, 1, 7, 1)
    y = version(x, slope=0.25).ravel()
    assert np.array_equal(
        y, np.array([cases.NAN, cases.INF, -cases.INF, 0, 0, -0.5, 1e-45], np.float32), equal_nan=True
    )
    assert np.signbit(y[3])
    assert np.isnan(version(x, slope=0.0).ravel()[2])  # infinity times zero, as TensorFlow has it
