"""Activations that are a function of each number by itself: sigmoid, silu, gelu and others, by their names in ``functions.py``.
ReLU and leaky ReLU, whose only knee is at zero, have files of their own, because they fit into any epilogue's registers.

The ladder: activation_reference (NumPy), activation_cpu (Numba, in float64 inside, eight numbers at a time); activation is
activation_cpu.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, floats, result
from .functions import FUNCTIONS, Function
from .steps.epilogue import Activating, finish
from .steps.intrinsics import copy_bytes, part_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = ["ActivationStep", "activation", "activation_cpu", "activation_of", "activation_reference", "function_of"]


_ROW = 1024  # numbers that are one pixel for the public function
_IN_L1 = 4096  # numbers that stay in L1 between the copy and the function


def function_of(name: str, constants: Sequence[float]) -> Function:
    """A row of the table of functions; ValueError for an unknown name or another number of constants than it has."""
    if name not in FUNCTIONS:
        raise ValueError(f"activation: got function {name!r}; it must be one of {', '.join(FUNCTIONS)}")
    found = FUNCTIONS[name]
    if len(constants) != found.constants:
        raise ValueError(
            f"activation: got constants {tuple(constants)} for {name}, which has {found.constants} of them"
        )
    return found


def activation_reference(x: Array, *, function: str, constants: Sequence[float] = ()) -> Array:
    """``function`` of each number of an array of any float dtype and shape. ValueError for an unknown function."""
    with np.errstate(all="ignore"):  # what overflows or has no limit is infinite or NaN, as it should be
        found = function_of(function, constants).reference(x, *constants)
    return np.asarray(found, x.dtype)


def activation_of(name: str, constants: Sequence[float]) -> Activating:
    """A row of the table of functions as part of an epilogue."""
    a, b, c = (*constants, 0.0, 0.0, 0.0)[:3]
    return Activating(1.0, -math.inf, function_of(name, constants).block, a, b, c)


@dataclass(frozen=True, kw_only=True)
class ActivationStep(Step):
    """An activation of ``pixels`` pixels; an item is one of ``blocks`` parts of them."""

    x: Map
    out: Map
    activation: Activating
    pixels: int
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(ActivationStep)


@ActivationStep.native
def _activation_item(step, item, scratch):
    s = _view(step)
    pixel = s.x.channels * 4
    first, last = part_of(s.pixels, item, s.blocks, 1)
    some = max(_IN_L1 // s.x.channels, 1)
    for start in range(first, last, some):
        count = min(some, last - start)
        x, out = s.x.address + start * s.x.pitch, s.out.address + start * s.out.pitch
        if s.x.pitch == pixel and s.out.pitch == pixel:
            copy_bytes(out, x, count * pixel)
        else:
            for i in range(count):
                copy_bytes(out + i * s.out.pitch, x + i * s.x.pitch, pixel)
        finish(s.activation, out, s.out.pitch, count, s.x.channels)


def activation_cpu(
    x: Array, *, function: str, constants: Sequence[float] = (), out: Array | None = None, threads: int | None = 1
) -> Array:
    """``function`` of each number of x float32, of any shape; ``out`` may be x itself.

    TypeError for another dtype, ValueError for an unknown function.
    """
    x = floats("activation: x", x)
    told = activation_of(function, constants)
    out = result("activation", out, x.shape)
    threads = resolve_threads(threads)
    channels = math.gcd(x.size, _ROW) or 1  # whatever its shape: rows that are long, but enough to share
    pixels = x.size // channels
    rows, place = (Map.of(array.reshape(pixels, channels)) for array in (x, out))
    step = ActivationStep(x=rows, out=place, activation=told, pixels=pixels, blocks=min(4 * threads, pixels))
    run(step, threads, x, out)
    return out


activation = activation_cpu
