"""Average-pooling on a card; what it is says the CPU's ``avgpool.py``.

avgpool_cuda       one thread per element of the result, summing in float64 in the CPU's order
global_avgpool     few results, each of many pixels: a block sums for 32 channels, its threads eighths of the pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import cuda, float64

from ..avgpool import avgpool_window
from ..geometry import Padding
from .launch import ELEMENTS, Call, ceil_div, divide, grid_1d, kernel

__all__ = ["avgpool_cuda", "global_avgpool_cuda"]


@kernel("images window images", threads=ELEMENTS)
def _avgpool(x, window, out):
    kh, kw, sh, sw, _, _, top, left, ho, wo = window
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, x.shape[3])
        row, ow = divide(pixel, wo)
        n, oh = divide(row, ho)
        first_h, last_h = max(oh * sh - top, 0), min(oh * sh - top + kh, x.shape[1])
        first_w, last_w = max(ow * sw - left, 0), min(ow * sw - left + kw, x.shape[2])
        total = float64(0.0)
        for ih in range(first_h, last_h):
            for iw in range(first_w, last_w):
                total += x[n, ih, iw, c]
        out[n, oh, ow, c] = total / ((last_h - first_h) * (last_w - first_w))


def avgpool_cuda(
    x: Any,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Mean of each window: arguments, result and errors as ``avgpool_cpu``."""
    call = Call(stream)
    x = call.images("avgpool: x", x)
    n, h, w, c = x.shape
    geometry = avgpool_window((h, w), window, stride, padding)
    out = call.result("avgpool", out, (n, *geometry[-2:], c))
    _avgpool.launch(grid_1d(out.size), call.stream, x, geometry, out)
    return call.finish()


_CHANNELS, _PARTS = 32, 8  # a warp reads 32 channels of one pixel: 128 bytes side by side


@kernel("images matrix", threads=(_CHANNELS, _PARTS))
def _global_avgpool(x, out):
    sums = cuda.shared.array((_PARTS, _CHANNELS), float64)
    lane, part = cuda.threadIdx.x, cuda.threadIdx.y
    channels = x.shape[3]
    n, group = divide(cuda.blockIdx.x, (channels + _CHANNELS - 1) // _CHANNELS)
    c = group * _CHANNELS + lane
    pixels = x.shape[1] * x.shape[2]
    total = float64(0.0)
    if c < channels:
        for pixel in range(part * pixels // _PARTS, (part + 1) * pixels // _PARTS):
            h, w = divide(pixel, x.shape[2])
            total += x[n, h, w, c]
    sums[part, lane] = total
    cuda.syncthreads()
    if part == 0 and c < channels:
        for other in range(1, _PARTS):  # always in this order: the same bits in every run
            total += sums[other, lane]
        out[n, c] = total / pixels


def global_avgpool_cuda(x: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Mean over all pixels: x float32[n, h, w, c], result float32[n, c]. Errors as ``avgpool_cpu``."""
    call = Call(stream)
    x = call.images("global_avgpool: x", x)
    n, h, w, c = x.shape
    avgpool_window((h, w), (h, w), None, "valid")  # for its errors
    out = call.result("global_avgpool", out, (n, c))
    _global_avgpool.launch(n * ceil_div(c, _CHANNELS), call.stream, x, out)
    return call.finish()
