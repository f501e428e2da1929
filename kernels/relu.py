"""ReLU: y = x where x > 0, else 0. NaN stays NaN, as in TensorFlow.

The ladder: relu_reference (NumPy), relu_cpu (Numba); relu is relu_cpu. Memory-bound.
"""

from __future__ import annotations

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .jit import jit

__all__ = ["relu", "relu_cpu", "relu_reference"]


def relu_reference(x: Array) -> Array:
    """max(x, 0) for an array of any float dtype and shape."""
    return np.where(x <= 0, x.dtype.type(0), x)  # not "x > 0": NaN compares false and must pass


@jit
def _relu(x, out, start, stop):
    source, place = x[start:stop], out[start:stop]
    for i in range(len(source)):
        value = source[i]
        place[i] = np.float32(0.0) if value <= 0 else value


def relu_cpu(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """max(x, 0) of feature maps x float32[n, h, w, c]; ``out`` may be x itself. TypeError for another dtype."""
    x = images("relu: x", x)
    out = result("relu", out, x.shape)
    _threads.run(_relu, x.size, _threads.resolve_threads(threads), x.reshape(-1), out.reshape(-1))
    return out


relu = relu_cpu
