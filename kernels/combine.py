"""Two feature maps joined number by number: products, differences, the larger of two. What one of them has but once, a row, a pixel,
a channel, goes with all of the other, as NumPy and Keras have it: so gates multiply maps, of one number per channel (1, 1, c) or
of one per pixel (h, w, 1).

    y[n, h, w, c] = f(a[n, h, w, c], b[n, h, w, c])        an index stays 0 where the array has size 1

The ladder: combine_reference (NumPy), combine_cpu (Numba); combine is combine_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, images, result
from .jit import Native, call, jit, native
from .numba_later import carray, types
from .steps.epilogue import Epilogue, activated, bias_only, finish
from .steps.intrinsics import float_pointer, part_of
from .steps.loop import run
from .steps.records import Map, Step, offset_of, view_of
from .threads import resolve_threads
from .tile import NR

__all__ = ["JOINS", "CombineStep", "Join", "check_join", "combine", "combine_cpu", "combine_reference"]

Shape = tuple[int, ...]

# The functions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Join:
    """A function of two numbers.

    reference  of two arrays of any float dtype
    formula    of two numbers
    pixels     compiled: of some pixels of both, see ``_pixels``
    """

    reference: Callable[[Array, Array], Array]
    formula: Callable[..., Any]
    pixels: Native


JOINS: dict[str, Join] = {}
"""{name: function}."""

_i, _f = types.int64, types.float32


def _join(reference: Callable[[Array, Array], Array]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: adds a formula to the table."""

    def add(formula: Callable[..., Any]) -> Callable[..., Any]:
        name = formula.__name__.strip("_")
        JOINS[name] = Join(reference, formula, _pixels(name, jit(formula)))
        return formula

    return add


def _pixels(name: str, formula: Any) -> Native:
    """The loop over ``count`` pixels of ``channels`` numbers: activation(formula(a, b) + residual), as far as lines go. Pitches are
    from pixel to pixel; a residual's is 0 where there is none."""

    def pixels(a, a_pitch, b, b_pitch, residual, ld, slope, floor, out, ldc, count, channels):
        for pixel in range(count):
            x = carray(float_pointer(a + pixel * a_pitch), (channels,))
            y = carray(float_pointer(b + pixel * b_pitch), (channels,))
            place = carray(float_pointer(out + pixel * ldc), (channels,))
            if ld:
                more = carray(float_pointer(residual + pixel * ld), (channels,))
                for c in range(channels):
                    place[c] = activated(formula(x[c], y[c]) + more[c], slope, floor)
            else:
                for c in range(channels):
                    place[c] = activated(formula(x[c], y[c]), slope, floor)

    pixels.__name__ = pixels.__qualname__ = f"{name}_pixels"  # by which its machine code is kept
    return native(types.void(_i, _i, _i, _i, _i, _i, _f, _f, _i, _i, _i, _i))(pixels)


@_join(np.add)
def _add(x, y):
    return x + y


@_join(np.subtract)
def _subtract(x, y):
    return x - y


@_join(np.multiply)
def _multiply(x, y):
    return x * y


@_join(np.divide)
def _divide(x, y):
    return x / y


@_join(np.maximum)
def _maximum(x, y):
    return x if x > y or x != x else y  # NaN, if either is that


@_join(np.minimum)
def _minimum(x, y):
    return x if x < y or x != x else y


@_join(lambda x, slope: np.where(x > 0, x, x * slope))
def _prelu(x, slope):
    return x if x > 0 else x * slope


# The kernel ----------------------------------------------------------------------------------------------------------


def check_join(a: Any, b: Any, function: str) -> Shape:
    """The shape of the result of two arrays of one rank; ValueError where they do not fit, or for an unknown function."""
    if function not in JOINS:
        raise ValueError(f"combine: got function {function!r}; it must be one of {', '.join(JOINS)}")
    if any(one not in (other, 1) and other != 1 for one, other in zip(a.shape, b.shape, strict=True)):
        raise ValueError(
            f"combine: a has shape {tuple(a.shape)} and b {tuple(b.shape)}; all sizes must be equal, or 1 in one of them"
        )
    return tuple(other if one == 1 else one for one, other in zip(a.shape, b.shape, strict=True))


def combine_reference(a: Array, b: Array, *, function: str) -> Array:
    """``function`` of two arrays of the same rank and float dtype, sizes equal or 1; ValueError for others."""
    check_join(a, b, function)
    with np.errstate(all="ignore"):  # infinity minus infinity is NaN
        return JOINS[function].reference(a, b)


@dataclass(frozen=True)
class Operand:
    """A map that may have fewer images, rows, columns or channels than the result.

    image, row  bytes from one to the next, 0 where there is one for all; from column to column it is the map's pitch
    """

    map: Map
    image: int
    row: int

    @classmethod
    def of(cls, place: Map, shape: Shape, full: Shape) -> Operand:
        """Of ``shape`` [n, h, w, c], in a result of shape ``full``."""
        n, h, w, _ = (one == other for one, other in zip(shape, full, strict=True))
        row = place.pitch * shape[2]
        return cls(
            Map(place.address, place.pitch if w else 0, place.channels), row * shape[1] if n else 0, row if h else 0
        )


@dataclass(frozen=True, kw_only=True)
class CombineStep(Step):
    """out = activation(function(a, b) + residual), pixel by pixel; an item is one of ``blocks`` parts of the pixels.

    n, height, width  of the result
    """

    a: Operand
    b: Operand
    out: Map
    n: int
    height: int
    width: int
    epilogue: Epilogue
    blocks: int
    pixels: Native

    @classmethod
    def of(
        cls,
        function: str,
        a: tuple[Map, Shape],
        b: tuple[Map, Shape],
        out: tuple[Map, Shape],
        epilogue: Epilogue,
        blocks: int,
    ) -> CombineStep:
        """Of three maps and their shapes [n, h, w, c]."""
        place, (n, height, width, _) = out
        left, right = (Operand.of(*operand, out[1]) for operand in (a, b))
        if all(operand.row == operand.map.pitch * width for operand in (left, right)):
            height, width = 1, height * width  # whole images are as good as rows, and longer
        return cls(
            a=left, b=right, out=place, n=n, height=height, width=width, epilogue=epilogue, blocks=blocks,
            pixels=JOINS[function].pixels,
        )  # fmt: skip

    @property
    def items(self) -> int:
        return self.blocks

    @property
    def scratch_bytes(self) -> int:
        return 8 * self.out.channels


_operand, _view = view_of(Operand), view_of(CombineStep)
_A, _B = offset_of(CombineStep, "a"), offset_of(CombineStep, "b")


@jit
def _spread(place, value, channels):
    """A pixel of equal numbers."""
    numbers = carray(float_pointer(place), (channels,))
    numbers[:] = carray(float_pointer(value), (1,))[0]
    return place


@CombineStep.native
def _combine_item(step, item, scratch):
    s, a, b = _view(step), _operand(step + _A), _operand(step + _B)
    channels, residual, activation = s.out.channels, s.epilogue.residual, s.epilogue.activation
    spread_a, spread_b = a.map.channels < channels, b.map.channels < channels
    pixel, last = part_of(s.n * s.height * s.width, item, s.blocks, 1)
    while pixel < last:
        row, column = divmod(pixel, s.width)
        image, row = divmod(row, s.height)
        # as many pixels of a row as there are; one by one where each is to be spread over the channels
        count = 1 if spread_a or spread_b else min(s.width - column, last - pixel)
        x = a.map.address + image * a.image + row * a.row + column * a.map.pitch
        y = b.map.address + image * b.image + row * b.row + column * b.map.pitch
        if spread_a:
            x = _spread(scratch, x, channels)
        if spread_b:
            y = _spread(scratch + 4 * channels, y, channels)
        out, more = s.out.address + pixel * s.out.pitch, residual.address + pixel * residual.pitch
        call(s.pixels, (
            x, a.map.pitch, y, b.map.pitch, more, residual.pitch, activation.slope, activation.floor, out, s.out.pitch,
            count, channels,
        ))  # fmt: skip
        finish(activation, out, s.out.pitch, count, channels)
        pixel += count


def combine_cpu(a: Array, b: Array, *, function: str, out: Array | None = None, threads: int | None = 1) -> Array:
    """``function`` of each number of a and of b, both float32[n, h, w, c], sizes equal or 1 in one of them.

    function  a name in ``JOINS``; "prelu" is a where that is above zero, else a * b
    out       of the result's shape, overwritten, may be one of that shape itself; made if None

    Raises TypeError for another dtype, ValueError for other shapes or an unknown function.
    """
    a, b = images("combine: a", a), images("combine: b", b)
    shape = check_join(a, b, function)
    out = result("combine", out, shape)
    n, h, w, c = shape
    threads, zeros = resolve_threads(threads), np.zeros(c + NR, np.float32)
    left, right, place = ((Map.of(array), array.shape) for array in (a, b, out))
    blocks = min(4 * threads, n * h * w) if c else 0
    step = CombineStep.of(function, left, right, place, bias_only(zeros.ctypes.data, zeros), blocks)
    run(step, threads, a, b, zeros, out)
    return out


combine = combine_cpu
