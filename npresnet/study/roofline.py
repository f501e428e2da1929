"""How fast this machine can possibly multiply and add: the ceiling over every other figure."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernels.simd import LANES

__all__ = ["fma_peak"]

_SUMS = 12  # independent sums: more than (latency 4 cycles) x (2 units), fewer than the 16 registers of AVX2
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


@intrinsic  # type: ignore[untyped-decorator]
def _multiply_add(typingctx: Any, steps: Any) -> Any:
    """``_SUMS`` vectors, each multiplied and added to ``steps`` times, all in registers; returns one number of them."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(64)
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
        factor = ir.Constant(_VECTOR, [0.999] * LANES)
        term = ir.Constant(_VECTOR, [0.001] * LANES)
        before, loop, after = builder.basic_block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(integer)
        sums = [builder.phi(_VECTOR) for _ in range(_SUMS)]
        grown = [builder.call(fma, [total, factor, term]) for total in sums]
        following = builder.add(step, ir.Constant(integer, 1))
        step.add_incoming(ir.Constant(integer, 0), before)
        step.add_incoming(following, loop)
        for index, (total, larger) in enumerate(zip(sums, grown, strict=True)):
            total.add_incoming(ir.Constant(_VECTOR, [float(index)] * LANES), before)
            total.add_incoming(larger, loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[0]), loop, after)
        builder.position_at_end(after)
        total = grown[0]
        for other in grown[1:]:
            total = builder.fadd(total, other)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(types.int64), codegen


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _loop(steps: Any) -> Any:
    return _multiply_add(steps)


def fma_peak(threads: int, seconds: float = 0.2, repeats: int = 5) -> float:
    """FLOP per second of fused multiply-adds in registers on ``threads`` threads, the best of some tries."""
    _loop(1)
    steps, taken = 1 << 16, 0.0
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        while taken < seconds:
            steps *= 2
            start = time.perf_counter()
            list(pool.map(_loop, [steps] * threads))
            taken = time.perf_counter() - start
        for _ in range(repeats):
            start = time.perf_counter()
            list(pool.map(_loop, [steps] * threads))
            best = max(best, 2 * _SUMS * LANES * steps * threads / (time.perf_counter() - start))
    return best
