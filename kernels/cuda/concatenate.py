"""Concatenation on a card; what it is says the CPU's ``concatenate.py``. concatenate_cuda: one thread per element of each input."""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..concatenate import firsts, joined_shape
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["concatenate_cuda"]


@kernel("vector int int vector int", threads=ELEMENTS)
def _place(x, channels, first, out, pitch):
    i = cuda.grid(1)
    if i < x.size:
        pixel, c = divide(i, channels)
        out[pixel * pitch + first + c] = x[i]


def concatenate_cuda(*maps: Any, out: Any = None, stream: Any = None) -> Any:
    """Maps side by side: arguments, result and errors as ``concatenate_cpu``."""
    call = Call(stream)
    maps = tuple(call.images(f"concatenate: input {number}", x) for number, x in enumerate(maps))
    shape = joined_shape(maps)
    out = call.result("concatenate", out, shape)
    flat = out.reshape(out.size)
    for first, x in zip(firsts([x.shape[3] for x in maps]), maps, strict=True):
        _place.launch(grid_1d(x.size), call.stream, x.reshape(x.size), x.shape[3], first, flat, shape[3])
    return call.finish()
