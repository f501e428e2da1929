"""ReLU on a card; what it is says the CPU's ``relu.py``. relu_cuda: one thread per element."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32

from .launch import ELEMENTS, Call, grid_1d, kernel

__all__ = ["relu_cuda"]


@kernel("vector vector", threads=ELEMENTS)
def _relu(x, out):
    i = cuda.grid(1)
    if i < out.size:
        value = x[i]
        out[i] = float32(0.0) if value <= 0 else value  # not "x > 0": NaN compares false and must pass


def relu_cuda(x: Any, *, out: Any = None, stream: Any = None) -> Any:
    """max(x, 0) of feature maps x float32[n, h, w, c]; ``out`` may be x itself. TypeError for another dtype."""
    call = Call(stream)
    x = call.images("relu: x", x)
    out = call.result("relu", out, x.shape)
    _relu.launch(grid_1d(x.size), call.stream, x.reshape(x.size), out.reshape(x.size))
    return call.finish()
