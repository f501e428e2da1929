"""Maps of another size on a card; what it is says the CPU's ``resize.py``. resize_cuda: one thread per element of the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numba import cuda, float32, float64, int64

from ..geometry import pair
from ..resize import Interpolation, check_pixels, is_bilinear, pixels_per_pixel
from .launch import ELEMENTS, Call, device_function, divide, grid_1d, kernel

__all__ = ["launch_resize", "resize_cuda"]


@device_function
def _nearest_of(index, scale, size):
    at = float32((index + 0.5) * float64(scale))  # why float64: see the CPU's
    return min(int64(math.floor(at)), size - 1)


@kernel("images float float images", threads=ELEMENTS)
def _nearest(x, per_row, per_column, out):
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, out.shape[3])
        row, ow = divide(pixel, out.shape[2])
        n, oh = divide(row, out.shape[1])
        out[n, oh, ow, c] = x[n, _nearest_of(oh, per_row, x.shape[1]), _nearest_of(ow, per_column, x.shape[2]), c]


@device_function
def _around(index, scale, size):
    at = float32((index + 0.5) * float64(scale)) - float32(0.5)
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


def launch_resize(stream: Any, x: Any, bilinear: bool, out: Any) -> None:
    """Bring x to the size of ``out``: device arrays float32[n, h, w, c]."""
    scales = (pixels_per_pixel(x.shape[axis], out.shape[axis]) for axis in (1, 2))
    (_bilinear if bilinear else _nearest).launch(grid_1d(out.size), stream, x, *scales, out)


def resize_cuda(
    x: Any, size: int | Sequence[int], *, interpolation: Interpolation = "bilinear", out: Any = None, stream: Any = None
) -> Any:
    """Bring maps to another size: arguments, result and errors as ``resize_cpu``."""
    call = Call(stream)
    x = call.images("resize: x", x)
    (height, width), bilinear = pair("size", size), is_bilinear("resize", interpolation)
    check_pixels(x)
    out = call.result("resize", out, (x.shape[0], height, width, x.shape[3]))
    launch_resize(call.stream, x, bilinear, out)
    return call.finish()
