"""The micro-kernel of grouped convolutions: one register of output channels, for the pixels of one row.

    for pixel in 0..wo-1, lane in 0..lanes-1:
        out[pixel, lane] = activation(bias[lane] + residual[pixel, lane] + sum over taps and c of
                               x[pixel + tap, g*p + c] * w[tap, c, lane])

p input and q output channels make a group; lane number o of all output channels belongs to group g = o // q. For each
tap and each c there is one register of weights, and for each pixel one of inputs, which must hold in every lane what the
lane's own group reads. Where it comes from depends on the groups:

    SPLAT    q is a multiple of LANES: all lanes belong to one group and read the same value
    q        p = q is a part of LANES: the inputs of all lanes are one register, and a shuffle puts input number c of each
             group into the group's lanes; q = 1, depthwise, needs none
    SPREAD   anything else: inputs have been spread over lanes before, one register for each c

The inputs are read from a copy of some rows that has the channels of these groups side by side: in a wide image pixels lie
so far apart that they share the sets of a cache. It has a border of zeros, too.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import native
from .simd import LANES, VECTOR, activated, constant, fma, load, masked_load, masked_store, number, splat

__all__ = ["PIXELS", "SPLAT", "SPREAD", "group_row", "layout"]

PIXELS = 7
"""Of a tile. A register of sums and one of inputs for each, and two more, are all that there are where there are 16. Maps of
a ResNet for images of 224x224 are 56, 28, 14 and 7 pixels wide. Where there are 32 (AVX-512), tiles of 14 took a seventh
longer with shuffles, and a fifth on maps of 7x7."""

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
    """A tile for one way of getting inputs."""
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

    x, w, ...  addresses; ld*: distances between pixels, x_row and x_tap between taps; all in bytes

    Behind the last pixel that a row reads there must be more to read, up to a whole tile.
    """
    for first in range(0, wo, PIXELS):
        _tile(
            how, x + first * ld_x, ld_x, x_row, x_tap, kh, kw, p, w, bias, residual + first * ld_residual, ld_residual,
            slope, floor, out + first * ldc, ldc, wo - first, lanes,
        )  # fmt: skip
