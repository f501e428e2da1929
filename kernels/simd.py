"""SIMD in Numba: the width of this processor's vector registers, and the few vector instructions that kernels are made of.

Numba has no vector types. Kernels whose inner loop must keep vectors in registers (``tile.py``, ``winograd.py``) are
therefore written as LLVM's own instructions, through ``numba.extending.intrinsic``: the functions here each append one
instruction to such a kernel while Numba translates it, and return its value. Addresses are int64 values.

    lanes (float32 per register)   16 (AVX-512)   8 (AVX2)   4 (SSE, NEON)

``NPRESNET_LANES`` forces a width, for tests and for study; LLVM splits vectors that the processor does not have.
"""

from __future__ import annotations

import functools
import os

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from .numba_later import cgutils, intrinsic, types

__all__ = [
    "LANES",
    "VECTOR",
    "activated",
    "constant",
    "copy_floats",
    "copy_vector",
    "fma",
    "load",
    "masked_load",
    "masked_store",
    "number",
    "prefetch",
    "prefetch_write",
    "splat",
    "store",
]


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

_INT, _INT32, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
VECTOR = ir.VectorType(_FLOAT, LANES)
"""LLVM's type of one register of float32."""


def number(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(_INT, value)


def constant(value: float) -> ir.Constant:
    """A vector with the float32 nearest to ``value`` in every lane."""
    return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)


def splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector with ``value``, of any type, in every lane."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))


def fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once where the processor can (llvmlite's own ``fma`` refuses vectors)."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, [a, b, c])


def activated(builder: ir.IRBuilder, value: ir.Value, slope: ir.Value, floor: ir.Value) -> ir.Value:
    """A piecewise linear activation (``steps/epilogue.py``): below zero the larger of value * slope
    and floor, otherwise, and for NaN, the value."""
    scaled = builder.fmul(value, slope)
    scaled = builder.select(builder.fcmp_ordered("<", scaled, floor), floor, scaled)
    return builder.select(builder.fcmp_ordered("<", value, constant(0.0)), scaled, value)


def load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type = VECTOR) -> ir.Value:
    """The vector, or value of another type, that starts at ``address``, which need not be aligned."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    """Write a vector to ``address``, which need not be aligned."""
    builder.store(value, builder.inttoptr(address, VECTOR.as_pointer()), align=4)


def masked_load(builder: ir.IRBuilder, address: ir.Value, mask: ir.Value) -> ir.Value:
    """The lanes whose bit in ``mask`` is set; the others are zero, and the memory behind them is not touched."""
    place = builder.inttoptr(address, VECTOR.as_pointer())
    kind = ir.FunctionType(VECTOR, [place.type, _INT32, mask.type, VECTOR])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
    return builder.call(function, [place, ir.Constant(_INT32, 4), mask, constant(0.0)])


def masked_store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, mask: ir.Value) -> None:
    """Write the lanes whose bit in ``mask`` is set; the memory behind the others is not touched."""
    place = builder.inttoptr(address, VECTOR.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, place.type, _INT32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
    builder.call(function, [value, place, ir.Constant(_INT32, 4), mask])


def prefetch(builder: ir.IRBuilder, address: ir.Value, write: bool = False) -> None:
    """Ask for the cache line at ``address`` to be brought into L2. Any address will do: a prefetch never faults."""
    place = builder.inttoptr(address, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, _INT32, _INT32, _INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [place, ir.Constant(_INT32, int(write)), ir.Constant(_INT32, 2), ir.Constant(_INT32, 1)])


@intrinsic
def copy_vector(typingctx, to, source):
    """Copy one register of float32 from address to address."""

    def codegen(context, builder, signature, arguments):
        to, source = arguments
        store(builder, load(builder, source), to)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy_floats(typingctx, to, source, count):
    """Copy one register of float32 from address to address, or ``count`` of them if that is less."""

    def codegen(context, builder, signature, arguments):
        to, source, count = arguments
        lane = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", lane, splat(builder, count))
        masked_store(builder, masked_load(builder, source, mask), to, mask)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def prefetch_write(typingctx, address):
    """Ask for the cache line at ``address``, to be written. Any address will do."""

    def codegen(context, builder, signature, arguments):
        prefetch(builder, arguments[0], write=True)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
