"""The micro-kernel: a tile of a matrix product whose running sums stay in registers, and the loops over tiles.

    for row in 0..MR-1, column in 0..NR-1:
        c[row, column] = activation(start[column] + residual[row, column] + sum over k of a[row, k] * b[k, column])

Each step of k loads one row of B's panel (NR consecutive floats, ``gemm.pack_b``), spreads one value of A over a
register per row, and does MR * NR / LANES fused multiply-adds. A is read where it lies: rows of pixels of an NHWC
image, of im2col, or of Winograd's V. The epilogue, bias, residual and activation (``steps/epilogue.py``), costs no pass of
its own: it is done before the sums leave their registers.

    lanes                  16 (AVX-512)   8 (AVX2)   4 (SSE, NEON)
    tile MR x NR           6 x 64         6 x 16     6 x 8
    registers for sums     24 of 32       12 of 16   12 of 16 (of 32 on NEON)

A seventh row would not fit beside the vectors of B and of A. Other tiles may suit other processors: ``processor.py``.

``multiply`` takes a panel part by part: so many steps of k that their rows of B stay in L1 while all tiles pass by
(``gemm.KC``). Meanwhile it prefetches the next part into L2, evenly: for few rows that is what takes the time.
"""

from __future__ import annotations

from llvmlite import ir

from .jit import native
from .numba_later import intrinsic, types
from .processor import SETTINGS
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

MR, _VECTORS, _UNROLL = SETTINGS.rows, SETTINGS.vectors, SETTINGS.unroll
NR = _VECTORS * LANES

_INT, _FLOAT = ir.IntType(64), ir.FloatType()
_FEW = 2  # lines to prefetch in each turn, at least: the next part is on its way early where there are many tiles


def _rows_variant(builder, rows, a, lda, b, depth, last, start, ld_start, residual, ld_residual, slope, floor, c, ldc,
                  columns, next_b, lines, far):  # fmt: skip
    """The tile with exactly ``rows`` rows; all addresses and pitches in bytes."""
    add, mul = builder.add, builder.mul
    each = [(row, v) for row in range(rows) for v in range(_VECTORS)]

    def block(name):
        return builder.append_basic_block(f"tile{rows}.{name}")

    def at(base, pitch, row, v=0):
        return add(add(base, mul(number(row), pitch)), number(4 * LANES * v))

    def vectors():
        return {place: builder.phi(VECTOR) for place in each}

    def incoming(phis, values, origin):
        for place in each:
            phis[place].add_incoming(values[place], origin)

    def multiplied(k, sums, count):
        """The sums after ``count`` steps from k on."""
        b_row, column = add(b, mul(k, number(4 * NR))), mul(k, number(4))
        for step in range(count):
            b_vectors = [load(builder, at(b_row, number(4 * NR), step, v)) for v in range(_VECTORS)]
            values = [load(builder, add(at(a, lda, row), add(column, number(4 * step))), _FLOAT) for row in range(rows)]
            spread = [splat(builder, value) for value in values]
            sums = {(row, v): fma(builder, spread[row], b_vectors[v], sums[row, v]) for row, v in each}
        return sums

    turn, row_ahead, fetches, fetch, steps, rest, single, after, end = map(
        block, ("k", "row", "fetches", "fetch", "steps", "rest", "single", "after", "end")
    )
    zeros = dict.fromkeys(each, constant(0.0))
    before, whole = builder.basic_block, builder.and_(depth, number(-_UNROLL))
    builder.cbranch(builder.icmp_signed(">", whole, number(0)), turn, rest)

    # A turn: some lines to prefetch, and some steps of k; every sum is a phi node, that is, a register that lives through
    # the loop.
    builder.position_at_end(turn)
    k, place, sums = builder.phi(_INT), builder.phi(_INT), vectors()
    next_place = add(place, mul(lines, number(64)))
    builder.cbranch(builder.icmp_signed("<", k, far), row_ahead, fetches)
    builder.position_at_end(row_ahead)  # of what will be added to and written: no processor guesses the next row
    row = builder.sdiv(k, number(_UNROLL))
    for base, pitch, write in ((c, ldc, True), (residual, ld_residual, False)):
        for line in range(0, 4 * NR, 64):
            prefetch(builder, add(add(base, mul(row, pitch)), number(line)), write)
    builder.branch(fetches)
    builder.position_at_end(fetches)
    builder.cbranch(builder.icmp_signed("<", place, next_place), fetch, steps)
    builder.position_at_end(fetch)
    line = builder.phi(_INT)
    prefetch(builder, line)
    next_line = add(line, number(64))
    builder.cbranch(builder.icmp_signed("<", next_line, next_place), fetch, steps)
    builder.position_at_end(steps)
    grown, next_k = multiplied(k, sums, _UNROLL), add(k, number(_UNROLL))
    builder.cbranch(builder.icmp_signed("<", next_k, whole), turn, rest)
    for phi, origins in (
        (k, ((number(0), before), (next_k, steps))),
        (place, ((next_b, before), (next_place, steps))),
        (line, ((place, fetches), (next_line, fetch))),
    ):
        for value, origin in origins:
            phi.add_incoming(value, origin)
    incoming(sums, zeros, before)
    incoming(sums, grown, steps)

    # The steps that do not make a whole turn.
    builder.position_at_end(rest)
    sums = vectors()
    incoming(sums, zeros, before)
    incoming(sums, grown, steps)
    builder.cbranch(builder.icmp_signed("<", whole, depth), single, after)
    builder.position_at_end(single)
    k, sums_single = builder.phi(_INT), vectors()
    grown, next_k = multiplied(k, sums_single, 1), add(k, number(1))
    builder.cbranch(builder.icmp_signed("<", next_k, depth), single, after)
    k.add_incoming(whole, rest)
    k.add_incoming(next_k, single)
    incoming(sums_single, sums, rest)
    incoming(sums_single, grown, single)
    builder.position_at_end(after)
    totals = vectors()
    incoming(totals, sums, rest)
    incoming(totals, grown, single)

    # The epilogue, of a whole panel or of the last few columns; between two passes, only the sum.
    lane = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
    masks = [
        builder.icmp_signed("<", lane, splat(builder, builder.sub(columns, number(v * LANES)))) for v in range(_VECTORS)
    ]
    steepness, lowest = splat(builder, slope), splat(builder, floor)

    def finish(partial, activate):
        for row, v in each:

            def get(base, pitch, row=row, v=v):
                place = at(base, pitch, row, v)
                return masked_load(builder, place, masks[v]) if partial else load(builder, place)

            value = builder.fadd(totals[row, v], get(start, ld_start))
            if activate:
                value = activated(builder, builder.fadd(value, get(residual, ld_residual)), steepness, lowest)
            if partial:
                masked_store(builder, value, at(c, ldc, row, v), masks[v])
            else:
                store(builder, value, at(c, ldc, row, v))
        builder.branch(end)

    ways = {(partial, activate): block("finish") for partial in (False, True) for activate in (False, True)}
    whole_panel, part_of_panel = block("whole"), block("part")
    builder.cbranch(builder.icmp_signed(">=", columns, number(NR)), whole_panel, part_of_panel)
    for partial, origin in ((False, whole_panel), (True, part_of_panel)):
        builder.position_at_end(origin)
        builder.cbranch(last, ways[partial, True], ways[partial, False])
    for way, target in ways.items():
        builder.position_at_end(target)
        finish(*way)
    builder.position_at_end(end)


@intrinsic
def _tile(
    typingctx, rows, a, lda, b, depth, last, start, ld_start, residual, ld_residual, slope, floor, c, ldc, columns, next_b,
    lines, far,
):  # fmt: skip
    """One tile: there is code for each number of rows, so that none is computed in vain."""
    i, f = types.int64, types.float32
    signature = types.void(i, i, i, i, i, types.boolean, i, i, i, i, f, f, i, i, i, i, i, i)

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


@native(types.void(_i, _i, _i, _i, _i, _i, _i, types.boolean, _i, _i, _i, _i, _f, _f, _i, _i, _i, _i))
def multiply(
    rows, a, lda, b, depth, columns, passes, finish, start, ld_start, residual, ld_residual, slope, floor, c, ldc, ahead,
    lines_ahead,
):  # fmt: skip
    """``rows`` rows of A times one panel of B: activation(start + residual + sums), in ``passes`` over k.

    a, b, c, ...  addresses; ld*: pitches, from row to row; all in bytes. ``start`` is the bias with pitch 0.
    finish        False: start + sums is all
    ahead         what to prefetch meanwhile, of so many cache lines; 0: the next part of b, and what lies behind the last
    Each pass adds up from zero, and then adds what the one before it has stored, so that long sums keep more of their digits. The
    residual is added in the first one, so that c may lie where it lay, and the bias in the last.
    Rows are dealt out evenly: 19 are 5 + 5 + 5 + 4, not 6 + 6 + 6 + 1. No division is left in the loop: it took a hundredth of all.
    """
    tiles = (rows + MR - 1) // MR
    least = rows // max(tiles, 1)
    larger = rows - least * tiles  # so many tiles have one row more
    for part in range(passes):
        k0, k1 = depth * part // passes, depth * (part + 1) // passes
        first, last = part == 0, part == passes - 1
        begin, ld_begin, more, ld_more = start, ld_start, residual, ld_residual
        if finish and first and not last:
            begin, ld_begin = residual, ld_residual
        elif not first:
            begin, ld_begin, more, ld_more = c, ldc, start, ld_start
        next_b = b + k1 * NR * 4
        left, turns = (k1 - k0) * NR // 16, max((k1 - k0) // _UNROLL, 1)
        if ahead:
            left = lines_ahead // passes
            next_b = ahead + part * left * 64
        lines = max(_FEW, (left + tiles * turns - 1) // (tiles * turns))
        a_at, c_at = a + k0 * 4, c
        for t in range(tiles):
            count = least + (t < larger)
            _tile(
                count, a_at, lda, b + k0 * NR * 4, k1 - k0, finish and last, begin, ld_begin, more, ld_more, slope, floor,
                c_at, ldc, columns, next_b, lines if left > 0 else 0, count * _UNROLL if first else 0,
            )  # fmt: skip
            a_at += count * lda
            c_at += count * ldc
            begin += count * ld_begin
            more += count * ld_more
            next_b += lines * turns * 64
            left -= lines * turns
