"""Cropping on a card; what it is says the CPU's ``crop.py``. crop_cuda: one thread per element of the result."""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..crop import cropped
from ..geometry import Pads
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["crop_cuda"]


@kernel("images int int images", threads=ELEMENTS)
def _crop(x, top, left, out):
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, out.shape[3])
        row, column = divide(pixel, out.shape[2])
        n, line = divide(row, out.shape[1])
        out[n, line, column, c] = x[n, top + line, left + column, c]


def crop_cuda(x: Any, crops: Pads | int, *, out: Any = None, stream: Any = None) -> Any:
    """Cut a border off each image of a batch: arguments, result and errors as ``crop_cpu``."""
    call = Call(stream)
    x = call.images("crop: x", x)
    window = cropped(x.shape, crops)
    out = call.result("crop", out, (x.shape[0], window.ho, window.wo, x.shape[3]))
    _crop.launch(grid_1d(out.size), call.stream, x, -window.top, -window.left, out)
    return call.finish()
