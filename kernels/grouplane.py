"""The micro-kernel of grouped convolutions in which each lane of a register computes a group of its own.

    sums[pixel, k, lane] = sum over taps and c of x[pixel + tap, c, lane] * w[tap, c, k, lane]

LANES groups side by side are a bundle: of each pixel p registers, for p channels in each group. As they lie in the image these
hold one group after another; here register c holds channel c of all groups. So weights and inputs meet in multiply-adds alone,
where ``grouptile.py``, which takes groups as they lie, has a shuffle or a load for each. The order is changed once when a pixel
is copied, for all taps and output channels, and back when a pixel is finished. It goes by quads, four channels of one group:

    unlaced      quads with the same channels are brought together, a register of them for every fourth lane, and four such
                 registers transposed as 4x4 matrices within each 128 bits
    laced        the way back

An output's sum is the same as that of ``grouptile.py``, term by term, and so are its bits.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .arrays import Array
from .jit import native
from .numba_later import cgutils, intrinsic, types
from .simd import LANES, VECTOR, activated, constant, fma, load, number, prefetch, splat, store

__all__ = ["PIXELS", "SIZES", "finish_pixels", "in_lanes", "lane_order", "lane_tile", "unlace"]

SIZES = (4, 8, 16, 32)
"""Channels of a group for which there is code."""

PIXELS, _OUTPUTS = (7, 4) if LANES == 16 else (5, 2)
"""A tile: pixels, and output channels of each group; maps of a ResNet for images of 224x224 are 56, 28, 14 and 7 pixels wide. All 32
registers of AVX-512 are taken by 7 by 4, which is up to a twentieth faster than 7 by 2. In the 16 of AVX2 there would be room for
6 by 2, which is slower for 14 pixels and no faster for others."""

_AHEAD = 1 << 14
"""Bytes of weights by which they are asked for before they are needed: from memory, they are what groups of 16 channels or more
on small maps wait for (``bench/bench_layers.py``)."""

_BYTES, _QUADS = 4 * LANES, LANES // 4
_QUAD = ir.VectorType(ir.FloatType(), 4)


def in_lanes(p: int, q: int, groups: int) -> bool:
    """Whether a convolution of ``groups`` groups of p input and q output channels can be computed so."""
    return p == q and p in SIZES and groups % LANES == 0


def lane_order(w: Array) -> Array:
    """Weights dtype[taps, p, co] in the order of reading: dtype[bundles, p / outputs, taps, p, outputs, LANES], of a tile's output
    channels at a time."""
    taps, p, co = w.shape
    # a bundle's groups come to lie in its lanes as [4, LANES / 4] transposed
    wide = w.reshape(taps, p, co // (p * LANES), 4, _QUADS, p // _OUTPUTS, _OUTPUTS)
    return np.ascontiguousarray(wide.transpose(2, 5, 0, 1, 6, 4, 3)).reshape(
        -1, p // _OUTPUTS, taps, p, _OUTPUTS, LANES
    )


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _transposed(builder, rows):
    """Four registers as 4x4 matrices, one in each 128 bits, transposed."""

    def chosen(a, b, lanes):
        return _shuffle(builder, a, b, [4 * quad + lane for quad in range(_QUADS) for lane in lanes])

    def pairs(a, b, first):
        return chosen(a, b, (first, LANES + first, first + 1, LANES + first + 1))

    def halves(a, b, first):
        return chosen(a, b, (first, first + 1, LANES + first, LANES + first + 1))

    a, b, c, d = rows
    low, high = (pairs(a, b, 0), pairs(c, d, 0)), (pairs(a, b, 2), pairs(c, d, 2))
    return [halves(*low, 0), halves(*low, 2), halves(*high, 0), halves(*high, 2)]


def _register(builder, places):
    """One register of the quads at these addresses."""
    parts = [load(builder, place, _QUAD) for place in places]
    while len(parts) > 1:
        parts = [
            _shuffle(builder, a, b, list(range(2 * a.type.count))) for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _four(builder, address):
    """Four registers that follow each other."""
    return [load(builder, builder.add(address, number(c * _BYTES))) for c in range(4)]


@intrinsic(prefer_literal=True)
def _unlace(typingctx, alone, source, pitch, to):
    """One quad of each group, from group to group ``pitch`` bytes; ``alone``: the groups have no other."""
    i = types.int64

    def codegen(context, builder, signature, arguments):
        _, source, pitch, to = arguments
        if alone.literal_value:
            rows = _four(builder, source)
        else:
            groups = [builder.add(source, builder.mul(number(group), pitch)) for group in range(LANES)]
            rows = [_register(builder, groups[first : first + _QUADS]) for first in range(0, LANES, _QUADS)]
        for c, value in enumerate(_transposed(builder, rows)):
            store(builder, value, builder.add(to, number(c * _BYTES)))
        return context.get_dummy_value()

    return types.void(alone, i, i, i), codegen


@intrinsic
def _transpose(typingctx, at):
    """Four registers that follow each other, in place."""

    def codegen(context, builder, signature, arguments):
        for c, value in enumerate(_transposed(builder, _four(builder, arguments[0]))):
            store(builder, value, builder.add(arguments[0], number(c * _BYTES)))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic(prefer_literal=True)
def _finish(typingctx, quads, sums, bias, residual, slope, floor, out):
    """One pixel, of groups of ``quads`` quads. If there are several, they have been transposed."""
    i, f = types.int64, types.float32
    count = quads.literal_value

    def codegen(context, builder, signature, arguments):
        _, sums, bias, residual, slope, floor, out = arguments
        steepness, lowest = splat(builder, slope), splat(builder, floor)

        def place(index):  # of a quad, by its number among those of all groups
            group, quad = divmod(index, count)
            row, column = divmod(group, _QUADS)
            return builder.add(sums, number((4 * quad + row) * _BYTES + column * 16))

        if count == 1:
            rows = _transposed(builder, _four(builder, sums))
        for at in range(4 * count):
            ahead = number(at * _BYTES)
            value = rows[at] if count == 1 else _register(builder, [place(at * _QUADS + q) for q in range(_QUADS)])
            value = builder.fadd(value, load(builder, builder.add(bias, ahead)))
            value = builder.fadd(value, load(builder, builder.add(residual, ahead)))
            store(builder, activated(builder, value, steepness, lowest), builder.add(out, ahead))
        return context.get_dummy_value()

    return types.void(quads, i, i, i, f, f, i), codegen


@intrinsic
def _tile(typingctx, x, ld_x, x_row, x_tap, kh, kw, quads, w, sums, ld_sums):
    """PIXELS pixels, _OUTPUTS output channels of each group."""
    i = types.int64

    def codegen(context, builder, signature, arguments):
        x, ld_x, x_row, x_tap, kh, kw, quads, w, sums, ld_sums = arguments
        add, mul = builder.add, builder.mul
        totals = [[cgutils.alloca_once(builder, VECTOR) for _ in range(_OUTPUTS)] for _ in range(PIXELS)]
        weights = cgutils.alloca_once(builder, ir.IntType(64))
        builder.store(w, weights)
        for row in totals:
            for total in row:
                builder.store(constant(0.0), total)
        with cgutils.for_range(builder, kh) as i, cgutils.for_range(builder, kw) as j:
            tap = add(x, add(mul(i.index, x_row), mul(j.index, x_tap)))
            pixels = [add(tap, mul(number(pixel), ld_x)) for pixel in range(PIXELS)]
            with cgutils.for_range(builder, quads) as quad:
                ahead, at = mul(quad.index, number(4 * _BYTES)), builder.load(weights)
                for c in range(4):
                    many = [load(builder, add(at, number((c * _OUTPUTS + k) * _BYTES))) for k in range(_OUTPUTS)]
                    for line in range(0, _OUTPUTS * _BYTES, 64):
                        prefetch(builder, add(at, number(_AHEAD + c * _OUTPUTS * _BYTES + line)))
                    for pixel, row in zip(pixels, totals, strict=True):
                        value = load(builder, add(add(pixel, ahead), number(c * _BYTES)))
                        for weight, total in zip(many, row, strict=True):
                            builder.store(fma(builder, value, weight, builder.load(total)), total)
                builder.store(add(at, number(4 * _OUTPUTS * _BYTES)), weights)
        for pixel, row in enumerate(totals):
            for k, total in enumerate(row):
                store(builder, builder.load(total), add(sums, add(mul(number(pixel), ld_sums), number(k * _BYTES))))
        return context.get_dummy_value()

    return types.void(i, i, i, i, i, i, i, i, i, i), codegen


_i, _f = types.int64, types.float32


@native(types.void(_i, _i, _i, _i, _i))
def unlace(source, pitch, pixels, quads, to):
    """Some pixels of a bundle, from pixel to pixel ``pitch`` bytes, as float32[pixels, 4 * quads, LANES] at ``to``."""
    for _ in range(pixels):
        if quads == 1:
            _unlace(True, source, 16, to)
        else:
            for quad in range(quads):
                _unlace(False, source + 16 * quad, 16 * quads, to + 4 * quad * _BYTES)
        source += pitch
        to += 4 * quads * _BYTES


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i))
def lane_tile(x, ld_x, x_row, x_tap, kh, kw, quads, w, sums):
    """The sums of a tile, float32[PIXELS, 4 * quads, LANES].

    x     address of the unlaced pixel with which the first window begins; ld_x: bytes from window to window; x_row and x_tap:
          from tap to tap
    w     address of one bundle's weights, as ``lane_order`` has them
    """
    pixel = 4 * quads * _BYTES
    for k in range(0, 4 * quads, _OUTPUTS):
        _tile(x, ld_x, x_row, x_tap, kh, kw, quads, w, sums + k * _BYTES, pixel)
        w += kh * kw * pixel * _OUTPUTS


@native(types.void(_i, _i, _i, _i, _i, _i, _f, _f, _i, _i))
def finish_pixels(sums, pixels, quads, bias, residual, ld_residual, slope, floor, out, ldc):
    """What becomes of some pixels' sums, which are written over: laced, with bias, residual and activation."""
    pixel = 4 * quads * _BYTES
    if quads > 1:
        # all of them before the first is read: what is loaded in parts must have left the registers for the cache before
        for at in range(sums, sums + pixels * pixel, 4 * _BYTES):
            _transpose(at)
    for _ in range(pixels):
        if quads == 1:
            _finish(1, sums, bias, residual, slope, floor, out)
        elif quads == 2:
            _finish(2, sums, bias, residual, slope, floor, out)
        elif quads == 4:
            _finish(4, sums, bias, residual, slope, floor, out)
        else:
            _finish(8, sums, bias, residual, slope, floor, out)
        sums += pixel
        residual += ld_residual
        out += ldc
