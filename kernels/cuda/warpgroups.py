"""Matrix products of warp groups, ``wgmma``: 128 threads, from shared memory, asynchronously. Cards of compute capability 9.0 alone.

    sums[64, n] += A[64, 8] @ B[n, 8].T      of tf32, as ``mma`` in ``ptx.py``; n a multiple of 8, at most 256

No thread loads A or B: each is described by 64 bits, and read while the threads go on.

    bits 0-13    where it begins in shared memory, in bytes / 16
    bits 16-29   "leading dimension byte offset" / 16: from four steps of k to the next four; not looked at where there is swizzling
    bits 32-45   "stride dimension byte offset" / 16: from eight rows to the next eight
    bits 49-51   "base offset": 0 where the pattern of swizzling begins at a multiple of its length, as here
    bits 62-63   swizzling: 0 none, 1, 2, 3: by 128, 64, 32 bytes

Eight rows lie one after the other, each as long as the swizzling (16 bytes without), k along the row. Of the address of each
16 bytes, bits 4-6 are then exchanged, by exclusive or with bits 7-9 (by 64 bytes bits 4-5 with 7-8, by 32 bit 4 with bit 7):
rows 0 to 7 of one column lie in different banks. It is the address that counts, not the place in the tile; so steps of k further
along a row are reached by a beginning that lies further on, 32 bytes for eight of them.

A thread holds ``n / 2`` sums. With ``warp`` = 0 to 3 of its group, ``group`` = lane // 4 and ``quad`` = lane % 4, sums 4 * i to
4 * i + 3 are

    [16 * warp + group, 8 * i + 2 * quad], the one right of it, [16 * warp + group + 8, 8 * i + 2 * quad], the one right of it

The order of things: ``async_fence`` after a thread has written to shared memory, then a barrier; ``wgmma_fence`` before the first
product and after every other use of the sums; products; ``wgmma_commit`` makes a group of them, ``wgmma_wait`` waits for all groups
but the latest few. Until then sums are not to be read, nor A and B to be written.

As in ``ptx.py`` each function has two bodies. The simulator's decodes the bits, looks whether the order was kept, and makes NaN
of what was not there, or did not stay.

Source: NVIDIA's "Parallel Thread Execution ISA", "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions":
"Register Fragments and Shared Memory Matrix Layouts", "Matrix Descriptor Format", "wgmma.fence".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

__all__ = ["GROUP", "PATTERN", "STEPS", "SWIZZLED", "async_fence", "shared_address", "wgmma", "wgmma_commit", "wgmma_fence",
           "wgmma_wait"]  # fmt: skip

GROUP = 128
"""Threads of a warp group."""

STEPS = 8
"""Steps of k in one product: 32 bytes of a row."""

PATTERN = 1024
"""Bytes after which swizzling by 128 bytes repeats: eight rows of 32 steps of k. Matrices begin at a multiple of it."""

SWIZZLED = 1 << 62 | PATTERN // 16 << 32 | 1 << 16
"""The bits of a matrix with rows of 32 steps of k, swizzled by 128 bytes, but for where it begins; 1 is what the source says of a
leading offset that is not looked at."""

if config.ENABLE_CUDASIM:
    from .ptx import _exchanged, _own, cut

    BASE = 1040
    """Where in shared memory the simulator's arrays begin: like a card's at a multiple of 16 bytes, of no larger power of two."""

    _seen: list[Any] = [None, None]  # shared memory of a launch, and what asynchronous products see of it: NaN at first

    def _view(shared):
        if _seen[0] is not shared:
            _seen[:] = shared, np.full(len(shared), np.nan, np.float32)
        return _seen[1]

    def shared_address(shared, index):
        """The address of an element in shared memory, in bytes."""
        return BASE + 4 * int(index)

    def async_fence():
        """What this thread has copied to shared memory, and waited for, may now be seen by asynchronous products; after a barrier, by
        those of other threads."""
        for shared, to in _own().pop("copied", []):
            _view(shared)[to : to + 4] = shared[to : to + 4]

    def decoded(description, rows):
        """Where in shared memory the elements [rows, STEPS] of a matrix are, by its 64 bits: places of float32 from ``BASE`` on."""
        begin, leading, stride = (int(description >> at & 0x3FFF) << 4 for at in (0, 16, 32))
        base, swizzling = description >> 49 & 7, description >> 62 & 3
        assert base == 0, f"a matrix with base offset {base}: this is not simulated"
        row, k = np.arange(rows)[:, None], np.arange(STEPS)
        length = 16 << (4 - swizzling) % 4  # bytes of a row: 16, 128, 64, 32
        places = begin + row // 8 * stride + row % 8 * length + k // 4 * (16 if swizzling else leading) + k % 4 * 4
        exchanged = length // 16 - 1 << 4
        return ((places ^ places >> 3 & exchanged) - BASE) // 4

    def _operand(shared, description, rows):
        """(places, numbers) of a matrix, with NaN for what lies outside, and for what products do not see, or see no more."""
        places = decoded(description, rows)
        inside = (places >= 0) & (places < len(shared))
        there, seen = (array[np.where(inside, places, 0)] for array in (shared, _view(shared)))
        same = there.view(np.uint32) == seen.view(np.uint32)
        return places % len(shared), np.where(inside & same, there, np.float32(np.nan))

    def wgmma_fence(sums, count):
        """Before products that use ``sums``, of which there are ``count``, a constant."""
        _own()["fenced"] = True

    def wgmma(sums, shared, a, b, n):
        """Begin to add the product of two matrices in ``shared``, described by 64 bits each, to this thread's sums; n: a constant."""
        assert _own().get("fenced"), "a product before wgmma_fence()"
        lane, lanes = _exchanged((int(a), int(b)), GROUP)
        if lanes[GROUP] is None:
            assert len(set(lanes[:GROUP])) == 1, "the threads of a warp group describe different matrices"
            left, right = _operand(shared, int(a), 64), _operand(shared, int(b), n)
            result = cut(left[1]).astype(np.float64) @ cut(right[1]).astype(np.float64).T
            fragments = result.reshape(4, 2, 8, n // 8, 4, 2).transpose(0, 2, 4, 3, 1, 5)  # [warp, group, quad, ...]
            lanes[GROUP] = left, right, fragments.reshape(GROUP, n // 2)
        left, right, fragments = lanes[GROUP]
        # until they are waited for the sums are NaN, and what they will be is kept elsewhere
        before = _own().get("sums", sums).astype(np.float64)
        _own()["sums"] = (before + fragments[lane]).astype(np.float32)
        sums[:] = np.nan
        begun = _own().setdefault("products", [])
        if lane == 0:  # one thread of the group looks whether the matrices stay until then
            begun += [(shared, *left), (shared, *right)]

    def wgmma_commit():
        """Make a group of the products that this warp group has begun since the last."""
        _own().setdefault("product groups", []).append(_own().pop("products", []))

    def wgmma_wait(sums, count, but):
        """Wait until this warp group's groups of products are done, but for the latest ``but``. count, but: constants."""
        groups = _own().setdefault("product groups", [])
        while len(groups) > but:
            for shared, places, numbers in groups.pop(0):
                if shared[places].tobytes() != numbers.tobytes():
                    _own()["sums"][:] = np.nan
        if not groups and "products" not in _own() and "sums" in _own():
            sums[:] = _own().pop("sums")
            _own()["fenced"] = False

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    from .ptx import _FLOAT, _INT, _MEMORY, _assembly, _place

    _LONG = ir.IntType(64)

    def _constant(*kinds):
        """Whether Numba has given constants; if not it asks again, with them, when an intrinsic returns None."""
        return all(isinstance(kind, types.IntegerLiteral) for kind in kinds)

    def _through(context, builder, kind, sums, count, text, constraints, more):
        """Assembly that takes and returns all sums, in the registers that they are in; ``more`` operands come after them."""
        data = context.make_array(kind)(context, builder, sums).data
        places = [builder.gep(data, [ir.Constant(_LONG, i)], source_etype=_FLOAT) for i in range(count)]
        values = [builder.load(place, typ=_FLOAT) for place in places]
        constraints = ",".join(["=f"] * count + [str(i) for i in range(count)] + constraints)
        made = _assembly(builder, text, constraints, ir.LiteralStructType([_FLOAT] * count), [*values, *more])
        for i, place in enumerate(places):
            builder.store(builder.extract_value(made, i), place)
        return context.get_dummy_value()

    @intrinsic
    def shared_address(typingctx, shared, index):
        """The address of an element in shared memory, in bytes."""

        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature.args[0], *args)
            place = builder.ptrtoint(builder.addrspacecast(place, _FLOAT.as_pointer(addrspace=3)), _INT)
            return builder.zext(place, _LONG)

        return types.int64(shared, index), codegen

    @intrinsic
    def async_fence(typingctx):
        """What this thread has copied to shared memory, and waited for, may now be seen by asynchronous products; after a barrier, by
        those of other threads."""

        def codegen(context, builder, signature, args):
            _assembly(builder, "fence.proxy.async.shared::cta;", _MEMORY, ir.VoidType(), [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def wgmma_fence(typingctx, sums, count):
        """Before products that use ``sums``, of which there are ``count``, a constant."""
        if not _constant(count):
            return None

        def codegen(context, builder, signature, args):
            kind, number = signature.args[0], signature.args[1].literal_value
            text = "wgmma.fence.sync.aligned;"
            return _through(context, builder, kind, args[0], number, text, [_MEMORY], [])

        return types.void(sums, count), codegen

    @intrinsic
    def wgmma(typingctx, sums, shared, a, b, n):
        """Begin to add the product of two matrices in ``shared``, described by 64 bits each, to this thread's sums; n: a constant."""
        if not _constant(n):
            return None

        def codegen(context, builder, signature, args):
            columns = signature.args[4].literal_value
            count = columns // 2
            registers = ", ".join(f"${i}" for i in range(count))
            text = (
                f"wgmma.mma_async.sync.aligned.m64n{columns}k8.f32.tf32.tf32 "
                f"{{{registers}}}, ${2 * count}, ${2 * count + 1}, 1, 1, 1;"  # add to the sums; neither factor negative
            )
            return _through(context, builder, signature.args[0], args[0], count, text, ["l", "l", _MEMORY], args[2:4])

        return types.void(sums, shared, types.int64, types.int64, n), codegen

    @intrinsic
    def wgmma_commit(typingctx):
        """Make a group of the products that this warp group has begun since the last."""

        def codegen(context, builder, signature, args):
            _assembly(builder, "wgmma.commit_group.sync.aligned;", _MEMORY, ir.VoidType(), [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def wgmma_wait(typingctx, sums, count, but):
        """Wait until this warp group's groups of products are done, but for the latest ``but``. count, but: constants."""
        if not _constant(count, but):
            return None

        def codegen(context, builder, signature, args):
            kind, number, groups = signature.args[0], *(each.literal_value for each in signature.args[1:])
            text = f"wgmma.wait_group.sync.aligned {groups};"
            return _through(context, builder, kind, args[0], number, text, [_MEMORY], [])

        return types.void(sums, count, but), codegen
