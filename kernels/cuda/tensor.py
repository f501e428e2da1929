"""Convolution on a card's tensor cores: implicit GEMM as in ``implicit.py``, multiplied by ``mma`` (see ``ptx.py``).

Tensor cores multiply numbers of tf32, which has float32's range and 10 bits after the leading one, and add up in float32.
They ignore what float32 has more. Two ways to use them:

    tf32     The factors as they are. Cutting instead of rounding makes an activation too small by half a last place on
             average, a share of 2^-11 / (its mantissa, 1 to 2), whose mean is 0.72 * 2^-11: by so much the weights are made
             larger (``tf32_weights``), and what remains is as small as after rounding, near 3e-4, and has no direction.
    3xtf32   Each factor as the sum of two tf32 numbers, a = a' + a'', so that a * b is a'' * b' + a' * b'' + a' * b' but for a
             part in 2^22: three times the work, nearly float32's accuracy. The sums of tensor cores cut, too, and over
             thousands of products that would show; so the products of each tile begin at zero and are then added to the
             sums by ordinary additions, which round. Infinity becomes NaN here (infinity minus infinity).

Tiles come by ``copy4_async``, from memory to shared memory without a register in between: while one tile is multiplied the
next ones, as many as there are other buffers, are in flight. In shared memory the fours of each row are exchanged, by
exclusive or with a number that changes from row to row, so that those of eight rows that are read together lie in different
banks. The kernel is transposed, [co, kh * kw * ci], so that both tiles have k along their rows.

Source: NVIDIA's CUTLASS, examples 27 and 28, "3xTF32".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import cuda, float32, int32

from ..arrays import Array
from .implicit import ADD, BIAS, RELU, further, positive, tap_of, window_of
from .launch import Kernel, device_function, divide, kernel
from .ptx import ALIGNMENT, copies_commit, copies_wait, copy4_async, cut, load2, load_matrices, mma, store2

__all__ = ["TENSOR_TILES", "TensorTile", "finish_and_store", "tf32_weights"]


class TensorTile(NamedTuple):
    """How a block of threads works: BM x BN elements of the result, BK (8 or 16) steps of k at a time, WM x WN elements per
    warp."""

    bm: int
    bn: int
    bk: int
    wm: int
    wn: int
    stages: int
    """How many tiles there is room for: one is multiplied while the others are in flight."""
    exact: bool
    """3xtf32 instead of tf32."""

    @property
    def threads(self) -> int:
        return self.bm // self.wm * (self.bn // self.wn) * 32

    def __str__(self) -> str:
        return f"{'3x' if self.exact else ''}tf32_{self.bm}x{self.bn}x{self.bk}s{self.stages}"


def _convolve(tile: TensorTile, together: int) -> Kernel:
    """The kernel for one size of tile; arguments as those of ``implicit.py``, with the kernel transposed."""
    BM, BN, BK, WM, WN, STAGES, EXACT = tile
    THREADS = tile.threads
    WARPS_N = BN // WN
    TILE_A, TILE_B = BM * BK, BN * BK
    LINE = 32 // BK  # rows of a tile that lie in all banks once
    BUFFERS_A, BUFFERS_B = STAGES * TILE_A, STAGES * TILE_B
    AHEAD = (STAGES - 1) * BK  # steps of k by which the copies are ahead of the products
    LATER = STAGES - 2  # tiles that may still be in flight when one is wanted
    MS, NS = WM // 16, WN // 8  # mma's matrices in a warp's part of the tile
    SUMS, SOME_A, SOME_B = 4 * MS * NS, 4 * MS, 2 * NS
    PARTS = SUMS if EXACT else 1
    FOURS = BK // 4
    ROWS = THREADS // FOURS  # rows of a tile that all threads together copy at once
    LOADS_A, LOADS_B = BM // ROWS, BN // ROWS

    def convolve(
        x, weights, bias, residual, out, h, w, ci, kw, sh, sw, top, left, ho, wo, co, rows, depth, part, many, finish
    ):
        tile_a = cuda.shared.array(BUFFERS_A, float32, ALIGNMENT)  # [STAGES, BM, BK], fours exchanged
        tile_b = cuda.shared.array(BUFFERS_B, float32, ALIGNMENT)  # [STAGES, BN, BK], likewise
        sums = cuda.local.array(SUMS, float32)
        parts = cuda.local.array(PARTS, float32)
        a, b = cuda.local.array(SOME_A, float32), cuda.local.array(SOME_B, float32)
        a_rest, b_rest = cuda.local.array(SOME_A, float32), cuda.local.array(SOME_B, float32)
        corner = cuda.local.array(LOADS_A, int32)  # pixel of the batch at which the window of a row of A begins, ...
        ih0, iw0 = cuda.local.array(LOADS_A, int32), cuda.local.array(LOADS_A, int32)  # ... and its place in the image
        thread = cuda.threadIdx.x
        # which tile: those side by side come after each other, for they share their rows of A; all are numbered in x, because
        # in y there may be 65,535 blocks only
        down, across = divide(cuda.blockIdx.x, (co + BN - 1) // BN)
        m0, n0 = int32(down * BM), int32(across * BN)
        # one of many products of the same sizes, or some of the steps of k of the only one
        which, first = (int32(cuda.blockIdx.y), int32(0)) if many else (int32(0), int32(cuda.blockIdx.y * part))
        last = int32(min(first + part, depth))
        # what this thread copies of each tile: four steps of k of some rows
        row, k_row = int32(thread // FOURS), int32(thread % FOURS * 4)
        to_k = int32(k_row ^ row // LINE % FOURS * 4)  # where in its row of a tile
        for load in range(LOADS_A):
            m = int32(m0 + row + load * ROWS)
            corner[load], ih0[load], iw0[load] = window_of(m, rows, which * rows, h, w, sh, sw, top, left, ho, wo)
        i, j, c = tap_of(int32(first + k_row), kw, ci)
        # what its warp multiplies, and the row of the matrices that this thread names to ``load_matrices``
        warp, lane = thread // 32, thread % 32
        warp_m, warp_n = int32(warp // WARPS_N * WM), int32(warp % WARPS_N * WN)
        exchanged = lane % 8 // LINE % FOURS
        # rows 0-7 and 8-15 of k 0-3, then of k 4-7; and k 0-3 and 4-7 of two matrices
        from_a = int32((warp_m + lane % 16) * BK + (lane // 16 ^ exchanged) * 4)
        from_b = int32((warp_n + lane // 16 * 8 + lane % 8) * BK + (lane // 8 % 2 ^ exchanged) * 4)
        for at in range(SUMS):
            sums[at] = float32(0.0)
        here, there = int32(1), int32(0)  # the buffers that are multiplied, and those that are filled
        k0 = int32(first - AHEAD)  # the first turns only copy
        while k0 < last:
            copies_wait(LATER)
            cuda.syncthreads()  # all threads' copies are there, and nobody reads the last turn's tile any more
            k = int32(k0 + AHEAD + k_row)
            for load in range(LOADS_A):
                ih, iw = int32(ih0[load] + i), int32(iw0[load] + j)
                valid = k < last and 0 <= ih < h and 0 <= iw < w
                where = int32((corner[load] + i * w + j) * ci + c) if valid else int32(0)
                copy4_async(tile_a, int32(there * TILE_A + (row + load * ROWS) * BK + to_k), x, where, valid)
            for load in range(LOADS_B):
                n = int32(n0 + row + load * ROWS)
                valid = k < last and n < co
                where = int32((which * co + n) * depth + k) if valid else int32(0)
                copy4_async(tile_b, int32(there * TILE_B + (row + load * ROWS) * BK + to_k), weights, where, valid)
            copies_commit()
            i, j, c = further(i, j, int32(c + BK), kw, ci)
            if k0 >= first:
                for at in range(PARTS):
                    parts[at] = float32(0.0)
                at_a, at_b = int32(here * TILE_A + from_a), int32(here * TILE_B + from_b)
                for step in range(0, BK, 8):
                    for m in range(MS):
                        a[4 * m], a[4 * m + 1], a[4 * m + 2], a[4 * m + 3] = load_matrices(
                            tile_a, (at_a ^ step) + m * 16 * BK
                        )
                    for n in range(0, NS, 2):
                        b[2 * n], b[2 * n + 1], b[2 * n + 2], b[2 * n + 3] = load_matrices(
                            tile_b, (at_b ^ step) + n * 8 * BK
                        )
                    if EXACT:
                        for at in range(SOME_A):
                            a[at], a_rest[at] = split(a[at])
                        for at in range(SOME_B):
                            b[at], b_rest[at] = split(b[at])
                    # one loop and not two, or the compiler unrolls too late to see registers
                    for both in range(MS * NS):
                        of_a, of_b = both // NS * 4, both % NS * 2
                        if EXACT:  # the small ones first
                            product(a_rest, of_a, b, of_b, parts, 4 * both)
                            product(a, of_a, b_rest, of_b, parts, 4 * both)
                            product(a, of_a, b, of_b, parts, 4 * both)
                        else:
                            product(a, of_a, b, of_b, sums, 4 * both)
                if EXACT:
                    for at in range(SUMS):
                        sums[at] += parts[at]
            here, there = int32(here + 1) if here + 1 < STAGES else int32(0), here
            k0 = int32(k0 + BK)
        copies_wait(0)  # for those past the end: no copy may outlive its block
        to_m, to_n = int32(m0 + warp_m + lane // 4), int32(n0 + warp_n + lane % 4 * 2)
        finish_and_store(sums, MS, NS, to_m, to_n, rows, co, cuda.blockIdx.y, bias, residual, out, finish)

    convolve.__name__ = convolve.__qualname__ = f"convolve_{tile}"  # by which what is compiled is kept
    return kernel("vector vector vector vector vector" + 16 * " int", threads=THREADS, together=together)(convolve)


@device_function
def finish_and_store(sums, ms, ns, to_m, to_n, rows, co, number, bias, residual, out, finish):
    """Bias, residual, ReLU, and the result to memory, for a thread's fragments of ms x ns matrices [16, 8], the first of which it holds
    at row ``to_m`` and column ``to_n``; ``number``: which result, of several.

    Each in a loop of its own: of one large loop the compiler would make a real one, and the sums could not stay in registers.
    """
    if finish & BIAS:
        for n in range(ns):
            if to_n + n * 8 < co:
                b0, b1 = load2(bias, int32(to_n + n * 8))
                for half in range(2 * ms):
                    at = 4 * (half // 2 * ns + n) + half % 2 * 2
                    sums[at], sums[at + 1] = sums[at] + b0, sums[at + 1] + b1
    if finish & ADD:
        for half in range(2 * ms):
            for n in range(ns):
                if to_m + half * 8 < rows and to_n + n * 8 < co:
                    at = 4 * (half // 2 * ns + n) + half % 2 * 2
                    r0, r1 = load2(residual, int32((to_m + half * 8) * co + to_n + n * 8))
                    sums[at], sums[at + 1] = sums[at] + r0, sums[at + 1] + r1
    if finish & RELU:
        for at in range(4 * ms * ns):
            sums[at] = positive(sums[at])
    to = int32(number * rows * co + to_m * co + to_n)
    for half in range(2 * ms):
        for n in range(ns):
            if to_m + half * 8 < rows and to_n + n * 8 < co:
                at = 4 * (half // 2 * ns + n) + half % 2 * 2
                store2(out, int32(to + half * 8 * co + n * 8), sums[at], sums[at + 1])


_HALF_PLACE = float32(1.0 + 0.75 * 2.0**-11)  # about half a last place of tf32 more


@device_function
def split(value):
    """A tf32 number near ``value``, to either side of it, and the rest."""
    near = cut(value * _HALF_PLACE)
    return near, value - near


@device_function
def product(a, at_a, b, at_b, sums, at):
    """sums[16, 8] += a[16, 8] @ b[8, 8] for the fragments that begin at these places."""
    sums[at], sums[at + 1], sums[at + 2], sums[at + 3] = mma(
        a[at_a], a[at_a + 1], a[at_a + 2], a[at_a + 3], b[at_b], b[at_b + 1],
        sums[at], sums[at + 1], sums[at + 2], sums[at + 3],
    )  # fmt: skip


_CUT_SHARE = (
    0.7213 * 2.0**-11
)  # the mean of 2^-11 / mantissa, for mantissas whose logarithm is evenly spread: 1 / (2 ln 2)

TENSOR_TILES = {
    tile: _convolve(tile, together)
    for tile, together in (
        (TensorTile(128, 128, 16, 64, 32, 3, False), 2),
        (TensorTile(128, 256, 8, 64, 64, 4, False), 1),
        (TensorTile(128, 64, 16, 64, 32, 4, False), 3),
        (TensorTile(64, 64, 16, 32, 32, 4, False), 4),
        (TensorTile(128, 64, 16, 32, 32, 4, True), 2),
        (TensorTile(64, 64, 16, 32, 32, 4, True), 3),
    )
}
"""{tile: its kernel}; of two that are expected to be equally fast, the first is taken. Stages are as many as fit into the
48 KB of shared memory that a block may have without asking for more. On an SM's 164 KB (A100) or 228 KB (H100) that costs
no block, for registers run out before; where an SM has 100 KB, two blocks fit of any of them."""


def tf32_weights(w: Array) -> Array:
    """Weights as the kernel for tf32 takes them: larger by what cutting makes activations smaller, and rounded to tf32.

    w, result: float32 of any shape.
    """
    larger = (w * (1 + _CUT_SHARE)).astype(np.float32).view(np.uint32)
    special = larger & np.uint32(0x7F800000) == np.uint32(0x7F800000)
    rounded = np.where(special, larger, (larger + np.uint32(0x1000)) & np.uint32(0xFFFFE000))
    return rounded.astype(np.uint32).view(np.float32)
