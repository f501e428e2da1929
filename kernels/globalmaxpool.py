"""Largest value over all pixels: float32[n, h, w, c] to float32[n, c]. A NaN anywhere gives NaN.

Unlike ``maxpool``, which takes TensorFlow's pooling kernel for its model, this follows ``tf.reduce_max``.

The ladder: global_maxpool_reference (NumPy), global_maxpool_cpu (Numba); global_maxpool is global_maxpool_cpu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Array, images, result
from .steps.intrinsics import pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = ["GlobalMaxPoolStep", "check_pixels", "global_maxpool", "global_maxpool_cpu", "global_maxpool_reference"]


def global_maxpool_reference(x: Array) -> Array:
    """Largest value over the pixels of x dtype[n, h, w, c]: dtype[n, c]."""
    return np.max(x, axis=(1, 2))


def check_pixels(x: Array) -> None:
    """Refuse images without pixels: ValueError."""
    if x.shape[1] * x.shape[2] == 0:
        raise ValueError(f"global_maxpool: got shape {tuple(x.shape)}; there must be a pixel to take the largest of")


@dataclass(frozen=True, kw_only=True)
class GlobalMaxPoolStep(Step):
    """The largest value over all ``pixels`` of each of n images; an item is an image."""

    x: Map
    out: Map
    n: int
    pixels: int

    @property
    def items(self) -> int:
        return self.n


_view = view_of(GlobalMaxPoolStep)


@GlobalMaxPoolStep.native
def _global_maxpool_item(step, item, scratch):
    s = _view(step)
    first = item * s.pixels
    seen, best = pixel_of(s.x, first), pixel_of(s.out, item)
    for c in range(len(best)):
        best[c] = seen[c]
    for pixel in range(first + 1, first + s.pixels):
        seen = pixel_of(s.x, pixel)
        for c in range(len(best)):
            if seen[c] > best[c] or seen[c] != seen[c]:
                best[c] = seen[c]


def global_maxpool_cpu(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Largest value over all pixels: x float32[n, h, w, c], result float32[n, c].

    Raises TypeError for another dtype; ValueError for a wrong rank or an image without pixels.
    """
    x = images("global_maxpool: x", x)
    check_pixels(x)
    n, h, w, c = x.shape
    out = result("global_maxpool", out, (n, c))
    run(GlobalMaxPoolStep(x=Map.of(x), out=Map.of(out), n=n, pixels=h * w), resolve_threads(threads), x, out)
    return out


global_maxpool = global_maxpool_cpu
