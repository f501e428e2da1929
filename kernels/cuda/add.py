"""Addition on a card; what it is says the CPU's ``add.py``. add_cuda: one thread per element."""

from __future__ import annotations

from typing import Any

from numba import cuda

from .combine import combine_cuda
from .launch import ELEMENTS, Call, grid_1d, kernel

__all__ = ["add_cuda"]


@kernel("vector vector vector", threads=ELEMENTS)
def _add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


def add_cuda(a: Any, b: Any, *, out: Any = None, stream: Any = None) -> Any:
    """a + b: arguments, result and errors as ``add_cpu``."""
    call = Call(stream)
    a, b = call.images("add: a", a), call.images("add: b", b)
    if a.shape != b.shape:
        return combine_cuda(a, b, function="add", out=out, stream=stream)
    out = call.result("add", out, a.shape)
    _add.launch(grid_1d(a.size), call.stream, *(array.reshape(array.size) for array in (a, b, out)))
    return call.finish()
