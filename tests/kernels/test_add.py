"""Addition: one rounding, which leaves no choice, so every version gives TensorFlow's very numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import add

from ..support import cases


@cases.each("add")
def test_tensorflow(tf, case, version):
    a, b = case.arrays()
    expected = a + b if case.values in cases.FLUSHED else tf.add(a, b).numpy()
    cases.assert_equal(case.run(version), expected)


def test_one_array_twice():
    x = cases.numbers("x", (1, 3, 5, 7))
    cases.assert_same_bits(add(x, x), 2 * x)


@pytest.mark.parametrize("shape", [(1, 3, 5, 1), (1, 3, 1, 7), (2, 3, 5, 7), (1, 5, 3, 7)], ids=str)
def test_broadcasts_nothing(shape):
    a, b = np.zeros((1, 3, 5, 7), np.float32), np.zeros(shape, np.float32)
    with cases.refuses(ValueError, "add", str(a.shape), str(shape)):
        add(a, b)
