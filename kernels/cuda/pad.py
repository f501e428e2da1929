"""Zero padding on a card; what it is says the CPU's ``pad.py``. pad_cuda: one thread per element of the result."""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..geometry import Pads
from ..pad import in_pixels
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["pad_cuda"]


@kernel("images int int float images", threads=ELEMENTS)
def _pad(x, top, left, value, out):
    i = cuda.grid(1)
    if i < out.size:  # neighbouring threads have neighbouring channels, as in all kernels of this kind
        pixel, c = divide(i, out.shape[3])
        row, column = divide(pixel, out.shape[2])
        n, line = divide(row, out.shape[1])
        h, w = line - top, column - left
        inside = h >= 0 and h < x.shape[1] and w >= 0 and w < x.shape[2]
        out[n, line, column, c] = x[n, h, w, c] if inside else value


def pad_cuda(x: Any, pads: Pads | int, value: float = 0.0, *, out: Any = None, stream: Any = None) -> Any:
    """Put a border around each image of a batch: arguments, result and errors as ``pad_cpu``."""
    call = Call(stream)
    x = call.images("pad: x", x)
    top, bottom, left, right = in_pixels(pads)
    n, h, w, c = x.shape
    out = call.result("pad", out, (n, top + h + bottom, left + w + right, c))
    _pad.launch(grid_1d(out.size), call.stream, x, top, left, value, out)
    return call.finish()
