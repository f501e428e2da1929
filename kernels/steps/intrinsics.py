"""What a step's native functions do with memory that they know by its address: views, copies, atomic counters.

All addresses and distances are int64, in bytes.
"""

from __future__ import annotations

import platform
import sys

from llvmlite import ir

from ..jit import jit
from ..numba_later import carray, cgutils, intrinsic, types

__all__ = [
    "atomic_add",
    "atomic_load",
    "byte_pointer",
    "clock",
    "copy_bytes",
    "double_pointer",
    "float_pointer",
    "int_pointer",
    "part_of",
    "pixel_of",
    "yield_processor",
    "zero_bytes",
]

_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
_CLOCK = "readcyclecounter" if platform.machine() in ("x86_64", "AMD64") else "readsteadycounter"


def _pointer_to(kind, llvm):
    """An intrinsic that makes a pointer to ``kind`` of an address."""

    @intrinsic
    def pointer(typingctx, address):
        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], llvm.as_pointer())

        return types.CPointer(kind)(types.int64), codegen

    return pointer


byte_pointer = _pointer_to(types.uint8, ir.IntType(8))
float_pointer = _pointer_to(types.float32, ir.FloatType())
int_pointer = _pointer_to(types.int64, ir.IntType(64))
double_pointer = _pointer_to(types.float64, ir.DoubleType())


@jit
def pixel_of(where, index):
    """The channels of pixel number ``index`` of the map ``where``, as float32[channels]."""
    return carray(float_pointer(where.address + index * where.pitch), (where.channels,))


@jit
def part_of(total, block, blocks, unit):
    """The half-open range that is part number ``block`` of 0..total cut into ``blocks``, at multiples of ``unit``."""
    units = (total + unit - 1) // unit
    return min(units * block // blocks * unit, total), min(units * (block + 1) // blocks * unit, total)


@intrinsic
def copy_bytes(typingctx, to, source, count):
    """Copy ``count`` bytes from address to address."""

    def codegen(context, builder, signature, arguments):
        to, source = (builder.inttoptr(a, cgutils.voidptr_t) for a in arguments[:2])
        cgutils.raw_memcpy(builder, to, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def zero_bytes(typingctx, to, count):
    """Set ``count`` bytes to zero."""

    def codegen(context, builder, signature, arguments):
        cgutils.memset(builder, builder.inttoptr(arguments[0], cgutils.voidptr_t), arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def atomic_add(typingctx, address, value):
    """Add to the int64 at ``address``, as one indivisible operation; returns the old value."""

    def codegen(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx, address):
    """The int64 at ``address``, with all that was written before it."""

    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def yield_processor(typingctx):
    """Let another thread run."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])

    return types.int32(), codegen


@intrinsic
def clock(typingctx):
    """The processor's own clock, in a unit of its own."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{_CLOCK}"), [])

    return types.int64(), codegen
