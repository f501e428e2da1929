"""Winograd's F(4x4,3x3) on a card; what it is says the CPU's ``winograd.py``. A 3x3 convolution in three steps:

    transform_input   every 6x6 patch of the image, by its own channel: V[36, tiles, ci]
    multiply_many     36 products V[e] @ U[e] of ``fused.py``: P[36, tiles, co]
    transform_output  4x4 results of every tile, with bias, residual and ReLU

V and P, each 2.25 times the image, are what a quarter of the multiplications costs. They go through memory, or, where the tiles
are done in parts, one after the other in the same V and P, no further than the second-level cache. One thread
transforms one tile of one channel; neighbouring threads have neighbouring channels, so that they read and write side by
side. Arrays are flat float32 on the card, and trusted.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float32

from .fused import AnyTile, Convolution, finish_of, multiply_many
from .implicit import ADD, BIAS, RELU, positive
from .launch import ceil_div, device_function, divide, kernel

__all__ = ["ELEMENTS_OF_A_TILE", "tiles_of", "winograd"]

ELEMENTS_OF_A_TILE = 36

# the points 0, +-sqrt 1/2, +-sqrt 2 and infinity of the CPU's ``winograd.matrices(4)``
_A, _B = float32(math.sqrt(0.5)), float32(math.sqrt(2.0))
_C, _D = float32(math.sqrt(0.5) ** 3), float32(math.sqrt(2.0) ** 3)
_HALF, _TWO, _SUM = float32(0.5), float32(2.0), float32(2.5)


@device_function
def _before(d0, d1, d2, d3, d4, d5):
    """B^T d: points come in pairs +-p, whose rows share their even part and differ in the sign of their odd part."""
    even1, odd1 = d4 - _TWO * d2, _A * d3 - _B * d1
    even2, odd2 = d4 - _HALF * d2, _B * d3 - _A * d1
    return d0 - _SUM * d2 + d4, even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, d1 - _SUM * d3 + d5


@device_function
def _after(p0, p1, p2, p3, p4, p5):
    """A^T p, likewise."""
    plus1, minus1, plus2, minus2 = p1 + p2, p1 - p2, p3 + p4, p3 - p4
    return p0 + plus1 + plus2, _A * minus1 + _B * minus2, _HALF * plus1 + _TWO * plus2, _C * minus1 + _D * minus2 + p5


@device_function
def _pixel(x, corner, y, z, h, w, channels):
    """The pixel in row y, column z of an image; 0 outside."""
    return x[corner + (y * w + z) * channels] if 0 <= y < h and 0 <= z < w else float32(0.0)


@kernel("vector" + 7 * " int" + " vector", threads=128)
def _transform_input(x, h, w, channels, down, across, first, tiles, v):
    i = cuda.grid(1)
    if i < tiles * channels:
        tile, c = divide(i, channels)
        row, column = divide(first + tile, across)
        n, row = divide(row, down)
        corner, y, z = n * h * w * channels + c, row * 4 - 1, column * 4 - 1
        half = cuda.local.array(36, float32)  # B^T d, column by column
        for k in range(6):
            half[k], half[6 + k], half[12 + k], half[18 + k], half[24 + k], half[30 + k] = _before(
                _pixel(x, corner, y, z + k, h, w, channels),
                _pixel(x, corner, y + 1, z + k, h, w, channels),
                _pixel(x, corner, y + 2, z + k, h, w, channels),
                _pixel(x, corner, y + 3, z + k, h, w, channels),
                _pixel(x, corner, y + 4, z + k, h, w, channels),
                _pixel(x, corner, y + 5, z + k, h, w, channels),
            )
        step = tiles * channels
        for k in range(6):
            at, to = 6 * k, i + 6 * k * step
            v[to], v[to + step], v[to + 2 * step], v[to + 3 * step], v[to + 4 * step], v[to + 5 * step] = _before(
                half[at], half[at + 1], half[at + 2], half[at + 3], half[at + 4], half[at + 5]
            )


@kernel("vector vector vector vector" + 8 * " int", threads=128)
def _transform_output(p, bias, residual, out, h, w, channels, down, across, first, step, finish):
    i = cuda.grid(1)
    if i < step:
        tile, c = divide(i, channels)
        row, column = divide(first + tile, across)
        n, row = divide(row, down)
        half = cuda.local.array(24, float32)  # A^T P, column by column
        for k in range(6):
            at = i + k * step
            half[k], half[6 + k], half[12 + k], half[18 + k] = _after(
                p[at], p[at + 6 * step], p[at + 12 * step], p[at + 18 * step], p[at + 24 * step], p[at + 30 * step]
            )
        shift = bias[c] if finish & BIAS else float32(0.0)
        results = cuda.local.array(16, float32)
        for k in range(4):
            at = 6 * k
            results[4 * k], results[4 * k + 1], results[4 * k + 2], results[4 * k + 3] = _after(
                half[at], half[at + 1], half[at + 2], half[at + 3], half[at + 4], half[at + 5]
            )
        for k in range(16):
            y, z = row * 4 + k // 4, column * 4 + k % 4
            if y < h and z < w:
                to = ((n * h + y) * w + z) * channels + c
                value = results[k] + shift
                if finish & ADD:
                    value += residual[to]
                if finish & RELU:
                    value = positive(value)
                out[to] = value


def tiles_of(size: Convolution) -> int:
    """How many tiles of 4x4 results there are in the whole batch."""
    return size.n * ceil_div(size.ho, 4) * ceil_div(size.wo, 4)


def winograd(
    stream: Any,
    tile: AnyTile,
    parts: int,
    size: Convolution,
    x: Any,
    weights: Any,
    bias: Any,
    residual: Any,
    relu: bool,
    v: Any,
    products: Any,
    out: Any,
) -> None:
    """As ``fused.convolve`` for 3x3 with stride 1 and one pixel of padding.

    parts        in how many the tiles of 4x4 results are done; the result does not depend on it
    weights      [36, ci, co], from the CPU's ``winograd.transform_kernel``
    v, products  [36, tiles of a part, ci] and [36, tiles of a part, co], memory to work in
    """
    tiles, down, across = tiles_of(size), ceil_div(size.ho, 4), ceil_div(size.wo, 4)
    added = out if residual is None else residual
    finish = finish_of(residual, relu)
    most = ceil_div(tiles, parts)
    for first in range(0, tiles, most):
        count = min(most, tiles - first)
        blocks, step = ceil_div(count * size.ci, 128), count * size.co
        _transform_input.launch(blocks, stream, x, size.h, size.w, size.ci, down, across, first, count, v)
        multiply_many(stream, tile, ELEMENTS_OF_A_TILE, count, size.ci, size.co, v, weights, products)
        _transform_output.launch(
            ceil_div(step, 128), stream, products, bias, added, out,
            size.ho, size.wo, size.co, down, across, first, step, finish,
        )  # fmt: skip
