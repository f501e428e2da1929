"""Two-dimensional convolution on a card; what it is says the CPU's ``conv2d.py``. The ladder:

    conv2d_cuda_direct  the sum as it stands: one thread per element of the result; neighbouring threads have neighbouring
                        output channels, so that they read neighbouring weights and one pixel together
    conv2d_cuda_im2col  patches copied into the rows of a matrix (``im2col.py``), as many rows at a time as the workspace
                        has, times the weights by the vectorised product (``gemm.py``); 1x1 with stride 1 needs no copy
    conv2d_cuda         the plain name: conv2d_cuda_im2col

Arguments and results as on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import cuda, float32

from ..conv2d import check_channels, is_product
from ..geometry import Padding, Window, pair, window
from .gemm import BM, multiply
from .im2col import launch_im2col
from .launch import ELEMENTS, Call, divide, grid_1d, is_device_array, kernel

__all__ = ["conv2d_cuda", "conv2d_cuda_direct", "conv2d_cuda_im2col", "launch_conv2d", "workspace_rows"]

WORKSPACE = 256 << 20
"""Bytes that a workspace takes at most, unless not even one tile's rows fit."""


def _arguments(
    call: Call,
    x: Any,
    w: Any,
    bias: Any,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    out: Any,
) -> tuple[Any, Any, Any, Window, Any]:
    """The arguments that both versions share, checked and on the card."""
    x, w = call.images("conv2d: x", x), call.weights("conv2d: w", w)
    check_channels(x, w)
    bias = call.vector("conv2d: bias", bias, w.shape[3], missing=0.0)
    geometry = window((x.shape[1], x.shape[2]), (w.shape[0], w.shape[1]), stride, padding, dilation)
    return x, w, bias, geometry, call.result("conv2d", out, (x.shape[0], *geometry[-2:], w.shape[3]))


@kernel("images images vector window images", threads=ELEMENTS)
def _conv2d_direct(x, w, bias, window, out):
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    place = cuda.grid(1)
    if place < out.size:
        pixel, co = divide(place, out.shape[3])
        row, ow = divide(pixel, wo)
        n, oh = divide(row, ho)
        total = float32(0.0)
        for i in range(kh):
            ih = oh * sh + i * dh - top
            if ih < 0 or ih >= x.shape[1]:
                continue
            for j in range(kw):
                iw = ow * sw + j * dw - left
                if iw < 0 or iw >= x.shape[2]:
                    continue
                for c in range(x.shape[3]):
                    total += x[n, ih, iw, c] * w[i, j, c, co]
        out[n, oh, ow, co] = total + bias[co]


def conv2d_cuda_direct(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Convolve by the definition; arguments, result and errors as ``conv2d_cuda_im2col``."""
    call = Call(stream)
    x, w, bias, geometry, out = _arguments(call, x, w, bias, stride, padding, dilation, out)
    _conv2d_direct.launch(grid_1d(out.size), call.stream, x, w, bias, geometry, out)
    return call.finish()


def workspace_rows(
    x: Sequence[int],
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> int:
    """How many rows of kh*kw*ci floats a workspace should have for the convolution of images of shape ``x`` with a kernel
    of (kh, kw) taps: one for each output pixel, or as many as fit into ``WORKSPACE`` bytes; 0 if no copy is needed.

    With fewer it works, too, a part of the pixels at a time. Raises ValueError where no window fits.
    """
    return _rows(window((x[1], x[2]), pair("kernel", kernel), stride, padding, dilation), x)


def _rows(window: Window, x: Sequence[int]) -> int:
    if is_product(window, (x[1], x[2])):
        return 0
    row = 4 * window[0] * window[1] * max(x[3], 1)  # bytes
    most = WORKSPACE // row // BM * BM  # whole tiles of the product
    return min(x[0] * window[-2] * window[-1], max(most, BM))


def launch_conv2d(stream: Any, x: Any, w: Any, bias: Any, window: Window, cols: Any, out: Any) -> None:
    """Convolve device arrays that fit each other; ``cols`` is the workspace, or None where no copy is needed."""
    depth, columns = w.shape[0] * w.shape[1] * w.shape[2], w.shape[3]
    pixels = out.shape[0] * out.shape[1] * out.shape[2]
    weights, result = w.reshape(depth, columns), out.reshape(pixels, columns)
    if cols is None:
        return multiply(stream, x.reshape(pixels, depth), weights, bias, result)
    for first in range(0, pixels, cols.shape[0]):
        rows = min(cols.shape[0], pixels - first)
        launch_im2col(stream, x, window, first, rows, cols)
        multiply(stream, cols, weights, bias, result if rows == pixels else result[first : first + rows])


def _check_workspace(cols: Any, depth: int) -> None:
    if not is_device_array(cols):
        raise TypeError(f"conv2d: cols is a {type(cols).__name__}; it must be a device array float32[rows, {depth}]")
    if len(cols.shape) != 2 or cols.shape[0] < 1 or cols.shape[1] != depth:
        raise ValueError(
            f"conv2d: cols has shape {tuple(cols.shape)}; it must have one row or more of kh*kw*ci = {depth} numbers"
        )


def conv2d_cuda_im2col(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Any = None,
    stream: Any = None,
    cols: Any = None,
) -> Any:
    """Convolve a batch of images through im2col and a matrix product: arguments, result and errors as the CPU's
    ``conv2d_im2col``, and

    stream  what the work is queued on; None: the default stream
    cols    device memory to work in, float32[rows, kh*kw*ci] with one row or more; ``workspace_rows`` says how many are
            best. Made if None.
    """
    call = Call(stream)
    x, w, bias, geometry, out = _arguments(call, x, w, bias, stride, padding, dilation, out)
    depth = w.shape[0] * w.shape[1] * w.shape[2]
    if cols is not None:
        _check_workspace(cols, depth)
        cols = call.matrix("conv2d: cols", cols)
    rows = _rows(geometry, x.shape)
    if rows == 0:
        cols = None
    elif cols is None:
        cols = call.empty((rows, depth))
    launch_conv2d(call.stream, x, w, bias, geometry, cols, out)
    return call.finish()


conv2d_cuda = conv2d_cuda_im2col
