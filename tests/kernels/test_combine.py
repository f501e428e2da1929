"""Two maps joined: one rounding, which leaves no choice, so every version gives TensorFlow's very numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER, combine

from ..support import cases


def oracle(tf, case):
    a, b = case.arrays()
    if case.function == "prelu":
        return (tf.nn.relu(a) - b * tf.nn.relu(-a)).numpy()  # Keras's own code
    return getattr(tf, case.function)(a, b).numpy()


@cases.each("combine")
def test_tensorflow(tf, case, version):
    if case.values in cases.FLUSHED:
        expected = case.run(LADDER["combine"][0])
    else:
        expected = oracle(tf, case)
        if (
            case.function == "prelu"
        ):  # Keras multiplies a zero where there is nothing below zero: no number if b is infinite
            a, b = case.arrays()
            expected = np.where((a > 0) & ~np.isfinite(b), a, expected)
    found = case.run(version)
    if case.function == "divide":  # a quotient of large numbers may be denormal
        found = np.where(np.abs(found) < np.finfo(np.float32).tiny, 0 * found, found)
    cases.assert_equal(found, expected)


@pytest.mark.parametrize("version", LADDER["combine"], ids=cases.name_of)
def test_refuses(version):
    a = np.zeros((2, 3, 5, 7), np.float32)
    for shape in ((2, 3, 5, 2), (2, 5, 3, 7), (3, 3, 5, 7), (2, 2, 1, 1)):
        b = np.zeros(shape, np.float32)
        for left, right in ((a, b), (b, a)):
            with cases.refuses(ValueError, "combine", str(a.shape), str(shape)):
                version(left, right, function="multiply")
    with cases.refuses(ValueError, "got function 'modulo'", "subtract"):
        version(a, a, function="modulo")


@pytest.mark.parametrize("shape", [(0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 5, 0)], ids=str)
def test_nothing_times_a_gate(shape):
    a, gate = np.zeros(shape, np.float32), np.zeros((shape[0], 1, 1, shape[3]), np.float32)
    for left, right in ((a, gate), (gate, a)):
        assert combine(left, right, function="multiply").shape == shape
