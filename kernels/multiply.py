"""Product of two feature maps, or of a feature map and one number per channel (squeeze-and-excitation's gate).

    y[n, h, w, c] = a[n, h, w, c] * b[n, h, w, c]      or      a[n, h, w, c] * b[n, 0, 0, c]

The ladder: multiply_reference (NumPy), multiply_cpu (Numba); multiply is multiply_cpu. Memory-bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, images, result
from .steps.epilogue import Epilogue, activated, bias_only, finish
from .steps.intrinsics import part_of, pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads
from .tile import NR

__all__ = ["ProductStep", "gate_last", "multiply", "multiply_cpu", "multiply_reference"]


def multiply_reference(a: Array, b: Array) -> Array:
    """a * b for dtype[n, h, w, c] and dtype[n, h, w, c] or dtype[n, 1, 1, c], in either order."""
    return a * b


def gate_last(a: Any, b: Any) -> tuple[Any, Any]:
    """The two factors, the one of a single pixel last if there is such a one; ValueError for shapes that do not fit."""
    if a.shape[1:3] == (1, 1):
        a, b = b, a
    n, _, _, c = a.shape
    if b.shape not in (a.shape, (n, 1, 1, c)):
        raise ValueError(
            f"multiply: got shapes {tuple(a.shape)} and {tuple(b.shape)}; they must be equal, or one (n, 1, 1, c)"
        )
    return a, b


@dataclass(frozen=True, kw_only=True)
class ProductStep(Step):
    """out = activation(x * factor + residual), pixel by pixel; an item is one of ``blocks`` parts of the pixels.

    shared    how many pixels of x go with one of the factor: 1, or all of an image
    """

    x: Map
    factor: Map
    out: Map
    epilogue: Epilogue
    pixels: int
    shared: int
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(ProductStep)


@ProductStep.native
def _product_item(step, item, scratch):
    s = _view(step)
    channels = s.x.channels
    slope, floor = s.epilogue.activation.slope, s.epilogue.activation.floor
    first, last = part_of(s.pixels, item, s.blocks, 1)
    for pixel in range(first, last):
        x, factor = pixel_of(s.x, pixel), pixel_of(s.factor, pixel // s.shared)
        more, out = pixel_of(s.epilogue.residual, pixel), pixel_of(s.out, pixel)
        if s.epilogue.residual.pitch:  # there is one
            for c in range(channels):
                out[c] = activated(x[c] * factor[c] + more[c], slope, floor)
        else:
            for c in range(channels):
                out[c] = activated(x[c] * factor[c], slope, floor)
        finish(s.epilogue.activation, s.out.address + pixel * s.out.pitch, s.out.pitch, 1, channels)


def multiply_cpu(a: Array, b: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """a * b, both float32[n, h, w, c], or one of them float32[n, 1, 1, c].

    out  float32[n, h, w, c], overwritten, may be one of that shape itself; made if None

    Raises TypeError for another dtype, ValueError for other shapes.
    """
    a, b = gate_last(images("multiply: a", a), images("multiply: b", b))
    n, h, w, c = a.shape
    out = result("multiply", out, a.shape)
    pixels = 1 if b.shape == a.shape else h * w  # how many rows of a go with one row of b
    threads, zeros = resolve_threads(threads), np.zeros(c + NR, np.float32)
    step = ProductStep(
        x=Map.of(a), factor=Map.of(b), out=Map.of(out), pixels=n * h * w, shared=pixels, blocks=min(4 * threads, n * h * w),
        epilogue=bias_only(zeros.ctypes.data, zeros),
    )  # fmt: skip
    run(step, threads, a, b, zeros, out)
    return out


multiply = multiply_cpu
