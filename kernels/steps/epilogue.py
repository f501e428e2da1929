"""The epilogue: what is done to a result before it leaves its registers, at no pass of its own over memory.

    out = activation(result + bias + residual)

Activations that are piecewise linear, with one knee at zero, can be part of it:

    activation(v) = v                                where v >= 0, and for NaN
                    the larger of v * slope, floor   where v < 0

    linear   slope 1, floor minus infinity     ReLU   slope 1, floor 0: minus infinity times a slope of 0 would be NaN

Other activations (``functions.py``) are no part of what happens in registers: whoever has stored a block of outputs lets their
function work on it, while it is still in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array
from ..jit import Native, call, jit
from .records import Address, Map

__all__ = ["LINEAR", "RELU", "Activating", "Epilogue", "activated", "bias_only", "finish"]


class Activating(NamedTuple):
    """A piecewise linear function, see above, or any other one.

    slope, floor  linear where there is a function
    function      that works on stored blocks, ``Function.block``; 0 for none
    a, b, c       its constants
    """

    slope: float
    floor: float
    function: Native | int = 0
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0


LINEAR, RELU = Activating(1.0, -math.inf), Activating(1.0, 0.0)


@dataclass(frozen=True)
class Epilogue:
    """What a step does to its result.

    bias        address of float32[channels]; for products with panels of as many more as fill the last one
    residual    what is added, of the output's pixels and channels; zeros of pitch 0 for nothing: in registers it is cheaper to
                add them than to ask, loops ask
    zeros       address of at least as many zeros as a panel has columns
    """

    bias: Address
    residual: Map
    activation: Activating
    zeros: Address


def bias_only(bias: Address, zeros: Array) -> Epilogue:
    """The epilogue of what has only a bias, or zeros for that, too. ``zeros`` are at least as many as the output has channels,
    and as a panel has columns; they must live as long as the step is run."""
    at = zeros.ctypes.data
    return Epilogue(bias, Map(at, 0, len(zeros)), LINEAR, at)


@jit
def activated(value, slope, floor):
    """The activation of one float32, in loops that compilers turn into vectors; ``simd.activated`` is the same for one."""
    scaled = value * slope
    scaled = floor if scaled < floor else scaled
    return scaled if value < 0 else value


@jit
def finish(activation, place, pitch, rows, columns):
    """What is left to do of an activation once a block of outputs has been stored: its function, if it has one."""
    if activation.function:
        call(activation.function, (place, pitch, rows, columns, activation.a, activation.b, activation.c))
