"""Running a whole plan in one compiled call: a table of steps, worked off by any number of threads.

Every step is a row of integers (addresses, shapes, choices) and a number of work items. Threads claim items from a
counter, and wait at the end of a step until all its items are done: that wait is the only synchronisation. A thread
that comes late, or not at all, is not waited for; what it would have done, others do. An item's result does not depend
on who computes it or on how the step is cut, so results are the same bits for any number of threads.

All addresses and distances between rows are in bytes.
"""

from __future__ import annotations

import functools
import math
import sys
from enum import IntEnum

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import jit
from .simd import LANES
from .tile import MR, NR, multiply
from .winograd import input_transform2, input_transform4, output_transform2, output_transform4

__all__ = ["COLUMNS", "Column", "Kind", "native_addresses", "run_steps"]


class Kind(IntEnum):
    """What a step does."""

    MULTIPLY = 1  # rows of X, as they lie, times packed weights: a 1x1 convolution
    CONV = 2  # im2col of a block of pixels, times packed weights
    COLS = 3  # im2col alone
    WINOGRAD = 4  # all of F(m x m, 3x3), a block of tiles at a time
    WINOGRAD_IN = 5  # its first part for the whole map ...
    WINOGRAD_OUT = 6  # ... and the rest, a panel of output channels at a time
    MAXPOOL = 7
    AFFINE = 8  # x * scale + shift (+ residual), ReLU
    MEAN = 9  # over all pixels
    SOFTMAX = 10


class Column(IntEnum):
    """The columns of the table."""

    KIND = 0
    ITEMS = 1
    X = 2  # address of the input
    OUT = 3  # address of the output
    WEIGHTS = 4  # packed weights, or the scale
    BIAS = 5  # or the shift
    RESIDUAL = 6  # address, or that of zeros
    LD_RESIDUAL = 7  # distance between its pixels, 0 for zeros
    RELU = 8
    N = 9
    H = 10
    W = 11
    C = 12
    HO = 13
    WO = 14
    CO = 15
    KH = 16
    KW = 17
    SH = 18
    SW = 19
    TOP = 20
    LEFT = 21
    PASSES = 22  # over k
    BLOCKS = 23  # into which rows or tiles are cut
    BY_PANEL = 24  # an item is one panel of one block, not all panels
    M = 25  # of F(m x m, 3x3)
    BUFFER = 26  # address of V
    FLOOR = 27  # max-pool: 1 if zero-padding takes part


COLUMNS = len(Column)

# plain integers: Numba reads globals as constants
_KIND, _ITEMS, _X, _OUT, _WEIGHTS, _BIAS, _RESIDUAL, _LD_RESIDUAL, _RELU = range(9)
_N, _H, _W, _C, _HO, _WO, _CO, _KH, _KW, _SH, _SW, _TOP, _LEFT = range(9, 22)
_PASSES, _BLOCKS, _BY_PANEL, _M, _BUFFER, _FLOOR = range(22, 28)

_LOWEST = np.finfo(np.float32).min
_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


@intrinsic
def _floats(typingctx, address):
    """A float32 pointer to ``address``."""
    signature = types.CPointer(types.float32)(types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.FloatType().as_pointer())

    return signature, codegen


@intrinsic
def _doubles(typingctx, address):
    """A float64 pointer to ``address``."""
    signature = types.CPointer(types.float64)(types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.DoubleType().as_pointer())

    return signature, codegen


@intrinsic
def _copy(typingctx, to, source, count):
    """Copy ``count`` bytes from address to address."""
    signature = types.void(types.int64, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        to, source = (builder.inttoptr(a, cgutils.voidptr_t) for a in arguments[:2])
        cgutils.raw_memcpy(builder, to, source, arguments[2], 1)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _zero(typingctx, to, count):
    """Set ``count`` bytes to zero."""
    signature = types.void(types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        cgutils.memset(builder, builder.inttoptr(arguments[0], cgutils.voidptr_t), arguments[1], 0)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _call(typingctx, address, arguments):
    """Call the native function at ``address`` with a tuple of arguments.

    By address, because Numba compiles what it can see again inside every caller: the large kernels would be compiled
    a dozen times over.
    """
    signature = types.void(types.int64, arguments)

    def codegen(context, builder, signature, given):
        values = cgutils.unpack_tuple(builder, given[1], len(arguments))
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _atomic_add(typingctx, array, index, value):
    """array[index] += value, as one indivisible step; returns the old value."""
    signature = types.int64(array, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "acq_rel")

    return signature, codegen


@intrinsic
def _atomic_load(typingctx, array, index):
    """array[index], with all that was written before it."""
    signature = types.int64(array, types.int64)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return signature, codegen


@intrinsic
def _yield_processor(typingctx):
    """Let another thread run."""
    signature = types.int32()

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])

    return signature, codegen


@jit
def _edges(total, block, blocks, unit):
    """First and last-but-one of part number ``block`` of 0..total-1 cut into ``blocks``, at multiples of ``unit``."""
    units = -(-total // unit)
    return min(units * block // blocks * unit, total), min(units * (block + 1) // blocks * unit, total)


@jit
def _odd_lines(size):
    """``size`` bytes rounded up to an odd number of cache lines: elements so far apart share no set of a cache."""
    return (size + 63) // 64 // 2 * 128 + 64


@jit
def _panels(t, rows, a, lda, first_row, panel0, panel1, zeros, floor, natives):
    """``rows`` rows at ``a`` times panels panel0..panel1-1, into rows from ``first_row`` on of the output."""
    co, depth = t[_CO], t[_KH] * t[_KW] * t[_C]
    ldc = co * 4
    for panel in range(panel0, panel1):
        at = panel * NR * 4
        _call(natives[0], (
            rows, a, lda, t[_WEIGHTS] + panel * depth * NR * 4, depth, co - panel * NR, t[_PASSES],
            t[_BIAS] + at, 0,
            t[_RESIDUAL] + (first_row * t[_LD_RESIDUAL] + at if t[_LD_RESIDUAL] else 0), t[_LD_RESIDUAL],
            floor, zeros, t[_OUT] + first_row * ldc + at, ldc,
        ))  # fmt: skip


@jit
def _multiply_item(t, item, zeros, floor, natives):
    rows_all = t[_N] * t[_HO] * t[_WO]
    lda = t[_C] * 4
    panels = -(-t[_CO] // NR)
    if t[_BY_PANEL]:
        panel, block = divmod(item, t[_BLOCKS])
        panel0, panel1 = panel, panel + 1
    else:
        block, panel0, panel1 = item, 0, panels
    m0, m1 = _edges(rows_all, block, t[_BLOCKS], MR)
    _panels(t, m1 - m0, t[_X] + m0 * lda, lda, m0, panel0, panel1, zeros, floor, natives)


@jit
def _patches(t, m0, m1, cols):
    """The patches of output pixels m0..m1-1 as rows of a matrix at ``cols``; returns the bytes of a row."""
    height, width, pixel, kw = t[_H], t[_W], t[_C] * 4, t[_KW]
    for m in range(m0, m1):
        n, position = divmod(m, t[_HO] * t[_WO])
        ih, iw = position // t[_WO] * t[_SH] - t[_TOP], position % t[_WO] * t[_SW] - t[_LEFT]
        left, right = max(iw, 0), min(iw + kw, width)
        inside = right - left == kw
        for y in range(ih, ih + t[_KH]):
            if inside and y >= 0 and y < height:
                _copy(cols, t[_X] + ((n * height + y) * width + iw) * pixel, kw * pixel)
            elif y < 0 or y >= height or left >= right:
                _zero(cols, kw * pixel)
            else:
                _zero(cols, (left - iw) * pixel)
                _copy(
                    cols + (left - iw) * pixel,
                    t[_X] + ((n * height + y) * width + left) * pixel,
                    (right - left) * pixel,
                )
                _zero(cols + (right - iw) * pixel, (iw + kw - right) * pixel)
            cols += kw * pixel
    return t[_KH] * kw * pixel


@jit
def _conv_item(t, item, scratch, zeros, floor, natives):
    m0, m1 = _edges(t[_N] * t[_HO] * t[_WO], item, t[_BLOCKS], MR)
    lda = _patches(t, m0, m1, scratch)
    _panels(t, m1 - m0, scratch, lda, m0, 0, -(-t[_CO] // NR), zeros, floor, natives)


@jit
def _cols_item(t, item):
    m0, m1 = _edges(t[_N] * t[_HO] * t[_WO], item, t[_BLOCKS], 1)
    _patches(t, m0, m1, t[_OUT] + m0 * t[_KH] * t[_KW] * t[_C] * 4)


# ---------------------------------------------------------------------------------------------------------------------
# Winograd


@jit
def _tiles_in(t, first, last, v, ld_tile, step, patch_at, natives):
    """V of tiles first..last-1: element e of tile i at v + (i - first) * ld_tile + e * step."""
    m, height, width, channels = t[_M], t[_H], t[_W], t[_C]
    n = m + 2
    down, across = -(-height // m), -(-width // m)
    pixel = channels * 4
    slices = channels // LANES
    for tile in range(first, last):
        image, position = divmod(tile, down * across)
        y0, x0 = position // across * m - 1, position % across * m - 1
        at = v + (tile - first) * ld_tile
        if y0 >= 0 and x0 >= 0 and y0 + n <= height and x0 + n <= width:
            d = t[_X] + ((image * height + y0) * width + x0) * pixel
            row = width * pixel
        else:  # at the border: copy what exists into a patch of zeros
            _zero(patch_at, n * n * pixel)
            left, right = max(x0, 0), min(x0 + n, width)
            for y in range(max(y0, 0), min(y0 + n, height)):
                place = patch_at + ((y - y0) * n + left - x0) * pixel
                _copy(place, t[_X] + ((image * height + y) * width + left) * pixel, (right - left) * pixel)
            d, row = patch_at, n * pixel
        _call(natives[1 + m // 4], (d, row, pixel, at, step, slices))


@jit
def _tiles_out(t, first, last, products, ld_tile, step, panel, patch_at, zeros, floor, natives):
    """Outputs of tiles first..last-1 in one panel of channels, from the products of all n * n elements."""
    m, height, width, co = t[_M], t[_HO], t[_WO], t[_CO]
    down, across = -(-height // m), -(-width // m)
    pixel = co * 4
    channel = panel * NR
    count = min(NR, co - channel)
    slices = count // LANES
    bias = t[_BIAS] + channel * 4
    for tile in range(first, last):
        image, position = divmod(tile, down * across)
        y0, x0 = position // across * m, position % across * m
        p = products + (tile - first) * ld_tile
        index = (image * height + y0) * width + x0
        out = t[_OUT] + index * pixel + channel * 4
        ld = t[_LD_RESIDUAL]
        residual = t[_RESIDUAL] + (index * ld + channel * 4 if ld else 0)
        if y0 + m <= height and x0 + m <= width:
            _call(
                natives[3 + m // 4], (p, step, bias, residual, width * ld, ld, floor, out, width * pixel, pixel, slices)
            )
            continue
        low = np.float32(-np.inf)  # a tile that reaches over the edge: into a patch, and from there what exists
        _call(natives[3 + m // 4], (p, step, bias, zeros, 0, 0, low, patch_at, m * NR * 4, NR * 4, slices))
        for y in range(min(m, height - y0)):
            for x in range(min(m, width - x0)):
                source = carray(_floats(patch_at + (y * m + x) * NR * 4), (count,))
                more = carray(_floats(residual + (y * width + x) * ld), (count,))
                place = carray(_floats(out + (y * width + x) * pixel), (count,))
                for i in range(count):
                    value = source[i] + more[i]
                    place[i] = floor if value < floor else value


@jit
def _tile_products(t, rows, v, ld_tile, step, panel, products, zeros, natives):
    """For each of the n * n elements e: products[e] = V[e] @ U[e], one panel of columns."""
    elements = (t[_M] + 2) * (t[_M] + 2)
    channels = t[_C]
    u = t[_WEIGHTS] + panel * elements * channels * NR * 4
    low = np.float32(-np.inf)
    for e in range(elements):
        _call(natives[0], (
            rows, v + e * step, ld_tile, u + e * channels * NR * 4, channels, NR, t[_PASSES], zeros, 0, zeros, 0, low,
            zeros, products + e * _odd_lines(rows * NR * 4), NR * 4,
        ))  # fmt: skip


@jit
def _winograd_item(t, item, scratch, zeros, floor, natives):
    m = t[_M]
    n = m + 2
    tiles = t[_N] * -(-t[_HO] // m) * -(-t[_WO] // m)
    first, last = _edges(tiles, item, t[_BLOCKS], 1)
    rows, channels = last - first, t[_C]
    patch = scratch
    ld_tile, step = channels * 4, _odd_lines(rows * channels * 4)
    v = patch + n * n * max(channels, NR) * 4
    products = v + n * n * step
    _tiles_in(t, first, last, v, ld_tile, step, patch, natives)
    for panel in range(-(-t[_CO] // NR)):
        _tile_products(t, rows, v, ld_tile, step, panel, products, zeros, natives)
        _tiles_out(t, first, last, products, NR * 4, _odd_lines(rows * NR * 4), panel, patch, zeros, floor, natives)


@jit
def _winograd_in_item(t, item, scratch, natives):
    m = t[_M]
    tiles = t[_N] * -(-t[_HO] // m) * -(-t[_WO] // m)
    first, last = _edges(tiles, item, t[_ITEMS], 1)
    pixel = t[_C] * 4
    _tiles_in(t, first, last, t[_BUFFER] + first * pixel, pixel, _odd_lines(tiles * pixel), scratch, natives)


@jit
def _winograd_out_item(t, item, scratch, zeros, floor, natives):
    m = t[_M]
    n = m + 2
    tiles = t[_N] * -(-t[_HO] // m) * -(-t[_WO] // m)
    panel, block = divmod(item, t[_BLOCKS])
    first, last = _edges(tiles, block, t[_BLOCKS], 1)
    rows, pixel = last - first, t[_C] * 4
    products = scratch + n * n * max(t[_C], NR) * 4
    _tile_products(t, rows, t[_BUFFER] + first * pixel, pixel, _odd_lines(tiles * pixel), panel, products, zeros, natives)
    _tiles_out(t, first, last, products, NR * 4, _odd_lines(rows * NR * 4), panel, scratch, zeros, floor, natives)


# ---------------------------------------------------------------------------------------------------------------------
# The small operators


@jit
def _maxpool_item(t, item):
    height, width, channels = t[_H], t[_W], t[_C]
    n, oh = divmod(item, t[_HO])
    x = carray(_floats(t[_X] + n * height * width * channels * 4), (height, width, channels))
    out = carray(_floats(t[_OUT] + item * t[_WO] * channels * 4), (t[_WO], channels))
    top, bottom = oh * t[_SH] - t[_TOP], oh * t[_SH] - t[_TOP] + t[_KH]
    for ow in range(t[_WO]):
        left, right = ow * t[_SW] - t[_LEFT], ow * t[_SW] - t[_LEFT] + t[_KW]
        best = out[ow]
        clipped = top < 0 or left < 0 or bottom > height or right > width
        start = np.float32(0.0) if clipped and t[_FLOOR] else _LOWEST
        for c in range(channels):
            best[c] = start
        for ih in range(max(top, 0), min(bottom, height)):
            for iw in range(max(left, 0), min(right, width)):
                seen = x[ih, iw]
                for c in range(channels):
                    best[c] = seen[c] if seen[c] > best[c] else best[c]


@jit
def _affine_item(t, item, floor):
    channels = t[_C]
    first, last = _edges(t[_N] * t[_H] * t[_W], item, t[_BLOCKS], 1)
    scale, shift = carray(_floats(t[_WEIGHTS]), (channels,)), carray(_floats(t[_BIAS]), (channels,))
    for pixel in range(first, last):
        x = carray(_floats(t[_X] + pixel * channels * 4), (channels,))
        more = carray(_floats(t[_RESIDUAL] + pixel * t[_LD_RESIDUAL]), (channels,))
        out = carray(_floats(t[_OUT] + pixel * channels * 4), (channels,))
        for c in range(channels):
            value = x[c] * scale[c] + shift[c] + more[c]
            out[c] = floor if value < floor else value


@jit
def _mean_item(t, item, scratch):
    pixels, channels = t[_H] * t[_W], t[_C]
    x = carray(_floats(t[_X] + item * pixels * channels * 4), (pixels, channels))
    out = carray(_floats(t[_OUT] + item * channels * 4), (channels,))
    sums = carray(_doubles(scratch), (channels,))
    for c in range(channels):
        sums[c] = 0.0
    for pixel in range(pixels):
        row = x[pixel]
        for c in range(channels):
            sums[c] += row[c]
    for c in range(channels):
        out[c] = sums[c] / pixels


@jit
def _softmax_item(t, item):
    count = t[_C]
    x = carray(_floats(t[_X] + item * count * 4), (count,))
    out = carray(_floats(t[_OUT] + item * count * 4), (count,))
    largest = x[0]
    for k in range(count):
        largest = max(largest, x[k])
    total = 0.0
    for k in range(count):
        out[k] = math.exp(x[k] - largest)
        total += out[k]
    for k in range(count):
        out[k] = out[k] / total


@jit
def _do(t, item, scratch, zeros, natives):
    floor = np.float32(0.0) if t[_RELU] else np.float32(-np.inf)
    kind = t[_KIND]
    if kind == 1:
        _multiply_item(t, item, zeros, floor, natives)
    elif kind == 2:
        _conv_item(t, item, scratch, zeros, floor, natives)
    elif kind == 3:
        _cols_item(t, item)
    elif kind == 4:
        _winograd_item(t, item, scratch, zeros, floor, natives)
    elif kind == 5:
        _winograd_in_item(t, item, scratch, natives)
    elif kind == 6:
        _winograd_out_item(t, item, scratch, zeros, floor, natives)
    elif kind == 7:
        _maxpool_item(t, item)
    elif kind == 8:
        _affine_item(t, item, floor)
    elif kind == 9:
        _mean_item(t, item, scratch)
    elif kind == 10:
        _softmax_item(t, item)


@jit
def run_steps(table, sync, scratch, zeros, natives):
    """Work off all steps, together with whoever else calls this with the same ``table`` and ``sync``.

    table    int64[steps, COLUMNS]
    sync     int64[2 * steps], zeros at the start: items claimed, items done
    scratch  address of this thread's own working memory
    zeros    address of zeros, as many as the widest layer has channels
    natives  int64[5], ``native_addresses()``
    """
    for s in range(len(table)):
        t = table[s]
        items = t[_ITEMS]
        done = 0
        while True:
            item = _atomic_add(sync, 2 * s, 1)
            if item >= items:
                break
            _do(t, item, scratch, zeros, natives)
            done += 1
        if done:
            _atomic_add(sync, 2 * s + 1, done)
        spins = 0
        while _atomic_load(sync, 2 * s + 1) < items:
            spins += 1
            if spins > 2000:  # tens of microseconds: the others were interrupted, let them have this processor
                _yield_processor()


@functools.cache
def native_addresses():
    """Addresses of the large kernels, in the order in which steps refer to them; compiled or loaded now."""
    kernels = (multiply, input_transform2, input_transform4, output_transform2, output_transform4)
    return np.array([kernel.address for kernel in kernels], np.int64)
