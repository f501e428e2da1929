"""Two-dimensional convolution (cross-correlation, as every deep-learning library calls it).

    out[n, oh, ow, co] = bias[co] + sum over kh, kw, ci of
                         x[n, oh*sh + kh*dh - top, ow*sw + kw*dw - left, ci] * w[kh, kw, ci, co]

Activations are NHWC, weights HWIO, as Keras stores them; pixels outside the image count as zero. The ladder, each
version with its one idea (figures: ``bench/bench_ops.py``):

    conv2d_reference   one NumPy matrix product per tap of the kernel, in any float dtype: float64 gives the truth
    conv2d_direct      the sum above as loops; the innermost runs over co, where w and out are consecutive
    conv2d_im2col      patches copied into the rows of a matrix (``im2col.py``), a block of rows at a time so that the
                       copy stays in cache, times the weights by the packed SIMD product (``gemm.py``);
                       1x1 with stride 1 needs no copy: the image already is that matrix
    conv2d_winograd    3x3 with stride 1 for a quarter of the multiplications (``winograd.py``), a block of tiles at a
                       time, and 7x7 with stride 2 for a third (``phases.py``); anything else as conv2d_im2col
    conv2d             the plain name: conv2d_im2col, which is as exact for every value as for every shape

All versions take the same arguments. Networks that are called, not traced, run on the same kernels with batch-norm,
addition and ReLU fused in (``steps/``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import threads as _threads
from .arrays import Array, images, kernel, result, vector
from .gemm import _gemm_packed, block_rows, multiply_block, natives, pack_b, pack_bias
from .geometry import Padding, Window, pair, window, window_geometry
from .im2col import im2col_rows
from .jit import jit
from .phases import phased, transformed_in_phases
from .simd import LANES
from .steps.phases import by_phases
from .steps.winograd import winograd
from .winograd import transform_kernel

__all__ = [
    "check_channels",
    "conv2d",
    "conv2d_direct",
    "conv2d_im2col",
    "conv2d_reference",
    "conv2d_winograd",
    "is_product",
]


def conv2d_reference(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Convolve x dtype[n, h, w, ci] with w dtype[kh, kw, ci, co]: dtype[n, ho, wo, co]. Plain NumPy, any float dtype."""
    kh, kw = w.shape[:2]
    (sh, sw), (dh, dw) = pair("stride", stride), pair("dilation", dilation)
    (top, bottom, left, right), ho, wo = window_geometry(x.shape[1:3], (kh, kw), (sh, sw), padding, (dh, dw))
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    # A product for each image, not one for the batch: BLAS sums in an order that may depend on the number of rows, and
    # an image's result must not depend on its company.
    out = np.zeros((x.shape[0], ho * wo, w.shape[3]), x.dtype)
    for i in range(kh):
        for j in range(kw):  # what tap (i, j) sees of each output pixel
            seen = padded[:, i * dh :: sh, j * dw :: sw][:, :ho, :wo]
            out += np.ascontiguousarray(seen).reshape(*out.shape[:2], x.shape[3]) @ w[i, j]
    if bias is not None:
        out += bias
    return out.reshape(x.shape[0], ho, wo, w.shape[3])


def check_channels(x: Array, w: Array) -> None:
    """Refuse a kernel for another number of channels: ValueError."""
    if x.shape[3] != w.shape[2]:
        raise ValueError(
            f"conv2d: x has {x.shape[3]} channels (NHWC {'x'.join(map(str, x.shape))}) but w takes {w.shape[2]} (HWIO "
            f"{'x'.join(map(str, w.shape))}); they must be equal"
        )


def is_product(window: Window, size: tuple[int, int]) -> bool:
    """Whether a convolution over images of ``size`` (height, width) is the plain matrix product of pixels and weights:
    1x1, stride 1, no padding. A larger stride can leave the image its size, too, when padding makes up for it."""
    return window[:4] == (1, 1, 1, 1) and window[-2:] == size


def _arguments(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    out: Array | None,
) -> tuple[Array, Array, Array | None, Window, Array]:
    """The arguments that both compiled versions share, checked."""
    x, w = images("conv2d: x", x), kernel("conv2d: w", w)
    check_channels(x, w)
    if bias is not None:
        bias = vector("conv2d: bias", bias, w.shape[3])
    geometry = window((x.shape[1], x.shape[2]), (w.shape[0], w.shape[1]), stride, padding, dilation)
    return x, w, bias, geometry, result("conv2d", out, (x.shape[0], *geometry[-2:], w.shape[3]))


@jit
def _conv2d_direct(x, w, bias, window, out, start, stop):
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    _, height, width, channels = x.shape
    for index in range(start, stop):  # one row of output pixels
        n, oh = divmod(index, ho)
        for ow in range(wo):
            sums = out[n, oh, ow]
            sums[:] = 0.0
            for i in range(kh):
                ih = oh * sh + i * dh - top
                if ih < 0 or ih >= height:
                    continue
                for j in range(kw):
                    iw = ow * sw + j * dw - left
                    if iw < 0 or iw >= width:
                        continue
                    for c in range(channels):
                        value = x[n, ih, iw, c]
                        weights = w[i, j, c]
                        for k in range(len(sums)):
                            sums[k] += value * weights[k]
            for k in range(len(sums)):
                sums[k] += bias[k]


def conv2d_direct(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Convolve by the definition; arguments, result and errors as ``conv2d_im2col``."""
    x, w, bias, window, out = _arguments(x, w, bias, stride, padding, dilation, out)
    if bias is None:
        bias = np.zeros(w.shape[3], np.float32)
    rows = out.shape[0] * out.shape[1]
    _threads.run(_conv2d_direct, rows, _threads.resolve_threads(threads), x, w, bias, window, out)
    return out


@jit
def _conv2d_im2col(natives, x, packed, bias, window, block, out, start, stop):
    depth, ldc = packed.shape[1], out.shape[3] * 4
    cols = np.empty((min(block, stop - start), depth), np.float32)
    for first in range(start, stop, block):
        rows = min(block, stop - first)
        im2col_rows(x, window, first, rows, cols)
        to = out.ctypes.data + first * ldc
        multiply_block(natives, cols.ctypes.data, depth * 4, rows, packed, bias, to, ldc)


def conv2d_im2col(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Convolve a batch of images through im2col and a matrix product.

    x        float32[n, h, w, ci]                       w  float32[kh, kw, ci, co]
    bias     float32[co], or None
    stride   in pixels; dilation: pixels from tap to tap; each one number or (vertical, horizontal)
    padding  "same" (TensorFlow's), "valid", pixels on all sides, or (top, bottom, left, right)
    out      float32[n, ho, wo, co], overwritten; made if None
    threads  how many share the work; None: all processors. The result does not depend on it.

    Raises TypeError for another dtype; ValueError for shapes that do not fit or an image smaller than the window.
    """
    x, w, bias, window, out = _arguments(x, w, bias, stride, padding, dilation, out)
    threads = _threads.resolve_threads(threads)
    depth, columns = w.shape[0] * w.shape[1] * w.shape[2], w.shape[3]
    packed = pack_b(w.reshape(depth, columns), threads=threads)
    row = pack_bias(bias, columns)
    pixels = out.shape[0] * out.shape[1] * out.shape[2]
    if is_product(window, (x.shape[1], x.shape[2])):
        cols = x.reshape(pixels, depth)
        flat = out.reshape(pixels, columns)
        _threads.run(_gemm_packed, pixels, threads, natives(), cols, packed, row, block_rows(depth), flat)
    else:
        _threads.run(_conv2d_im2col, pixels, threads, natives(), x, packed, row, window, block_rows(depth), out)
    return out


def conv2d_winograd(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Convolve by Winograd's F(4x4,3x3), or by F(3x3,4x4) what has 7x7 or 8x8 taps, stride 2 and at most three channels; arguments, result and errors
    as ``conv2d_im2col``, and to it goes everything else. Infinity and NaN would spread over a tile: where they turn up,
    conv2d_im2col takes over. Networks keep transformed kernels; here they are made anew in every call.
    """
    x, w, bias, window, out = _arguments(x, w, bias, stride, padding, dilation, out)
    threads = _threads.resolve_threads(threads)
    if window[:6] == (3, 3, 1, 1, 1, 1):
        _by_tiles(x, w, bias, window, out, threads)
    elif phased(w.shape[:3], window[2:4], window[4:6]):
        _by_phases(x, w, bias, window, out, threads)
    else:
        return conv2d_im2col(x, w, bias, stride=stride, padding=padding, dilation=dilation, out=out, threads=threads)
    if not np.isfinite(out).all():
        return conv2d_im2col(x, w, bias, stride=stride, padding=padding, out=out, threads=threads)
    return out


def _wide(channels: int) -> int:
    """As many channels as the transforms need, which know whole vectors only."""
    return -(-channels // LANES) * LANES


def _by_tiles(x: Array, w: Array, bias: Array | None, window: Window, out: Array, threads: int) -> None:
    top, left, ho, wo = window[6:]
    n, height, width, channels = x.shape
    columns = w.shape[3]
    kernel = np.zeros((3, 3, _wide(channels), _wide(columns)), np.float32)
    kernel[:, :, :channels, :columns] = w
    # and one border, of one pixel: another one is made up here, with the result's own border to be cut off again
    image = np.zeros((n, ho + 2, wo + 2, _wide(channels)), np.float32)
    rows, across = min(height, ho + 2 - top), min(width, wo + 2 - left)
    image[:, top : top + rows, left : left + across, :channels] = x[:, :rows, :across]
    result = np.empty((n, ho + 2, wo + 2, _wide(columns)), np.float32)
    u = transform_kernel(kernel, 4).astype(np.float32)
    panels = np.ascontiguousarray(np.stack([pack_b(element) for element in u], axis=1))
    winograd(image, panels, pack_bias(bias, columns), result, threads)
    out[...] = result[:, 1:-1, 1:-1, :columns]


def _by_phases(x: Array, w: Array, bias: Array | None, window: Window, out: Array, threads: int) -> None:
    columns = w.shape[3]
    kernel = np.zeros((*w.shape[:3], _wide(columns)), np.float32)
    kernel[..., :columns] = w
    row = np.zeros(_wide(columns), np.float32)
    row[:columns] = 0.0 if bias is None else bias
    result = np.empty((*out.shape[:3], _wide(columns)), np.float32)
    by_phases(x, transformed_in_phases(kernel), row, window, result, threads)
    out[...] = result[..., :columns]


conv2d = conv2d_im2col
