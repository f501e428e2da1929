"""The logistic function: y = 1 / (1 + exp(-x)). NaN stays NaN.

The ladder: sigmoid_reference (NumPy), sigmoid_cpu (Numba, in float64 inside); sigmoid is sigmoid_cpu.
"""

from __future__ import annotations

import math

import numpy as np

from . import threads as _threads
from .arrays import Array, floats, result
from .jit import jit

__all__ = ["sigmoid", "sigmoid_cpu", "sigmoid_reference"]


def sigmoid_reference(x: Array) -> Array:
    """1 / (1 + exp(-x)) for an array of any float dtype and shape."""
    with np.errstate(over="ignore"):  # exp(-x) may be infinite: then the result is 0, as it should be
        return 1 / (1 + np.exp(-x))


@jit
def _sigmoid(x, out, start, stop):
    source, place = x[start:stop], out[start:stop]
    for i in range(len(source)):
        place[i] = 1.0 / (1.0 + math.exp(-np.float64(source[i])))


def sigmoid_cpu(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """1 / (1 + exp(-x)) of x float32, of any shape; ``out`` may be x itself. TypeError for another dtype."""
    x = floats("sigmoid: x", x)
    out = result("sigmoid", out, x.shape)
    _threads.run(_sigmoid, x.size, _threads.resolve_threads(threads), x.reshape(-1), out.reshape(-1))
    return out


sigmoid = sigmoid_cpu
