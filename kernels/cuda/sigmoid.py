"""The logistic function on a card; what it is says the CPU's ``sigmoid.py``. sigmoid_cuda: one thread per element."""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float64

from .launch import ELEMENTS, Call, grid_1d, kernel

__all__ = ["sigmoid_cuda"]


@kernel("vector vector", threads=ELEMENTS)
def _sigmoid(x, out):
    i = cuda.grid(1)
    if i < out.size:
        value = float64(x[i])
        # exp of what is not positive: it cannot overflow
        power = math.exp(-abs(value))
        out[i] = (power if value < 0 else 1.0) / (1.0 + power)


def sigmoid_cuda(x: Any, *, out: Any = None, stream: Any = None) -> Any:
    """1 / (1 + exp(-x)) of x float32, of any shape; ``out`` may be x itself. TypeError for another dtype."""
    call = Call(stream)
    x = call.floats("sigmoid: x", x)
    out = call.result("sigmoid", out, x.shape)
    _sigmoid.launch(grid_1d(x.size), call.stream, x.reshape(x.size), out.reshape(x.size))
    return call.finish()
