"""Winograd's algorithm along rows, for grouped convolutions: F(4, 3) across, the definition down.

    Y = A^T [ sum over rows i and inputs c of (G g[i, c]) * (B^T d[i, c]) ]         (* element by element)

The matrices are those of ``winograd.py``, used once instead of twice: of six neighbours in a row, d, and three taps, g, come
four outputs by 6 multiplications instead of 12. F(4x4, 3x3) would take a quarter of the multiplications, not half. But with the
few channels of a group the transforms of whole patches cost as much as the products, and kernels become four times as large,
not twice. The error is smaller, too.

``grouplane.py`` multiplies: to it, each element is a convolution of its own with three taps, all in one column.
"""

from __future__ import annotations

import numpy as np

from .arrays import Array
from .grouplane import lane_order
from .jit import native
from .numba_later import intrinsic, types
from .simd import LANES, load, number, store
from .winograd import evaluate, interpolate, matrices

__all__ = [
    "M",
    "N",
    "patches_from_rows",
    "row_kernels",
    "row_winograd_reference",
    "rows_from_products",
    "transform_rows",
]

M, N = 4, 6
"""Outputs of a tile, and inputs, which are also its elements."""

_BYTES = 4 * LANES
_AT, _G, _BT = matrices(M)


def transform_rows(w: Array) -> Array:
    """G g of each row of a kernel: dtype[3, 3, p, co] to float64[N, 3, p, co], element by element."""
    return np.tensordot(_G, w.astype(np.float64, copy=False), axes=(1, 1))


def row_kernels(w: Array) -> Array:
    """The same in the order of reading: float32[bundles, N, ...], each element as ``lane_order`` has it."""
    return np.stack([lane_order(element.astype(np.float32)) for element in transform_rows(w)], axis=1)


def row_winograd_reference(x: Array, w: Array) -> Array:
    """The formula above in NumPy, without groups: x dtype[n, h, w, ci], w dtype[3, 3, ci, co], padding "same"; dtype[n, h, w, co].

    Any float dtype; the kernels' transform is rounded to it.
    """
    at, bt, u = _AT.astype(x.dtype), _BT.astype(x.dtype), transform_rows(w).astype(x.dtype)
    height, width = x.shape[1:3]
    out = np.empty((*x.shape[:3], w.shape[3]), x.dtype)
    padded = np.pad(x, ((0, 0), (1, 1), (1, M), (0, 0)))
    for left in range(0, width, M):
        d = padded[:, :, left : left + N]
        v = np.einsum("ex,nyxc->neyc", bt, d)
        products = sum(np.einsum("neyc,eck->neyk", v[:, :, i : i + height], u[:, i]) for i in range(3))
        place = out[:, :, left : left + M]
        place[...] = np.einsum("xe,neyk->nyxk", at, products)[:, :, : place.shape[2]]
    return out


def _applied(transform, matrix):
    """An intrinsic: a matrix times registers that lie ``step`` bytes apart."""
    made, given = matrix.shape

    @intrinsic
    def apply(typingctx, source, step, to, to_step):
        def codegen(context, builder, signature, arguments):
            source, step, to, to_step = arguments
            vectors = [load(builder, builder.add(source, builder.mul(number(i), step))) for i in range(given)]
            results = transform(builder, matrix, vectors)
            assert len(results) == made
            for i, value in enumerate(results):
                store(builder, value, builder.add(to, builder.mul(number(i), to_step)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return apply


_evaluated, interpolated = _applied(evaluate, _BT), _applied(interpolate, _AT)
_i = types.int64


@native(types.void(_i, _i, _i, _i, _i))
def patches_from_rows(pixels, tiles, registers, v, ld_v):
    """B^T d of a row of ``tiles`` tiles.

    pixels  address of float32[M * tiles + 2, registers, LANES]
    v       address of float32[tiles, registers, LANES] for the first element; from element to element ld_v bytes
    """
    step = registers * _BYTES
    for _ in range(tiles):
        for c in range(registers):
            _evaluated(pixels + c * _BYTES, step, v + c * _BYTES, ld_v)
        pixels += M * step
        v += step


@native(types.void(_i, _i, _i, _i))
def rows_from_products(products, ld_products, registers, pixels):
    """A^T times the products of one tile.

    products  address of float32[registers, LANES] for the first element; from element to element ld_products bytes
    pixels    address of room for float32[M, registers, LANES]
    """
    for c in range(registers):
        interpolated(products + c * _BYTES, ld_products, pixels + c * _BYTES, registers * _BYTES)
