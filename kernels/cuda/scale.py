"""A factor and an offset per channel on a card; what it is says the CPU's ``scale.py``. scale_cuda: one thread per
element."""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..scale import check_numbers
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["launch_scale", "scale_cuda"]


@kernel("vector vector vector int vector", threads=ELEMENTS)
def _scale(x, factor, offset, channels, out):
    i = cuda.grid(1)
    if i < out.size:
        _, c = divide(i, channels)
        out[i] = x[i] * factor[c if factor.size > 1 else 0] + offset[c if offset.size > 1 else 0]


def launch_scale(stream: Any, x: Any, factor: Any, offset: Any, out: Any) -> None:
    """out = x * factor + offset: device arrays float32[n, h, w, c], vectors of c numbers or of one."""
    channels = x.shape[3]
    _scale.launch(grid_1d(x.size), stream, x.reshape(x.size), factor, offset, channels, out.reshape(x.size))


def scale_cuda(x: Any, factor: Any, offset: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Scale and shift the channels of feature maps: arguments, result and errors as ``scale_cpu``."""
    call = Call(stream)
    x = call.images("scale: x", x)
    factor, offset = call.numbers("scale: factor", factor), call.numbers("scale: offset", offset)
    check_numbers("factor", factor, x.shape[3])
    check_numbers("offset", offset, x.shape[3])
    out = call.result("scale", out, x.shape)
    launch_scale(call.stream, x, factor, offset, out)
    return call.finish()
