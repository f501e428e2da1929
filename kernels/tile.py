"""The SIMD micro-kernel: one register tile of a matrix product, as LLVM IR, called from Numba like a function."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import native
from .simd import LANES

_VECTORS = 4 if LANES == 16 else 2
MR = 6  # rows: 6 x 4 sums, 4 vectors of B and a spread value of A are 29 of 32 registers; a seventh row spills
NR = _VECTORS * LANES

_INT, _INT32, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _int(value):
    return ir.Constant(_INT, value)


def splat(builder, value, lanes=LANES):
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))


def fma(builder, a, b, c):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, [a, b, c])


def pointer(builder, address, kind=_VECTOR):
    return builder.inttoptr(address, kind.as_pointer())


def load(builder, address, kind=_VECTOR):
    return builder.load(pointer(builder, address, kind), align=4)


def store(builder, value, address):
    builder.store(value, pointer(builder, address), align=4)


def _masked_load(builder, address, mask):
    place = pointer(builder, address)
    kind = ir.FunctionType(_VECTOR, [place.type, _INT32, mask.type, _VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(function, [place, ir.Constant(_INT32, 4), mask, ir.Constant(_VECTOR, [0.0] * LANES)])


def _masked_store(builder, value, address, mask):
    place = pointer(builder, address)
    kind = ir.FunctionType(ir.VoidType(), [_VECTOR, place.type, _INT32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    builder.call(function, [value, place, ir.Constant(_INT32, 4), mask])


def _prefetch(builder, address, write=False):
    """Bring the cache line at ``address`` into L2 (any address will do: a prefetch never faults)."""
    place = pointer(builder, address, ir.IntType(8))
    kind = ir.FunctionType(ir.VoidType(), [place.type, _INT32, _INT32, _INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [place, ir.Constant(_INT32, int(write)), ir.Constant(_INT32, 2), ir.Constant(_INT32, 1)])


_CHUNK = 16  # steps of k between prefetches: as many floats of a row of A as a cache line holds


def _rows_variant(
    builder, rows, a, lda, b, depth, start, ld_start, residual, ld_residual, floor, c, ldc, columns, next_a, next_b
):
    """The tile with exactly ``rows`` rows; all addresses and distances in bytes."""
    add, mul = builder.add, builder.mul
    a_rows = [add(a, mul(_int(row), lda)) for row in range(rows)]
    to_next_a = builder.sub(next_a, a)  # one register, where the next rows' own addresses would take one each
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    before = builder.basic_block
    chunk = builder.append_basic_block(f"tile{rows}.chunk")
    places = builder.append_basic_block(f"tile{rows}.places")
    loop = builder.append_basic_block(f"tile{rows}.k")
    ended = builder.append_basic_block(f"tile{rows}.chunk.ended")
    after = builder.append_basic_block(f"tile{rows}.done")
    builder.cbranch(builder.icmp_signed(">", depth, _int(0)), chunk, after)

    # every _CHUNK steps of k: fetch what the next tile will read and, in the first few, what this tile will add to
    # and write; HW prefetchers know none of it in time
    builder.position_at_end(chunk)
    first = builder.phi(_INT)
    first.add_incoming(_int(0), before)
    begun = [[builder.phi(_VECTOR) for _ in range(_VECTORS)] for _ in range(rows)]
    distance = add(to_next_a, mul(first, _int(4)))
    for row in range(rows):
        _prefetch(builder, add(a_rows[row], distance))
    limit = builder.add(first, _int(_CHUNK))
    last = builder.select(builder.icmp_signed("<", limit, depth), limit, depth)
    builder.cbranch(builder.icmp_signed("<", first, _int(4 * _CHUNK)), places, loop)
    builder.position_at_end(places)
    for i in range(2):
        row = add(mul(builder.sdiv(first, _int(_CHUNK)), _int(2)), _int(i))
        row = builder.select(builder.icmp_signed("<", row, _int(rows)), row, _int(rows - 1))
        for v in range(0, 4 * NR, 64):
            _prefetch(builder, add(add(c, mul(row, ldc)), _int(v)), write=True)
            _prefetch(builder, add(add(residual, mul(row, ld_residual)), _int(v)))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(_INT)
    sums = [[builder.phi(_VECTOR) for _ in range(_VECTORS)] for _ in range(rows)]
    b_row = add(b, mul(k, _int(4 * NR)))
    b_vectors = [load(builder, add(b_row, _int(4 * LANES * v))) for v in range(_VECTORS)]
    _prefetch(builder, add(next_b, mul(k, _int(64))))
    column = mul(k, _int(4))
    grown = []
    for row in range(rows):
        value = splat(builder, load(builder, add(a_rows[row], column), _FLOAT))
        grown.append([fma(builder, value, b_vectors[v], sums[row][v]) for v in range(_VECTORS)])
    following = add(k, _int(1))
    builder.cbranch(builder.icmp_signed("<", following, last), loop, ended)
    for origin in (chunk, places):
        k.add_incoming(first, origin)
    k.add_incoming(following, loop)
    builder.position_at_end(ended)
    builder.cbranch(builder.icmp_signed("<", following, depth), chunk, after)
    first.add_incoming(following, ended)
    for row in range(rows):
        for v in range(_VECTORS):
            begun[row][v].add_incoming(zero, before)
            begun[row][v].add_incoming(grown[row][v], ended)
            for origin in (chunk, places):
                sums[row][v].add_incoming(begun[row][v], origin)
            sums[row][v].add_incoming(grown[row][v], loop)

    builder.position_at_end(after)
    results = []
    for row in range(rows):
        for v in range(_VECTORS):
            result = builder.phi(_VECTOR)
            result.add_incoming(zero, before)
            result.add_incoming(grown[row][v], ended)
            results.append(result)
    lowest = splat(builder, floor)

    def finish(get, put):
        for row in range(rows):
            for v in range(_VECTORS):
                offset = _int(4 * LANES * v)

                def at(base, distance, row=row, offset=offset):
                    return add(add(base, mul(_int(row), distance)), offset)

                value = builder.fadd(results[row * _VECTORS + v], get(at(start, ld_start), v))
                value = builder.fadd(value, get(at(residual, ld_residual), v))
                below = builder.fcmp_ordered("<", value, lowest)  # NaN is not below: it passes, as in TensorFlow
                put(builder.select(below, lowest, value), at(c, ldc), v)

    whole = builder.icmp_signed(">=", columns, _int(NR))
    with builder.if_else(whole) as (full, partial):
        with full:
            finish(lambda address, v: load(builder, address), lambda value, address, v: store(builder, value, address))
        with partial:
            lane = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
            masks = [
                builder.icmp_signed("<", lane, splat(builder, builder.sub(columns, _int(v * LANES))))
                for v in range(_VECTORS)
            ]
            finish(
                lambda address, v: _masked_load(builder, address, masks[v]),
                lambda value, address, v: _masked_store(builder, value, address, masks[v]),
            )


@intrinsic
def _tile(typingctx, rows, a, lda, b, depth, start, ld_start, residual, ld_residual, floor, c, ldc, columns, next_a, next_b):
    i = types.int64
    signature = types.void(i, i, i, i, i, i, i, i, i, types.float32, i, i, i, i, i)

    def codegen(context, builder, signature, arguments):
        rows, *rest = arguments
        end = builder.append_basic_block("tile.end")
        cases = builder.switch(rows, end)
        for count in range(1, MR + 1):
            block = builder.append_basic_block(f"tile.rows{count}")
            cases.add_case(_int(count), block)
            builder.position_at_end(block)
            _rows_variant(builder, count, *rest)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


_i, _f = types.int64, types.float32


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _f, _i, _i, _i))
def multiply(rows, a, lda, b, depth, columns, passes, start, ld_start, residual, ld_residual, floor, zeros, c, ldc):
    """``rows`` rows of A times one panel of B: max(sums + start + residual, floor), in ``passes`` over k.

    a, b, c, ...  addresses; ld*: distances between rows; all in bytes. ``start`` is the bias with distance 0.
    While a pass works on its part of the panel, it prefetches the next part, which follows in memory.
    """
    tiles = -(-rows // MR)
    for part in range(passes):
        k0, k1 = depth * part // passes, depth * (part + 1) // passes
        first, last = part == 0, part == passes - 1
        ahead = b + k1 * NR * 4
        for t in range(tiles):
            m0, m1 = rows * t // tiles, rows * (t + 1) // tiles
            c_at = c + m0 * ldc
            next_a = a + (m1 * lda + k0 * 4 if t < tiles - 1 else k1 * 4)
            _tile(
                m1 - m0, a + m0 * lda + k0 * 4, lda, b + k0 * NR * 4, k1 - k0,
                start + m0 * ld_start if first else c_at, ld_start if first else ldc,
                residual + m0 * ld_residual if last else zeros, ld_residual if last else 0,
                floor if last else np.float32(-np.inf),
                c_at, ldc, columns, next_a, ahead,
            )  # fmt: skip
            if t < 3:
                ahead += (k1 - k0) * 64
