"""Max-pooling on a card; what it is says the CPU's ``maxpool.py``. maxpool_cuda: one thread per element of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import cuda

from ..geometry import Padding, pair
from ..geometry import window as window_of
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["maxpool_cuda"]

_LOWEST = np.finfo(np.float32).min


@kernel("images window images", threads=ELEMENTS)
def _maxpool(x, window, out):
    kh, kw, sh, sw, _, _, top, left, ho, wo = window
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, x.shape[3])
        row, ow = divide(pixel, wo)
        n, oh = divide(row, ho)
        best = _LOWEST
        for ih in range(max(oh * sh - top, 0), min(oh * sh - top + kh, x.shape[1])):
            for iw in range(max(ow * sw - left, 0), min(ow * sw - left + kw, x.shape[2])):
                seen = x[n, ih, iw, c]
                best = seen if seen > best else best
        out[n, oh, ow, c] = best


def maxpool_cuda(
    x: Any,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Largest value in each window: arguments, result and errors as ``maxpool_cpu``."""
    call = Call(stream)
    x = call.images("maxpool: x", x)
    n, h, w, c = x.shape
    geometry = window_of((h, w), pair("window", window), window if stride is None else stride, padding, 1)
    out = call.result("maxpool", out, (n, *geometry[-2:], c))
    _maxpool.launch(grid_1d(out.size), call.stream, x, geometry, out)
    return call.finish()
