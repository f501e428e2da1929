"""The beginning of a ResNet in one kernel: 7x7 convolution of three channels with stride 2, bias, ReLU, and 3x3 max-pool with
stride 2. What lies in between, a fifth of all numbers that a ResNet-50 computes, is never written to memory.

``implicit.py`` is at its worst here: three channels become four, and each element of A is loaded for 64 products only.
Instead, each thread takes a row of neighbouring pixels, four channels of them. Taps of neighbours overlap: from one row
of one channel of the image, 39 numbers in registers serve 17 pixels x 7 taps x 4 channels, 476 multiply-adds.

    planes  the image by channels, with zeros around it: float32[n, 3, hp, wp]; so numbers side by side are loaded together
    strip   several rows of results of the pool, one after the other: each row of the convolution is computed when it is
            needed, its largest values are taken across and then down, and every second row ends one row of the pool
    unit    WIDTH results of one strip. 2 * WIDTH + 1 pixels of the convolution lie under them: the first one is computed
            by the unit on the left, too, and a strip's first row by the strip above

Sixteen threads, with four channels each, share a unit, and the units of a block share the kernel in shared memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int32

from .implicit import positive
from .launch import ELEMENTS, Kernel, ceil_div, device_function, divide, grid_1d, kernel
from .ptx import ALIGNMENT, larger, load4, store4

__all__ = ["STEMS", "Stem", "planes_shape", "stem"]

KERNEL, STRIDE, CHANNELS = 7, 2, 3
WINDOW = 3
DEPTH = KERNEL * KERNEL * CHANNELS
WIDE = 64  # channels of the result in a block
SIXTEEN = WIDE // 4  # threads that share a unit
UNITS = 8  # in a block
THREADS = SIXTEEN * UNITS
_LOWEST = np.finfo(np.float32).min


class Stem(NamedTuple):
    """The sizes of a stem: images float32[n, h, w, 3], result of the convolution [n, ho, wo, co], of the pool [n, po, qo, co].

    top, left            zeros around the images
    pool_top, pool_left  and around what is pooled
    zeros                whether the latter take part in the pool; else they never win
    """

    n: int
    h: int
    w: int
    top: int
    left: int
    ho: int
    wo: int
    pool_top: int
    pool_left: int
    po: int
    qo: int
    co: int
    zeros: bool


def planes_shape(size: Stem, width: int) -> tuple[int, int, int, int]:
    """The shape of the planes for units of ``width`` results: all that any unit looks at is there."""
    columns = ceil_div(size.qo, width) * width * STRIDE * STRIDE + 8
    return size.n, CHANNELS, size.po * STRIDE * STRIDE + KERNEL, columns


@kernel("vector int int int int vector int int", threads=ELEMENTS)
def _planes(x, h, w, top, left, planes, hp, wp):
    i = cuda.grid(1)
    if i < planes.size // CHANNELS:
        row, z = divide(i, wp)
        n, y = divide(row, hp)
        ih, iw = y - top, z - left
        inside = 0 <= ih < h and 0 <= iw < w
        pixel = ((n * h + ih) * w + iw) * CHANNELS
        for c in range(CHANNELS):
            planes[((n * CHANNELS + c) * hp + y) * wp + z] = x[pixel + c] if inside else float32(0.0)


@device_function
def _tap(line, tap, weights, at, some, sums, count):
    """sums[pixels, 4] += one tap's element of each pixel's row times four channels of the kernel."""
    some[0], some[1], some[2], some[3] = load4(weights, at)
    for i in range(count):
        sums[i] += line[STRIDE * (i // 4) + tap] * some[i % 4]


def _stem(width: int, together: int) -> Kernel:
    """The kernel for units of ``width`` results."""
    PIXELS = STRIDE * width + 1
    SUMS, BEST = 4 * PIXELS, 4 * width
    LINE = ceil_div(STRIDE * (PIXELS - 1) + KERNEL, 4) * 4
    SHARED = DEPTH * WIDE
    TAP, ROW = CHANNELS * WIDE, (KERNEL - 1) * CHANNELS * WIDE  # from tap to tap of the kernel, and to its next row

    def stem(
        planes,
        weights,
        bias,
        out,
        hp,
        wp,
        ho,
        wo,
        pool_top,
        pool_left,
        po,
        qo,
        co,
        across,
        strips,
        rows,
        units,
        zeros,
        relu,
    ):
        shared = cuda.shared.array(SHARED, float32, ALIGNMENT)  # [7, 7, 3, 64]
        sums, best = cuda.local.array(SUMS, float32), cuda.local.array(BEST, float32)
        line, some = cuda.local.array(LINE, float32), cuda.local.array(4, float32)
        thread = cuda.threadIdx.x
        block, wide = divide(cuda.blockIdx.x, (co + WIDE - 1) // WIDE)
        first = int32(wide * WIDE)
        for at in range(thread, SHARED, THREADS):
            column = first + at % WIDE
            shared[at] = weights[at // WIDE * co + column] if column < co else float32(0.0)
        cuda.syncthreads()
        unit, fours = int32(block * UNITS + thread // SIXTEEN), int32(thread % SIXTEEN * 4)
        channel = int32(first + fours)
        if unit >= units or channel >= co:
            return
        row, part = divide(unit, across)
        n, strip = divide(row, strips)
        p, q = int32(strip * rows), int32(part * width)
        y, x = int32(STRIDE * p - pool_top), int32(STRIDE * q - pool_left)  # the unit's first pixel of the convolution
        start = int32((n * CHANNELS * hp + STRIDE * STRIDE * p) * wp + STRIDE * STRIDE * q)  # and where it looks
        to = int32(((n * po + p) * qo + q) * co + channel)
        results = int32(qo - q)
        outside = float32(0.0) if zeros else float32(_LOWEST)
        for i in range(BEST):
            best[i] = float32(_LOWEST)
        turn, turns = int32(0), int32(min(rows, po - p) * STRIDE + 1)
        while turn < turns:
            some[0], some[1], some[2], some[3] = load4(bias, channel)
            for i in range(SUMS):
                sums[i] = some[i % 4]
            step, c, place, at = int32(0), int32(0), start, fours
            while step < KERNEL * CHANNELS:
                for i in range(0, LINE, 4):
                    line[i], line[i + 1], line[i + 2], line[i + 3] = load4(planes, int32(place + i))
                # written out, for the compiler would not unroll a loop of this size
                _tap(line, 0, shared, at, some, sums, SUMS)
                _tap(line, 1, shared, int32(at + TAP), some, sums, SUMS)
                _tap(line, 2, shared, int32(at + 2 * TAP), some, sums, SUMS)
                _tap(line, 3, shared, int32(at + 3 * TAP), some, sums, SUMS)
                _tap(line, 4, shared, int32(at + 4 * TAP), some, sums, SUMS)
                _tap(line, 5, shared, int32(at + 5 * TAP), some, sums, SUMS)
                _tap(line, 6, shared, int32(at + 6 * TAP), some, sums, SUMS)
                step, c, place, at = int32(step + 1), int32(c + 1), int32(place + hp * wp), int32(at + WIDE)
                if c == CHANNELS:
                    c, place, at = int32(0), int32(place - CHANNELS * hp * wp + wp), int32(at + ROW)
            low, high = int32(-x), int32(wo - x) if 0 <= y < ho else int32(0)  # which pixels there are
            for i in range(SUMS):
                sums[i] = sums[i] if low <= i // 4 < high else outside
            for i in range(BEST):  # the largest across; what is written here is not read again
                pixel = 4 * STRIDE * (i // 4) + i % 4
                sums[i] = larger(larger(sums[pixel], sums[pixel + 4]), sums[pixel + 8])
            for i in range(BEST):
                best[i] = larger(best[i], sums[i])
            if turn % STRIDE == 0:  # the last row of one window, and the first of the next
                if turn > 0:
                    if relu:
                        for i in range(BEST):
                            best[i] = positive(best[i])
                    for i in range(width):
                        if i < results:
                            store4(
                                out, int32(to + i * co), best[4 * i], best[4 * i + 1], best[4 * i + 2], best[4 * i + 3]
                            )
                    to = int32(to + qo * co)
                for i in range(BEST):
                    best[i] = larger(float32(_LOWEST), sums[i])
            turn, y, start = int32(turn + 1), int32(y + 1), int32(start + STRIDE * wp)

    stem.__name__ = stem.__qualname__ = f"stem_{width}"  # by which what is compiled is kept
    return kernel("vector vector vector vector" + 15 * " int", threads=THREADS, together=together)(stem)


STEMS = {7: _stem(7, 3), 4: _stem(4, 4)}
"""{width of a unit: its kernel}. The wider one multiplies more for each number that it loads, and computes fewer pixels
twice; the narrow one has more threads, for few small images."""


def units_of(size: Stem, width: int, rows: int) -> int:
    """How many units there are in the whole batch."""
    return size.n * ceil_div(size.po, rows) * ceil_div(size.qo, width)


def stem(
    stream: Any, width: int, rows: int, size: Stem, x: Any, weights: Any, bias: Any, relu: bool, planes: Any, out: Any
) -> None:
    """Convolve, add bias, take what is not negative, and the largest of each window.

    width, rows  of a unit and of a strip, in results
    x            [n, h, w, 3]
    weights      [7, 7, 3, co]; co a multiple of four
    bias         [co]
    planes       ``planes_shape``, memory to work in
    out          [n, po, qo, co]
    """
    _, _, hp, wp = planes_shape(size, width)
    top, left = size.top + STRIDE * size.pool_top, size.left + STRIDE * size.pool_left
    _planes.launch(grid_1d(size.n * hp * wp), stream, x, size.h, size.w, top, left, planes, hp, wp)
    across, strips, units = ceil_div(size.qo, width), ceil_div(size.po, rows), units_of(size, width, rows)
    blocks = ceil_div(units, UNITS) * ceil_div(size.co, WIDE)
    geometry = (hp, wp, size.ho, size.wo, size.pool_top, size.pool_left, size.po, size.qo, size.co)
    STEMS[width].launch(
        blocks, stream, planes, weights, bias, out, *geometry, across, strips, rows, units, size.zeros, relu
    )
