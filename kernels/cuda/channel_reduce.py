"""Mean or largest value over the channels on a card; what it is says the CPU's ``channel_reduce.py``.

channel_reduce_cuda: one thread per pixel, which goes through its channels in order. Neighbouring threads read far apart; but each
line of memory that one of them asks for holds 32 channels, all of which it needs next.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float64

from ..channel_reduce import Reduction, check_channels, is_mean
from .launch import ELEMENTS, Call, grid_1d, kernel

__all__ = ["channel_reduce_cuda"]


@kernel("matrix vector", threads=ELEMENTS)
def _channel_mean(x, out):
    pixel = cuda.grid(1)
    if pixel < out.size:
        total = float64(0.0)
        for c in range(x.shape[1]):
            total += x[pixel, c]
        out[pixel] = total / x.shape[1]


@kernel("matrix vector", threads=ELEMENTS)
def _channel_max(x, out):
    pixel = cuda.grid(1)
    if pixel < out.size:
        best = x[pixel, 0]
        for c in range(1, x.shape[1]):
            value = x[pixel, c]
            if value > best or value != value:
                best = value
        out[pixel] = best


def channel_reduce_cuda(x: Any, *, function: Reduction, out: Any = None, stream: Any = None) -> Any:
    """Mean or largest value over the channels of each pixel: arguments, result and errors as ``channel_reduce_cpu``."""
    call = Call(stream)
    x, reduce = call.images("channel_reduce: x", x), _channel_mean if is_mean(function) else _channel_max
    check_channels(x)
    out = call.result("channel_reduce", out, (*x.shape[:3], 1))
    reduce.launch(grid_1d(out.size), call.stream, x.reshape(out.size, x.shape[3]), out.reshape(out.size))
    return call.finish()
