"""Product of two feature maps, or of one and a gate, on a card; what it is says the CPU's ``multiply.py``.
multiply_cuda: one thread per element."""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..multiply import gate_last
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["multiply_cuda"]


@kernel("vector vector vector", threads=ELEMENTS)
def _multiply(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] * b[i]


@kernel("vector vector int int vector", threads=ELEMENTS)
def _gate(a, b, pixels, channels, out):
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, channels)
        n, _ = divide(pixel, pixels)
        out[i] = a[i] * b[n * channels + c]


def multiply_cuda(a: Any, b: Any, *, out: Any = None, stream: Any = None) -> Any:
    """a * b: arguments, result and errors as ``multiply_cpu``."""
    call = Call(stream)
    a, b = gate_last(call.images("multiply: a", a), call.images("multiply: b", b))
    out = call.result("multiply", out, a.shape)
    blocks = grid_1d(a.size)
    flat = [array.reshape(array.size) for array in (a, b, out)]
    if a.shape == b.shape:
        _multiply.launch(blocks, call.stream, *flat)
    else:
        _gate.launch(blocks, call.stream, flat[0], flat[1], a.shape[1] * a.shape[2], a.shape[3], flat[2])
    return call.finish()
