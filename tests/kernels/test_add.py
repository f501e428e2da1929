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


@pytest.mark.parametrize("shape", [(1, 3, 5, 1), (1, 1, 1, 7)], ids=str)
def test_what_is_there_once_is_repeated(shape):
    a, b = cases.numbers("a", (2, 3, 5, 7)), cases.numbers("b", shape)
    cases.assert_same_bits(add(a, b), a + b)
    cases.assert_same_bits(add(b, a), a + b)


def test_refuses_other_shapes():
    a, b = np.zeros((1, 3, 5, 7), np.float32), np.zeros((1, 5, 3, 7), np.float32)
    with cases.refuses(ValueError, str(a.shape), str(b.shape)):
        add(a, b)
