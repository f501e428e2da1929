"""Two feature maps joined number by number on a card; what it is says the CPU's ``combine.py``. combine_cuda: one thread per element
of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda

from ..combine import JOINS, check_join
from .launch import ELEMENTS, Call, Kernel, device_function, divide, grid_1d, kernel

__all__ = ["combine_cuda"]


def _kernels(name: str, formula: Callable[..., Any]) -> tuple[Kernel, Kernel]:
    """The kernel of a function of two arrays of one shape, and that of all others: there ``a0`` to ``a3`` are how many numbers
    further the next image, row, column, channel of a lies, ``b0`` to ``b3`` the same of b."""
    formula = device_function(formula)

    def each(a, b, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = formula(a[i], b[i])

    def broadcast(a, b, height, width, channels, a0, a1, a2, a3, b0, b1, b2, b3, out):
        i = cuda.grid(1)
        if i < out.size:
            pixel, c = divide(i, channels)
            row, w = divide(pixel, width)
            n, h = divide(row, height)
            out[i] = formula(a[n * a0 + h * a1 + w * a2 + c * a3], b[n * b0 + h * b1 + w * b2 + c * b3])

    each.__name__ = each.__qualname__ = f"combine_{name}"
    broadcast.__name__ = broadcast.__qualname__ = f"broadcast_{name}"
    words = "vector vector int int int int int int int int int int int vector"
    return kernel("vector vector vector", threads=ELEMENTS)(each), kernel(words, threads=ELEMENTS)(broadcast)


_KERNELS = {name: _kernels(name, join.formula) for name, join in JOINS.items()}


def _steps(shape: tuple[int, ...]) -> list[int]:
    """How many numbers further the next image, row, column, channel lies; 0 where there is one for all."""
    _, h, w, c = shape
    return [0 if size == 1 else step for size, step in zip(shape, (h * w * c, w * c, c, 1), strict=True)]


def combine_cuda(a: Any, b: Any, *, function: str, out: Any = None, stream: Any = None) -> Any:
    """``function`` of each number of a and of b: arguments, result and errors as ``combine_cpu``."""
    call = Call(stream)
    a, b = call.images("combine: a", a), call.images("combine: b", b)
    shape = check_join(a, b, function)
    out = call.result("combine", out, shape)
    blocks = grid_1d(out.size)
    left, right, place = (array.reshape(array.size) for array in (a, b, out))
    each, broadcast = _KERNELS[function]
    if a.shape == b.shape:
        each.launch(blocks, call.stream, left, right, place)
    else:
        broadcast.launch(blocks, call.stream, left, right, *shape[1:], *_steps(a.shape), *_steps(b.shape), place)
    return call.finish()
