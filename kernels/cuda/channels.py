"""Channels in another order on a card; what it is says the CPU's ``channels.py``. channels_cuda: one thread per element of the
result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, int32

from ..channels import check_order
from .launch import ELEMENTS, Call, divide, grid_1d, kernel

__all__ = ["channels_cuda"]


@kernel("matrix vector matrix", threads=ELEMENTS)
def _channels(x, order, out):
    i = cuda.grid(1)
    if i < out.size:
        pixel, c = divide(i, out.shape[1])
        out[pixel, c] = x[pixel, int32(order[c])]


def channels_cuda(x: Any, order: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Pick channels: arguments, result and errors as ``channels_cpu``. Numbers that lie on the card are not looked at: they
    must be those of channels that x has."""
    call = Call(stream)
    x, given = call.images("channels: x", x), order
    order = call.numbers("channels: order", order)
    if isinstance(given, np.ndarray):
        check_order(given, x.shape[3])
    out = call.result("channels", out, (*x.shape[:3], order.shape[0]))
    rows = [array.reshape(array.shape[0] * array.shape[1] * array.shape[2], array.shape[3]) for array in (x, out)]
    _channels.launch(grid_1d(out.size), call.stream, rows[0], order, rows[1])
    return call.finish()
