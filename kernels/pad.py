"""Zero padding: a border of constant pixels around each image.

    out[n, top + h, left + w, c] = x[n, h, w, c];  everything else is ``value``

The ladder: pad_reference (NumPy), pad_cpu (Numba, rows in parallel); pad is pad_cpu. Memory-bound: each pixel is read
and written once.
"""

from __future__ import annotations

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .geometry import Pads, resolve_padding
from .jit import jit

__all__ = ["in_pixels", "pad", "pad_cpu", "pad_reference"]


def in_pixels(pads: Pads | int) -> Pads:
    """``pads`` as (top, bottom, left, right): one number counts for all sides. ValueError for anything else."""
    if isinstance(pads, str):
        raise ValueError(f"pad: got {pads!r}; padding on its own must be given in pixels: (top, bottom, left, right)")
    return resolve_padding(pads, (1, 1), (1, 1), (1, 1), (1, 1))


def pad_reference(x: Array, pads: Pads | int, value: float = 0.0) -> Array:
    """Images x dtype[n, h, w, c] with a border of ``pads`` pixels: dtype[n, top + h + bottom, left + w + right, c]."""
    top, bottom, left, right = in_pixels(pads)
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


@jit
def _pad(x, top, left, value, out, start, stop):
    _, height, width, _ = x.shape
    padded_h, padded_w = out.shape[1], out.shape[2]
    for index in range(start, stop):  # one row of one padded image
        n, h = divmod(index, padded_h)
        row = out[n, h]
        if h < top or h >= top + height:
            row[:] = value
        else:
            row[:left] = value
            row[left : left + width] = x[n, h - top]
            row[left + width : padded_w] = value


def pad_cpu(
    x: Array, pads: Pads | int, value: float = 0.0, *, out: Array | None = None, threads: int | None = 1
) -> Array:
    """Put a border around each image of a batch.

    x       float32[n, h, w, c]
    pads    (top, bottom, left, right) in pixels, or one number for all sides
    out     float32[n, top + h + bottom, left + w + right, c], overwritten; made if None

    Raises TypeError for another dtype, ValueError for a wrong rank or negative pads.
    """
    x = images("pad: x", x)
    top, bottom, left, right = in_pixels(pads)
    n, h, w, c = x.shape
    out = result("pad", out, (n, top + h + bottom, left + w + right, c))
    _threads.run(_pad, n * out.shape[1], _threads.resolve_threads(threads), x, top, left, np.float32(value), out)
    return out


pad = pad_cpu
