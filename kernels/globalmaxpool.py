"""Largest value over all pixels: float32[n, h, w, c] to float32[n, c]. A NaN anywhere gives NaN.

Unlike ``maxpool``, which takes TensorFlow's pooling kernel for its model, this follows ``tf.reduce_max``.

The ladder: global_maxpool_reference (NumPy), global_maxpool_cpu (Numba); global_maxpool is global_maxpool_cpu.
"""

from __future__ import annotations

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .jit import jit

__all__ = ["check_pixels", "global_maxpool", "global_maxpool_cpu", "global_maxpool_reference"]


def global_maxpool_reference(x: Array) -> Array:
    """Largest value over the pixels of x dtype[n, h, w, c]: dtype[n, c]."""
    return np.max(x, axis=(1, 2))


def check_pixels(x: Array) -> None:
    """Refuse images without pixels: ValueError."""
    if x.shape[1] * x.shape[2] == 0:
        raise ValueError(f"global_maxpool: got shape {tuple(x.shape)}; there must be a pixel to take the largest of")


@jit
def _global_maxpool(x, out, start, stop):
    for n in range(start, stop):
        best = out[n]
        best[:] = x[n, 0]
        for pixel in range(1, x.shape[1]):
            seen = x[n, pixel]
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
    _threads.run(_global_maxpool, n, _threads.resolve_threads(threads), x.reshape(n, h * w, c), out)
    return out


global_maxpool = global_maxpool_cpu
