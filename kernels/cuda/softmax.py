"""Softmax on a card; what it is says the CPU's ``softmax.py``.

softmax_cuda: one block per row. Its threads take every 128th score, and find the largest one and the sum together in
shared memory: half of them add the other half's numbers to their own, then half of these, and so on. The order is
always the same, and with it every bit of the result.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float32, float64

from ..softmax import check_scores
from .launch import Call, kernel

__all__ = ["softmax_cuda"]

_THREADS = 128  # a power of two, for the halving


@kernel("matrix matrix", threads=_THREADS)
def _softmax(x, out):
    maxima = cuda.shared.array(_THREADS, float32)
    sums = cuda.shared.array(_THREADS, float64)
    n, thread = cuda.blockIdx.x, cuda.threadIdx.x
    largest = float32(-math.inf)
    for k in range(thread, x.shape[1], _THREADS):
        # a NaN may get lost here, but not below, where it is one of the powers
        largest = x[n, k] if x[n, k] > largest else largest
    maxima[thread] = largest
    half = _THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half and maxima[thread + half] > maxima[thread]:
            maxima[thread] = maxima[thread + half]
        half //= 2
    cuda.syncthreads()
    largest = maxima[0]
    total = float64(0.0)
    for k in range(thread, x.shape[1], _THREADS):
        out[n, k] = math.exp(x[n, k] - largest)  # out may be x: no other thread reads this score
        total += out[n, k]
    sums[thread] = total
    half = _THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            sums[thread] += sums[thread + half]
        half //= 2
    cuda.syncthreads()
    for k in range(thread, x.shape[1], _THREADS):
        out[n, k] = out[n, k] / sums[0]


def softmax_cuda(x: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Softmax of each row of x float32[n, k], k >= 1; ``out`` may be x. TypeError, ValueError for other arrays."""
    call = Call(stream)
    x = call.matrix("softmax: x", x)
    check_scores(x)
    out = call.result("softmax", out, x.shape)
    _softmax.launch(x.shape[0], call.stream, x, out)
    return call.finish()
