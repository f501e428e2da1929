"""The micro-kernel of grouped convolutions: one register of output channels, for the pixels of one row.

    for pixel in 0..wo-1, lane in 0..lanes-1:
        out[pixel, lane] = activation(bias[lane] + residual[pixel, lane] + sum over taps and c of
                               x[pixel + tap, g*p + c] * w[tap, c, lane])

A group has p input and q output channels, and output channel o belongs to group g = o // q. The register's lanes are LANES
output channels in a row. Each multiply-add of a tap and an input channel c takes one register of weights and, for each pixel,
one of inputs, in which every lane must hold input number c of its own group. How that is made depends on p and q:

    SPLAT    q is a multiple of LANES: all lanes are of one group, and one value is spread over them
    q        p = q divides LANES: the inputs of all groups are one register, and a shuffle puts input c of each group into
             the group's lanes; q = 1, depthwise, needs none
    SPREAD   anything else: a copy has been made before in which the inputs lie as the lanes need them, a register for each c

The inputs are read from a copy of some rows that has the channels of these groups side by side, and a border of zeros: with
the image's own pixel pitch, a power of two in bytes as a rule, the pixels of a tile would fall into the same few sets of the
L1.
"""

from __future__ import annotations

from llvmlite import ir

from .jit import native
from .numba_later import cgutils, intrinsic, types
from .simd import LANES, VECTOR, activated, constant, fma, load, masked_load, masked_store, number, splat

__all__ = ["PIXELS", "SPLAT", "SPREAD", "group_row", "layout"]

PIXELS = 7
"""In a tile. Each takes a register of sums and one of inputs; with two more for weights and shuffles, that fills the 16 of
AVX2. Maps of a ResNet for images of 224x224 are 56, 28, 14 and 7 pixels wide. With the 32 registers of AVX-512, tiles of 14
took a seventh longer with shuffles, and a fifth on maps of 7x7."""

SPLAT, SPREAD = 0, -1
_SHUFFLES = tuple(q for q in (1, 2, 4, 8) if q < LANES)
_INT, _INT32 = ir.IntType(64), ir.IntType(32)


def layout(p: int, q: int) -> tuple[int, int]:
    """(how the lanes get their inputs, floats of one pixel of the copy)."""
    if q % LANES == 0:
        return SPLAT, p
    return (q, LANES) if p == q and q in _SHUFFLES else (SPREAD, p * LANES)


def _way(
    builder, how, x, ld_x, x_row, x_tap, kh, kw, p, w, bias, residual, ld_residual, slope, floor, out, ldc, count, lanes
):
    """A tile for one way of getting inputs; all addresses and pitches in bytes."""
    add, mul = builder.add, builder.mul
    sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(PIXELS)]
    weights = cgutils.alloca_once(builder, _INT)
    builder.store(w, weights)
    for place in sums:
        builder.store(constant(0.0), place)

    def step(values):
        at = builder.load(weights)
        weight = load(builder, at)
        builder.store(add(at, number(4 * LANES)), weights)
        for place, value in zip(sums, values, strict=True):
            builder.store(fma(builder, value, weight, builder.load(place)), place)

    with cgutils.for_range(builder, kh) as i, cgutils.for_range(builder, kw) as j:
        tap = add(x, add(mul(i.index, x_row), mul(j.index, x_tap)))
        places = [add(tap, mul(number(pixel), ld_x)) for pixel in range(PIXELS)]
        if how in _SHUFFLES:
            seen = [load(builder, place) for place in places]
            for c in range(how):
                lane = ir.Constant(ir.VectorType(_INT32, LANES), [lane // how * how + c for lane in range(LANES)])
                step([builder.shuffle_vector(value, value, lane) for value in seen] if how > 1 else seen)
        else:
            with cgutils.for_range(builder, p) as c:
                ahead = mul(c.index, number(4 if how == SPLAT else 4 * LANES))
                at = [add(place, ahead) for place in places]
                if how == SPLAT:
                    step([splat(builder, load(builder, place, ir.FloatType())) for place in at])
                else:
                    step([load(builder, place) for place in at])

    numbers = ir.Constant(ir.VectorType(_INT, LANES), list(range(LANES)))
    mask = builder.icmp_signed("<", numbers, splat(builder, lanes))
    steepness, lowest, start = splat(builder, slope), splat(builder, floor), load(builder, bias)
    for pixel, place in enumerate(sums):
        with builder.if_then(builder.icmp_signed("<", number(pixel), count)):
            value = builder.fadd(builder.load(place), start)
            more = masked_load(builder, add(residual, mul(number(pixel), ld_residual)), mask)
            value = builder.fadd(value, more)
            value = activated(builder, value, steepness, lowest)
            masked_store(builder, value, add(out, mul(number(pixel), ldc)), mask)


@intrinsic
def _tile(
    typingctx,
    how,
    x,
    ld_x,
    x_row,
    x_tap,
    kh,
    kw,
    p,
    w,
    bias,
    residual,
    ld_residual,
    slope,
    floor,
    out,
    ldc,
    count,
    lanes,
):
    """A tile of pixels, of which ``count`` are written."""
    i, f = types.int64, types.float32
    signature = types.void(i, i, i, i, i, i, i, i, i, i, i, i, f, f, i, i, i, i)

    def codegen(context, builder, signature, arguments):
        how, *rest = arguments
        end = builder.append_basic_block("grouped.end")
        ways = builder.switch(how, end)
        for way in (SPLAT, SPREAD, *_SHUFFLES):
            block = builder.append_basic_block(f"grouped.{way}")
            ways.add_case(number(way), block)
            builder.position_at_end(block)
            _way(builder, way, *rest)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


_i, _f = types.int64, types.float32


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _i, _f, _f, _i, _i, _i, _i))
def group_row(how, x, ld_x, x_row, x_tap, kh, kw, p, w, bias, residual, ld_residual, slope, floor, out, ldc, wo, lanes):
    """One row of ``wo`` output pixels, ``lanes`` of its channels.

    x, w, ...  addresses; ld*: pixel pitches; x_row and x_tap: from tap to tap; all in bytes

    Behind the last pixel that a row reads there must be more to read, up to a whole tile.
    """
    for first in range(0, wo, PIXELS):
        _tile(
            how, x + first * ld_x, ld_x, x_row, x_tap, kh, kw, p, w, bias, residual + first * ld_residual, ld_residual,
            slope, floor, out + first * ldc, ldc, wo - first, lanes,
        )  # fmt: skip
