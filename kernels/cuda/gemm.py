"""Matrix product on a card, C[M, N] = A[M, K] @ B[K, N] + bias: where a convolution spends nearly all of its time.

The ladder, each version with the one idea that it adds:

    gemm_cuda_naive       one thread per element of C; neighbouring threads read neighbouring elements of B
    gemm_cuda_shared      a block of threads loads a tile of A and one of B into shared memory together, so that each
                          element comes from device memory once per tile and not once per thread
    gemm_cuda_tiled       each thread sums up 4x4 elements in registers: four numbers of A and four of B, read from
                          shared memory, serve sixteen multiply-adds
    gemm_cuda_vectorized  tiles of 128x128, 8x8 elements per thread, loads of 16 bytes, and two buffers: the next tiles are
                          in flight from device memory while these are multiplied
    gemm_cuda             the plain name is the version that won: gemm_cuda_vectorized

Arguments and results as the CPU's ``gemm.py``, and every sum runs over k in order, so that results do not depend on the
version's tiles. Source of the blocking: NVIDIA's CUTLASS, "Efficient GEMM in CUDA".
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32

from ..gemm import check_operands
from .launch import ELEMENTS, Call, aligned, ceil_div, device_function, divide, grid_1d, kernel
from .ptx import ALIGNMENT, load4, store4

__all__ = ["gemm_cuda", "gemm_cuda_naive", "gemm_cuda_shared", "gemm_cuda_tiled", "gemm_cuda_vectorized", "multiply"]


@kernel("matrix matrix vector matrix", threads=ELEMENTS)
def _gemm_naive(a, b, bias, c):
    m, n = divide(cuda.grid(1), c.shape[1])
    if m < c.shape[0]:
        total = float32(0.0)
        for k in range(a.shape[1]):
            total += a[m, k] * b[k, n]
        c[m, n] = total + bias[n]


@device_function
def _corner(columns, height, width):
    """The first row and column of the tile of C that a block computes: row by row of tiles, so that blocks which run
    together read the same rows of A."""
    down, across = divide(cuda.blockIdx.x, (columns + width - 1) // width)
    return down * height, across * width


_TILE = 16  # both tiles: 2 * 16 * 16 * 4 bytes of shared memory


@kernel("matrix matrix vector matrix", threads=(_TILE, _TILE))
def _gemm_shared(a, b, bias, c):
    tile_a = cuda.shared.array((_TILE, _TILE), float32)
    tile_b = cuda.shared.array((_TILE, _TILE), float32)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    m0, n0 = _corner(c.shape[1], _TILE, _TILE)
    m, n = m0 + i, n0 + j
    depth = a.shape[1]
    total = float32(0.0)
    for k0 in range(0, depth, _TILE):
        tile_a[i, j] = a[m, k0 + j] if m < c.shape[0] and k0 + j < depth else float32(0.0)
        tile_b[i, j] = b[k0 + i, n] if k0 + i < depth and n < c.shape[1] else float32(0.0)
        cuda.syncthreads()  # the tiles are complete
        for k in range(_TILE):
            total += tile_a[i, k] * tile_b[k, j]
        cuda.syncthreads()  # nobody reads them any more
    if m < c.shape[0] and n < c.shape[1]:
        c[m, n] = total + bias[n]


# Tiles of gemm_cuda_tiled: 256 threads, each with TM x TN sums; and so many steps of k at a time that every thread loads
# four elements of each tile.
_BM, _BN, _BK = 64, 64, 16
_TM, _TN = 4, 4
_SUMS = _TM * _TN


@kernel("matrix matrix vector matrix", threads=256, together=2)
def _gemm_tiled(a, b, bias, c):
    tile_a = cuda.shared.array((_BK, _BM), float32)  # transposed, so that a thread's rows lie side by side
    tile_b = cuda.shared.array((_BK, _BN), float32)
    sums = cuda.local.array(_SUMS, float32)  # after unrolling all indices are constants: these are registers
    thread = cuda.threadIdx.x
    row, column = thread // (_BN // _TN) * _TM, thread % (_BN // _TN) * _TN  # of this thread's sums, in the tile
    rows, columns, depth = c.shape[0], c.shape[1], a.shape[1]
    m0, n0 = _corner(columns, _BM, _BN)
    for i in range(_SUMS):
        sums[i] = float32(0.0)
    for k0 in range(0, depth, _BK):
        for at in range(thread, _BM * _BK, 256):  # neighbouring threads load neighbouring elements
            i, k = at // _BK, at % _BK
            tile_a[k, i] = a[m0 + i, k0 + k] if m0 + i < rows and k0 + k < depth else float32(0.0)
        for at in range(thread, _BK * _BN, 256):
            k, j = at // _BN, at % _BN
            tile_b[k, j] = b[k0 + k, n0 + j] if k0 + k < depth and n0 + j < columns else float32(0.0)
        cuda.syncthreads()
        for k in range(_BK):
            for i in range(_TM):
                for j in range(_TN):
                    sums[i * _TN + j] += tile_a[k, row + i] * tile_b[k, column + j]
        cuda.syncthreads()
    for i in range(_TM):
        for j in range(_TN):
            m, n = m0 + row + i, n0 + column + j
            if m < rows and n < columns:
                c[m, n] = sums[i * _TN + j] + bias[n]


# Tiles of gemm_cuda_vectorized. A thread's 8 rows are consecutive and its 8 columns two groups of four, half a tile
# apart: the 16 bytes that neighbouring threads read are then neighbours in shared memory, too.
BM, BN, BK = 128, 128, 8
TM, TN = 8, 8
_HALF = BN // 2
_BUFFER_A, _BUFFER_B = BK * BM, BK * BN
_BUFFERS_A, _BUFFERS_B = 2 * _BUFFER_A, 2 * _BUFFER_B
SUMS = TM * TN


@device_function
def multiply_add(tile_a, at_a, tile_b, at_b, left, right, sums):
    """sums += a column of the tile of A times a row of the tile of B: 4 loads of 16 bytes, 64 multiply-adds."""
    left[0], left[1], left[2], left[3] = load4(tile_a, at_a)
    left[4], left[5], left[6], left[7] = load4(tile_a, at_a + 4)
    right[0], right[1], right[2], right[3] = load4(tile_b, at_b)
    right[4], right[5], right[6], right[7] = load4(tile_b, at_b + _HALF)
    for i in range(TM):
        for j in range(TN):
            sums[i * TN + j] += left[i] * right[j]


@kernel("vector vector vector int int int vector", threads=256, together=2)
def _gemm_vectorized(a, b, bias, rows, columns, depth, c):
    tile_a = cuda.shared.array(_BUFFERS_A, float32, ALIGNMENT)  # [2, BK, BM]
    tile_b = cuda.shared.array(_BUFFERS_B, float32, ALIGNMENT)  # [2, BK, BN]
    sums = cuda.local.array(SUMS, float32)
    left, right = cuda.local.array(TM, float32), cuda.local.array(TN, float32)
    thread = cuda.threadIdx.x
    m0, n0 = _corner(columns, BM, BN)
    # what this thread loads of each tile: four elements of one row
    row_a, k_a = thread // 2, thread % 2 * 4
    k_b, column_b = thread // 32, thread % 32 * 4
    in_a, in_b = m0 + row_a < rows, n0 + column_b < columns
    from_a, from_b = (m0 + row_a) * depth + k_a, k_b * columns + n0 + column_b
    # and what it multiplies
    row, column = thread // 16 * TM, thread % 16 * 4
    for i in range(SUMS):
        sums[i] = float32(0.0)
    buffer = 0
    for k0 in range(-BK, depth, BK):  # the first turn only loads
        after = k0 + BK
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = float32(0.0)
        if in_a and after + k_a < depth:
            a0, a1, a2, a3 = load4(a, from_a + after)
        if in_b and after + k_b < depth:
            b0, b1, b2, b3 = load4(b, from_b + after * columns)
        if k0 >= 0:
            at_a, at_b = buffer * _BUFFER_A + row, buffer * _BUFFER_B + column
            # by two: the compiler does not unroll the loop, and by four it is short of registers
            for k in range(0, BK, 2):
                multiply_add(tile_a, at_a + k * BM, tile_b, at_b + k * BN, left, right, sums)
                multiply_add(tile_a, at_a + (k + 1) * BM, tile_b, at_b + (k + 1) * BN, left, right, sums)
        buffer ^= 1  # nobody reads the other one: the barrier of the turn before saw to that
        to = buffer * _BUFFER_A + k_a * BM + row_a
        tile_a[to], tile_a[to + BM], tile_a[to + 2 * BM], tile_a[to + 3 * BM] = a0, a1, a2, a3
        store4(tile_b, buffer * _BUFFER_B + k_b * BN + column_b, b0, b1, b2, b3)
        cuda.syncthreads()
    for i in range(TM):
        m = m0 + row + i
        for half in range(2):
            n = n0 + half * _HALF + column
            if m < rows and n < columns:
                b0, b1, b2, b3 = load4(bias, n)
                at = i * TN + 4 * half
                store4(c, m * columns + n, sums[at] + b0, sums[at + 1] + b1, sums[at + 2] + b2, sums[at + 3] + b3)


def _tiles(c: Any, height: int, width: int) -> int:
    """How many tiles cover C."""
    return ceil_div(c.shape[0], height) * ceil_div(c.shape[1], width)


def _launch_naive(stream: Any, a: Any, b: Any, bias: Any, c: Any) -> None:
    _gemm_naive.launch(grid_1d(c.size), stream, a, b, bias, c)


def _launch_shared(stream: Any, a: Any, b: Any, bias: Any, c: Any) -> None:
    _gemm_shared.launch(_tiles(c, _TILE, _TILE), stream, a, b, bias, c)


def _launch_tiled(stream: Any, a: Any, b: Any, bias: Any, c: Any) -> None:
    _gemm_tiled.launch(_tiles(c, _BM, _BN), stream, a, b, bias, c)


def multiply(stream: Any, a: Any, b: Any, bias: Any, c: Any) -> None:
    """c = a @ b + bias on device matrices that fit each other: queues the fastest kernel that takes these sizes.

    a may have more rows than c; they are left alone. A row that is no multiple of 16 bytes long cannot be read in vectors:
    then gemm_cuda_tiled's kernel runs.
    """
    (depth, columns), rows = b.shape, c.shape[0]
    if depth % 4 or columns % 4 or not aligned(a, b, bias, c):
        return _launch_tiled(stream, a, b, bias, c)
    flat = (array.reshape(array.size) for array in (a, b))
    _gemm_vectorized.launch(_tiles(c, BM, BN), stream, *flat, bias, rows, columns, depth, c.reshape(c.size))


def _gemm(launch: Any, a: Any, b: Any, bias: Any, out: Any, stream: Any) -> Any:
    call = Call(stream)
    a, b = call.matrix("gemm: a", a), call.matrix("gemm: b", b)
    check_operands(a, b)
    row = call.vector("gemm: bias", bias, b.shape[1], missing=0.0)
    c = call.result("gemm", out, (a.shape[0], b.shape[1]))
    launch(call.stream, a, b, row, c)
    return call.finish()


def gemm_cuda_naive(a: Any, b: Any, bias: Any = None, *, out: Any = None, stream: Any = None) -> Any:
    """A @ B + bias by the definition. a float32[M, K], b float32[K, N], bias float32[N] or None; float32[M, N].

    Raises ValueError where shapes do not fit, TypeError for another dtype.
    """
    return _gemm(_launch_naive, a, b, bias, out, stream)


def gemm_cuda_shared(a: Any, b: Any, bias: Any = None, *, out: Any = None, stream: Any = None) -> Any:
    """As ``gemm_cuda_naive``, through tiles in shared memory."""
    return _gemm(_launch_shared, a, b, bias, out, stream)


def gemm_cuda_tiled(a: Any, b: Any, bias: Any = None, *, out: Any = None, stream: Any = None) -> Any:
    """As ``gemm_cuda_naive``, with 4x4 sums per thread in registers."""
    return _gemm(_launch_tiled, a, b, bias, out, stream)


def gemm_cuda_vectorized(a: Any, b: Any, bias: Any = None, *, out: Any = None, stream: Any = None) -> Any:
    """As ``gemm_cuda_naive``, with 8x8 sums per thread, loads of 16 bytes, and two buffers; where K or N is no multiple of
    four, as ``gemm_cuda_tiled``."""
    return _gemm(multiply, a, b, bias, out, stream)


gemm_cuda = gemm_cuda_vectorized
