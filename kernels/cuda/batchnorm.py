"""Batch normalisation on a card; what it is says the CPU's ``batchnorm.py``.

batchnorm_cuda: one thread per channel finds the factor and the offset, in float64; then ``scale.py``'s kernel applies
them, one thread per element.
"""

from __future__ import annotations

import math
from typing import Any

from numba import cuda, float64

from .launch import ELEMENTS, Call, grid_1d, kernel
from .scale import launch_scale

__all__ = ["batchnorm_cuda"]


@kernel("vector vector vector vector double vector vector", threads=ELEMENTS)
def _scale_and_shift(gamma, beta, mean, variance, epsilon, scale, shift):
    c = cuda.grid(1)
    if c < scale.size:
        factor = 1.0 / math.sqrt(float64(variance[c]) + epsilon) * gamma[c]
        scale[c] = factor
        shift[c] = beta[c] - mean[c] * factor


def batchnorm_cuda(
    x: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    *,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Normalise feature maps with stored statistics: arguments, result and errors as ``batchnorm_cpu``."""
    call = Call(stream)
    x = call.images("batchnorm: x", x)
    c = x.shape[3]
    gamma = call.vector("batchnorm: gamma", gamma, c, missing=1.0)
    beta = call.vector("batchnorm: beta", beta, c, missing=0.0)
    mean, variance = call.vector("batchnorm: mean", mean, c), call.vector("batchnorm: variance", variance, c)
    scale, shift = call.empty((c,)), call.empty((c,))
    out = call.result("batchnorm", out, x.shape)
    _scale_and_shift.launch(grid_1d(c), call.stream, gamma, beta, mean, variance, epsilon, scale, shift)
    launch_scale(call.stream, x, scale, shift, out)
    return call.finish()
