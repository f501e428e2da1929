"""Running a whole plan in one compiled call: a table of steps, worked off by any number of threads.

Every step is a row of integers (addresses, shapes, choices) and a number of work items. Threads claim items from a
counter, and wait at the end of a step until all its items are done: that wait is the only synchronisation. A thread
that comes late, or not at all, is not waited for; what it would have done, others do. An item's result does not depend
on who computes it or on how the step is cut, so results are the same bits for any number of threads.

All addresses and distances between rows are in bytes. The functions are ``native``, and call each other by address:
Numba would compile each of them again inside every caller, and those inside theirs.
"""

from __future__ import annotations

import math
import platform
import sys
from enum import IntEnum

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import threads as _threads
from .arrays import Array
from .gemm import KC
from .geometry import Window
from .grouptile import PIXELS, SPLAT, SPREAD, group_row, layout
from .jit import call, jit, native
from .simd import LANES, copy_floats
from .tile import MR, NR, multiply
from .winograd import input_transform2, input_transform4, output_transform2, output_transform4

__all__ = [
    "COLUMNS",
    "SYNC",
    "TILES",
    "Column",
    "Kind",
    "addresses",
    "band_bytes",
    "grouped",
    "run_steps",
    "v_bytes",
    "winograd",
    "working_bytes",
]


class Kind(IntEnum):
    """What a step does."""

    MULTIPLY = 1  # rows of X, as they lie, times packed weights: a 1x1 convolution
    CONV = 2  # im2col of a block of pixels, times packed weights
    COLUMNS = 3  # im2col alone
    WINOGRAD = 4  # all of F(m x m, 3x3), a block of tiles at a time
    WINOGRAD_IN = 5  # its first part for the whole map ...
    WINOGRAD_OUT = 6  # ... and the rest, a panel of output channels at a time
    MAXPOOL = 7
    AFFINE = 8  # x * scale + shift (+ residual), ReLU
    MEAN = 9  # over all pixels
    SOFTMAX = 10
    GROUPED = 11  # a grouped convolution, some rows and one register of output channels at a time
    AVGPOOL = 12
    PRODUCT = 13  # x * another (+ residual), ReLU
    SIGMOID = 14
    MAXIMUM = 15  # over all pixels


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
    BUFFER = 26  # address of V, or of a product's second factor
    FLOOR = 27  # max-pool: 1 if zero-padding takes part
    DH = 28
    DW = 29
    GROUPS = 30
    SHARED = 31  # how many pixels of a product's first factor go with one of the second


COLUMNS = len(Column)
TILES = 28
"""Tiles of one item of a Winograd step that keeps its V to itself: found by measuring."""
SYNC = 3
"""Numbers per step that threads share: items claimed, items done, the clock when the step was done. One more number
behind them all is the clock at the start."""

# plain integers: Numba reads globals as constants
_KIND, _ITEMS, _X, _OUT, _WEIGHTS, _BIAS, _RESIDUAL, _LD_RESIDUAL, _RELU = range(9)
_N, _H, _W, _C, _HO, _WO, _CO, _KH, _KW, _SH, _SW, _TOP, _LEFT = range(9, 22)
_PASSES, _BLOCKS, _BY_PANEL, _M, _BUFFER, _FLOOR, _DH, _DW, _GROUPS, _SHARED = range(22, 32)

_LOWEST = np.finfo(np.float32).min
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


_integers = _pointer_to(types.int64, ir.IntType(64))
_floats = _pointer_to(types.float32, ir.FloatType())
_doubles = _pointer_to(types.float64, ir.DoubleType())


@intrinsic
def _copy(typingctx, to, source, count):
    """Copy ``count`` bytes from address to address."""

    def codegen(context, builder, signature, arguments):
        to, source = (builder.inttoptr(a, cgutils.voidptr_t) for a in arguments[:2])
        cgutils.raw_memcpy(builder, to, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def _zero(typingctx, to, count):
    """Set ``count`` bytes to zero."""

    def codegen(context, builder, signature, arguments):
        cgutils.memset(builder, builder.inttoptr(arguments[0], cgutils.voidptr_t), arguments[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _atomic_add(typingctx, array, index, value):
    """array[index] += value, as one indivisible step; returns the old value."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "acq_rel")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def _atomic_load(typingctx, array, index):
    """array[index], with all that was written before it."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def _yield_processor(typingctx):
    """Let another thread run."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])

    return types.int32(), codegen


@intrinsic
def _clock(typingctx):
    """The processor's own clock, in a unit of its own."""

    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{_CLOCK}"), [])

    return types.int64(), codegen


# ---------------------------------------------------------------------------------------------------------------------
# What several kinds of steps share. ``step`` is the address of a row of the table, ``natives`` that of the functions'.

_i = types.int64


@jit
def _edges(total, block, blocks, unit):
    """First and last-but-one of part number ``block`` of 0..total-1 cut into ``blocks``, at multiples of ``unit``."""
    units = (total + unit - 1) // unit
    return min(units * block // blocks * unit, total), min(units * (block + 1) // blocks * unit, total)


def _odd(size: int) -> int:
    """``size`` bytes rounded up to an odd number of cache lines: elements so far apart share no set of a cache."""
    return (size + 63) // 64 // 2 * 128 + 64


def _band_rows(rows: int, taps: int, stride: int, dilation: int) -> int:
    """Rows of inputs that so many rows of outputs read."""
    return (rows - 1) * stride + (taps - 1) * dilation + 1


def _band_columns(wo: int, taps: int, stride: int, dilation: int) -> int:
    """Columns of the copy: as many as whole tiles read."""
    return (-(-wo // PIXELS) * PIXELS - 1) * stride + (taps - 1) * dilation + 1


_odd_lines, _layout, _rows_read, _columns_read = jit(_odd), jit(layout), jit(_band_rows), jit(_band_columns)


def v_bytes(m: int, tiles: int, channels: int) -> int:
    """Size of V, the transformed patches of ``tiles`` tiles of F(m x m, 3x3)."""
    return (m + 2) ** 2 * _odd(4 * tiles * channels)


def band_bytes(rows: int, window: Window, p: int, q: int) -> int:
    """Size of the copy that a band of ``rows`` rows of outputs needs in a grouped convolution, of ``p`` input and ``q``
    output channels in each group."""
    kh, kw, sh, sw, dh, dw, _, _, _, wo = window
    return _band_rows(rows, kh, sh, dh) * _band_columns(wo, kw, sw, dw) * layout(p, q)[1] * 4


BAND_BYTES = 1 << 15
"""Of the copy that an item of a grouped convolution makes: it shall stay in L1."""


def group_bands(window: Window, p: int, q: int) -> int:
    """Into how many bands of rows a grouped convolution is cut."""
    ho, rows = window[8], 1
    while rows < ho and band_bytes(rows + 1, window, p, q) <= BAND_BYTES:
        rows += 1
    return -(-ho // rows)


def working_bytes(kind: Kind, m: int, tiles: int, channels: int) -> int:
    """What an item of ``tiles`` tiles needs of a thread's own working memory, in a Winograd step."""
    patch = 4 * (m + 2) ** 2 * channels
    products = v_bytes(m, tiles, NR) + 4 * m**2 * NR
    if kind == Kind.WINOGRAD_IN:
        return patch
    return products if kind == Kind.WINOGRAD_OUT else v_bytes(m, tiles, channels) + max(patch, products)


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i))
def _panels(step, natives, rows, a, lda, first_row, panel0, panel1, zeros):
    """``rows`` rows at ``a`` times panels panel0..panel1-1, into rows from ``first_row`` on of the output."""
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    depth, ldc, ld_residual = t[_KH] * t[_KW] * t[_C], t[_CO] * 4, t[_LD_RESIDUAL]
    floor = np.float32(0.0) if t[_RELU] else np.float32(-np.inf)
    for panel in range(panel0, panel1):
        at = panel * NR * 4
        residual = t[_RESIDUAL] + (first_row * ld_residual + at if ld_residual else 0)
        call(f[_MULTIPLY], (
            rows, a, lda, t[_WEIGHTS] + panel * depth * NR * 4, depth, t[_CO] - panel * NR, t[_PASSES],
            t[_BIAS] + at, 0, residual, ld_residual, floor, zeros, t[_OUT] + first_row * ldc + at, ldc,
        ))  # fmt: skip


@native(types.void(_i, _i, _i, _i))
def _patches(step, m0, m1, cols):
    """The patches of output pixels m0..m1-1 as rows of a matrix at ``cols``."""
    t = carray(_integers(step), (COLUMNS,))
    height, width, pixel, wo = t[_H], t[_W], t[_C] * 4, t[_WO]
    dh, dw = t[_DH], t[_DW]
    taps = t[_KW] if dw == 1 else 1  # that lie side by side, so that they are copied in one go
    n, position = divmod(m0, t[_HO] * wo)
    oh, ow = divmod(position, wo)
    for _ in range(m0, m1):
        ih, first = oh * t[_SH] - t[_TOP], ow * t[_SW] - t[_LEFT]
        for y in range(ih, ih + t[_KH] * dh, dh):
            for iw in range(first, first + t[_KW] * dw, taps * dw):
                left, right = max(iw, 0), min(iw + taps, width)
                count = (right - left) * t[_C]
                if y < 0 or y >= height or right - left < taps:
                    _zero(cols, taps * pixel)
                if y >= 0 and y < height and count > 0:
                    source = t[_X] + ((n * height + y) * width + left) * pixel
                    to = cols + (left - iw) * pixel
                    if count > 8 * LANES:
                        _copy(to, source, count * 4)
                    else:  # a call of the C library would take longer
                        for i in range(0, count, LANES):
                            copy_floats(to + i * 4, source + i * 4, count - i)
                cols += taps * pixel
        ow += 1
        if ow == wo:
            oh, ow = oh + 1, 0
            if oh == t[_HO]:
                n, oh = n + 1, 0


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i))
def _band(step, n, first_row, rows, columns, first_channel, how, to):
    """Rows of an image with the border that they have, for a grouped convolution: of each pixel what LANES output channels
    from ``first_channel`` on read, as ``grouptile`` wants it."""
    t = carray(_integers(step), (COLUMNS,))
    height, width, channels, left = t[_H], t[_W], t[_C], t[_LEFT]
    p, q = channels // t[_GROUPS], t[_CO] // t[_GROUPS]
    unit = (p if how == SPLAT else p * LANES if how == SPREAD else LANES) * 4
    source = first_channel // q * p  # the first channel that is read
    count = p if how == SPLAT else min(LANES, channels - source)
    lanes = min(LANES, t[_CO] - first_channel)
    for ih in range(first_row, first_row + rows):
        if ih < 0 or ih >= height:
            _zero(to, columns * unit)
            to += columns * unit
            continue
        inside = max(min(width, columns - left), 0)
        x = t[_X] + ((n * height + ih) * width * channels + source) * 4
        _zero(to, min(left, columns) * unit)
        to += min(left, columns) * unit
        for _ in range(inside):
            if how == SPREAD:
                for lane in range(lanes):
                    at = x + ((first_channel + lane) // q * p - source) * 4
                    for c in range(p):
                        copy_floats(to + (c * LANES + lane) * 4, at + c * 4, 1)
            else:
                for c in range(0, count, LANES):
                    copy_floats(to + c * 4, x + c * 4, count - c)
            to += unit
            x += channels * 4
        rest = columns - min(left, columns) - inside
        _zero(to, rest * unit)
        to += rest * unit


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i))
def _tiles_in(step, natives, first, last, v, ld_tile, distance, patch_at):
    """V of tiles first..last-1: element e of tile i at v + (i - first) * ld_tile + e * distance."""
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    m, height, width, channels = t[_M], t[_H], t[_W], t[_C]
    n = m + 2
    down, across = (height + m - 1) // m, (width + m - 1) // m
    pixel = channels * 4
    transform = f[_INPUT_TRANSFORM4] if m == 4 else f[_INPUT_TRANSFORM2]
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
        call(transform, (d, row, pixel, at, distance, channels // LANES))


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i, _i))
def _tiles_out(step, natives, first, last, v, ld_tile, distance, panel, products, zeros):
    """Outputs of tiles first..last-1 in one panel of channels: the products of V with U, transformed.

    products  address of room for the products and, behind them, for one tile of outputs
    """
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    m, height, width, co, channels = t[_M], t[_HO], t[_WO], t[_CO], t[_C]
    rows, elements = last - first, (m + 2) * (m + 2)
    between = _odd_lines(rows * NR * 4)
    u = t[_WEIGHTS] + panel * elements * channels * NR * 4
    low = np.float32(-np.inf)
    for e in range(elements):
        call(f[_MULTIPLY], (
            rows, v + e * distance, ld_tile, u + e * channels * NR * 4, channels, NR, t[_PASSES],
            zeros, 0, zeros, 0, low, zeros, products + e * between, NR * 4,
        ))  # fmt: skip

    floor = np.float32(0.0) if t[_RELU] else low
    patch_at = products + elements * between
    down, across = (height + m - 1) // m, (width + m - 1) // m
    pixel, channel = co * 4, panel * NR
    count = min(NR, co - channel)
    slices = count // LANES
    bias = t[_BIAS] + channel * 4
    ld = t[_LD_RESIDUAL]
    transform = f[_OUTPUT_TRANSFORM4] if m == 4 else f[_OUTPUT_TRANSFORM2]
    for tile in range(first, last):
        image, position = divmod(tile, down * across)
        y0, x0 = position // across * m, position % across * m
        p = products + (tile - first) * NR * 4
        index = (image * height + y0) * width + x0
        out = t[_OUT] + index * pixel + channel * 4
        residual = t[_RESIDUAL] + (index * ld + channel * 4 if ld else 0)
        if y0 + m <= height and x0 + m <= width:
            call(transform, (
                p, between, bias, residual, width * ld, ld, floor, out, width * pixel, pixel, slices
            ))  # fmt: skip
            continue
        # a tile that reaches over the edge: into a patch, and from there what exists
        call(transform, (p, between, bias, zeros, 0, 0, low, patch_at, m * NR * 4, NR * 4, slices))
        for y in range(min(m, height - y0)):
            for x in range(min(m, width - x0)):
                source = carray(_floats(patch_at + (y * m + x) * NR * 4), (count,))
                more = carray(_floats(residual + (y * width + x) * ld), (count,))
                place = carray(_floats(out + (y * width + x) * pixel), (count,))
                for i in range(count):
                    value = source[i] + more[i]
                    place[i] = floor if value < floor else value


# ---------------------------------------------------------------------------------------------------------------------
# One function for each kind of step, all of one signature

_item = native(types.void(_i, _i, _i, _i, _i))


@_item
def _multiply_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    lda = t[_C] * 4
    panel0, panel1, block = 0, (t[_CO] + NR - 1) // NR, item
    if t[_BY_PANEL]:
        panel0, block = divmod(item, t[_BLOCKS])
        panel1 = panel0 + 1
    m0, m1 = _edges(t[_N] * t[_HO] * t[_WO], block, t[_BLOCKS], MR)
    call(f[_PANELS], (step, natives, m1 - m0, t[_X] + m0 * lda, lda, m0, panel0, panel1, zeros))


@_item
def _conv_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    m0, m1 = _edges(t[_N] * t[_HO] * t[_WO], item, t[_BLOCKS], MR)
    call(f[_PATCHES], (step, m0, m1, scratch))
    lda = t[_KH] * t[_KW] * t[_C] * 4
    call(f[_PANELS], (step, natives, m1 - m0, scratch, lda, m0, 0, (t[_CO] + NR - 1) // NR, zeros))


@_item
def _columns_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    m0, m1 = _edges(t[_N] * t[_HO] * t[_WO], item, t[_BLOCKS], 1)
    call(f[_PATCHES], (step, m0, m1, t[_OUT] + m0 * t[_KH] * t[_KW] * t[_C] * 4))


@jit
def _tiles(t):
    """Number of tiles of a Winograd step, of the whole batch."""
    m = t[_M]
    return t[_N] * ((t[_HO] + m - 1) // m) * ((t[_WO] + m - 1) // m)


@_item
def _winograd_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    elements = (t[_M] + 2) * (t[_M] + 2)
    first, last = _edges(_tiles(t), item, t[_BLOCKS], 1)
    ld_tile = t[_C] * 4
    distance = _odd_lines((last - first) * ld_tile)
    products = scratch + elements * distance  # and where V's patch of zeros lies, before there are products
    call(f[_TILES_IN], (step, natives, first, last, scratch, ld_tile, distance, products))
    for panel in range((t[_CO] + NR - 1) // NR):
        call(f[_TILES_OUT], (step, natives, first, last, scratch, ld_tile, distance, panel, products, zeros))


@_item
def _winograd_in_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    tiles, ld_tile = _tiles(t), t[_C] * 4
    first, last = _edges(tiles, item, t[_ITEMS], 1)
    v, distance = t[_BUFFER] + first * ld_tile, _odd_lines(tiles * ld_tile)
    call(f[_TILES_IN], (step, natives, first, last, v, ld_tile, distance, scratch))


@_item
def _winograd_out_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    panel, block = divmod(item, t[_BLOCKS])
    tiles, ld_tile = _tiles(t), t[_C] * 4
    first, last = _edges(tiles, block, t[_BLOCKS], 1)
    v, distance = t[_BUFFER] + first * ld_tile, _odd_lines(tiles * ld_tile)
    call(f[_TILES_OUT], (step, natives, first, last, v, ld_tile, distance, panel, scratch, zeros))


@_item
def _maxpool_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    height, width, channels = t[_H], t[_W], t[_C]
    n, oh = divmod(item, t[_HO])
    x = carray(_floats(t[_X] + n * height * width * channels * 4), (height * width, channels))
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
                seen = x[ih * width + iw]
                for c in range(channels):
                    best[c] = seen[c] if seen[c] > best[c] else best[c]


@_item
def _affine_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    channels = t[_C]
    floor = np.float32(0.0) if t[_RELU] else np.float32(-np.inf)
    first, last = _edges(t[_N] * t[_H] * t[_W], item, t[_BLOCKS], 1)
    scale, shift = carray(_floats(t[_WEIGHTS]), (channels,)), carray(_floats(t[_BIAS]), (channels,))
    for pixel in range(first, last):
        x = carray(_floats(t[_X] + pixel * channels * 4), (channels,))
        more = carray(_floats(t[_RESIDUAL] + pixel * t[_LD_RESIDUAL]), (channels,))
        out = carray(_floats(t[_OUT] + pixel * channels * 4), (channels,))
        for c in range(channels):
            value = x[c] * scale[c] + shift[c] + more[c]
            out[c] = floor if value < floor else value


@_item
def _mean_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    pixels, channels = t[_H] * t[_W], t[_C]
    n, block = divmod(item, t[_BLOCKS])
    first, last = _edges(channels, block, t[_BLOCKS], LANES)
    count = last - first
    x = t[_X] + (n * pixels * channels + first) * 4
    out = carray(_floats(t[_OUT] + (n * channels + first) * 4), (count,))
    sums = carray(_doubles(scratch), (count,))
    for c in range(count):
        sums[c] = 0.0
    for pixel in range(pixels):
        row = carray(_floats(x + pixel * channels * 4), (count,))
        for c in range(count):
            sums[c] += row[c]
    for c in range(count):
        out[c] = sums[c] / pixels


@_item
def _softmax_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
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


@_item
def _grouped_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    f = carray(_integers(natives), (_FUNCTIONS,))
    wo, co, kh, kw, ld = t[_WO], t[_CO], t[_KH], t[_KW], t[_LD_RESIDUAL]
    p, q = t[_C] // t[_GROUPS], co // t[_GROUPS]
    how, unit = _layout(p, q)
    block, band = divmod(item, t[_N] * t[_BLOCKS])
    n, band = divmod(band, t[_BLOCKS])
    first, last = _edges(t[_HO], band, t[_BLOCKS], 1)
    channel = block * LANES
    columns = _columns_read(wo, kw, t[_SW], t[_DW])
    rows = _rows_read(last - first, kh, t[_SH], t[_DH])
    call(f[_BAND], (step, n, first * t[_SH] - t[_TOP], rows, columns, channel, how, scratch))
    pixel, ldc = unit * 4, co * 4
    weights = t[_WEIGHTS] + block * kh * kw * p * LANES * 4
    floor = np.float32(0.0) if t[_RELU] else np.float32(-np.inf)
    for oh in range(first, last):
        index = (n * t[_HO] + oh) * wo
        residual = t[_RESIDUAL] + (index * ld + channel * 4 if ld else 0)
        call(f[_GROUP_ROW], (
            how, scratch + (oh - first) * t[_SH] * columns * pixel, t[_SW] * pixel, t[_DH] * columns * pixel,
            t[_DW] * pixel, kh, kw, p, weights, t[_BIAS] + channel * 4, residual, ld, floor,
            t[_OUT] + index * ldc + channel * 4, ldc, wo, min(LANES, co - channel),
        ))  # fmt: skip


@_item
def _avgpool_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    height, width, channels = t[_H], t[_W], t[_C]
    n, oh = divmod(item, t[_HO])
    x = carray(_floats(t[_X] + n * height * width * channels * 4), (height * width, channels))
    out = carray(_floats(t[_OUT] + item * t[_WO] * channels * 4), (t[_WO], channels))
    sums = carray(_doubles(scratch), (channels,))
    top, bottom = max(oh * t[_SH] - t[_TOP], 0), min(oh * t[_SH] - t[_TOP] + t[_KH], height)
    for ow in range(t[_WO]):
        left, right = max(ow * t[_SW] - t[_LEFT], 0), min(ow * t[_SW] - t[_LEFT] + t[_KW], width)
        for c in range(channels):
            sums[c] = 0.0
        for ih in range(top, bottom):
            for iw in range(left, right):
                seen = x[ih * width + iw]
                for c in range(channels):
                    sums[c] += seen[c]
        mean, count = out[ow], (bottom - top) * (right - left)
        for c in range(channels):
            mean[c] = sums[c] / count


@_item
def _product_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    channels = t[_C]
    floor = np.float32(0.0) if t[_RELU] else np.float32(-np.inf)
    first, last = _edges(t[_N] * t[_H] * t[_W], item, t[_BLOCKS], 1)
    for pixel in range(first, last):
        x = carray(_floats(t[_X] + pixel * channels * 4), (channels,))
        factor = carray(_floats(t[_BUFFER] + pixel // t[_SHARED] * channels * 4), (channels,))
        more = carray(_floats(t[_RESIDUAL] + pixel * t[_LD_RESIDUAL]), (channels,))
        out = carray(_floats(t[_OUT] + pixel * channels * 4), (channels,))
        for c in range(channels):
            value = x[c] * factor[c] + more[c]
            out[c] = floor if value < floor else value


@_item
def _sigmoid_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    first, last = _edges(t[_N] * t[_H] * t[_W] * t[_C], item, t[_BLOCKS], LANES)
    x = carray(_floats(t[_X] + first * 4), (last - first,))
    out = carray(_floats(t[_OUT] + first * 4), (last - first,))
    for i in range(last - first):
        out[i] = 1.0 / (1.0 + math.exp(-np.float64(x[i])))


@_item
def _maximum_item(step, natives, item, scratch, zeros):
    t = carray(_integers(step), (COLUMNS,))
    pixels, channels = t[_H] * t[_W], t[_C]
    x = carray(_floats(t[_X] + item * pixels * channels * 4), (pixels, channels))
    out = carray(_floats(t[_OUT] + item * channels * 4), (channels,))
    for c in range(channels):
        out[c] = x[0, c]
    for pixel in range(1, pixels):
        seen = x[pixel]
        for c in range(channels):
            if seen[c] > out[c] or seen[c] != seen[c]:  # NaN wins, as in TensorFlow's reduce_max
                out[c] = seen[c]


# ---------------------------------------------------------------------------------------------------------------------
# The loop over steps, and the addresses of all that it calls

_items = {
    Kind.MULTIPLY: _multiply_item,
    Kind.CONV: _conv_item,
    Kind.COLUMNS: _columns_item,
    Kind.WINOGRAD: _winograd_item,
    Kind.WINOGRAD_IN: _winograd_in_item,
    Kind.WINOGRAD_OUT: _winograd_out_item,
    Kind.MAXPOOL: _maxpool_item,
    Kind.AFFINE: _affine_item,
    Kind.MEAN: _mean_item,
    Kind.SOFTMAX: _softmax_item,
    Kind.GROUPED: _grouped_item,
    Kind.AVGPOOL: _avgpool_item,
    Kind.PRODUCT: _product_item,
    Kind.SIGMOID: _sigmoid_item,
    Kind.MAXIMUM: _maximum_item,
}
_MULTIPLY, _PANELS, _PATCHES, _TILES_IN, _TILES_OUT, _BAND, _GROUP_ROW = range(len(Kind) + 1, len(Kind) + 8)
_INPUT_TRANSFORM2, _INPUT_TRANSFORM4, _OUTPUT_TRANSFORM2, _OUTPUT_TRANSFORM4 = range(len(Kind) + 8, len(Kind) + 12)
_FUNCTIONS = len(Kind) + 12
_parts = {
    _MULTIPLY: multiply,
    _PANELS: _panels,
    _PATCHES: _patches,
    _TILES_IN: _tiles_in,
    _TILES_OUT: _tiles_out,
    _BAND: _band,
    _GROUP_ROW: group_row,
    _INPUT_TRANSFORM2: input_transform2,
    _INPUT_TRANSFORM4: input_transform4,
    _OUTPUT_TRANSFORM2: output_transform2,
    _OUTPUT_TRANSFORM4: output_transform4,
}
_calls = {
    Kind.MULTIPLY: (_MULTIPLY, _PANELS),
    Kind.CONV: (_MULTIPLY, _PANELS, _PATCHES),
    Kind.COLUMNS: (_PATCHES,),
    Kind.WINOGRAD_IN: (_TILES_IN,),
    Kind.WINOGRAD_OUT: (_MULTIPLY, _TILES_OUT),
    Kind.WINOGRAD: (_MULTIPLY, _TILES_IN, _TILES_OUT),
    Kind.GROUPED: (_BAND, _GROUP_ROW),
}


def addresses(table: Array) -> Array:
    """int64[...]: the addresses of all functions that the steps of ``table`` call, at the places where they look for
    them; compiled, or loaded, now if they never were. The others' places hold 0."""
    found = np.zeros(_FUNCTIONS, np.int64)
    for kind, m in {(Kind(row[_KIND]), int(row[_M])) for row in table}:
        found[kind] = _items[kind].address
        parts = [*_calls.get(kind, ())]
        if kind in (Kind.WINOGRAD, Kind.WINOGRAD_IN):
            parts.append(_INPUT_TRANSFORM4 if m == 4 else _INPUT_TRANSFORM2)
        if kind in (Kind.WINOGRAD, Kind.WINOGRAD_OUT):
            parts.append(_OUTPUT_TRANSFORM4 if m == 4 else _OUTPUT_TRANSFORM2)
        for part in parts:
            found[part] = _parts[part].address
    return found


@jit
def run_steps(table, sync, scratch, zeros, natives):
    """Work off all steps, together with whoever else calls this with the same ``table`` and ``sync``.

    table    int64[steps, COLUMNS]
    sync     int64[SYNC * steps + 1], zeros at the start
    scratch  address of this thread's own working memory
    zeros    address of zeros, as many as the widest layer has channels
    natives  int64[...], ``addresses`` of these kinds of steps
    """
    if sync[SYNC * len(table)] == 0:
        sync[SYNC * len(table)] = _clock()
    for s in range(len(table)):
        items = table[s, _ITEMS]
        step = table.ctypes.data + s * COLUMNS * 8
        function = natives[table[s, _KIND]]
        done = 0
        while True:
            item = _atomic_add(sync, SYNC * s, 1)
            if item >= items:
                break
            call(function, (step, natives.ctypes.data, item, scratch, zeros))
            done += 1
        if done:
            _atomic_add(sync, SYNC * s + 1, done)
        spins = 0
        while _atomic_load(sync, SYNC * s + 1) < items:
            spins += 1
            if spins > 2000:  # tens of microseconds: the others were interrupted, let them have this processor
                _yield_processor()
        if sync[SYNC * s + 2] == 0:  # a thread that comes late does not set it again
            sync[SYNC * s + 2] = _clock()


def grouped(x: Array, panels: Array, bias: Array, groups: int, window: Window, out: Array, threads: int) -> None:
    """One grouped convolution, as a plan of a single step.

    x       float32[n, h, w, ci], C-contiguous
    panels  float32[ceil(co / LANES), kh * kw * ci / groups, LANES], the kernel, zeros where it has no output channels
    bias    float32, as many as the panels have columns
    out     float32[n, ho, wo, co], C-contiguous
    """
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    n, h, w, ci = x.shape
    co = out.shape[3]
    zeros = np.zeros(co + LANES, np.float32)
    bands = group_bands(window, ci // groups, co // groups)
    row = {
        Column.KIND: Kind.GROUPED, Column.ITEMS: n * bands * len(panels), Column.BLOCKS: bands, Column.GROUPS: groups,
        Column.N: n, Column.H: h, Column.W: w, Column.C: ci, Column.HO: ho, Column.WO: wo, Column.CO: co,
        Column.KH: kh, Column.KW: kw, Column.SH: sh, Column.SW: sw, Column.DH: dh, Column.DW: dw, Column.TOP: top,
        Column.LEFT: left, Column.X: x.ctypes.data, Column.OUT: out.ctypes.data, Column.WEIGHTS: panels.ctypes.data,
        Column.BIAS: bias.ctypes.data, Column.RESIDUAL: zeros.ctypes.data,
    }  # fmt: skip
    size = band_bytes(-(-ho // bands), window, ci // groups, co // groups)
    _single(row, size, zeros, threads)


def winograd(x: Array, panels: Array, bias: Array, out: Array, threads: int) -> None:
    """One convolution F(4x4,3x3) with a border of one zero, as a plan of a single step.

    x       float32[n, h, w, ci], C-contiguous, ci a multiple of LANES
    panels  float32[ceil(co / NR), 36, ci, NR], the transformed kernels; bias float32[ceil(co / NR) * NR]
    out     float32[n, h, w, co], C-contiguous, co a multiple of LANES
    """
    n, h, w, ci = x.shape
    tiles = n * -(-h // 4) * -(-w // 4)
    blocks = -(-tiles // TILES)
    zeros = np.zeros(max(ci, out.shape[3]) + NR, np.float32)
    row = {
        Column.KIND: Kind.WINOGRAD, Column.ITEMS: blocks, Column.BLOCKS: blocks, Column.M: 4, Column.N: n,
        Column.H: h, Column.W: w, Column.C: ci, Column.HO: h, Column.WO: w, Column.CO: out.shape[3],
        Column.PASSES: max(-(-ci // KC), 1), Column.X: x.ctypes.data, Column.OUT: out.ctypes.data,
        Column.WEIGHTS: panels.ctypes.data, Column.BIAS: bias.ctypes.data, Column.RESIDUAL: zeros.ctypes.data,
    }  # fmt: skip
    _single(row, working_bytes(Kind.WINOGRAD, 4, TILES, ci), zeros, threads)


def _single(row: dict[Column, int], size: int, zeros: Array, threads: int) -> None:
    """Run a plan of a single step, for which every thread has ``size`` bytes of its own."""
    table = np.array([[row.get(column, 0) for column in Column]], np.int64)
    working = [np.empty(size // 4 + 1, np.float32) for _ in range(threads)]
    sync, natives = np.zeros(SYNC + 1, np.int64), addresses(table)
    calls = [(table, sync, own.ctypes.data, zeros.ctypes.data, natives) for own in working]
    _threads.start(run_steps, calls)
