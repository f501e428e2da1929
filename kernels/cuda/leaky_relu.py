"""Leaky ReLU on a card; what it is says the CPU's ``leaky_relu.py``. leaky_relu_cuda: one thread per element."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .launch import ELEMENTS, Call, grid_1d, kernel

__all__ = ["leaky_relu_cuda"]


@kernel("vector float vector", threads=ELEMENTS)
def _leaky_relu(x, slope, out):
    i = cuda.grid(1)
    if i < out.size:
        value = x[i]
        out[i] = value if value > 0 else value * slope


def leaky_relu_cuda(x: Any, *, slope: float, out: Any = None, stream: Any = None) -> Any:
    """x, or x * slope where it is not above zero, of feature maps x float32[n, h, w, c]; ``out`` may be x itself.

    TypeError for another dtype.
    """
    call = Call(stream)
    x = call.images("leaky_relu: x", x)
    out = call.result("leaky_relu", out, x.shape)
    _leaky_relu.launch(grid_1d(x.size), call.stream, x.reshape(x.size), slope, out.reshape(x.size))
    return call.finish()
