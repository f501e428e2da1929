"""Batch normalisation against Keras's layer at inference, and against the same formula in float64."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from npresnet.kernels import batchnorm, batchnorm_reference

from ..support import cases


@functools.cache
def oracle(tf, case):
    """(Keras's result, the float64 truth)."""
    x, gamma, beta, mean, variance = case.arrays()
    layer = tf.keras.layers.BatchNormalization(epsilon=case.epsilon, scale=gamma is not None, center=beta is not None)
    layer.build(x.shape)
    layer.set_weights([weights for weights in (gamma, beta, mean, variance) if weights is not None])
    return layer(x, training=False).numpy(), case.run(batchnorm_reference, dtype=np.float64)


@cases.each("batchnorm")
def test_tensorflow(tf, case, version):
    actual, (expected, truth) = case.run(version), oracle(tf, case)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, expected, truth)


def test_epsilon_counts():
    """The families of networks differ in epsilon alone: a kernel that took its own would pass with most variances."""
    x = cases.numbers("x", (1, 2, 2, 3))
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    for epsilon in (1e-5, 1.001e-5, 1e-3):
        cases.assert_true(batchnorm(x, ones, zeros, zeros, zeros, epsilon), x.astype(np.float64) / epsilon**0.5)


def test_no_channels():
    none = np.zeros(0, np.float32)
    assert batchnorm(np.zeros((1, 2, 2, 0), np.float32), none, none, none, none, 1e-3).shape == (1, 2, 2, 0)


@pytest.mark.parametrize("position", range(1, 5))
def test_refuses_other_parameters(position):
    name = ("x", "gamma", "beta", "mean", "variance")[position]
    arguments = [np.zeros((1, 2, 2, 3), np.float32), *np.ones((4, 3), np.float32)]
    for wrong, kind, said in (
        (np.ones(4, np.float32), ValueError, "4 numbers; it must be 3"),
        (np.ones((1, 3), np.float32), ValueError, r"\(1, 3\)"),
        (np.ones(3), TypeError, "float64"),
        ([1.0, 1.0, 1.0], TypeError, "list"),
    ):
        given: list[Any] = [*arguments, 1e-3]
        given[position] = wrong
        with pytest.raises(kind, match=f"batchnorm: {name}.*{said}"):
            batchnorm(*given)
