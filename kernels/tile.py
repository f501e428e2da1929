"""The micro-kernel: a tile of a matrix product whose running sums stay in registers, and the loop over tiles.

    for row in 0..MR-1, column in 0..NR-1:
        c[row, column] = activation(start[column] + residual[row, column] + sum over k of a[row, k] * b[k, column])

Each step of k loads one row of B's panel (NR consecutive floats, ``gemm.pack_b``), spreads one value of A over a
register per row, and does MR * NR / LANES fused multiply-adds. A is read where it lies: rows of pixels of an NHWC
image, of im2col, or of Winograd's V. The epilogue, bias, residual and activation (``steps/epilogue.py``), costs no pass of
its own: it is done before the sums leave their registers.

    lanes                  16 (AVX-512)   8 (AVX2)   4 (SSE, NEON)
    tile MR x NR           6 x 64         6 x 16     6 x 8
    registers for sums     24 of 32       12 of 16   12 of 16 (of 32 on NEON)

A seventh row would not fit beside the vectors of B and of A.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import native
from .simd import (
    LANES,
    VECTOR,
    activated,
    constant,
    fma,
    load,
    masked_load,
    masked_store,
    number,
    prefetch,
    splat,
    store,
)

__all__ = ["MR", "NR", "multiply"]

_VECTORS = 4 if LANES == 16 else 2
MR = 6
NR = _VECTORS * LANES

_INT = ir.IntType(64)
_CHUNK = 16  # steps of k between prefetches: as many floats of a row of A as a cache line holds
_PLACES = 2  # rows of C and of the residual to prefetch at a time


def _rows_variant(builder, rows, a, lda, b, depth, start, ld_start, residual, ld_residual, slope, floor, c, ldc, columns,
                  next_a, next_b):  # fmt: skip
    """The tile with exactly ``rows`` rows; all addresses and pitches in bytes."""
    add, mul = builder.add, builder.mul

    def block(name):
        return builder.append_basic_block(f"tile{rows}.{name}")

    def vectors():
        return [[builder.phi(VECTOR) for _ in range(_VECTORS)] for _ in range(rows)]

    def incoming(phis, values, origin):
        for row in range(rows):
            for v in range(_VECTORS):
                phis[row][v].add_incoming(values[row][v], origin)

    before, chunk, places, loop, chunk_end, after = (
        builder.basic_block, *map(block, ("chunk", "places", "k", "chunk_end", "after"))
    )  # fmt: skip
    zeros = [[constant(0.0)] * _VECTORS] * rows
    a_rows = [add(a, mul(number(row), lda)) for row in range(rows)]
    builder.cbranch(builder.icmp_signed(">", depth, number(0)), chunk, after)

    # Every _CHUNK steps of k: what the next tile will read of A, and at first what this one will add to and write.
    # The processor's own prefetchers cannot guess either: rows lie far apart.
    builder.position_at_end(chunk)
    first = builder.phi(_INT)
    first.add_incoming(number(0), before)
    sums_before = vectors()
    incoming(sums_before, zeros, before)
    ahead = add(builder.sub(next_a, a), mul(first, number(4)))
    for row in range(rows):
        prefetch(builder, add(a_rows[row], ahead))
    last = add(first, number(_CHUNK))
    last = builder.select(builder.icmp_signed("<", last, depth), last, depth)
    builder.cbranch(builder.icmp_signed("<", first, number(MR // _PLACES * _CHUNK)), places, loop)
    builder.position_at_end(places)
    for i in range(_PLACES):
        row = add(mul(builder.sdiv(first, number(_CHUNK)), number(_PLACES)), number(i))
        row = builder.select(builder.icmp_signed("<", row, number(rows)), row, number(rows - 1))
        for line in range(0, 4 * NR, 64):
            prefetch(builder, add(add(c, mul(row, ldc)), number(line)), write=True)
            prefetch(builder, add(add(residual, mul(row, ld_residual)), number(line)))
    builder.branch(loop)

    # One step of k: every sum is a phi node, that is, a register that lives through the loop.
    builder.position_at_end(loop)
    k = builder.phi(_INT)
    sums = vectors()
    for origin in (chunk, places):
        k.add_incoming(first, origin)
        incoming(sums, sums_before, origin)
    b_row = add(b, mul(k, number(4 * NR)))
    b_vectors = [load(builder, add(b_row, number(4 * LANES * v))) for v in range(_VECTORS)]
    prefetch(builder, add(next_b, mul(k, number(64))))
    column = mul(k, number(4))
    grown = []
    for row in range(rows):
        value = splat(builder, load(builder, add(a_rows[row], column), ir.FloatType()))
        grown.append([fma(builder, value, b_vectors[v], sums[row][v]) for v in range(_VECTORS)])
    following = add(k, number(1))
    k.add_incoming(following, loop)
    incoming(sums, grown, loop)
    builder.cbranch(builder.icmp_signed("<", following, last), loop, chunk_end)

    builder.position_at_end(chunk_end)
    first.add_incoming(following, chunk_end)
    incoming(sums_before, grown, chunk_end)
    builder.cbranch(builder.icmp_signed("<", following, depth), chunk, after)

    builder.position_at_end(after)
    totals = vectors()
    incoming(totals, zeros, before)
    incoming(totals, grown, chunk_end)
    steepness, lowest = splat(builder, slope), splat(builder, floor)

    def finish(get, put):
        for row in range(rows):
            for v in range(_VECTORS):

                def at(base, pitch, row=row, v=v):
                    return add(add(base, mul(number(row), pitch)), number(4 * LANES * v))

                value = builder.fadd(totals[row][v], get(at(start, ld_start), v))
                value = builder.fadd(value, get(at(residual, ld_residual), v))
                put(activated(builder, value, steepness, lowest), at(c, ldc), v)

    whole = builder.icmp_signed(">=", columns, number(NR))
    with builder.if_else(whole) as (full, partial):
        with full:
            finish(lambda address, v: load(builder, address), lambda value, address, v: store(builder, value, address))
        with partial:
            lane = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
            masks = [
                builder.icmp_signed("<", lane, splat(builder, builder.sub(columns, number(v * LANES))))
                for v in range(_VECTORS)
            ]
            finish(
                lambda address, v: masked_load(builder, address, masks[v]),
                lambda value, address, v: masked_store(builder, value, address, masks[v]),
            )


@intrinsic
def _tile(
    typingctx,
    rows,
    a,
    lda,
    b,
    depth,
    start,
    ld_start,
    residual,
    ld_residual,
    slope,
    floor,
    c,
    ldc,
    columns,
    next_a,
    next_b,
):
    """One tile: there is code for each number of rows, so that none is computed in vain."""
    i = types.int64
    f = types.float32
    signature = types.void(i, i, i, i, i, i, i, i, i, f, f, i, i, i, i, i)

    def codegen(context, builder, signature, arguments):
        rows, *rest = arguments
        end = builder.append_basic_block("tile.end")
        cases = builder.switch(rows, end)
        for count in range(1, MR + 1):
            block = builder.append_basic_block(f"tile{count}")
            cases.add_case(number(count), block)
            builder.position_at_end(block)
            _rows_variant(builder, count, *rest)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


_i, _f = types.int64, types.float32


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _f, _f, _i, _i, _i))
def multiply(
    rows, a, lda, b, depth, columns, passes, start, ld_start, residual, ld_residual, slope, floor, zeros, c, ldc
):
    """``rows`` rows of A times one panel of B: activation(start + residual + sums), in ``passes`` over k.

    a, b, c, ...  addresses; ld*: pitches, from row to row; all in bytes. ``start`` is the bias with pitch 0.
    Rows are dealt out evenly: 19 are 5 + 5 + 5 + 4, not 6 + 6 + 6 + 1. While a pass works on its part of the panel, it
    prefetches the next part, which follows in memory.
    """
    tiles = (rows + MR - 1) // MR
    for part in range(passes):
        k0, k1 = depth * part // passes, depth * (part + 1) // passes
        first, last = part == 0, part == passes - 1
        next_b = b + k1 * NR * 4
        for t in range(tiles):
            m0, m1 = rows * t // tiles, rows * (t + 1) // tiles
            c_at = c + m0 * ldc
            next_a = a + (m1 * lda + k0 * 4 if t < tiles - 1 else k1 * 4)
            _tile(
                m1 - m0, a + m0 * lda + k0 * 4, lda, b + k0 * NR * 4, k1 - k0,
                start + m0 * ld_start if first else c_at, ld_start if first else ldc,
                residual + m0 * ld_residual if last else zeros, ld_residual if last else 0,
                slope if last else np.float32(1.0), floor if last else np.float32(-np.inf),
                c_at, ldc, columns, next_a, next_b,
            )  # fmt: skip
            if t < NR // 16 - 1:  # a line for each k: so many tiles fetch the whole part
                next_b += (k1 - k0) * 64
