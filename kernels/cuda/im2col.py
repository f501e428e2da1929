"""im2col on a card; what it is says the CPU's ``im2col.py``.

im2col_cuda: one thread per element of the matrix, or, where the channels are a multiple of four, per four of them, which
it moves in one load and one store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import cuda, float32

from ..geometry import Padding, Window, pair, window
from .launch import ELEMENTS, Call, aligned, device_function, divide, grid_1d, kernel
from .ptx import load4, store4

__all__ = ["im2col_cuda", "launch_im2col"]


@device_function
def _source(i, height, width, channels, window, first):
    """Where in the images element ``i`` of the matrix is found, or -1 for padding. Counted in elements or in vectors of
    four, whichever ``channels`` counts."""
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    taps, c = divide(i, channels)
    row, tap = divide(taps, kh * kw)
    tap_h, tap_w = divide(tap, kw)
    line, ow = divide(first + row, wo)  # row of the matrix = output pixel, counted through the whole batch
    n, oh = divide(line, ho)
    ih, iw = oh * sh + tap_h * dh - top, ow * sw + tap_w * dw - left
    inside = ih >= 0 and ih < height and iw >= 0 and iw < width
    return ((n * height + ih) * width + iw) * channels + c if inside else -1


@kernel("vector int int int window int int vector", threads=ELEMENTS)
def _im2col(x, height, width, channels, window, first, rows, cols):
    i = cuda.grid(1)
    if i < rows * window[0] * window[1] * channels:
        source = _source(i, height, width, channels, window, first)
        cols[i] = x[source] if source >= 0 else float32(0.0)


@kernel("vector int int int window int int vector", threads=ELEMENTS)
def _im2col_vectors(x, height, width, channels, window, first, rows, cols):
    i = cuda.grid(1)
    if i < rows * window[0] * window[1] * channels:
        source = _source(i, height, width, channels, window, first)
        a = b = c = d = float32(0.0)
        if source >= 0:
            a, b, c, d = load4(x, 4 * source)
        store4(cols, 4 * i, a, b, c, d)


def launch_im2col(stream: Any, x: Any, window: Window, first: int, rows: int, cols: Any) -> None:
    """Fill cols[0:rows] with the patches of output pixels first..first+rows-1, counted through the whole batch.

    Device arrays: x float32[n, h, w, c], cols float32[>= rows, kh*kw*c].
    """
    _, height, width, channels = x.shape
    flat = x.reshape(x.size), cols.reshape(cols.size)
    fill = _im2col
    if channels % 4 == 0 and aligned(*flat):
        fill, channels = _im2col_vectors, channels // 4
    blocks = grid_1d(rows * window[0] * window[1] * channels)
    fill.launch(blocks, stream, flat[0], height, width, channels, window, first, rows, flat[1])


def im2col_cuda(
    x: Any,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Copy every patch of a batch of images into one row of a matrix: arguments, result and errors as ``im2col_cpu``."""
    call = Call(stream)
    x = call.images("im2col: x", x)
    taps = pair("kernel", kernel)
    geometry = window((x.shape[1], x.shape[2]), taps, stride, padding, dilation)
    rows, depth = x.shape[0] * geometry[-2] * geometry[-1], taps[0] * taps[1] * x.shape[3]
    cols = call.result("im2col", out, (rows, depth))
    launch_im2col(call.stream, x, geometry, 0, rows, cols)
    return call.finish()
