"""Matrix product, C[M, N] = A[M, K] @ B[K, N]: where a convolution spends nearly all of its time.

The ladder, each version with the one idea that it adds (figures: ``bench/bench_ops.py``):

    gemm_reference   NumPy's ``matmul`` in the dtype of its operands: float64 gives the truth
    gemm_naive       the definition, three loops, one sum at a time
    gemm_blocked     loops reordered and blocked so that B's block stays in cache, and eight steps of k per pass over
                     a row of C, so that a running sum is loaded and stored once for eight multiply-adds
    gemm_packed      B repacked into panels, tiles of C held in registers by the SIMD micro-kernel (``tile.py``)
    gemm             the plain name is the version that won: gemm_packed

All take float32 A, B (the reference any float dtype) and an optional bias[N] added to every row, as a convolution
needs it.
"""

from __future__ import annotations

import numpy as np

from . import threads as _threads
from .arrays import Array, matrix, result, vector
from .jit import call, jit
from .processor import SETTINGS
from .tile import MR, NR, multiply

__all__ = [
    "check_operands",
    "gemm",
    "gemm_blocked",
    "gemm_naive",
    "gemm_packed",
    "gemm_reference",
    "pack_b",
    "pack_bias",
    "passes",
]


def gemm_reference(a: Array, b: Array, bias: Array | None = None, *, out: Array | None = None) -> Array:
    """A @ B + bias by NumPy. a dtype[M, K], b dtype[K, N], bias dtype[N] or None; dtype[M, N]."""
    c = np.matmul(a, b, out=out)
    if bias is not None:
        c += bias
    return c


def check_operands(a: Array, b: Array) -> None:
    """Refuse matrices that cannot be multiplied: ValueError."""
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"gemm: a is {a.shape[0]}x{a.shape[1]} and b {b.shape[0]}x{b.shape[1]}; a's columns must be b's rows"
        )


def _operands(
    a: Array, b: Array, bias: Array | None, out: Array | None, threads: int | None
) -> tuple[Array, Array, Array, Array, int]:
    """The arguments that all versions share, checked and contiguous; a missing bias becomes zeros."""
    a, b = matrix("gemm: a", a), matrix("gemm: b", b)
    check_operands(a, b)
    row = np.zeros(b.shape[1], np.float32) if bias is None else vector("gemm: bias", bias, b.shape[1])
    return a, b, row, result("gemm", out, (a.shape[0], b.shape[1])), _threads.resolve_threads(threads)


@jit
def _gemm_naive(a, b, bias, c, start, stop):
    for m in range(start, stop):
        for n in range(b.shape[1]):
            total = np.float32(0.0)
            for k in range(a.shape[1]):
                total += a[m, k] * b[k, n]
            c[m, n] = total + bias[n]


def gemm_naive(
    a: Array, b: Array, bias: Array | None = None, *, out: Array | None = None, threads: int | None = 1
) -> Array:
    """A @ B + bias by the definition. a float32[M, K], b float32[K, N], bias float32[N] or None; float32[M, N].

    Each step of k reads a new row of B, N * 4 bytes further on: on a large matrix nearly every read misses the cache.
    Raises ValueError where shapes do not fit, TypeError for another dtype.
    """
    a, b, bias, c, threads = _operands(a, b, bias, out, threads)
    _threads.run(_gemm_naive, a.shape[0], threads, a, b, bias, c)
    return c


_KC = 256  # rows and ...
_NC = 512  # ... columns of B in one block: KC * NC * 4 bytes = 512 KB stay in a 1 MB L2
_STEPS = 8  # steps of k per pass over a row of C


@jit
def _gemm_blocked(a, b, bias, c, start, stop):
    depth, columns = b.shape
    for m in range(start, stop):
        for n in range(columns):
            c[m, n] = 0.0
    for n0 in range(0, columns, _NC):
        n1 = min(n0 + _NC, columns)
        for k0 in range(0, depth, _KC):
            k1 = min(k0 + _KC, depth)
            for m in range(start, stop):
                row = c[m, n0:n1]  # slices, so that n below counts from 0 and LLVM can turn its loop into SIMD
                k = k0
                while k + _STEPS <= k1:
                    a0, a1, a2, a3 = a[m, k], a[m, k + 1], a[m, k + 2], a[m, k + 3]
                    a4, a5, a6, a7 = a[m, k + 4], a[m, k + 5], a[m, k + 6], a[m, k + 7]
                    b0, b1, b2, b3 = b[k, n0:n1], b[k + 1, n0:n1], b[k + 2, n0:n1], b[k + 3, n0:n1]
                    b4, b5, b6, b7 = b[k + 4, n0:n1], b[k + 5, n0:n1], b[k + 6, n0:n1], b[k + 7, n0:n1]
                    for n in range(n1 - n0):
                        row[n] += ((a0 * b0[n] + a1 * b1[n]) + (a2 * b2[n] + a3 * b3[n])) + (
                            (a4 * b4[n] + a5 * b5[n]) + (a6 * b6[n] + a7 * b7[n])
                        )
                    k += _STEPS
                while k < k1:
                    b0 = b[k, n0:n1]
                    for n in range(n1 - n0):
                        row[n] += a[m, k] * b0[n]
                    k += 1
    for m in range(start, stop):
        for n in range(columns):
            c[m, n] += bias[n]


def gemm_blocked(
    a: Array, b: Array, bias: Array | None = None, *, out: Array | None = None, threads: int | None = 1
) -> Array:
    """As ``gemm_naive``, in plain Numba that suits the caches and lets the compiler use SIMD."""
    a, b, bias, c, threads = _operands(a, b, bias, out, threads)
    _threads.run(_gemm_blocked, a.shape[0], threads, a, b, bias, c)
    return c


@jit
def _pack_b(b, packed, start, stop):
    depth, columns = b.shape
    for panel in range(start, stop):
        first = panel * NR
        count = min(NR, columns - first)
        for k in range(depth):
            row = b[k, first : first + count]
            place = packed[panel, k]
            for j in range(count):
                place[j] = row[j]
            for j in range(count, NR):
                place[j] = 0.0


def pack_b(b: Array, *, threads: int = 1) -> Array:
    """Cut B into panels of NR columns, each panel's rows one after another: the order in which it will be read.

    b float32[K, N], C-contiguous; float32[ceil(N / NR), K, NR], zeros in the columns that B does not have.
    """
    depth, columns = b.shape
    packed = np.empty((-(-columns // NR), depth, NR), np.float32)
    _threads.run(_pack_b, packed.shape[0], threads, b, packed)
    return packed


def pack_bias(bias: Array | None, columns: int) -> Array:
    """The bias, or zeros for None, filled up with zeros to whole panels: float32[ceil(columns / NR) * NR]."""
    packed = np.zeros(-(-columns // NR) * NR, np.float32)
    if bias is not None:
        packed[:columns] = bias
    return packed


# Steps of k per pass: KC * NR * 4 bytes = 32 KB of a panel stay in a 48 KB L1 while the tiles of a block pass by, and a
# quarter of that with AVX2. Adding up in passes also keeps digits, and so it is the same for all processors.
KC = 128


def passes(depth: int) -> int:
    """In how many passes ``depth`` steps of k are taken: of KC each, more or less."""
    return max((2 * depth + KC) // (2 * KC), 1)


_passes = jit(passes)


@jit
def multiply_block(natives, a, lda, rows, packed, bias, c, ldc):
    """``rows`` rows at address ``a`` times all panels of B, to rows at address ``c``.

    natives  (address of ``tile.multiply``, address of NR zeros)
    lda, ldc pitches: bytes from row to row; packed, bias from ``pack_b``, ``pack_bias``
    """
    panels, depth, _ = packed.shape
    count = _passes(depth)
    for panel in range(panels):
        at = panel * NR * 4
        call(natives[0], (
            rows, a, lda, packed.ctypes.data + at * depth, depth, ldc // 4 - panel * NR, count, False,
            bias.ctypes.data + at, 0, natives[1], 0, np.float32(1.0), np.float32(-np.inf), c + at, ldc, 0, 0,
        ))  # fmt: skip


@jit
def _gemm_packed(natives, a, packed, bias, block, c, start, stop):
    lda, ldc = a.shape[1] * 4, c.shape[1] * 4
    for m in range(start, stop, block):
        rows = min(block, stop - m)
        multiply_block(natives, a.ctypes.data + m * lda, lda, rows, packed, bias, c.ctypes.data + m * ldc, ldc)


_zeros = np.zeros(NR, np.float32)


def natives() -> tuple[int, int]:
    """What ``multiply_block`` calls, compiled or loaded now."""
    return multiply.address, _zeros.ctypes.data


def block_rows(depth: int) -> int:
    """Rows of A, each of ``depth`` floats, that make one block: a multiple of MR that fits into L2 (``processor.py``)."""
    return max(SETTINGS.block_bytes // (4 * max(depth, 1)) // MR, 1) * MR


def gemm_packed(
    a: Array, b: Array, bias: Array | None = None, *, out: Array | None = None, threads: int | None = 1
) -> Array:
    """As ``gemm_naive``, through packed panels and the SIMD micro-kernel."""
    a, b, bias, c, threads = _operands(a, b, bias, out, threads)
    packed = pack_b(b, threads=threads)
    _threads.run(
        _gemm_packed, a.shape[0], threads, natives(), a, packed, pack_bias(bias, b.shape[1]), block_rows(a.shape[1]), c
    )  # fmt: skip
    return c


gemm = gemm_packed
