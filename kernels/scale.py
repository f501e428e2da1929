"""A factor and an offset per channel, or one of each for all.

    y[..., c] = x[..., c] * factor[c] + offset[c]

The ladder: scale_reference (NumPy), scale_cpu (Numba); scale is scale_cpu. Memory-bound.
"""

from __future__ import annotations

import numpy as np

from . import threads as _threads
from .arrays import Array, floats, images, result
from .jit import jit

__all__ = ["check_numbers", "scale", "scale_cpu", "scale_reference"]


def scale_reference(x: Array, factor: Array, offset: Array) -> Array:
    """x dtype[..., c] * factor + offset, both dtype[c] or dtype[1]."""
    return x * factor + offset


def check_numbers(name: str, values: Array, channels: int) -> None:
    """Refuse what is not one number, or one per channel: ValueError."""
    if values.shape not in ((1,), (channels,)):
        raise ValueError(
            f"scale: {name}: got shape {tuple(values.shape)}; it must be ({channels},), one per channel, or (1,)"
        )


@jit
def _scale(x, factor, offset, out, start, stop):
    for pixel in range(start, stop):
        row, place = x[pixel], out[pixel]
        for c in range(len(row)):
            place[c] = row[c] * factor[c] + offset[c]


def scale_cpu(x: Array, factor: Array, offset: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Scale and shift the channels of feature maps.

    x               float32[n, h, w, c]
    factor, offset  float32[c], or float32[1] for all channels alike
    out             float32[n, h, w, c], overwritten, may be x itself; made if None

    Raises TypeError for another dtype, ValueError for lengths other than c and 1.
    """
    x = images("scale: x", x)
    n, h, w, c = x.shape
    numbers = []
    for name, given in (("factor", factor), ("offset", offset)):
        values = floats(f"scale: {name}", given)
        check_numbers(name, values, c)
        numbers.append(np.ascontiguousarray(np.broadcast_to(values, (c,))))
    out = result("scale", out, x.shape)
    _threads.run(
        _scale,
        n * h * w,
        _threads.resolve_threads(threads),
        x.reshape(n * h * w, c),
        *numbers,
        out.reshape(n * h * w, c),
    )
    return out


scale = scale_cpu
