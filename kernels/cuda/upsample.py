"""Up-sampling on a card; what it is says the CPU's ``upsample.py``. upsample_cuda: one thread per element of the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numba import cuda, float32, float64, int64

from ..geometry import pair
from ..upsample import Interpolation, is_bilinear, pixels_per_pixel
from .launch import ELEMENTS, Call, device_function, divide, grid_1d, kernel

__all__ = ["upsample_cuda"]


@kernel("images int int images", threads=ELEMENTS)
def _nearest(x, a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, out.shape[3])
        row, ow = divide(pixel, out.shape[2])
        n, oh = divide(row, out.shape[1])
        out[n, oh, ow, c] = x[n, oh // a, ow // b, c]


@device_function
def _around(index, scale, size):
    at = float32((index + 0.5) * float64(scale)) - float32(0.5)  # why float64: see the CPU's
    before = math.floor(at)
    return max(int64(before), 0), min(int64(math.ceil(at)), size - 1), at - float32(before)


@kernel("images float float images", threads=ELEMENTS)
def _bilinear(x, per_row, per_column, out):
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, out.shape[3])
        row, ow = divide(pixel, out.shape[2])
        n, oh = divide(row, out.shape[1])
        lower, upper, share_h = _around(oh, per_row, x.shape[1])
        left, right, share_w = _around(ow, per_column, x.shape[2])
        top = x[n, lower, left, c] + (x[n, lower, right, c] - x[n, lower, left, c]) * share_w
        bottom = x[n, upper, left, c] + (x[n, upper, right, c] - x[n, upper, left, c]) * share_w
        out[n, oh, ow, c] = top + (bottom - top) * share_h


def upsample_cuda(
    x: Any, size: int | Sequence[int], *, interpolation: Interpolation = "nearest", out: Any = None, stream: Any = None
) -> Any:
    """Make maps larger: arguments, result and errors as ``upsample_cpu``."""
    call = Call(stream)
    x = call.images("upsample: x", x)
    (a, b), bilinear = pair("size", size), is_bilinear(interpolation)
    n, h, w, c = x.shape
    out = call.result("upsample", out, (n, a * h, b * w, c))
    if bilinear:
        scales = pixels_per_pixel(h, a), pixels_per_pixel(w, b)
        _bilinear.launch(grid_1d(out.size), call.stream, x, *scales, out)
    else:
        _nearest.launch(grid_1d(out.size), call.stream, x, a, b, out)
    return call.finish()
