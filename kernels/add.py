"""Addition of two feature maps: where a residual block's branch and its shortcut meet.

The ladder: add_reference (NumPy), add_cpu (Numba); add is add_cpu. Memory-bound: two reads and a write per element.
"""

from __future__ import annotations

from . import threads as _threads
from .arrays import Array, images, result
from .combine import combine_cpu
from .jit import jit

__all__ = ["add", "add_cpu", "add_reference"]


def add_reference(a: Array, b: Array) -> Array:
    """a + b for arrays of any dtype and one shape, or sizes of 1 that are repeated."""
    return a + b


@jit
def _add(a, b, out, start, stop):
    left, right, place = a[start:stop], b[start:stop], out[start:stop]
    for i in range(len(left)):
        place[i] = left[i] + right[i]


def add_cpu(a: Array, b: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """a + b, both float32[n, h, w, c]; ``out`` may be either. Sizes of 1 are repeated, as ``combine.py`` has it.

    TypeError for another dtype, ValueError for other shapes.
    """
    a, b = images("add: a", a), images("add: b", b)
    if a.shape != b.shape:
        return combine_cpu(a, b, function="add", out=out, threads=threads)
    out = result("add", out, a.shape)
    _threads.run(_add, a.size, _threads.resolve_threads(threads), a.reshape(-1), b.reshape(-1), out.reshape(-1))
    return out


add = add_cpu
