"""Group normalisation on a card; what it is says the CPU's ``groupnorm.py``. groupnorm_cuda: one block per group of an image, whose
threads take every 128th number."""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float64

from ..groupnorm import check_groups
from .launch import Call, device_function, divide, kernel

__all__ = ["groupnorm_cuda"]

_THREADS = 128  # a power of two, for the halving


@device_function
def _block_sum(sums, thread, value):
    """The sum of ``value`` of all threads, in each of them, added up as ``softmax.py`` says; ``sums`` is shared."""
    cuda.syncthreads()  # nobody reads the last sum any more
    sums[thread] = value
    half = _THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            sums[thread] += sums[thread + half]
        half //= 2
    cuda.syncthreads()
    return sums[0]


@kernel("vector vector vector int int int double vector", threads=_THREADS)
def _groupnorm(x, gamma, beta, pixels, channels, groups, epsilon, out):
    sums = cuda.shared.array(_THREADS, float64)
    thread, few = cuda.threadIdx.x, channels // groups
    n, group = divide(cuda.blockIdx.x, groups)
    start, count = n * pixels * channels + group * few, pixels * few
    total = float64(0.0)
    for k in range(thread, count, _THREADS):
        pixel, c = divide(k, few)
        total += x[start + pixel * channels + c]
    mean = _block_sum(sums, thread, total) / count
    total = float64(0.0)
    for k in range(thread, count, _THREADS):
        pixel, c = divide(k, few)
        difference = x[start + pixel * channels + c] - mean
        total += difference * difference
    factor = 1.0 / math.sqrt(_block_sum(sums, thread, total) / count + epsilon)
    for k in range(thread, count, _THREADS):
        pixel, c = divide(k, few)
        i, of_pixel = start + pixel * channels + c, pixel * channels
        g = gamma[group * few + c + (of_pixel if gamma.size > channels else 0)]
        b = beta[group * few + c + (of_pixel if beta.size > channels else 0)]
        out[i] = (x[i] - mean) * factor * g + b


def groupnorm_cuda(
    x: Any, gamma: Any, beta: Any, *, groups: int, epsilon: float, out: Any = None, stream: Any = None
) -> Any:
    """Normalise each image's groups of channels: arguments, result and errors as ``groupnorm_cpu``."""
    call = Call(stream)
    x = call.images("groupnorm: x", x)
    n, h, w, c = x.shape
    gamma = (
        call.vector("groupnorm: gamma", None, c, missing=1.0)
        if gamma is None
        else call.floats("groupnorm: gamma", gamma)
    )
    beta = (
        call.vector("groupnorm: beta", None, c, missing=0.0) if beta is None else call.floats("groupnorm: beta", beta)
    )
    check_groups(x, gamma, beta, groups)
    out = call.result("groupnorm", out, x.shape)
    flat = [array.reshape(array.size) for array in (x, gamma, beta)]
    _groupnorm.launch(n * groups, call.stream, *flat, h * w, c, groups, epsilon, out.reshape(out.size))
    return call.finish()
