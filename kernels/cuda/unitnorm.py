"""Rows of length one on a card; what it is says the CPU's ``unitnorm.py``. unitnorm_cuda: one block per row, whose threads take every
128th number."""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float64

from .launch import Call, kernel

__all__ = ["unitnorm_cuda"]

_THREADS = 128  # a power of two, for the halving that ``softmax.py`` explains


@kernel("matrix double matrix", threads=_THREADS)
def _unitnorm(x, least, out):
    sums = cuda.shared.array(_THREADS, float64)
    n, thread = cuda.blockIdx.x, cuda.threadIdx.x
    total = float64(0.0)
    for k in range(thread, x.shape[1], _THREADS):
        total += float64(x[n, k]) * x[n, k]
    sums[thread] = total
    half = _THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            sums[thread] += sums[thread + half]
        half //= 2
    cuda.syncthreads()
    length = math.sqrt(sums[0])
    length = least if length < least else length
    for k in range(thread, x.shape[1], _THREADS):
        out[n, k] = x[n, k] / length


def unitnorm_cuda(x: Any, *, least: float, out: Any = None, stream: Any = None) -> Any:
    """Each row of x over its length: arguments, result and errors as ``unitnorm_cpu``."""
    call = Call(stream)
    x = call.matrix("unitnorm: x", x)
    out = call.result("unitnorm", out, x.shape)
    _unitnorm.launch(x.shape[0], call.stream, x, least, out)
    return call.finish()
