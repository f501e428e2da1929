"""Convolution on a card as a matrix product whose left matrix is never written: implicit GEMM.

    C[M, N] = A[M, K] @ B[K, N] + bias (+ residual), at least 0 if asked for
    M = n * ho * wo output pixels      N = co      K = kh * kw * ci
    A[m, k] = the pixel that tap k // ci of output pixel m looks at, channel k % ci; 0 outside the image
    B = the kernel float32[kh, kw, ci, co], as it is

``im2col.py`` writes A to memory and reads it again, kh * kw times the image. Here each block of threads computes where the
elements of its tile of A are, and loads them from the image itself. Everything else is ``gemm.py``'s last version: tiles
in shared memory, two buffers, sums in registers. What would be a pass over memory of its own (bias, addition, ReLU) happens
while a tile is still in registers.

Where the tiles of the result are too few for a whole card, K is split among several blocks per tile: each writes its
part of the sums, and ``combine`` adds them up in their order, so that results are the same in every run.

Channels are taken four at a time: ci and co must be multiples of four; ``four_channels`` gives images of three a fourth.
Source of the formulation: NVIDIA's CUTLASS, "Implicit GEMM Convolution".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import cuda, float32, int32

from .launch import ELEMENTS, Kernel, ceil_div, device_function, grid_1d, kernel
from .ptx import load4, store, store4

__all__ = ["TILES", "Convolution", "Tile", "combine", "convolve", "four_channels", "pad_channels"]


class Tile(NamedTuple):
    """How a block of threads works: BM x BN elements of the result, BK steps of k at a time, TM x TN sums per thread."""

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int

    @property
    def threads(self) -> int:
        return self.bm // self.tm * (self.bn // self.tn)

    def __str__(self) -> str:
        return f"{self.bm}x{self.bn}"


class Convolution(NamedTuple):
    """The sizes of a convolution, as the kernels take them: the image, the window, the result."""

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


OUTSIDE = 1 << 29  # a row that no image has


@device_function
def positive(value):
    """The larger of ``value`` and 0; NaN stays NaN."""
    return float32(0.0) if value < float32(0.0) else value


# What is done to a sum before it is stored, added up; 0: nothing, it is a part
BIAS, ADD, RELU = 1, 2, 4


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


@device_function
def multiply_add(tile_a, at_a, tile_b, at_b, step_b, tm, tn, left, right, sums):
    """sums += a column of the tile of A times a row of the tile of B; a thread's columns are groups of 4, ``step_b`` apart."""
    for i in range(0, tm, 4):
        left[i], left[i + 1], left[i + 2], left[i + 3] = load4(tile_a, at_a + i)
    for j in range(0, tn, 4):
        right[j], right[j + 1], right[j + 2], right[j + 3] = load4(tile_b, at_b + j // 4 * step_b)
    for i in range(tm):
        for j in range(tn):
            sums[i * tn + j] += left[i] * right[j]


@device_function
def multiply_add_2(tile_a, at_a, row_a, tile_b, at_b, row_b, step_b, tm, tn, left, right, sums):
    """Two steps of k, written out: the compiler does not unroll loops of this size, and with 8 x 8 sums it has no registers
    for the numbers of four steps."""
    multiply_add(tile_a, at_a, tile_b, at_b, step_b, tm, tn, left, right, sums)
    multiply_add(tile_a, at_a + row_a, tile_b, at_b + row_b, step_b, tm, tn, left, right, sums)


def _convolve(tile: Tile, together: int) -> Kernel:
    """The kernel for one size of tile."""
    BM, BN, BK, TM, TN = tile
    THREADS = tile.threads
    ACROSS = BN // TN  # threads side by side over a tile's columns
    STEP = 4 * ACROSS  # from one group of four of a thread's columns to the next
    SUMS = TM * TN
    BUFFERS_A, BUFFERS_B = 2 * BM * BK, 2 * BK * BN
    LOADS_A, LOADS_B = BM * BK // 4 // THREADS, BK * BN // 4 // THREADS  # vectors of four that each thread loads
    STAGED_A, STAGED_B = 4 * LOADS_A, 4 * LOADS_B
    FOURS_A, FOURS_B = BK // 4, BN // 4  # vectors in a row of either tile
    ROWS_A, ROWS_B = THREADS // FOURS_A, THREADS // FOURS_B  # rows that all threads together load at once

    def convolve(
        x, weights, bias, residual, out, h, w, ci, kw, sh, sw, top, left, ho, wo, co, rows, depth, part, finish
    ):
        tile_a = cuda.shared.array(BUFFERS_A, float32)  # [2, BK, BM]: transposed, a thread's rows side by side
        tile_b = cuda.shared.array(BUFFERS_B, float32)  # [2, BK, BN]
        sums = cuda.local.array(SUMS, float32)
        some_a, some_b = cuda.local.array(TM, float32), cuda.local.array(TN, float32)
        staged_a, staged_b = cuda.local.array(STAGED_A, float32), cuda.local.array(STAGED_B, float32)
        corner = cuda.local.array(LOADS_A, int32)  # pixel of the batch at which the window of a row of A begins, ...
        ih0, iw0 = cuda.local.array(LOADS_A, int32), cuda.local.array(LOADS_A, int32)  # ... and its place in the image
        thread = cuda.threadIdx.x
        m0, n0 = int32(cuda.blockIdx.y * BM), int32(cuda.blockIdx.x * BN)
        first = int32(cuda.blockIdx.z * part)  # the steps of k that are this block's
        last = int32(min(first + part, depth))
        # what this thread loads of each tile of A: four channels of one tap, for several output pixels
        row_a, k_a = int32(thread // FOURS_A), int32(thread % FOURS_A * 4)
        for load in range(LOADS_A):
            m = int32(m0 + row_a + load * ROWS_A)
            image, pixel = m // (ho * wo), m % (ho * wo)
            ih0[load] = pixel // wo * sh - top if m < rows else -OUTSIDE
            iw0[load] = pixel % wo * sw - left
            corner[load] = (image * h + ih0[load]) * w + iw0[load] if m < rows else 0
        tap, c = int32((first + k_a) // ci), int32((first + k_a) % ci)
        i, j = int32(tap // kw), int32(tap % kw)
        # and of B: four columns, for several steps of k
        row_b, fours_b = int32(thread // FOURS_B), int32(thread % FOURS_B * 4)
        column_b = int32(n0 + fours_b)
        # and what it multiplies
        row, column = int32(thread // ACROSS * TM), int32(thread % ACROSS * 4)
        for at in range(SUMS):
            sums[at] = float32(0.0)
        here, there = int32(0), int32(1)  # the buffer that is multiplied, and the one that is filled
        k0 = int32(first - BK)  # the first turn only loads
        while k0 < last:
            after = int32(k0 + BK)
            for load in range(LOADS_A):
                at = 4 * load
                staged_a[at] = staged_a[at + 1] = staged_a[at + 2] = staged_a[at + 3] = float32(0.0)
                ih, iw = int32(ih0[load] + i), int32(iw0[load] + j)
                if after + k_a < last and 0 <= ih < h and 0 <= iw < w:
                    where = int32((corner[load] + i * w + j) * ci + c)
                    staged_a[at], staged_a[at + 1], staged_a[at + 2], staged_a[at + 3] = load4(x, where)
            for load in range(LOADS_B):
                at, k = 4 * load, int32(after + row_b + load * ROWS_B)
                staged_b[at] = staged_b[at + 1] = staged_b[at + 2] = staged_b[at + 3] = float32(0.0)
                if k < last and column_b < co:
                    where = int32(k * co + column_b)
                    staged_b[at], staged_b[at + 1], staged_b[at + 2], staged_b[at + 3] = load4(weights, where)
            c = int32(c + BK)
            while c >= ci:  # on to the next tap
                c = int32(c - ci)
                j = int32(j + 1)
                if j == kw:
                    i, j = int32(i + 1), int32(0)
            if k0 >= first:
                at_a, at_b = int32(here * (BK * BM) + row), int32(here * (BK * BN) + column)
                for k in range(0, BK, 2):
                    multiply_add_2(
                        tile_a, at_a + k * BM, BM, tile_b, at_b + k * BN, BN, STEP, TM, TN, some_a, some_b, sums
                    )
            for load in range(LOADS_A):  # nobody reads that buffer: the barrier of the turn before saw to that
                to = int32(there * (BK * BM) + k_a * BM + row_a + load * ROWS_A)
                for at in range(4):
                    store(tile_a, int32(to + at * BM), staged_a[4 * load + at])
            for load in range(LOADS_B):
                to = int32(there * (BK * BN) + (row_b + load * ROWS_B) * BN + fours_b)
                at = 4 * load
                store4(tile_b, to, staged_b[at], staged_b[at + 1], staged_b[at + 2], staged_b[at + 3])
            here, there = there, here
            k0 = after
            cuda.syncthreads()
        for i in range(TM):
            m = int32(m0 + row + i)
            for group in range(TN // 4):
                n = int32(n0 + column + group * STEP)
                if m < rows and n < co:
                    at, where = i * TN + 4 * group, int32(m * co + n)
                    s0, s1, s2, s3 = sums[at], sums[at + 1], sums[at + 2], sums[at + 3]
                    s0, s1, s2, s3 = finished(s0, s1, s2, s3, bias, n, residual, where, finish)
                    store4(out, int32(cuda.blockIdx.z * rows * co + where), s0, s1, s2, s3)

    convolve.__name__ = f"convolve_{tile}"
    return kernel("vector vector vector vector vector" + 15 * " int", threads=THREADS, together=together)(convolve)


TILES = {
    tile: _convolve(tile, together)
    for tile, together in (
        (Tile(128, 128, 16, 8, 8), 2),
        (Tile(128, 64, 16, 8, 8), 3),
        (Tile(64, 64, 16, 8, 4), 4),
        (Tile(64, 32, 16, 4, 4), 4),
    )
}
"""{tile: its kernel}, the largest first: the most work for each byte from memory, but the fewest blocks."""


@kernel("vector vector vector vector" + 4 * " int", threads=ELEMENTS)
def _combine(parts, bias, residual, out, count, co, splits, finish):
    for four in range(cuda.grid(1), count // 4, cuda.gridsize(1)):
        at = four * 4
        s0, s1, s2, s3 = load4(parts, at)
        for split in range(1, splits):  # always in this order
            p0, p1, p2, p3 = load4(parts, split * count + at)
            s0, s1, s2, s3 = s0 + p0, s1 + p1, s2 + p2, s3 + p3
        s0, s1, s2, s3 = finished(s0, s1, s2, s3, bias, at % co, residual, at, finish)
        store4(out, at, s0, s1, s2, s3)


@kernel("vector vector int", threads=ELEMENTS)
def _four_channels(x, out, pixels):
    for pixel in range(cuda.grid(1), pixels, cuda.gridsize(1)):
        at = 3 * pixel
        store4(out, 4 * pixel, x[at], x[at + 1], x[at + 2], float32(0.0))


def four_channels(stream: Any, x: Any, out: Any) -> None:
    """Give images of three channels a fourth of zeros: x float32[n, h, w, 3], out float32[n, h, w, 4], on the card."""
    pixels = out.size // 4
    _four_channels.launch(grid_1d(pixels), stream, x.reshape(x.size), out.reshape(out.size), pixels)


LARGEST = 2**31 - 1
"""Elements of the largest array that the kernels can index: they count in 32 bits."""


def convolve(
    stream: Any,
    tile: Tile,
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
    """Queue a convolution with all that follows it. Trusts its arguments, which are flat float32 arrays on the card.

    x         [n, h, w, ci]; weights [kh, kw, ci, co]; bias [co]
    residual  [n, ho, wo, co], added before the ReLU, or None
    parts     [splits, n, ho, wo, co], memory to work in where there is more than one split; else ignored
    out       [n, ho, wo, co]; may be ``residual``
    """
    _, h, w, ci, _, kw, sh, sw, top, left, ho, wo, co = size
    count = size.rows * co
    chunks = ceil_div(size.depth, tile.bk)
    part = ceil_div(chunks, splits) * tile.bk
    blocks = ceil_div(co, tile.bn), ceil_div(size.rows, tile.bm), splits
    geometry = (h, w, ci, kw, sh, sw, top, left, ho, wo, co, size.rows, size.depth, part)
    added = out if residual is None else residual  # any array will do where nothing is added
    finish = BIAS + (ADD if residual is not None else 0) + (RELU if relu else 0)
    if splits == 1:
        TILES[tile].launch(blocks, stream, x, weights, bias, added, out, *geometry, finish)
    else:
        TILES[tile].launch(blocks, stream, x, weights, bias, added, parts, *geometry, 0)
        _combine.launch(grid_1d(count // 4), stream, parts, bias, added, out, count, co, splits, finish)
