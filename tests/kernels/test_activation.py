"""Activations against Keras's own, and against the same formulas in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npresnet.kernels import LADDER, activation, activation_reference
from npresnet.kernels.functions import FUNCTIONS

from ..support import cases

keras = pytest.importorskip("keras")

KERAS: dict[str, Callable[..., Any]] = {
    "abs": keras.ops.abs,
    "clipped_relu": lambda x, *constants: keras.activations.relu(
        x, **dict(zip(("negative_slope", "max_value", "threshold"), constants, strict=True))
    ),
    "gelu_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "hard_sigmoid_keras2": lambda x: keras.ops.clip(x * 0.2 + 0.5, 0, 1),  # its own code
}
"""What Keras calls otherwise."""


@functools.cache
def oracle(case):
    """(Keras's result, the float64 truth)."""
    function = KERAS.get(case.function) or getattr(keras.activations, case.function)
    expected = np.array(function(keras.ops.convert_to_tensor(case.arrays()[0]), *case.constants))
    return expected, case.run(activation_reference, dtype=np.float64)


@cases.each("activation")
def test_keras(case, version):
    expected, truth = oracle(case)
    if case.values in cases.FLUSHED:
        cases.assert_true(case.run(version), truth)
        return
    expected = np.where(
        np.isnan(case.arrays()[0]), np.nan, expected
    )  # below a threshold Keras 3 drops NaN, Keras 2 does not
    cases.assert_close(case.run(version), expected, truth)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_relative_error(name):
    """Each number by itself, however small: as exact as a float32 can be. (Where the reference itself cancels, as tanh's
    approximation of gelu does far below zero, it is no judge.)"""
    x = np.concatenate([sign * np.logspace(-40, 1.7, 4000) for sign in (1, -1)]).astype(np.float32)
    if name == "gelu_tanh":
        x = x[x > -4]
    (constants, *_) = cases.CONSTANTS.get(name, ((),))
    truth = activation_reference(x.astype(np.float64), function=name, constants=constants)
    y = activation(x, function=name, constants=constants)
    normal = np.abs(truth) > 1e-37
    assert np.abs(y[normal] / truth[normal] - 1).max() < 2 * cases.EPS
    assert np.abs(y - truth)[~normal].max(initial=0) < 1e-43


@pytest.mark.parametrize("version", LADDER["activation"], ids=cases.name_of)
def test_extremes(version):
    """No overflow, no warning; TensorFlow's float32 formula gives 0 for -200 as well."""
    x = np.array([-cases.INF, -1e30, -200, 0, 200, 1e30, cases.INF], np.float32)
    y = version(x, function="sigmoid")
    assert 0 <= y[2] < 1e-38
    cases.assert_equal(np.delete(y, 2), np.array([0, 0, 0.5, 1, 1, 1], np.float32))


@pytest.mark.parametrize("version", LADDER["activation"], ids=cases.name_of)
def test_refuses(version):
    x = np.zeros(3, np.float32)
    with cases.refuses(ValueError, "got function 'swisch'", "silu"):
        version(x, function="swisch")
    with cases.refuses(ValueError, "got constants (1.0,) for silu", "0 of them"):
        version(x, function="silu", constants=(1.0,))


@pytest.mark.parametrize("version", LADDER["activation"], ids=cases.name_of)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays(name, version):
    """Plans rely on it: Winograd's algorithm shows by NaN where it went wrong."""
    x = np.array([np.nan, 1.0, np.nan], np.float32)
    for constants in cases.CONSTANTS.get(name, ((),)):
        assert np.isnan(version(x, function=name, constants=constants)).tolist() == [True, False, True]
