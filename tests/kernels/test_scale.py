"""A factor and an offset per channel, against TensorFlow and against the same formula in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from npresnet.kernels import scale, scale_reference

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(TensorFlow's result, the float64 truth)."""
    x, factor, offset = case.arrays()
    return tf.add(tf.multiply(x, factor), offset).numpy(), case.run(scale_reference, dtype=np.float64)


@cases.each("scale")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth)


@pytest.mark.parametrize("position", [1, 2])
def test_refuses_other_parameters(position):
    name = ("x", "factor", "offset")[position]
    for wrong, kind, said in (
        (np.ones(2, np.float32), ValueError, "(2,)"),
        (np.ones((1, 3), np.float32), ValueError, "(1, 3)"),
        (np.ones(3), TypeError, "float64"),
        ([1.0, 1.0, 1.0], TypeError, "list"),
    ):
        given = [np.zeros((1, 2, 2, 3), np.float32), np.ones(3, np.float32), np.ones(1, np.float32)]
        given[position] = wrong
        with cases.refuses(kind, f"scale: {name}", said):
            scale(*given)
