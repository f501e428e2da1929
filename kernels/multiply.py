"""Product of two feature maps, or of a feature map and one number per channel (squeeze-and-excitation's gate).

    y[n, h, w, c] = a[n, h, w, c] * b[n, h, w, c]      or      a[n, h, w, c] * b[n, 0, 0, c]

The ladder: multiply_reference (NumPy), multiply_cpu (Numba); multiply is multiply_cpu. Memory-bound.
"""

from __future__ import annotations

from typing import Any

from . import threads as _threads
from .arrays import Array, images, result
from .jit import jit

__all__ = ["gate_last", "multiply", "multiply_cpu", "multiply_reference"]


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


@jit
def _multiply(a, b, pixels, out, start, stop):
    for pixel in range(start, stop):
        row, place, gate = a[pixel], out[pixel], b[pixel // pixels]
        for c in range(len(row)):
            place[c] = row[c] * gate[c]


def multiply_cpu(a: Array, b: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """a * b, both float32[n, h, w, c], or one of them float32[n, 1, 1, c].

    out  float32[n, h, w, c], overwritten, may be one of that shape itself; made if None

    Raises TypeError for another dtype, ValueError for other shapes.
    """
    a, b = gate_last(images("multiply: a", a), images("multiply: b", b))
    n, h, w, c = a.shape
    out = result("multiply", out, a.shape)
    pixels = 1 if b.shape == a.shape else h * w  # how many rows of a go with one row of b
    _threads.run(
        _multiply, n * h * w, _threads.resolve_threads(threads),
        a.reshape(n * h * w, c), b.reshape(n * b.shape[1] * b.shape[2], c), pixels, out.reshape(n * h * w, c),
    )  # fmt: skip
    return out


multiply = multiply_cpu
