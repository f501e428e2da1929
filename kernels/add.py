"""Addition of two feature maps of one shape: where a residual block's branch and its shortcut meet.

The ladder: add_reference (NumPy), add_cpu (Numba); add is add_cpu. Memory-bound: two reads and a write per element.
"""

from __future__ import annotations

from . import threads as _threads
from .arrays import Array, images, result
from .jit import jit

__all__ = ["add", "add_cpu", "add_reference", "check_shapes"]


def add_reference(a: Array, b: Array) -> Array:
    """a + b for arrays of one shape and any dtype."""
    return a + b


def check_shapes(a: Array, b: Array) -> None:
    """Refuse two shapes: ValueError."""
    if a.shape != b.shape:
        raise ValueError(
            f"add: a has shape {tuple(a.shape)} and b {tuple(b.shape)}; they must be equal, nothing is broadcast"
        )


@jit
def _add(a, b, out, start, stop):
    left, right, place = a[start:stop], b[start:stop], out[start:stop]
    for i in range(len(left)):
        place[i] = left[i] + right[i]


def add_cpu(a: Array, b: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """a + b, both float32[n, h, w, c]; ``out`` may be either. TypeError for another dtype, ValueError for two shapes."""
    a, b = images("add: a", a), images("add: b", b)
    check_shapes(a, b)
    out = result("add", out, a.shape)
    _threads.run(_add, a.size, _threads.resolve_threads(threads), a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out


add = add_cpu
