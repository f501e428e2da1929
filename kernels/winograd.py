"""Winograd convolution, F(m x m, r x r): an r x r convolution with stride 1 for fewer multiplications.

Two polynomials of degree m-1 and r-1 can be multiplied with n = m + r - 1 multiplications instead of r m: evaluate both at n
points, multiply, interpolate (Toom-Cook). Read backwards, the same three matrices compute m outputs of an r-tap
correlation from n inputs; nested over rows and columns they give m x m outputs from an n x n patch d and a kernel g:

    Y = A^T [ (G g G^T) * (B^T d B) ] A          (* element by element)

Summed over input channels, each of the n*n elements is a matrix product of its own: V[e] @ U[e], tiles by channels.
F(4x4,3x3) needs 36 products where the definition needs 144: four times fewer. F(2x2,3x3) needs 16 instead of 36. And
F(3x3,4x4), for the stem in phases (``phases.py``), 36 instead of 144 again, by the same points as F(4x4,3x3): B^T depends on n alone.

The price is rounding: points far from 1 make numbers of very different size meet in the interpolation. The points here
are 0, +-1/sqrt 2, +-sqrt 2 and infinity, whose squares multiply to 1, so that float32 stays within a small factor of the
direct sum. The kernels' transform is done once, in float64.

Sources: Winograd, "Arithmetic complexity of computations" (1980); Lavin and Gray, "Fast algorithms for convolutional
neural networks" (2015); on points, Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution"
(2018).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from .arrays import Array
from .jit import native
from .numba_later import carray, intrinsic, types
from .simd import LANES, activated, constant, fma, load, number, splat, store
from .steps.intrinsics import double_pointer, float_pointer
from .tile import NR

__all__ = [
    "derive",
    "evaluate",
    "interpolate",
    "matrices",
    "pack_transformed",
    "pairs",
    "stored_elements",
    "transform_kernel",
    "winograd_reference",
]

_POINTS = {4: (0.0, 1.0, -1.0), 6: (0.0, math.sqrt(0.5), -math.sqrt(0.5), math.sqrt(2.0), -math.sqrt(2.0))}
"""By n, but for infinity, which is the last: 0, and then pairs p, -p, on which the transforms below rely."""


@functools.cache
def matrices(m: int, points: tuple[float, ...] | None = None, r: int = 3) -> tuple[Array, Array, Array]:
    """(A^T float64[m, n], G float64[n, r], B^T float64[n, n]) of F(m, r), n = m + r - 1; the last point is infinity.

    points  the others, n - 1 of them; None: those that the kernels use
    """
    n = m + r - 1
    points = _POINTS[n] if points is None else points
    at, g, bt = np.zeros((m, n)), np.zeros((n, r)), np.zeros((n, n))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        at[:, j] = [p**i for i in range(m)]
        g[j] = np.array([p**i for i in range(r)]) / np.prod([p - q for q in others])
        bt[j, : n - 1] = np.poly(others)[::-1]
    at[m - 1, n - 1] = 1.0
    g[n - 1, r - 1] = 1.0
    bt[n - 1] = np.poly(points)[::-1]
    bt[np.abs(bt) < 1e-12] = 0.0
    return at, g, bt


def transform_kernel(w: Array, m: int, points: tuple[float, ...] | None = None) -> Array:
    """U = G g G^T for every pair of channels: w float[r, r, ci, co] to float64[n * n, ci, co]. Points as for ``matrices``."""
    r = len(w)
    _, g, _ = matrices(m, points, r)
    wide = w.astype(np.float64, copy=False)
    rows = (g @ wide.reshape(r, -1)).reshape(len(g), r, -1)  # G g
    u = np.matmul(g, rows)  # (G g) G^T: the second index of every row of it
    return u.reshape(-1, *w.shape[2:])


_i = types.int64


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i, _i))
def _pack_transformed(w, ci, co, scale, g, n, rows, packed, stored):
    """All but the sizes are addresses; ``rows`` that of room for float64[n, 3, NR]. ``stored``: of each row of n."""
    panels = (co + NR - 1) // NR
    kernel, scales = carray(float_pointer(w), (3, 3, ci, co)), carray(double_pointer(scale), (co,))
    matrix, room = carray(double_pointer(g), (n, 3)), carray(double_pointer(rows), (n, 3, NR))
    result = carray(float_pointer(packed), (panels, n * stored, ci, NR))
    for panel in range(panels):
        first = panel * NR
        count = min(NR, co - first)
        for c in range(ci):
            for b in range(3):
                w0, w1, w2 = kernel[0, b, c, first:], kernel[1, b, c, first:], kernel[2, b, c, first:]
                for i in range(n):
                    place = room[i, b]
                    for j in range(count):
                        total = matrix[i, 0] * w0[j] + matrix[i, 1] * w1[j] + matrix[i, 2] * w2[j]
                        place[j] = total * scales[first + j]
            for i in range(n):
                for index in range(stored):
                    k = index
                    if stored < n:  # 0, infinity, and of each pair the first
                        k = 0 if index == 0 else n - 1 if index == 1 else 2 * index - 3
                    element = result[panel, i * stored + index, c]
                    for j in range(count):
                        element[j] = (
                            matrix[k, 0] * room[i, 0, j] + matrix[k, 1] * room[i, 1, j] + matrix[k, 2] * room[i, 2, j]
                        )
                    for j in range(count, NR):
                        element[j] = 0.0


def pack_transformed(w: Array, scale: Array, m: int, packed: Array) -> None:
    """``transform_kernel`` of a kernel of 3x3 times one number per output channel, straight into panels of NR channels.

    w float32[3, 3, ci, co], scale float64[co], packed float32[ceil(co / NR), n * n, ci, NR], or, without what follows from others
    (``Pairs``), n * (n / 2 + 1) elements: of each row those of 0, of infinity, and of the first of each pair. All sums in float64. NumPy
    would take several passes for it, and BLAS start threads for each of thousands of small products.
    """
    w, scale, g = np.ascontiguousarray(w), np.ascontiguousarray(scale), np.ascontiguousarray(matrices(m)[1])
    assert w.dtype == packed.dtype == np.float32
    assert scale.dtype == np.float64
    assert packed.flags.c_contiguous
    rows = np.empty((m + 2, 3, NR))
    _pack_transformed.call(
        w.ctypes.data, *w.shape[2:], scale.ctypes.data, g.ctypes.data, m + 2, rows.ctypes.data, packed.ctypes.data,
        packed.shape[1] // (m + 2),
    )  # fmt: skip


class Pairs(NamedTuple):
    """How the transformed kernels of a point -p follow from others: U[-p] = zero * U[0] + end * U[infinity] - U[p], for the sum of
    both has even powers of p alone, and so have these two.

    zero, end  for each pair of points
    """

    zero: tuple[float, ...]
    end: tuple[float, ...]


def stored_elements(m: int, in_pairs: bool) -> int:
    """Elements of each row of U, of F(m x m, 3x3), that are kept: all, or without those that follow from others."""
    return m // 2 + 2 if in_pairs else m + 2


@functools.cache
def pairs(m: int) -> Pairs:
    """Those of F(m, 3)."""
    _, g, _ = matrices(m)
    sums = [g[j] + g[k] for j, k in _pairs(len(g))]
    return Pairs(tuple(float(s[0] / g[0, 0]) for s in sums), tuple(float(s[2]) for s in sums))


def winograd_reference(x: Array, w: Array, m: int, points: tuple[float, ...] | None = None) -> Array:
    """The formula above in NumPy: x dtype[n, h, w, ci], w dtype[3, 3, ci, co], padding "same"; dtype[n, h, w, co].

    Any float dtype; the kernels' transform is rounded to it. Points as for ``matrices``.
    """
    at, _, bt = (matrix.astype(x.dtype) for matrix in matrices(m, points))
    u = transform_kernel(w, m, points).astype(x.dtype).reshape(m + 2, m + 2, *w.shape[2:])
    n, height, width, _ = x.shape
    out = np.empty((n, height, width, w.shape[3]), x.dtype)
    padded = np.pad(x, ((0, 0), (1, m), (1, m), (0, 0)))
    for y in range(0, height, m):
        for left in range(0, width, m):
            d = padded[:, y : y + m + 2, left : left + m + 2]
            v = np.einsum("iy,nyxc,jx->nijc", bt, d, bt)
            products = np.einsum("nijc,ijck->nijk", v, u)
            tile = np.einsum("yi,nijk,xj->nyxk", at, products, at)
            place = out[:, y : y + m, left : left + m]
            place[...] = tile[:, : place.shape[1], : place.shape[2]]
    return out


# ---------------------------------------------------------------------------------------------------------------------
# The transforms as vector instructions: LANES channels at a time


def _combine(builder, terms):
    """The sum of coefficient * vector over ``terms``, with as few instructions as the coefficients allow."""
    terms = sorted(((c, v) for c, v in terms if abs(c) > 1e-12), key=lambda t: abs(abs(t[0]) - 1) > 1e-12)
    c, total = terms[0]
    if abs(c - 1) > 1e-12:
        total = builder.fmul(total, constant(c))
    for c, v in terms[1:]:
        if abs(c - 1) < 1e-12:
            total = builder.fadd(total, v)
        elif abs(c + 1) < 1e-12:
            total = builder.fsub(total, v)
        else:
            total = fma(builder, constant(c), v, total)
    return total


def _pairs(n):
    """(position of p, position of -p) of each pair among n points, of which the first is 0 and the last infinity."""
    return [(j, j + 1) for j in range(1, n - 2, 2)]


def evaluate(builder, bt, vectors):
    """B^T @ vectors. The rows of p and -p are the same in even powers of p and differ in the sign of odd ones: the sum over
    each is computed once."""
    n = len(bt)
    results = [_combine(builder, zip(bt[0], vectors, strict=True))]
    for j, _ in _pairs(n):
        row = list(zip(bt[j], vectors, strict=True))
        factor = bt[
            j, n - 3
        ]  # of the highest odd power; taken out, so that one coefficient less is to be multiplied with
        even = _combine(builder, row[0::2])
        odd = _combine(builder, [(c / factor, v) for c, v in row[1::2]])
        if factor == 1:
            results += [builder.fadd(even, odd), builder.fsub(even, odd)]
        else:
            results += [fma(builder, constant(factor), odd, even), fma(builder, constant(-factor), odd, even)]
    return [*results, _combine(builder, zip(bt[-1], vectors, strict=True))]


def interpolate(builder, at, vectors):
    """A^T @ vectors. Its rows are powers of the points: of p and -p, the even ones multiply their vectors' sum, the odd ones
    their difference."""
    m, n = at.shape
    terms = [[(at[i, 0], vectors[0])] for i in range(m)]
    for j, k in _pairs(n):
        parts = builder.fadd(vectors[j], vectors[k]), builder.fsub(vectors[j], vectors[k])
        for i in range(m):
            terms[i].append((at[i, j], parts[i % 2]))
    return [_combine(builder, [*terms[i], (at[i, n - 1], vectors[n - 1])]) for i in range(m)]


def _both_sides(builder, transform, matrix, patch):
    """The rows of matrix @ patch @ matrix^T for a patch of vectors; ``transform`` multiplies with the matrix. Each is computed when it
    is asked for, right before it is stored: that takes a tenth less than all of them at once, for which there are no registers."""
    columns = [transform(builder, matrix, column) for column in zip(*patch, strict=True)]
    return (transform(builder, matrix, row) for row in zip(*columns, strict=True))


@intrinsic(prefer_literal=True)
def _input_transform(typingctx, m, d, row, column, v, step):
    i = types.int64
    signature = types.void(m, i, i, i, i, i)
    _, _, bt = matrices(m.literal_value)
    n = m.literal_value + 2

    def codegen(context, builder, signature, arguments):
        _, d, row, column, v, step = arguments
        patch = []
        for y in range(n):
            at = builder.add(d, builder.mul(number(y), row))
            patch.append([load(builder, builder.add(at, builder.mul(number(x), column))) for x in range(n)])
        for y, values in enumerate(_both_sides(builder, evaluate, bt, patch)):
            for x, value in enumerate(values):
                store(builder, value, builder.add(v, builder.mul(number(y * n + x), step)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def _output_transform(typingctx, m, p, step, bias, residual, r_row, r_column, slope, floor, out, row, column):
    i, f = types.int64, types.float32
    signature = types.void(m, i, i, i, i, i, i, f, f, i, i, i)
    at, _, _ = matrices(m.literal_value)
    m = m.literal_value
    n = m + 2

    def codegen(context, builder, signature, arguments):
        _, p, step, bias, residual, r_row, r_column, slope, floor, out, row, column = arguments
        products = [
            [load(builder, builder.add(p, builder.mul(number(y * n + x), step))) for x in range(n)] for y in range(n)
        ]
        shift, steepness, lowest = load(builder, bias), splat(builder, slope), splat(builder, floor)
        for y, values in enumerate(_both_sides(builder, interpolate, at, products)):
            for x, value in enumerate(values):
                source = builder.add(
                    builder.add(residual, builder.mul(number(y), r_row)), builder.mul(number(x), r_column)
                )
                target = builder.add(builder.add(out, builder.mul(number(y), row)), builder.mul(number(x), column))
                value = builder.fadd(builder.fadd(value, shift), load(builder, source))
                store(builder, activated(builder, value, steepness, lowest), target)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _derive(typingctx, zero_at, end_at, first_at, to, zero, end):
    i, f = types.int64, types.float32
    signature = types.void(i, i, i, i, f, f)

    def codegen(context, builder, signature, arguments):
        zero_at, end_at, first_at, to, zero, end = arguments
        value = fma(builder, splat(builder, zero), load(builder, zero_at), builder.fneg(load(builder, first_at)))
        store(builder, fma(builder, splat(builder, end), load(builder, end_at), value), to)
        return context.get_dummy_value()

    return signature, codegen


_i, _f = types.int64, types.float32


@native(types.void(_i, _i, _i, _i, _f, _f, _i))
def derive(zero_at, end_at, first_at, to, zero, end, size):
    """``size`` bytes of U for the second of a pair of points, see ``Pairs``; all others but the factors are addresses."""
    for at in range(0, size, 4 * LANES):
        _derive(zero_at + at, end_at + at, first_at + at, to + at, zero, end)


_INPUT = types.void(_i, _i, _i, _i, _i, _i)
_OUTPUT = types.void(_i, _i, _i, _i, _i, _i, _f, _f, _i, _i, _i, _i)


@native(_INPUT)
def input_transform2(d, row, column, v, step, slices):
    for s in range(slices):
        _input_transform(2, d + s * 4 * LANES, row, column, v + s * 4 * LANES, step)


@native(_INPUT)
def input_transform4(d, row, column, v, step, slices):
    for s in range(slices):
        _input_transform(4, d + s * 4 * LANES, row, column, v + s * 4 * LANES, step)


@native(_OUTPUT)
def output_transform2(p, step, bias, residual, r_row, r_column, slope, floor, out, row, column, slices):
    for s in range(slices):
        o = s * 4 * LANES
        _output_transform(2, p + o, step, bias + o, residual + o, r_row, r_column, slope, floor, out + o, row, column)


@native(_OUTPUT)
def output_transform4(p, step, bias, residual, r_row, r_column, slope, floor, out, row, column, slices):
    for s in range(slices):
        o = s * 4 * LANES
        _output_transform(4, p + o, step, bias + o, residual + o, r_row, r_column, slope, floor, out + o, row, column)
