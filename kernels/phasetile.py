"""The micro-kernel of convolutions in phases: products and output transform of F(3x3, 4x4), which never leave the L1.

A tile's 36 products of one register of channels do not fit into registers, and of all channels not into the L1: in panels of all
channels they went through the L2. But the output transform, A^T (V * U) A, goes column by column: of
the six products of one column, three numbers are left. So for some tiles at a time the products of a column are summed up over
the input channels, in registers, and combined there; the three times six numbers that are left of each tile become its 3x3 outputs.

With 16 lanes and 32 registers four tiles have 24 sums, each step of k loading six registers of weights; with 16 registers it is
two tiles and 12 sums.
"""

from __future__ import annotations

from llvmlite import ir

from .jit import native
from .numba_later import cgutils, intrinsic, types
from .simd import LANES, activated, constant, fma, load, number, prefetch, splat, store
from .winograd import interpolate, matrices

__all__ = ["CHANNELS", "DEPTH", "EDGE", "PITCH", "TILES", "M", "phase_tiles"]

M, EDGE = 3, 6
TILES = 4 if LANES == 16 else 2
CHANNELS, PITCH = 3, 16
"""At most so many channels in each of the four phases, and floats from pixel to pixel. These are constants, and so are all pitches
below: with numbers in their place, addresses had to be loaded again in every step of k, and all took a seventh longer."""
DEPTH = 4 * CHANNELS
_STEPS = 4  # of k in a turn: there are four phases, so that none is left over
_AT, _, _ = matrices(M, r=EDGE - M + 1)


@intrinsic
def _tiles(
    typingctx, v, u, depth, room, bias, residual, r_row, r_column, slope, floor, out, row, column, rows, columns
):  # fmt: skip
    """TILES tiles side by side, one register of channels of them; see ``phase_tiles``."""
    i, f = types.int64, types.float32
    signature = types.void(i, i, i, i, i, i, i, i, f, f, i, i, i, i, i)

    def codegen(context, builder, signature, arguments):
        v, u, depth, room, bias, residual, r_row, r_column, slope, floor, out, row, column, rows, columns = arguments
        add, mul = builder.add, builder.mul
        each = [(y, tile) for y in range(EDGE) for tile in range(TILES)]

        def left(tile, y, x):
            """Where one of a tile's three times six numbers is kept."""
            return add(room, number(4 * LANES * ((tile * M + y) * EDGE + x)))

        for x in range(EDGE):
            sums = {place: cgutils.alloca_once(builder, load(builder, bias).type) for place in each}
            for place in sums.values():
                builder.store(constant(0.0), place)
            for pixel in range(x * M * TILES // 2, (x + 1) * M * TILES // 2):
                y, across = divmod(pixel, M * TILES)
                prefetch(builder, add(add(out, mul(number(y), row)), mul(number(across), column)), write=True)
            with cgutils.for_range(builder, builder.sdiv(depth, number(_STEPS))) as turn:
                values = add(v, mul(turn.index, number(4 * _STEPS)))
                weights = add(u, mul(turn.index, number(4 * _STEPS * LANES)))
                for step in range(_STEPS):
                    element = [number(4 * LANES * ((y * EDGE + x) * DEPTH + step)) for y in range(EDGE)]
                    weight = [load(builder, add(weights, at)) for at in element]
                    for (y, tile), place in sums.items():
                        at = number(4 * (((y * EDGE + x) * TILES + tile) * PITCH + step))
                        value = splat(builder, load(builder, add(values, at), ir.FloatType()))
                        builder.store(fma(builder, value, weight[y], builder.load(place)), place)
            for tile in range(TILES):
                for y, value in enumerate(
                    interpolate(builder, _AT, [builder.load(sums[y, tile]) for y in range(EDGE)])
                ):
                    store(builder, value, left(tile, y, x))

        shift, steepness, lowest = load(builder, bias), splat(builder, slope), splat(builder, floor)
        for tile in range(TILES):
            for y in range(M):
                inside = builder.icmp_signed("<", number(y), rows)
                numbers = [load(builder, left(tile, y, x)) for x in range(EDGE)]
                for x, value in enumerate(interpolate(builder, _AT, numbers)):
                    right = number(tile * M + x)
                    written = builder.and_(inside, builder.icmp_signed("<", right, columns))
                    with builder.if_then(written, likely=True):
                        more = load(builder, add(add(residual, mul(number(y), r_row)), mul(right, r_column)))
                        value = builder.fadd(builder.fadd(value, shift), more)
                        place = add(add(out, mul(number(y), row)), mul(right, column))
                        store(builder, activated(builder, value, steepness, lowest), place)
        return context.get_dummy_value()

    return signature, codegen


_i, _f = types.int64, types.float32


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i, _f, _f, _i, _i, _i, _i, _i))
def phase_tiles(
    tiles, v, u, depth, room, bias, residual, r_row, r_column, slope, floor, out, row, column, rows, columns
):
    """A row of ``tiles`` tiles, one register of channels of them: activation(A^T (V * U) A + bias + residual).

    v           transformed patches, float32[ceil(tiles / TILES), 36, TILES, PITCH]
    u           transformed kernels, float32[36, DEPTH, LANES]
    depth       how many of DEPTH numbers count, a multiple of four
    room        for float32[TILES, M, EDGE, LANES]
    residual    pitches r_row and r_column; out: row and column
    rows        of pixels that there are, up to 3; columns likewise: no more is written, and no more of the residual is read

    Addresses and pitches in bytes.
    """
    for first in range(0, tiles, TILES):
        begin = first * M
        _tiles(
            v + first * 4 * EDGE * EDGE * PITCH, u, depth, room, bias, residual + begin * r_column, r_row, r_column, slope, floor,
            out + begin * column, row, column, rows, columns - begin,
        )  # fmt: skip
