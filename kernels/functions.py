"""Activations that are a function of each number by itself: a table of formulas, each once for NumPy and once for compiled code.

A new one is one row: its formula for arrays of any float dtype, and for one number the same again, in such a form that it neither
overflows nor cancels. That is compiled for the processor, where ``exp`` and its like are those of ``elementary.py``, and for cards,
where they are their own. It gets a float32, or on cards a float64, and computes in float64 as soon as one of Python's numbers takes part; and up to
three constants. NaN stays NaN in all of them, which plans rely on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array
from .elementary import erfc, exp, log1p
from .jit import Native, jit, native
from .numba_later import carray, types
from .steps.intrinsics import float_pointer

__all__ = ["FUNCTIONS", "Function", "block_of"]


@dataclass(frozen=True)
class Function:
    """One activation.

    reference  of an array of any float dtype and shape, and the constants
    formula    of one number, and three constants of which the first are used
    constants  how many it has
    block      compiled: of a block of numbers, in place; the address, pitch in bytes, rows, columns, the three constants
    """

    reference: Callable[..., Array]
    formula: Callable[..., Any]
    constants: int
    block: Native


FUNCTIONS: dict[str, Function] = {}
"""{name: activation}, by the names that Keras has for them, as far as it has."""

_i, _f = types.int64, types.float32


def _function(
    reference: Callable[..., Array], constants: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: adds a formula for one number to the table."""

    def add(formula: Callable[..., Any]) -> Callable[..., Any]:
        name = formula.__name__.strip("_")
        FUNCTIONS[name] = Function(reference, formula, constants, block_of(name, jit(formula)))
        return formula

    return add


def block_of(name: str, formula: Any, kept: bool = True) -> Native:
    """The loop over a block, whose machine code is ``kept`` on disk. In place: were there two addresses, compilers had to provide for numbers that are read after they
    have been written, and in place there would be no vectors."""

    def block(place, pitch, rows, columns, a, b, c):
        if pitch == 4 * columns:  # one long row
            rows, columns = 1, rows * columns
        for row in range(rows):
            numbers = carray(float_pointer(place + row * pitch), (columns,))
            for i in range(columns):
                numbers[i] = formula(numbers[i], a, b, c)

    block.__name__ = block.__qualname__ = f"{name}_block"  # by which its machine code is kept
    return native(types.void(_i, _i, _i, _i, _f, _f, _f), kept)(block)


# The table -----------------------------------------------------------------------------------------------------------


def _logistic(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


@_function(lambda x: np.abs(x))
def _abs(x, a, b, c):
    return abs(x)


@_function(lambda x: np.exp(x))
def _exponential(x, a, b, c):
    return exp(x)


@_function(_logistic)
def _sigmoid(x, a, b, c):
    return 1.0 / (1.0 + exp(-x))


@_function(lambda x: x * _logistic(x))
def _silu(x, a, b, c):
    return x / (1.0 + exp(-x))


@_function(lambda x: np.tanh(x))
def _tanh(x, a, b, c):
    power = exp(-2.0 * abs(x))
    y = (1.0 - power) / (1.0 + power)
    # near zero the difference cancels
    return x - x * x * x * (1 / 3) if abs(x) < 1e-4 else (-y if x < 0 else y)


@_function(lambda x: np.logaddexp(x.dtype.type(0), x))
def _softplus(x, a, b, c):
    return (0.0 if x < 0 else x) + log1p(exp(-abs(x)))


@_function(lambda x: -np.logaddexp(x.dtype.type(0), -x))
def _log_sigmoid(x, a, b, c):
    return (x if x < 0 else 0.0) - log1p(exp(-abs(x)))


@_function(lambda x: x / (1 + np.abs(x)))
def _softsign(x, a, b, c):
    return x / (1.0 + abs(x))


@_function(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)), constants=1)
def _elu(x, a, b, c):
    below = x + 0.5 * x * x if x > -1e-5 else exp(x) - 1.0
    return x if x > 0 else a * below


@_function(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x / alpha)), constants=1)
def _celu(x, a, b, c):
    z = np.float64(x) / a
    below = z + 0.5 * z * z if abs(z) < 1e-5 else exp(z) - 1.0
    return x if x > 0 else a * below


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@_function(lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(x)))
def _selu(x, a, b, c):
    below = x + 0.5 * x * x if x > -1e-5 else exp(x) - 1.0
    return _SELU_SCALE * (x if x > 0 else _SELU_ALPHA * below)


def _gelu_by_definition(x: Array) -> Array:
    """x times the probability that a normal number is smaller. NumPy has no error function, Python has."""
    complement = np.asarray(np.frompyfunc(math.erfc, 1, 1)(-x / math.sqrt(2)), x.dtype)
    result: Array = 0.5 * x * complement
    return result


@_function(_gelu_by_definition)
def _gelu(x, a, b, c):
    return 0.5 * x * erfc(x * -0.7071067811865476)


@_function(lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
def _gelu_tanh(x, a, b, c):
    # 1 + tanh(u) is 2 / (1 + exp(-2 * u))
    return x / (1.0 + exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))


@_function(lambda x: x * np.tanh(np.logaddexp(x.dtype.type(0), x)))
def _mish(x, a, b, c):
    # tanh(log(1 + e)) is (e * e + 2 * e) / (e * e + 2 * e + 2), here with exp(-abs(x)), which cannot overflow
    power = exp(-1.0 * abs(x))
    square = power * power
    above, below = 1.0 + 2.0 * power, square + 2.0 * power
    return x * below / (below + 2.0) if x < 0 else x * above / (above + 2.0 * square)


@_function(lambda x: np.clip(x + 3, 0, 6) / 6)
def _hard_sigmoid(x, a, b, c):
    y = x + 3.0
    y = 0.0 if y < 0 else y
    return (6.0 if y > 6.0 else y) / 6.0


@_function(lambda x: np.clip(x * 0.2 + 0.5, 0, 1))
def _hard_sigmoid_keras2(x, a, b, c):
    y = x * 0.2 + 0.5
    y = 0.0 if y < 0 else y
    return 1.0 if y > 1.0 else y


@_function(lambda x: x * (np.clip(x + 3, 0, 6) / 6))
def _hard_silu(x, a, b, c):
    y = x + 3.0
    y = 0.0 if y < 0 else y
    return x * ((6.0 if y > 6.0 else y) / 6.0)


@_function(lambda x: np.clip(x, -1, 1))
def _hard_tanh(x, a, b, c):
    y = -1.0 if x < -1.0 else x
    return 1.0 if y > 1.0 else y


def _clipped_relu_by_definition(x: Array, slope: float, ceiling: float, threshold: float) -> Array:
    """Above the threshold x, but no more than the ceiling; below it a line that is zero there."""
    below = slope * (x - threshold) if slope else np.zeros_like(x)  # infinity times zero would be NaN
    return np.where(np.isnan(x), x, np.where(x > threshold, np.minimum(x, ceiling), below))


@_function(_clipped_relu_by_definition, constants=3)
def _clipped_relu(x, a, b, c):
    below = a * (x - c) if a != 0 else np.float32(0.0)
    y = (b if x > b else x) if x > c else below
    return y if x == x else x
