"""Grouped convolution on a card; what it is says the CPU's ``grouped.py``. grouped_conv2d_cuda: one thread per element of
the result, summing in float64 in the order of grouped_conv2d_cpu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import cuda, float64

from ..geometry import Padding, window
from ..grouped import check_groups
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["grouped_conv2d_cuda"]


@kernel("images images vector int window images", threads=ELEMENTS)
def _grouped(x, w, bias, groups, window, out):
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    p, q = w.shape[2], w.shape[3] // groups
    i = cuda.grid(1)
    if i < out.size:
        pixel, co = divide(i, out.shape[3])
        row, ow = divide(pixel, wo)
        n, oh = divide(row, ho)
        first = co // q * p  # of this group's input channels
        total = float64(0.0)
        for i_h in range(kh):
            ih = oh * sh + i_h * dh - top
            if ih < 0 or ih >= x.shape[1]:
                continue
            for i_w in range(kw):
                iw = ow * sw + i_w * dw - left
                if iw < 0 or iw >= x.shape[2]:
                    continue
                for c in range(p):
                    total += x[n, ih, iw, first + c] * w[i_h, i_w, c, co]
        out[n, oh, ow, co] = total + bias[co]


def grouped_conv2d_cuda(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    groups: int,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Convolve a batch of images group by group: arguments, result and errors as ``grouped_conv2d_cpu``."""
    call = Call(stream)
    x, w = call.images("grouped_conv2d: x", x), call.weights("grouped_conv2d: w", w)
    check_groups(x, w, groups)
    bias = call.vector("grouped_conv2d: bias", bias, w.shape[3], missing=0.0)
    geometry = window((x.shape[1], x.shape[2]), (w.shape[0], w.shape[1]), stride, padding, dilation)
    out = call.result("grouped_conv2d", out, (x.shape[0], *geometry[-2:], w.shape[3]))
    _grouped.launch(grid_1d(out.size), call.stream, x, w, bias, groups, geometry, out)
    return call.finish()
