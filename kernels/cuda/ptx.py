"""What CUDA hardware does beyond Python: wide loads, asynchronous copies, tensor cores. All inline PTX is in this file.

The compiler makes each element of a Python index of 64 bits, and looks whether it is negative and counts from the end; these
functions do neither. Kernels keep their indices at 32 bits by ``int32(...)`` around an expression.

Each function has two bodies of the same meaning: one that emits the instruction, and one in plain Python, which the
simulator runs (``NUMBA_ENABLE_CUDASIM=1``), so that a kernel's indexing can be tested without a card. Arrays are
one-dimensional float32, places are counted in elements, and a vector of four starts at a multiple of four.

Sources: NVIDIA's "Parallel Thread Execution ISA", sections ld, st, cp.async, cvt, mma.
"""

from __future__ import annotations

import numpy as np
from numba import config

__all__ = ["load4", "store", "store4"]

if config.ENABLE_CUDASIM:

    def load4(array, index):
        """Four consecutive floats of ``array`` from ``index`` on, in one instruction (LDG.128, LDS.128)."""
        assert index % 4 == 0, f"a vector of four begins at a multiple of four, not at {index}"
        return array[index], array[index + 1], array[index + 2], array[index + 3]

    def store4(array, index, a, b, c, d):
        """Four consecutive floats to ``array`` from ``index`` on, in one instruction (STG.128, STS.128)."""
        assert index % 4 == 0, f"a vector of four begins at a multiple of four, not at {index}"
        array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d

    def store(array, index, value):
        """One float to ``array`` at ``index``."""
        array[index] = value

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    _FLOAT4 = ir.VectorType(ir.FloatType(), 4)

    def _place(context, builder, kind, array, index):
        """The address of element ``index`` of an array, as that of a vector of four."""
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index], source_etype=ir.FloatType()), _FLOAT4.as_pointer())

    @intrinsic
    def load4(typingctx, array, index):
        """Four consecutive floats of ``array`` from ``index`` on, in one instruction (LDG.128, LDS.128)."""

        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], *args)
            vector = builder.load(place, typ=_FLOAT4, align=16)
            values = [builder.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(4)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(types.float32, 4)(array, index), codegen

    @intrinsic
    def store4(typingctx, array, index, a, b, c, d):
        """Four consecutive floats to ``array`` from ``index`` on, in one instruction (STG.128, STS.128)."""

        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], *args[:2])
            vector = ir.Constant(_FLOAT4, ir.Undefined)
            for i, value in enumerate(args[2:]):
                vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
            builder.store(vector, place, align=16)
            return context.get_dummy_value()

        return types.void(array, index, *[types.float32] * 4), codegen

    @intrinsic
    def store(typingctx, array, index, value):
        """One float to ``array`` at ``index``."""

        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], *args[:2])
            builder.store(args[2], builder.bitcast(place, ir.FloatType().as_pointer()))
            return context.get_dummy_value()

        return types.void(array, index, types.float32), codegen
