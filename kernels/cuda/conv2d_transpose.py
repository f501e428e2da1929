"""Transposed convolution on a card; what it is says the CPU's ``conv2d_transpose.py``. conv2d_transpose_cuda: one thread per element
of the result, which sums in float64 over the taps that reach it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numba import cuda, float64

from ..conv2d_transpose import transposed
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["conv2d_transpose_cuda"]


@kernel("images images vector window images", threads=ELEMENTS)
def _transposed(x, w, bias, window, out):
    kh, kw, sh, sw, dh, dw, top, left, rows, columns = window
    i = cuda.grid(1)
    if i < out.size:
        pixel, co = divide(i, out.shape[3])
        row, ow = divide(pixel, out.shape[2])
        n, oh = divide(row, out.shape[1])
        total = float64(0.0)
        for i_h in range(kh):
            y = oh + top - i_h * dh
            if y < 0 or y % sh or y // sh >= rows:
                continue
            for i_w in range(kw):
                z = ow + left - i_w * dw
                if z < 0 or z % sw or z // sw >= columns:
                    continue
                for c in range(x.shape[3]):
                    total += x[n, y // sh, z // sw, c] * w[i_h, i_w, co, c]
        out[n, oh, ow, co] = total + bias[co]


def conv2d_transpose_cuda(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Literal["same", "valid"] = "valid",
    output_padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Transposed convolution of a batch of feature maps: arguments, result and errors as ``conv2d_transpose_cpu``."""
    call = Call(stream)
    x, w = call.images("conv2d_transpose: x", x), call.weights("conv2d_transpose: w", w)
    height, width, window = transposed(x, w, stride, padding, output_padding, dilation)
    bias = call.vector("conv2d_transpose: bias", bias, w.shape[2], missing=0.0)
    out = call.result("conv2d_transpose", out, (x.shape[0], height, width, w.shape[2]))
    _transposed.launch(grid_1d(out.size), call.stream, x, w, bias, window, out)
    return call.finish()
