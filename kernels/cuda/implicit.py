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
part of the sums, and ``fused.py`` adds them up in their order, so that results are the same in every run. Or, with
``many``, there are as many products of one shape as the grid is high: ``winograd.py`` has 36.

Channels are taken four at a time: ci and co must be multiples of four.
Source of the formulation: NVIDIA's CUTLASS, "Implicit GEMM Convolution".
"""

from __future__ import annotations

from typing import NamedTuple

from numba import cuda, float32, int32

from .launch import Kernel, device_function, divide, kernel
from .ptx import ALIGNMENT, load4, store, store4

__all__ = ["ADD", "BIAS", "OUTSIDE", "RELU", "TILES", "Tile", "further", "positive", "tap_of", "window_of"]


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


OUTSIDE = 1 << 29  # a row that no image has


@device_function
def window_of(m, rows, first, h, w, sh, sw, top, left, ho, wo):
    """Where the window of output pixel m begins: the pixel of the batch, counted from ``first`` on; row and column in its
    image. A pixel that does not exist gets a row that no image has."""
    image, pixel = m // (ho * wo), m % (ho * wo)
    ih, iw = pixel // wo * sh - top, pixel % wo * sw - left
    corner = int32(first + (image * h + ih) * w + iw)
    return (corner, int32(ih), int32(iw)) if m < rows else (int32(0), int32(-OUTSIDE), int32(0))


@device_function
def tap_of(k, kw, ci):
    """Step k of the sum as row and column of a tap, and channel."""
    tap = k // ci
    return int32(tap // kw), int32(tap % kw), int32(k % ci)


@device_function
def further(i, j, c, kw, ci):
    """Row and column of a tap, and channel, where the channel may be past the last: then of one of the next taps."""
    while c >= ci:
        c = int32(c - ci)
        j = int32(j + 1)
        if j == kw:
            i, j = int32(i + 1), int32(0)
    return i, j, c


@device_function
def positive(value):
    """The larger of ``value`` and 0; NaN stays NaN."""
    return float32(0.0) if value < float32(0.0) else value


# What is done to a sum before it is stored, added up; 0: nothing, it is a part
BIAS, ADD, RELU = 1, 2, 4


@device_function
def add4(sums, at, a, b, c, d):
    """Add to four sums that lie side by side."""
    sums[at], sums[at + 1], sums[at + 2], sums[at + 3] = (
        sums[at] + a,
        sums[at + 1] + b,
        sums[at + 2] + c,
        sums[at + 3] + d,
    )


@device_function
def multiply_add(tile_a, at_a, tile_b, at_b, step_b, tm, tn, left, right, sums):
    """sums += a column of the tile of A times a row of the tile of B; a thread's columns are groups of 4, ``step_b`` apart."""
    for i in range(0, tm, 4):
        left[i], left[i + 1], left[i + 2], left[i + 3] = load4(tile_a, at_a + i)
    for j in range(0, tn, 4):
        right[j], right[j + 1], right[j + 2], right[j + 3] = load4(tile_b, at_b + j // 4 * step_b)
    for at in range(tm * tn):
        sums[at] += left[at // tn] * right[at % tn]


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
    FOURS, GROUPS = SUMS // 4, TN // 4  # vectors of sums: of a thread, and of each of its rows
    BUFFERS_A, BUFFERS_B = 2 * BM * BK, 2 * BK * BN
    LOADS_A, LOADS_B = BM * BK // 4 // THREADS, BK * BN // 4 // THREADS  # vectors of four that each thread loads
    STAGED_A, STAGED_B = 4 * LOADS_A, 4 * LOADS_B
    FOURS_A, FOURS_B = BK // 4, BN // 4  # vectors in a row of either tile
    ROWS_A, ROWS_B = THREADS // FOURS_A, THREADS // FOURS_B  # rows that all threads together load at once

    def convolve(
        x, weights, bias, residual, out, h, w, ci, kw, sh, sw, top, left, ho, wo, co, rows, depth, part, many, finish
    ):
        tile_a = cuda.shared.array(BUFFERS_A, float32, ALIGNMENT)  # [2, BK, BM], a thread's rows side by side
        tile_b = cuda.shared.array(BUFFERS_B, float32, ALIGNMENT)  # [2, BK, BN]
        sums = cuda.local.array(SUMS, float32)
        some_a, some_b = cuda.local.array(TM, float32), cuda.local.array(TN, float32)
        staged_a, staged_b = cuda.local.array(STAGED_A, float32), cuda.local.array(STAGED_B, float32)
        corner = cuda.local.array(LOADS_A, int32)  # pixel of the batch at which the window of a row of A begins, ...
        ih0, iw0 = cuda.local.array(LOADS_A, int32), cuda.local.array(LOADS_A, int32)  # ... and its place in the image
        thread = cuda.threadIdx.x
        # which tile: those side by side come after each other, for they share their rows of A; all are numbered in x, because
        # in y there may be 65,535 blocks only
        down, across = divide(cuda.blockIdx.x, (co + BN - 1) // BN)
        m0, n0 = int32(down * BM), int32(across * BN)
        # one of many products of the same sizes, or some of the steps of k of the only one
        product, first = (int32(cuda.blockIdx.y), int32(0)) if many else (int32(0), int32(cuda.blockIdx.y * part))
        last = int32(min(first + part, depth))
        # what this thread loads of each tile of A: four channels of one tap, for several output pixels
        row_a, k_a = int32(thread // FOURS_A), int32(thread % FOURS_A * 4)
        for load in range(LOADS_A):
            m = int32(m0 + row_a + load * ROWS_A)
            corner[load], ih0[load], iw0[load] = window_of(m, rows, product * rows, h, w, sh, sw, top, left, ho, wo)
        i, j, c = tap_of(int32(first + k_a), kw, ci)
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
                    where = int32((product * depth + k) * co + column_b)
                    staged_b[at], staged_b[at + 1], staged_b[at + 2], staged_b[at + 3] = load4(weights, where)
            i, j, c = further(i, j, int32(c + BK), kw, ci)
            if k0 >= first:
                at_a, at_b = int32(here * (BK * BM) + row), int32(here * (BK * BN) + column)
                end = int32(at_a + BK * BM)
                while at_a != end:
                    multiply_add_2(tile_a, at_a, BM, tile_b, at_b, BN, STEP, TM, TN, some_a, some_b, sums)
                    at_a, at_b = int32(at_a + 2 * BM), int32(at_b + 2 * BN)
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
        # Bias, residual, ReLU, each in a loop of its own: of one large loop, or of loops in loops, the compiler would make real
        # ones, and the sums could not stay in registers.
        m, n = int32(m0 + row), int32(n0 + column)
        if finish & BIAS:
            for four in range(FOURS):
                right = int32(n + four % GROUPS * STEP)
                if right < co:
                    b0, b1, b2, b3 = load4(bias, right)
                    add4(sums, 4 * four, b0, b1, b2, b3)
        if finish & ADD:
            for four in range(FOURS):
                down, right = int32(m + four // GROUPS), int32(n + four % GROUPS * STEP)
                if down < rows and right < co:
                    r0, r1, r2, r3 = load4(residual, int32(down * co + right))
                    add4(sums, 4 * four, r0, r1, r2, r3)
        if finish & RELU:
            for at in range(SUMS):
                sums[at] = positive(sums[at])
        for four in range(FOURS):
            down, right, at = int32(m + four // GROUPS), int32(n + four % GROUPS * STEP), 4 * four
            if down < rows and right < co:
                to = int32((cuda.blockIdx.y * rows + down) * co + right)
                store4(out, to, sums[at], sums[at + 1], sums[at + 2], sums[at + 3])

    convolve.__name__ = convolve.__qualname__ = f"convolve_{tile}"  # by which what is compiled is kept
    return kernel("vector vector vector vector vector" + 16 * " int", threads=THREADS, together=together)(convolve)


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
