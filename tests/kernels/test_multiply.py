"""Products: one rounding, which leaves no choice, so every version gives TensorFlow's very numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import multiply

from ..support import cases


@cases.each("multiply")
def test_tensorflow(tf, case, version):
    a, b = case.arrays()
    with np.errstate(all="ignore"):
        expected = a * b if case.values in cases.FLUSHED else tf.multiply(a, b).numpy()
    cases.assert_equal(case.run(version), expected)


@pytest.mark.parametrize("shape", [(2, 3, 5, 1), (1, 1, 1, 7), (2, 1, 5, 7), (2, 5, 3, 7)], ids=str)
def test_broadcasts_nothing_but_a_gate(shape):
    a, b = np.zeros((2, 3, 5, 7), np.float32), np.zeros(shape, np.float32)
    for left, right in ((a, b), (b, a)):
        with cases.refuses(ValueError, "multiply", str(a.shape), str(shape)):
            multiply(left, right)


@pytest.mark.parametrize("shape", [(0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 5, 0)], ids=str)
def test_nothing_times_a_gate(shape):
    a, gate = np.zeros(shape, np.float32), np.zeros((shape[0], 1, 1, shape[3]), np.float32)
    assert multiply(a, gate).shape == multiply(gate, a).shape == shape
