"""The SIMD micro-kernel: a register tile of a matrix product, written as LLVM IR and called from Numba like a function.

Numba has no vector types, and its compiler does not keep a tile of running sums in registers by itself. So this one
inner loop is emitted as LLVM's own vector instructions, through ``numba.extending.intrinsic``:

    for row in 0..MR-1, column in 0..NR-1:
        c[row, column] = bias[column] + sum over k of a[row, k] * b[k, column]

MR x NR sums stay in registers for the whole of k. Each step of k loads one row of the packed B panel (NR consecutive
floats), spreads one value of A over a register per row, and does MR * NR / LANES fused multiply-adds. A is read where
it lies (rows ``lda`` floats apart), B from a panel that ``gemm.pack_b`` has laid out in exactly this order.

    lanes (float32 per register)   16 (AVX-512)   8 (AVX2)   4 (SSE, NEON)
    tile MR x NR                   6 x 64         6 x 16     6 x 8
    registers for sums             24 of 32       12 of 16   12 of 16 (of 32 on NEON)

``NPRESNET_LANES`` forces a width, for tests and for study; LLVM splits vectors that the processor does not have.
"""

from __future__ import annotations

import functools
import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "MR", "NR", "micro_kernel"]


@functools.cache
def _lanes() -> int:
    """Float32 lanes per register of this processor, or as ``NPRESNET_LANES`` asks."""
    asked = os.environ.get("NPRESNET_LANES")
    if asked is not None:
        if asked not in ("4", "8", "16"):
            raise ValueError(f"NPRESNET_LANES: got {asked!r}; it must be 4, 8 or 16, or unset to fit this processor")
        return int(asked)
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    if features.get("avx2"):
        return 8
    return 4


LANES = _lanes()
_VECTORS = 4 if LANES == 16 else 2  # vectors per tile row; see the table above
MR = 6
NR = _VECTORS * LANES

_INT = ir.IntType(64)
_INT32 = ir.IntType(32)
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _splat(builder: ir.IRBuilder, value: ir.Value, lanes: int = LANES) -> ir.Value:
    """A vector with ``value`` in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(single, undefined, zeros)


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once where the processor can (llvmlite's own ``fma`` refuses vectors)."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, [a, b, c])


def _masked_load(builder: ir.IRBuilder, pointer: ir.Value, mask: ir.Value) -> ir.Value:
    """Load the lanes whose bit in ``mask`` is set; the others are zero, and the memory behind them is not touched."""
    kind = ir.FunctionType(_VECTOR, [pointer.type, _INT32, mask.type, _VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(function, [pointer, ir.Constant(_INT32, 4), mask, ir.Constant(_VECTOR, [0.0] * LANES)])


def _masked_store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value) -> None:
    """Store the lanes of ``value`` whose bit in ``mask`` is set; the memory behind the others is not touched."""
    kind = ir.FunctionType(ir.VoidType(), [_VECTOR, pointer.type, _INT32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    builder.call(function, [value, pointer, ir.Constant(_INT32, 4), mask])


@intrinsic
def micro_kernel(typingctx, a, a_at, lda, rows, b, b_at, depth, first, bias, bias_at, c, c_at, ldc, columns):
    """One MR x NR tile of C = A @ B + bias, or of C += A @ B.

    a, b, bias, c   float32 arrays, C-contiguous, of any rank; ``*_at`` is the offset of the tile's first element
    lda, ldc        distance between rows of A and of C, in floats
    rows, columns   how much of the tile exists, 1..MR and 1..NR: further rows repeat the last row (their sums are
                    computed and stored once more, to the same place), further columns are not stored
    depth           k, 0 or more; the panel at ``b_at`` is float32[depth, NR], the bias at ``bias_at`` float32[NR]
    first           1: the sums start from the bias; 0: from what C holds
    All integers are int64. Nothing is checked: the caller has.
    """
    signature = types.void(
        a, types.int64, types.int64, types.int64, b, types.int64, types.int64, types.int64, bias, types.int64,
        c, types.int64, types.int64, types.int64,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        a_array, a_at, lda, rows, b_array, b_at, depth, first, bias_array, bias_at, c_array, c_at, ldc, columns = (
            arguments
        )

        def data(position: int, array: ir.Value) -> ir.Value:
            return context.make_array(signature.args[position])(context, builder, array).data

        def at(pointer: ir.Value, offset: ir.Value, kind: ir.Type = _FLOAT) -> ir.Value:
            return builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())

        def load(pointer: ir.Value, vector: int) -> ir.Value:
            return builder.load(at(pointer, ir.Constant(_INT, vector * LANES), _VECTOR), align=4)

        one = ir.Constant(_INT, 1)
        last = builder.sub(rows, one)
        row_of = [ir.Constant(_INT, 0)]
        for row in range(1, MR):  # rows past the last one repeat it
            wanted = ir.Constant(_INT, row)
            row_of.append(builder.select(builder.icmp_signed("<", wanted, last), wanted, last))
        a_rows = [at(data(0, a_array), builder.add(a_at, builder.mul(row, lda))) for row in row_of]
        panel = at(data(4, b_array), b_at)
        zero = ir.Constant(_VECTOR, [0.0] * LANES)

        # k = 0, 1, ...: every sum is a phi node, that is, a register that lives through the loop
        before = builder.basic_block
        loop = builder.append_basic_block("tile.k")
        after = builder.append_basic_block("tile.done")
        builder.cbranch(builder.icmp_signed(">", depth, ir.Constant(_INT, 0)), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(_INT)
        sums = [[builder.phi(_VECTOR) for _ in range(_VECTORS)] for _ in range(MR)]
        b_row = at(panel, builder.mul(k, ir.Constant(_INT, NR)))
        b_vectors = [load(b_row, vector) for vector in range(_VECTORS)]
        grown = []
        for row in range(MR):
            value = _splat(builder, builder.load(at(a_rows[row], k)))
            grown.append([_fma(builder, value, b_vectors[v], sums[row][v]) for v in range(_VECTORS)])
        following = builder.add(k, one)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        k.add_incoming(ir.Constant(_INT, 0), before)
        k.add_incoming(following, loop)
        for row in range(MR):
            for v in range(_VECTORS):
                sums[row][v].add_incoming(zero, before)
                sums[row][v].add_incoming(grown[row][v], loop)

        builder.position_at_end(after)
        results = []
        for row in range(MR):
            for v in range(_VECTORS):
                final = builder.phi(_VECTOR)
                final.add_incoming(zero, before)
                final.add_incoming(grown[row][v], loop)
                results.append(final)
        # what the sums are added to: all of it is read before anything is stored, because rows may repeat
        bias_tile = at(data(8, bias_array), bias_at)
        c_tile = at(data(10, c_array), c_at)
        starts = builder.icmp_signed("!=", first, ir.Constant(_INT, 0))
        bases, places = [], []
        for row in row_of:  # where in C, or in the bias, each vector of the tile belongs
            c_row = at(c_tile, builder.mul(row, ldc))
            base_row = builder.select(starts, bias_tile, c_row)
            for v in range(_VECTORS):
                offset = ir.Constant(_INT, v * LANES)
                bases.append(at(base_row, offset, _VECTOR))
                places.append(at(c_row, offset, _VECTOR))
        whole = builder.icmp_signed(">=", columns, ir.Constant(_INT, NR))
        with builder.if_else(whole) as (full, partial):
            with full:
                finals = [builder.fadd(r, builder.load(base, align=4)) for r, base in zip(results, bases, strict=True)]
                for final, place in zip(finals, places, strict=True):
                    builder.store(final, place, align=4)
            with partial:
                lane = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
                left = [builder.sub(columns, ir.Constant(_INT, v * LANES)) for v in range(_VECTORS)]
                masks = [builder.icmp_signed("<", lane, _splat(builder, count)) for count in left] * MR
                finals = [
                    builder.fadd(r, _masked_load(builder, base, mask))
                    for r, base, mask in zip(results, bases, masks, strict=True)
                ]
                for final, place, mask in zip(finals, places, masks, strict=True):
                    _masked_store(builder, final, place, mask)
        return context.get_dummy_value()

    return signature, codegen
