"""Leaky ReLU: y = x where x > 0, else x * slope. NaN stays NaN, as in TensorFlow.

The ladder: leaky_relu_reference (NumPy), leaky_relu_cpu (Numba); leaky_relu is leaky_relu_cpu. Memory-bound. By plan it is part of
the epilogue of what comes before it (``steps/epilogue.py``).
"""

from __future__ import annotations

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .jit import jit

__all__ = ["leaky_relu", "leaky_relu_cpu", "leaky_relu_reference"]


def leaky_relu_reference(x: Array, *, slope: float) -> Array:
    """x, or x * slope where it is not above zero, for an array of any float dtype and shape."""
    with np.errstate(invalid="ignore"):  # infinity times a slope of zero is NaN
        return np.where(x > 0, x, x * x.dtype.type(slope))


@jit
def _leaky_relu(x, slope, out, start, stop):
    source, place = x[start:stop], out[start:stop]
    for i in range(len(source)):
        value = source[i]
        place[i] = value if value > 0 else value * slope


def leaky_relu_cpu(x: Array, *, slope: float, out: Array | None = None, threads: int | None = 1) -> Array:
    """x, or x * slope where it is not above zero, of feature maps x float32[n, h, w, c]; ``out`` may be x itself.

    TypeError for another dtype.
    """
    x = images("leaky_relu: x", x)
    out = result("leaky_relu", out, x.shape)
    threads = _threads.resolve_threads(threads)
    _threads.run(_leaky_relu, x.size, threads, x.reshape(-1), np.float32(slope), out.reshape(-1))
    return out


leaky_relu = leaky_relu_cpu
