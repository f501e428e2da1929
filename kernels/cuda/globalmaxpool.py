"""Largest value over all pixels on a card; what it is says the CPU's ``globalmaxpool.py``.

global_maxpool_cuda: a block looks at 32 channels, its threads at an eighth of the pixels each.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float32

from ..globalmaxpool import check_pixels
from .launch import Call, ceil_div, device_function, divide, kernel

__all__ = ["global_maxpool_cuda"]

_CHANNELS, _PARTS = 32, 8  # a warp reads 32 channels of one pixel: 128 bytes side by side


@device_function
def _larger(best, seen):
    """The larger one, NaN being the largest; of equal ones the first."""
    return seen if seen > best or seen != seen else best


@kernel("images matrix", threads=(_CHANNELS, _PARTS))
def _global_maxpool(x, out):
    found = cuda.shared.array((_PARTS, _CHANNELS), float32)
    lane, part = cuda.threadIdx.x, cuda.threadIdx.y
    channels = x.shape[3]
    n, group = divide(cuda.blockIdx.x, (channels + _CHANNELS - 1) // _CHANNELS)
    c = group * _CHANNELS + lane
    pixels = x.shape[1] * x.shape[2]
    best = float32(-math.inf)
    if c < channels:
        for pixel in range(part * pixels // _PARTS, (part + 1) * pixels // _PARTS):
            h, w = divide(pixel, x.shape[2])
            best = _larger(best, x[n, h, w, c])
    found[part, lane] = best
    cuda.syncthreads()
    if part == 0 and c < channels:
        for other in range(1, _PARTS):
            best = _larger(best, found[other, lane])
        out[n, c] = best


def global_maxpool_cuda(x: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Largest value over all pixels: arguments, result and errors as ``global_maxpool_cpu``."""
    call = Call(stream)
    x = call.images("global_maxpool: x", x)
    check_pixels(x)
    n, c = x.shape[0], x.shape[3]
    out = call.result("global_maxpool", out, (n, c))
    _global_maxpool.launch(n * ceil_div(c, _CHANNELS), call.stream, x, out)
    return call.finish()
