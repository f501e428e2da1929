"""What CUDA hardware does beyond Python: wide loads, asynchronous copies, tensor cores. All inline PTX is in this
file, and that of warp groups in ``warpgroups.py``.

The compiler makes each element of a Python index of 64 bits, and looks whether it is negative and counts from the end; these
functions do neither. Kernels keep their indices at 32 bits by ``int32(...)`` around an expression.

Each function has two bodies of the same meaning: one that emits the instruction, and one in plain Python, which the
simulator runs (``NUMBA_ENABLE_CUDASIM=1``), so that a kernel's indexing can be tested without a card. Arrays are
one-dimensional float32, places are counted in elements, and a vector of n starts at a multiple of n.

The matrix product of the tensor cores, ``mma``, is done by the 32 threads of a warp together: C[16, 8] += A[16, 8] @ B[8, 8]. It ignores the last 13 bits of the elements of A and B.
Each thread holds a few elements of each; with ``group`` = lane // 4 and ``quad`` = lane % 4 these are

    A  a0 [group, quad]   a1 [group + 8, quad]   a2 [group, quad + 4]   a3 [group + 8, quad + 4]
    B  b0 [quad, group]   b1 [quad + 4, group]
    C  c0 [group, 2 * quad]   c1 [group, 2 * quad + 1]   c2 [group + 8, 2 * quad]   c3 [group + 8, 2 * quad + 1]

Copies to shared memory go on while the thread does other things. It waits for them in groups: ``copies_commit`` makes a
group of those begun since the last one, and ``copies_wait`` waits for all groups but the latest few. Other threads may read
what it copied after a barrier that follows its wait.

Sources: NVIDIA's "Parallel Thread Execution ISA": ld, st, cp.async, cvt, "Matrix Fragments for mma.m16n8k8".
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba import config

__all__ = ["ALIGNMENT", "copies_commit", "copies_wait", "copy4_async", "cut", "larger", "load2", "load4", "load_matrices", "mma",
           "store", "store2", "store4"]  # fmt: skip

ALIGNMENT = None if config.ENABLE_CUDASIM else 16
"""Bytes at a multiple of which arrays in shared memory begin that are read in vectors. The simulator's are anywhere."""

if config.ENABLE_CUDASIM:

    def _checked(index, width):
        assert index % width == 0, f"a vector of {width} begins at a multiple of {width}, not at {index}"

    def load2(array, index):
        """Two consecutive floats of ``array`` from ``index`` on, in one instruction (LDG.64, LDS.64)."""
        _checked(index, 2)
        return array[index], array[index + 1]

    def load4(array, index):
        """Four consecutive floats of ``array`` from ``index`` on, in one instruction (LDG.128, LDS.128)."""
        _checked(index, 4)
        return array[index], array[index + 1], array[index + 2], array[index + 3]

    def store(array, index, value):
        """One float to ``array`` at ``index``."""
        array[index] = value

    def store2(array, index, a, b):
        """Two consecutive floats to ``array`` from ``index`` on, in one instruction (STG.64, STS.64)."""
        _checked(index, 2)
        array[index], array[index + 1] = a, b

    def store4(array, index, a, b, c, d):
        """Four consecutive floats to ``array`` from ``index`` on, in one instruction (STG.128, STS.128)."""
        _checked(index, 4)
        array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d

    def _own():
        """What this thread of a kernel keeps; the simulator makes new ones for every block."""
        return vars(threading.current_thread())

    def copy4_async(shared, to, array, index, valid):
        """Begin to copy four floats of ``array`` to shared memory (LDGSTS.128), or to clear them there if not ``valid``.

        Here nothing is there before it is waited for: until then there is NaN.
        """
        _checked(to, 4)
        if valid:
            _checked(index, 4)
        shared[to : to + 4] = np.nan
        _own().setdefault("begun", []).append((shared, to, array, index, valid))

    def copies_commit():
        """Make a group, maybe an empty one, of the copies that this thread has begun since the last."""
        _own().setdefault("groups", []).append(_own().pop("begun", []))

    def copies_wait(but):
        """Wait until this thread's groups of copies are done, but for the latest ``but``, a constant."""
        groups = _own().setdefault("groups", [])
        while len(groups) > but:
            for shared, to, array, index, valid in groups.pop(0):
                for i in range(4):
                    shared[to + i] = array[index + i] if valid else np.float32(0.0)
                _own().setdefault("copied", []).append((shared, to))  # see ``warpgroups.async_fence``

    def larger(a, b):
        """The larger one, in one instruction; of a number and NaN, the number."""
        return b if b > a or a != a else a

    def cut(value):
        """``value`` without its last 13 bits: a number of tf32, not larger in magnitude. Infinity and NaN stay."""
        return (np.asarray(value, np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    _LANES = 32
    # by first thread, count and turn; the simulator runs one block at a time
    _shown: dict[tuple[int, int, int], list[Any]] = {}
    _barriers: dict[tuple[int, int], threading.Barrier] = {}  # by first thread and count

    def _exchanged(mine, count=_LANES):
        """This thread's lane, and what every lane of its warp, or of ``count`` threads, shows to the others: lane i is element i,
        and the one behind them is None, for what the first that makes something of all of them may leave there."""
        thread: Any = threading.current_thread()  # the simulator's; ``cuda.threadIdx`` is known in kernels only
        lane, first = thread.threadIdx.x % count, thread.threadIdx.x // count * count
        barrier = _barriers.get((first, count)) or _barriers.setdefault((first, count), threading.Barrier(count))
        mark = f"turn of {count}"
        turn = _own()[mark] = 1 - _own().get(mark, 0)  # nobody shows something new before all have seen this
        lanes = _shown.setdefault((first, count, turn), [None] * (count + 1))
        lanes[lane], lanes[count] = mine, None
        try:
            barrier.wait(timeout=100)
        except threading.BrokenBarrierError:
            _barriers.pop((first, count), None)
            raise RuntimeError("a warp's threads did not all come to the same instruction") from None
        return lane, lanes

    def load_matrices(shared, index):
        """Four matrices [8, 4] from shared memory, for the fragments of ``mma`` (LDSM.4): lane 8 * i + r names the place of
        row r of matrix i, and gets element [lane // 4, lane % 4] of each."""
        _checked(index, 4)
        lane, rows = _exchanged((index,))
        for first in range(0, _LANES if lane == 0 else 0, 8):  # one lane looks at all
            banks = {rows[first + row][0] % 32 for row in range(8)}
            assert len(banks) == 8, (
                f"the rows of a matrix lie in {len(banks) * 4} of 32 banks: the card reads them in turns"
            )
        return tuple(shared[rows[8 * matrix + lane // 4][0] + lane % 4] for matrix in range(4))

    def mma(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        """C + A @ B of a warp's matrices; takes and returns this thread's elements (see above)."""
        lane, lanes = _exchanged((a0, a1, a2, a3, b0, b1))
        if lanes[_LANES] is None:
            held = (
                cut(np.array(lanes[:_LANES], np.float32)).astype(np.float64).reshape(8, 4, 6)
            )  # [group, quad, element]
            a = held[..., :4].reshape(8, 4, 2, 2).transpose(3, 0, 2, 1).reshape(16, 8)
            b = held[..., 4:].transpose(2, 1, 0).reshape(8, 8)
            lanes[_LANES] = (a @ b).tolist()
        upper, lower, column = lanes[_LANES][lane // 4], lanes[_LANES][lane // 4 + 8], lane % 4 * 2
        sums = zip((c0, c1, c2, c3), (*upper[column : column + 2], *lower[column : column + 2]), strict=True)
        return tuple(np.float32(float(before) + more) for before, more in sums)

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    _FLOAT, _INT = ir.FloatType(), ir.IntType(32)

    def _place(context, builder, kind, array, index, width=1):
        """The address of element ``index`` of an array, as that of a vector of ``width``."""
        data = context.make_array(kind)(context, builder, array).data
        place = builder.gep(data, [index], source_etype=_FLOAT)
        return builder.bitcast(place, (ir.VectorType(_FLOAT, width) if width > 1 else _FLOAT).as_pointer())

    def _loader(width, array, index):
        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], args[0], args[1], width)
            vector = builder.load(place, typ=ir.VectorType(_FLOAT, width), align=4 * width)
            values = [builder.extract_element(vector, ir.Constant(_INT, i)) for i in range(width)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(types.float32, width)(array, index), codegen

    def _storer(width, array, index):
        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], args[0], args[1], width)
            vector = ir.Constant(ir.VectorType(_FLOAT, width), ir.Undefined)
            for i, value in enumerate(args[2:]):
                vector = builder.insert_element(vector, value, ir.Constant(_INT, i))
            builder.store(vector, place, align=4 * width)
            return context.get_dummy_value()

        return types.void(array, index, *[types.float32] * width), codegen

    def _assembly(builder, text, constraints, result, args, volatile=True):
        """Inline PTX; ``volatile``: it is neither dropped nor moved to where fewer threads come along."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=volatile), args)

    _MEMORY = "~{memory}"  # what it does to memory the compiler must not move other accesses across

    @intrinsic
    def load2(typingctx, array, index):
        """Two consecutive floats of ``array`` from ``index`` on, in one instruction (LDG.64, LDS.64)."""
        return _loader(2, array, index)

    @intrinsic
    def load4(typingctx, array, index):
        """Four consecutive floats of ``array`` from ``index`` on, in one instruction (LDG.128, LDS.128)."""
        return _loader(4, array, index)

    @intrinsic
    def store(typingctx, array, index, value):
        """One float to ``array`` at ``index``."""

        def codegen(context, builder, signature, args):
            builder.store(args[2], _place(context, builder, signature.args[0], *args[:2]))
            return context.get_dummy_value()

        return types.void(array, index, types.float32), codegen

    @intrinsic
    def store2(typingctx, array, index, a, b):
        """Two consecutive floats to ``array`` from ``index`` on, in one instruction (STG.64, STS.64)."""
        return _storer(2, array, index)

    @intrinsic
    def store4(typingctx, array, index, a, b, c, d):
        """Four consecutive floats to ``array`` from ``index`` on, in one instruction (STG.128, STS.128)."""
        return _storer(4, array, index)

    @intrinsic
    def copy4_async(typingctx, shared, to, array, index, valid):
        """Begin to copy four floats of ``array`` to shared memory (LDGSTS.128), or to clear them there if not ``valid``."""

        def codegen(context, builder, signature, args):
            target = _place(context, builder, signature.args[0], *args[:2])
            target = builder.addrspacecast(target, _FLOAT.as_pointer(addrspace=3))
            source = _place(context, builder, signature.args[2], *args[2:4])
            source = builder.addrspacecast(source, _FLOAT.as_pointer(addrspace=1))
            count = builder.select(args[4], ir.Constant(_INT, 16), ir.Constant(_INT, 0))  # of bytes that are read
            places = builder.ptrtoint(target, _INT), builder.ptrtoint(source, ir.IntType(64))
            _assembly(
                builder,
                "cp.async.cg.shared.global [$0], [$1], 16, $2;",
                f"r,l,r,{_MEMORY}",
                ir.VoidType(),
                [*places, count],
            )
            return context.get_dummy_value()

        return types.void(shared, to, array, index, types.boolean), codegen

    @intrinsic
    def copies_commit(typingctx):
        """Make a group, maybe an empty one, of the copies that this thread has begun since the last."""

        def codegen(context, builder, signature, args):
            _assembly(builder, "cp.async.commit_group;", _MEMORY, ir.VoidType(), [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def copies_wait(typingctx, but):
        """Wait until this thread's groups of copies are done, but for the latest ``but``, a constant."""
        if not isinstance(but, types.IntegerLiteral):
            return None  # then Numba asks again, with the constant

        def codegen(context, builder, signature, args):
            groups = signature.args[0].literal_value
            _assembly(builder, f"cp.async.wait_group {groups};", _MEMORY, ir.VoidType(), [])
            return context.get_dummy_value()

        return types.void(but), codegen

    @intrinsic
    def larger(typingctx, a, b):
        """The larger one, in one instruction; of a number and NaN, the number."""

        def codegen(context, builder, signature, args):
            return _assembly(builder, "max.f32 $0, $1, $2;", "=f,f,f", _FLOAT, args, volatile=False)

        return types.float32(types.float32, types.float32), codegen

    @intrinsic
    def cut(typingctx, value):
        """``value`` without its last 13 bits: a number of tf32, not larger in magnitude. Infinity and NaN stay."""

        def codegen(context, builder, signature, args):
            bits = builder.and_(builder.bitcast(args[0], _INT), ir.Constant(_INT, 0xFFFFE000))
            return builder.bitcast(bits, _FLOAT)

        return types.float32(types.float32), codegen

    @intrinsic
    def load_matrices(typingctx, shared, index):
        """Four matrices [8, 4] from shared memory, for the fragments of ``mma`` (LDSM.4): lane 8 * i + r names the place of
        row r of matrix i, and gets element [lane // 4, lane % 4] of each."""

        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], *args)
            place = builder.ptrtoint(builder.addrspacecast(place, _FLOAT.as_pointer(addrspace=3)), _INT)
            text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];"
            result = ir.LiteralStructType([_INT] * 4)
            bits = _assembly(builder, text, f"=r,=r,=r,=r,r,{_MEMORY}", result, [place])
            values = [builder.bitcast(builder.extract_value(bits, i), _FLOAT) for i in range(4)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(types.float32, 4)(shared, index), codegen

    @intrinsic
    def mma(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        """C + A @ B of a warp's matrices; takes and returns this thread's elements (see above)."""

        def codegen(context, builder, signature, args):
            operands = [builder.bitcast(arg, _INT) for arg in args[:6]] + list(args[6:])
            text = (
                "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
            )
            result = ir.LiteralStructType([_FLOAT] * 4)
            sums = _assembly(builder, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", result, operands)
            return context.make_tuple(
                builder, signature.return_type, [builder.extract_value(sums, i) for i in range(4)]
            )

        return types.UniTuple(types.float32, 4)(*[types.float32] * 10), codegen
