"""Dense layers against Keras's, and against the same product in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import dense, dense_reference

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(Keras's result, the float64 truth)."""
    x, w, bias = case.arrays()
    layer = tf.keras.layers.Dense(case.n, use_bias=bias is not None)
    layer.build(x.shape)
    layer.set_weights([w] if bias is None else [w, bias])
    return layer(x).numpy(), case.run(dense_reference, dtype=np.float64)


@cases.each("dense")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth)


def test_refuses_other_lengths():
    x, w = np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match="2x3 and b 4x5"):
        dense(x, w)
    with pytest.raises(ValueError, match="4 numbers; it must be 5"):
        dense(w[:3].T.copy()[:3, :3], w[:3], np.zeros(4, np.float32))
