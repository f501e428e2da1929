"""Convolution on the tensor cores of cards of compute capability 9.0: implicit GEMM in tf32 as in ``tensor.py``, multiplied by ``wgmma``
(see ``warpgroups.py``).

``mma`` reaches little more than half of what these tensor cores can do, and each of its warps loads fragments from shared memory on
its own. Here products read the tiles in shared memory themselves, 64 rows of A for each warp group and all columns of B; and while
they are computed the threads start the copies of later tiles. So of a block's tiles, as there is room for,

    two          are being multiplied, or may still be: of this turn and the last
    the others   are in flight

A tile has 32 steps of k: 128 bytes in a row, swizzled as ``wgmma`` reads them. What is copied into which place is ``tensor.py``'s,
but that fours of eight rows are exchanged, by exclusive or with the row. All tiles together are larger than the 48 KB of shared
memory that a block may have without asking; it is asked for when the kernel is first launched.

**No card has run this yet.** It was compiled, and run in the simulator; a card has to compute a few products rightly before it is
used there: ``npresnet/cuda/trial.py``.

Source: NVIDIA's CUTLASS, "Efficient GEMM in CUDA", "Hopper Warp Specialization"; here no warps are set apart for the copies.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import cuda, float32, int32

from .implicit import further, inside, tap_of, window_of
from .launch import Kernel, divide, kernel
from .ptx import copies_commit, copies_wait, copy4_async
from .tensor import finish_and_store
from .warpgroups import (
    GROUP,
    PATTERN,
    STEPS,
    SWIZZLED,
    async_fence,
    shared_address,
    wgmma,
    wgmma_commit,
    wgmma_fence,
    wgmma_wait,
)

__all__ = ["CAPABILITY", "WARPGROUP_TILES", "WarpgroupTile"]

CAPABILITY = (9, 0)
"""The only compute capability whose cards have ``wgmma``; later ones have other instructions."""

ROWS = 64
"""Of a tile's rows, those of one warp group."""


class WarpgroupTile(NamedTuple):
    """How a block of threads works: BM x BN elements of the result, 64 rows for each warp group, and tiles in shared memory for as
    many turns as there are stages."""

    bm: int
    bn: int
    stages: int

    @property
    def bk(self) -> int:
        """Steps of k at a time."""
        return 32

    @property
    def threads(self) -> int:
        return self.bm // ROWS * GROUP

    @property
    def shared(self) -> int:
        """Bytes of shared memory: all tiles, and what may be lost before the first address at which one can begin."""
        return 4 * self.stages * (self.bm + self.bn) * self.bk + PATTERN

    def __str__(self) -> str:
        return f"wgmma_{self.bm}x{self.bn}s{self.stages}"


def _convolve(tile: WarpgroupTile, together: int) -> Kernel:
    """The kernel for one size of tile; arguments as those of ``tensor.py``."""
    BM, BN, STAGES, BK, THREADS = *tile, tile.bk, tile.threads
    TILE_A, TILE_B = BM * BK, BN * BK
    BOTH = TILE_A + TILE_B
    AHEAD = (STAGES - 2) * BK  # steps of k by which the copies are ahead of the products
    LATER = STAGES - 3  # tiles that may still be in flight when one is wanted
    NS = BN // 8
    SUMS = BN // 2
    FOURS = BK // 4
    AT_ONCE = THREADS // FOURS  # rows of a tile that all threads together copy at once; a multiple of eight
    LOADS_A, LOADS_B = BM // AT_ONCE, BN // AT_ONCE
    FURTHER = STEPS * 4 // 16  # in a description: the next steps of k
    PRODUCTS = BK // STEPS

    def convolve(
        x, weights, bias, residual, out, h, w, ci, kw, sh, sw, top, left, ho, wo, co, rows, depth, part, many, finish
    ):
        shared = cuda.shared.array(0, float32)  # [STAGES, BM + BN, BK], fours exchanged
        sums = cuda.local.array(SUMS, float32)
        corner = cuda.local.array(LOADS_A, int32)  # pixel of the batch at which the window of a row of A begins, ...
        ih0, iw0 = cuda.local.array(LOADS_A, int32), cuda.local.array(LOADS_A, int32)  # ... and its place in the image
        thread = cuda.threadIdx.x
        start = int32((-shared_address(shared, int32(0)) & (PATTERN - 1)) // 4)  # of the first tile
        # which tile: those side by side come after each other, for they share their rows of A; all are numbered in x, because
        # in y there may be 65,535 blocks only
        down, across = divide(cuda.blockIdx.x, (co + BN - 1) // BN)
        m0, n0 = int32(down * BM), int32(across * BN)
        # one of many products of the same sizes, or some of the steps of k of the only one
        which, first = (int32(cuda.blockIdx.y), int32(0)) if many else (int32(0), int32(cuda.blockIdx.y * part))
        last = int32(min(first + part, depth))
        # what this thread copies of each tile: four steps of k of some rows
        row, four = int32(thread // FOURS), int32(thread % FOURS)
        to = int32(start + row * BK + (four ^ row % 8) * 4)
        for load in range(LOADS_A):
            m = int32(m0 + row + load * AT_ONCE)
            corner[load], ih0[load], iw0[load] = window_of(m, rows, which * rows, h, w, sh, sw, top, left, ho, wo)
        i, j, c = tap_of(int32(first + four * 4), kw, ci)
        # and what its warp group multiplies: these rows of A, and all of B
        of_a, of_b = int32(start + thread // GROUP * (ROWS * BK)), int32(start + TILE_A)
        for at in range(SUMS):
            sums[at] = float32(0.0)
        here, there = int32(2), int32(0)  # the buffers that are multiplied, and those that are filled
        k0 = int32(first - AHEAD)  # the first turns only copy
        while k0 < last:
            copies_wait(LATER)
            async_fence()
            cuda.syncthreads()  # all threads' copies are there, and no product reads the tile before the last any more
            if k0 >= first:
                a = SWIZZLED | shared_address(shared, int32(of_a + here * BOTH)) >> 4
                b = SWIZZLED | shared_address(shared, int32(of_b + here * BOTH)) >> 4
                wgmma_fence(sums, SUMS)
                for step in range(PRODUCTS):
                    wgmma(sums, shared, a + step * FURTHER, b + step * FURTHER, BN)
                wgmma_commit()
            k = int32(k0 + AHEAD + four * 4)
            for load in range(LOADS_A):
                ih, iw = int32(ih0[load] + i), int32(iw0[load] + j)
                valid = k < last and inside(ih, h) and inside(iw, w)
                where = int32((corner[load] + i * w + j) * ci + c) if valid else int32(0)
                copy4_async(shared, int32(to + there * BOTH + load * (AT_ONCE * BK)), x, where, valid)
            for load in range(LOADS_B):
                n = int32(n0 + row + load * AT_ONCE)
                valid = k < last and n < co
                where = int32((which * co + n) * depth + k) if valid else int32(0)
                copy4_async(shared, int32(to + there * BOTH + TILE_A + load * (AT_ONCE * BK)), weights, where, valid)
            copies_commit()
            i, j, c = further(i, j, int32(c + BK), kw, ci)
            if k0 >= first:
                wgmma_wait(sums, SUMS, 1)  # for those of the turn before
            here = int32(here + 1) if here + 1 < STAGES else int32(0)
            there = int32(there + 1) if there + 1 < STAGES else int32(0)
            k0 = int32(k0 + BK)
        wgmma_wait(sums, SUMS, 0)
        copies_wait(0)  # for those past the end: no copy may outlive its block
        to_m = int32(m0 + thread // 32 * 16 + thread % 32 // 4)
        to_n = int32(n0 + thread % 4 * 2)
        finish_and_store(sums, 1, NS, to_m, to_n, rows, co, cuda.blockIdx.y, bias, residual, out, finish)

    convolve.__name__ = convolve.__qualname__ = f"convolve_{tile}"  # by which what is compiled is kept
    words = "vector vector vector vector vector" + 16 * " int"
    return kernel(words, threads=THREADS, together=together, shared=tile.shared, only=CAPABILITY)(convolve)


WARPGROUP_TILES = {
    tile: _convolve(tile, together)
    for tile, together in (
        (WarpgroupTile(256, 128, 4), 1),
        (WarpgroupTile(128, 128, 3), 2),
        (WarpgroupTile(128, 64, 4), 2),
    )
}
"""{tile: its kernel}"""
