"""Convolution on a card as a matrix product whose left matrix is never written: implicit GEMM.

    C[M, N] = A[M, K] @ B[K, N] + bias (+ residual), at least 0 if asked for
    M = n * ho * wo output pixels      N = co      K = kh * kw * ci
    A[m, k] = the pixel that tap k // ci of output pixel m looks at, channel k % ci; 0 outside the image
    B = the kernel float32[kh, kw, ci, co], as it is

``im2col.py`` writes A to memory and reads it again, kh * kw times the image. Here each block of threads computes where the
elements of its tile of A are, and loads them from the image itself. The rest is ``gemm.py``'s last version, tiles in shared
memory, two buffers, sums in registers, and three ideas more:

    epilogue   What would be a pass over memory of its own (bias, addition, ReLU) happens while a tile is still in registers.
    ahead      What a step of k multiplies comes from shared memory while the step before is multiplied, also across the
               barrier from one tile to the next.
    banks      Shared memory has 32 banks, one word of each per cycle. A warp's threads stand 4 deep and 8 across, neighbours
               (lanes 2 i and 2 i + 1) below each other: 8 vectors of B and 4 of A, each read once for several lanes. A is
               stored four steps of k at a time, 4 rows of the tile apart, which is the same bank; so its columns are exchanged,
               by exclusive or with a number that changes from four steps to four steps.

Where the tiles of the result are too few for a whole card, K is split among several blocks per tile: each writes its
part of the sums, and ``fused.py`` adds them up in their order, so that results are the same in every run. Or, with
``many``, there are as many products of one shape as the grid is high: ``winograd.py`` has 36.

Channels are taken four at a time: ci and co must be multiples of four.
Source of the formulation: NVIDIA's CUTLASS, "Implicit GEMM Convolution".
"""

from __future__ import annotations

from typing import NamedTuple

from numba import cuda, float32, int32, uint32

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
def inside(place, size):
    """Whether a row or column is of an image: one comparison, for as an unsigned number what is below 0 is very large."""
    return uint32(place) < uint32(size)


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
def load_step(tile_a, at_a, tile_b, at_b, step_b, tm, tn, left, right):
    """One step of k for a thread: its rows of the tile of A, and its columns of that of B, groups of 4 that lie ``step_b`` apart."""
    for i in range(0, tm, 4):
        left[i], left[i + 1], left[i + 2], left[i + 3] = load4(tile_a, at_a + i)
    for j in range(0, tn, 4):
        right[j], right[j + 1], right[j + 2], right[j + 3] = load4(tile_b, at_b + j // 4 * step_b)


@device_function
def multiply_add(left, right, tm, tn, sums):
    """sums += each row's number times each column's."""
    for at in range(tm * tn):
        sums[at] += left[at // tn] * right[at % tn]


@device_function
def three_steps(tile_a, at_a, row_a, tile_b, at_b, row_b, step_b, tm, tn, even_a, even_b, odd_a, odd_b, sums):
    """Multiply steps 0, 1 and 2 of k, the first of which is in ``even_a`` and ``even_b`` already, and load step 3 into ``odd_a``
    and ``odd_b``: what a step multiplies is on its way while the one before it is multiplied. Written out, because the compiler
    does not unroll loops of this size."""
    load_step(tile_a, at_a + row_a, tile_b, at_b + row_b, step_b, tm, tn, odd_a, odd_b)
    multiply_add(even_a, even_b, tm, tn, sums)
    load_step(tile_a, at_a + 2 * row_a, tile_b, at_b + 2 * row_b, step_b, tm, tn, even_a, even_b)
    multiply_add(odd_a, odd_b, tm, tn, sums)
    load_step(tile_a, at_a + 3 * row_a, tile_b, at_b + 3 * row_b, step_b, tm, tn, odd_a, odd_b)
    multiply_add(even_a, even_b, tm, tn, sums)


def _convolve(tile: Tile, together: int) -> Kernel:
    """The kernel for one size of tile."""
    BM, BN, BK, TM, TN = tile
    THREADS = tile.threads
    ACROSS = BN // TN  # threads side by side over a tile's columns
    WARPS = ACROSS // 8  # and warps, each of 4 x 8 threads
    STEP = 4 * ACROSS  # from one group of four of a thread's columns to the next
    SUMS = TM * TN
    FOURS, GROUPS = SUMS // 4, TN // 4  # vectors of sums: of a thread, and of each of its rows
    BUFFERS_A, BUFFERS_B = 2 * BM * BK, 2 * BK * BN
    LOADS_A, LOADS_B = BM * BK // 4 // THREADS, BK * BN // 4 // THREADS  # vectors of four that each thread loads
    STAGED_A, STAGED_B = 4 * LOADS_A, 4 * LOADS_B
    FOURS_A, FOURS_B = BK // 4, BN // 4  # vectors in a row of either tile
    SWAP = 128 // BK  # what the rows of the tile of A are exchanged by, from one group of four steps of k to the next
    LAST = SWAP * (FOURS_A - 1)  # and what by in the last group
    ROWS_A, ROWS_B = THREADS // FOURS_A, THREADS // FOURS_B  # rows that all threads together load at once

    def convolve(
        x, weights, bias, residual, out, h, w, ci, kw, sh, sw, top, left, ho, wo, co, rows, depth, part, many, finish
    ):
        tile_a = cuda.shared.array(BUFFERS_A, float32, ALIGNMENT)  # [2, BK, BM], a thread's rows side by side
        tile_b = cuda.shared.array(BUFFERS_B, float32, ALIGNMENT)  # [2, BK, BN]
        sums = cuda.local.array(SUMS, float32)
        even_a, even_b = cuda.local.array(TM, float32), cuda.local.array(TN, float32)  # factors of an even step of k
        odd_a, odd_b = cuda.local.array(TM, float32), cuda.local.array(TN, float32)  # and of an odd one
        staged_a, staged_b = cuda.local.array(STAGED_A, float32), cuda.local.array(STAGED_B, float32)
        from_a = cuda.local.array(LOADS_A, int32)  # where in the batch the window of a row of A begins, ...
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
            corner, ih0[load], iw0[load] = window_of(m, rows, product * rows, h, w, sh, sw, top, left, ho, wo)
            from_a[load] = int32(corner * ci)
        i, j, c = tap_of(int32(first + k_a), kw, ci)
        # and of B: four columns, for several steps of k
        row_b, fours_b = int32(thread // FOURS_B), int32(thread % FOURS_B * 4)
        column_b = int32(n0 + fours_b)
        from_b, step_b = int32((product * depth + first + row_b) * co + column_b), int32(ROWS_B * co)
        # where in the tiles it stores them
        to_a, to_b = int32(k_a * BM + (row_a ^ k_a // 4 * SWAP)), int32(row_b * BN + fours_b)
        # and what it multiplies: ``row`` of the tile of A, before it is exchanged, and ``column`` of that of B
        warp, lane = thread // 32, thread % 32
        row = int32((warp // WARPS * 4 + lane // 16 * 2 + lane % 2) * TM)
        column = int32((warp % WARPS * 8 + lane // 2 % 8) * 4)
        for at in range(SUMS):
            sums[at] = float32(0.0)
        for at in range(TM):  # the first turn, which only loads, ends with a step of zeros
            odd_a[at] = float32(0.0)
        for at in range(TN):
            odd_b[at] = float32(0.0)
        here, there = int32(0), int32(1)  # the buffer that is multiplied, and the one that is filled
        k0 = int32(first - BK)  # the first turn only loads
        while k0 < last:
            after = int32(k0 + BK)
            more, tap = int32(after + k_a) < last, int32((i * w + j) * ci + c)
            for load in range(LOADS_A):
                at = 4 * load
                staged_a[at] = staged_a[at + 1] = staged_a[at + 2] = staged_a[at + 3] = float32(0.0)
                if more and inside(int32(ih0[load] + i), h) and inside(int32(iw0[load] + j), w):
                    where = int32(from_a[load] + tap)
                    staged_a[at], staged_a[at + 1], staged_a[at + 2], staged_a[at + 3] = load4(x, where)
            for load in range(LOADS_B):
                at, k = 4 * load, int32(after + row_b + load * ROWS_B)
                staged_b[at] = staged_b[at + 1] = staged_b[at + 2] = staged_b[at + 3] = float32(0.0)
                if k < last and column_b < co:
                    where = int32(from_b + load * step_b)
                    staged_b[at], staged_b[at + 1], staged_b[at + 2], staged_b[at + 3] = load4(weights, where)
            i, j, c = further(i, j, int32(c + BK), kw, ci)
            from_b = int32(from_b + BK * co)
            if k0 >= first:
                at_a, at_b = int32(here * (BK * BM)), int32(here * (BK * BN) + column)
                swap = int32(0)
                while True:
                    three_steps(
                        tile_a, int32(at_a + (row ^ swap)), BM, tile_b, at_b, BN, STEP, TM, TN,
                        even_a, even_b, odd_a, odd_b, sums,
                    )  # fmt: skip
                    if (
                        swap == LAST
                    ):  # the last step waits for the barrier: until it is past, there is nothing to load ahead
                        break
                    swap, at_a, at_b = int32(swap + SWAP), int32(at_a + 4 * BM), int32(at_b + 4 * BN)
                    load_step(tile_a, int32(at_a + (row ^ swap)), tile_b, at_b, STEP, TM, TN, even_a, even_b)
                    multiply_add(odd_a, odd_b, TM, TN, sums)
            to = int32(there * (BK * BM) + to_a)
            for load in range(LOADS_A):  # nobody reads that buffer: the barrier of the turn before saw to that
                for at in range(4):
                    store(tile_a, to + load * ROWS_A + at * BM, staged_a[4 * load + at])
            to = int32(there * (BK * BN) + to_b)
            for load in range(LOADS_B):
                at = 4 * load
                store4(
                    tile_b,
                    to + load * (ROWS_B * BN),
                    staged_b[at],
                    staged_b[at + 1],
                    staged_b[at + 2],
                    staged_b[at + 3],
                )
            here, there = there, here
            k0 = after
            cuda.syncthreads()
            load_step(
                tile_a,
                int32(here * (BK * BM) + row),
                tile_b,
                int32(here * (BK * BN) + column),
                STEP,
                TM,
                TN,
                even_a,
                even_b,
            )
            multiply_add(odd_a, odd_b, TM, TN, sums)
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
        (Tile(128, 128, 8, 8, 8), 2),
        (Tile(128, 64, 16, 8, 8), 3),
        (Tile(64, 64, 16, 8, 4), 4),
        (Tile(64, 32, 16, 4, 4), 4),
    )
}
"""{tile: its kernel}, the largest first: the most work for each byte from memory, but the fewest blocks."""
