"""What a network runs when it is not watched: convolutions with all that follows them, on whichever kernel and in
however many parts is best, and the few passes over memory that remain.

Every function queues work on a stream and trusts its arguments: flat float32 arrays on the card, channels in multiples
of four. ``npresnet/cuda/by_plan.py`` is their only user.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32

from ..geometry import Window
from .implicit import ADD, BIAS, RELU, TILES, Tile, positive
from .launch import ELEMENTS, Kernel, ceil_div, device_function, divide, grid_1d, kernel
from .ptx import load4, store4
from .tensor import TENSOR_TILES, TensorTile
from .wgmma import WARPGROUP_TILES, WarpgroupTile

__all__ = [
    "LARGEST",
    "AnyTile",
    "Convolution",
    "affine",
    "clear",
    "convolve",
    "finish_of",
    "kernel_of",
    "maxpool",
    "multiply_many",
    "nan_images",
    "noise",
    "set_channels",
]

LARGEST = 2**31 - 1
"""Elements of the largest array that these kernels can index: they count in 32 bits."""

AnyTile = Tile | TensorTile | WarpgroupTile


class Convolution(NamedTuple):
    """The sizes of a convolution: images, window, result."""

    n: int
    h: int
    w: int
    ci: int
    kh: int
    kw: int
    sh: int
    sw: int
    top: int
    left: int
    ho: int
    wo: int
    co: int

    @property
    def rows(self) -> int:
        """M: output pixels of the whole batch."""
        return self.n * self.ho * self.wo

    @property
    def depth(self) -> int:
        """K: what each output is a sum over."""
        return self.kh * self.kw * self.ci


def kernel_of(tile: AnyTile) -> Kernel:
    """The kernel that works by a tile."""
    match tile:
        case Tile():
            return TILES[tile]
        case TensorTile():
            return TENSOR_TILES[tile]
        case WarpgroupTile():
            return WARPGROUP_TILES[tile]


def finish_of(residual: Any, relu: bool) -> int:
    """What is to be done to a sum; see ``implicit.finished``."""
    return BIAS + (ADD if residual is not None else 0) + (RELU if relu else 0)


def _launch(
    stream: Any, tile: AnyTile, size: Convolution, times: int, part: int, many: bool, finish: int, *arrays: Any
) -> None:
    """One of the tiles' kernels, over all tiles ``times`` times."""
    _, h, w, ci, _, kw, sh, sw, top, left, ho, wo, co = size
    blocks = ceil_div(co, tile.bn) * ceil_div(size.rows, tile.bm), times
    geometry = (h, w, ci, kw, sh, sw, top, left, ho, wo, co, size.rows, size.depth, part, many, finish)
    kernel_of(tile).launch(blocks, stream, *arrays, *geometry)


def convolve(
    stream: Any,
    tile: AnyTile,
    splits: int,
    size: Convolution,
    x: Any,
    weights: Any,
    bias: Any,
    residual: Any,
    relu: bool,
    parts: Any,
    out: Any,
) -> None:
    """Convolve, add bias and residual, and take what is not negative.

    x         [n, h, w, ci]
    weights   [kh, kw, ci, co]; for tensor cores [co, kh, kw, ci], for tf32 (``wgmma``, too) from ``tensor.tf32_weights``
    bias      [co]
    residual  [n, ho, wo, co], or None
    parts     [splits, n, ho, wo, co], memory to work in where there is more than one split; else ignored
    out       [n, ho, wo, co]; may be ``residual``
    """
    added = out if residual is None else residual  # any array will do where nothing is added
    finish = finish_of(residual, relu)
    if splits == 1:
        _launch(stream, tile, size, 1, size.depth, False, finish, x, weights, bias, added, out)
        return
    part = ceil_div(ceil_div(size.depth, tile.bk), splits) * tile.bk
    count = size.rows * size.co
    _launch(stream, tile, size, splits, part, False, 0, x, weights, bias, added, parts)
    _combine.launch(grid_1d(count // 4), stream, parts, bias, added, out, count, size.co, splits, finish)


def multiply_many(stream: Any, tile: AnyTile, count: int, m: int, k: int, n: int, a: Any, b: Any, c: Any) -> None:
    """c[i] = a[i] @ b[i] for ``count`` matrices: a [count, m, k], b [count, k, n], c [count, m, n]."""
    size = Convolution(1, 1, m, k, 1, 1, 1, 1, 0, 0, 1, m, n)
    _launch(stream, tile, size, count, k, True, 0, a, b, c, c, c)


@device_function
def finished(s0, s1, s2, s3, bias, at_bias, residual, at_residual, finish):
    """Four sums of one row with bias, residual and ReLU, as ``finish`` says."""
    if finish & BIAS:
        b0, b1, b2, b3 = load4(bias, at_bias)
        s0, s1, s2, s3 = s0 + b0, s1 + b1, s2 + b2, s3 + b3
    if finish & ADD:
        r0, r1, r2, r3 = load4(residual, at_residual)
        s0, s1, s2, s3 = s0 + r0, s1 + r1, s2 + r2, s3 + r3
    if finish & RELU:
        s0, s1, s2, s3 = positive(s0), positive(s1), positive(s2), positive(s3)
    return s0, s1, s2, s3


@kernel("vector vector vector vector" + 4 * " int", threads=ELEMENTS)
def _combine(parts, bias, residual, out, count, co, splits, finish):
    at = cuda.grid(1) * 4
    if at < count:
        s0, s1, s2, s3 = load4(parts, at)
        for split in range(1, splits):  # always in this order
            p0, p1, p2, p3 = load4(parts, split * count + at)
            s0, s1, s2, s3 = s0 + p0, s1 + p1, s2 + p2, s3 + p3
        s0, s1, s2, s3 = finished(s0, s1, s2, s3, bias, at % co, residual, at, finish)
        store4(out, at, s0, s1, s2, s3)


@kernel("vector vector vector vector vector" + 3 * " int", threads=ELEMENTS)
def _affine(x, scale, shift, residual, out, count, channels, finish):
    at = cuda.grid(1) * 4
    if at < count:
        x0, x1, x2, x3 = load4(x, at)
        f0, f1, f2, f3 = load4(scale, at % channels)
        s0, s1, s2, s3 = finished(x0 * f0, x1 * f1, x2 * f2, x3 * f3, shift, at % channels, residual, at, finish)
        store4(out, at, s0, s1, s2, s3)


def affine(stream: Any, x: Any, scale: Any, shift: Any, residual: Any, relu: bool, out: Any) -> None:
    """x * scale + shift, residual added, ReLU taken: x, residual (or None), out [..., c]; scale, shift [c]."""
    added = out if residual is None else residual
    finish = finish_of(residual, relu)
    _affine.launch(grid_1d(x.size // 4), stream, x, scale, shift, added, out, x.size, scale.size, finish)


_LOWEST = np.finfo(np.float32).min


@kernel("vector window int int int int vector", threads=ELEMENTS)
def _maxpool_vectors(x, window, h, w, c, zeros, out):
    kh, kw, sh, sw, _, _, top, left, ho, wo = window
    at = cuda.grid(1) * 4
    if at < out.size:
        pixel, channel = divide(at, c)
        row, ow = divide(pixel, wo)
        n, oh = divide(row, ho)
        ih, iw = oh * sh - top, ow * sw - left
        b0 = b1 = b2 = b3 = _LOWEST
        if zeros and (ih < 0 or iw < 0 or ih + kh > h or iw + kw > w):
            b0 = b1 = b2 = b3 = float32(0.0)
        for y in range(max(ih, 0), min(ih + kh, h)):
            for z in range(max(iw, 0), min(iw + kw, w)):
                v0, v1, v2, v3 = load4(x, ((n * h + y) * w + z) * c + channel)
                b0, b1, b2, b3 = (
                    v0 if v0 > b0 else b0, v1 if v1 > b1 else b1, v2 if v2 > b2 else b2, v3 if v3 > b3 else b3,
                )  # fmt: skip
        store4(out, at, b0, b1, b2, b3)


def maxpool(stream: Any, x: Any, size: tuple[int, int, int], window: Window, zeros: bool, out: Any) -> None:
    """Largest value in each window: x [n, h, w, c] with ``size`` = (h, w, c), out [n, ho, wo, c].

    zeros  whether padding takes part, as zeros; else it never wins
    """
    _maxpool_vectors.launch(grid_1d(out.size // 4), stream, x, window, *size, zeros, out)


@kernel("vector int vector int", threads=ELEMENTS)
def _set_channels(x, given, out, wanted):
    at = cuda.grid(1)
    if at < out.size:
        pixel, c = divide(at, wanted)
        out[at] = x[pixel * given + c] if c < given else float32(0.0)


def set_channels(stream: Any, x: Any, given: int, out: Any, wanted: int) -> None:
    """x [..., given] as out [..., wanted]: the channels too many are left out, those too few are zeros."""
    _set_channels.launch(grid_1d(out.size), stream, x, given, out, wanted)


@kernel("vector int int vector", threads=ELEMENTS)
def _nan_images(x, each, parts, found):
    n, part = divide(cuda.blockIdx.x, parts)
    bad = False
    for i in range(part * ELEMENTS + cuda.threadIdx.x, each, parts * ELEMENTS):
        value = x[n * each + i]
        bad = bad or value != value
    if bad:
        found[n] = float32(1.0)  # whoever comes, it is the same number


def nan_images(stream: Any, x: Any, images: int, found: Any) -> None:
    """found[n] = 1 where there is NaN in image n of x [images, ...]; other elements of ``found`` stay as they are."""
    each = x.size // max(images, 1)
    parts = max(min(ceil_div(each, 8 * ELEMENTS), 4096 // max(images, 1)), 1)
    _nan_images.launch(images * parts, stream, x, each, parts, found)


@kernel("vector", threads=ELEMENTS)
def _clear(x):
    at = cuda.grid(1)
    if at < x.size:
        x[at] = float32(0.0)


def clear(stream: Any, x: Any) -> None:
    """All zeros."""
    _clear.launch(grid_1d(x.size), stream, x)


@kernel("vector", threads=ELEMENTS)
def _noise(x):
    at = cuda.grid(1)
    if at < x.size:
        number = at & 0x7FFFFFFF
        for _ in range(2):
            number = (number * 1103515245 + 12345) & 0x7FFFFFFF
            number ^= number >> 15
        x[at] = float32(number) * float32(2.0**-30) - float32(1.0)


def noise(stream: Any, x: Any) -> None:
    """Numbers of -1 to 1 that look random, the same at every call."""
    _noise.launch(grid_1d(x.size), stream, x)
