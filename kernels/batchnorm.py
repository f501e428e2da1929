"""Batch normalisation at inference: a scale and a shift per channel.

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta  =  x * scale + shift
    scale = gamma / sqrt(variance + epsilon)        shift = beta - mean * scale

The ladder: batchnorm_reference (the first formula, NumPy), batchnorm_cpu (the second, one multiply-add per element;
scale and shift are found in float64 first, the loop is that of ``scale.py``); batchnorm is batchnorm_cpu.
Source: Ioffe and Szegedy, "Batch normalization" (2015), algorithm 2; epsilon is added to the variance, as in Keras.
"""

from __future__ import annotations

import numpy as np

from .arrays import Array, images, result, vector
from .scale import scale_pixels
from .threads import resolve_threads

__all__ = ["batchnorm", "batchnorm_cpu", "batchnorm_reference", "scale_and_shift"]


def batchnorm_reference(
    x: Array, gamma: Array | None, beta: Array | None, mean: Array, variance: Array, epsilon: float
) -> Array:
    """Normalise x dtype[..., c] by the definition, in its dtype; gamma None counts as 1, beta None as 0."""
    # epsilon as the array's dtype: a Python float would not change the dtype, but a NumPy float64 would
    y = (x - mean) / np.sqrt(variance + variance.dtype.type(epsilon))
    if gamma is not None:
        y = y * gamma
    return y if beta is None else y + beta


def scale_and_shift(
    gamma: Array | None, beta: Array | None, mean: Array, variance: Array, epsilon: float
) -> tuple[Array, Array]:
    """The two numbers per channel that a batch normalisation comes to, float64[c] each."""
    scale = 1.0 / np.sqrt(variance.astype(np.float64) + epsilon)
    if gamma is not None:
        scale *= gamma
    shift = -mean.astype(np.float64) * scale
    if beta is not None:
        shift += beta
    return scale, shift


def batchnorm_cpu(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    mean: Array,
    variance: Array,
    epsilon: float,
    *,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Normalise a batch of feature maps with stored statistics.

    x                            float32[n, h, w, c]
    gamma, beta, mean, variance  float32[c]; gamma None counts as 1, beta None as 0
    epsilon                      added to the variance; families of networks differ in it
    out                          float32[n, h, w, c], overwritten, may be x itself; made if None

    Raises TypeError for another dtype, ValueError for lengths other than c.
    """
    x = images("batchnorm: x", x)
    c = x.shape[3]
    for name, values in (("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)):
        if values is not None:
            vector(f"batchnorm: {name}", values, c)
    scale, shift = scale_and_shift(gamma, beta, mean, variance, epsilon)
    out = result("batchnorm", out, x.shape)
    scale_pixels(x, scale.astype(np.float32), shift.astype(np.float32), out, resolve_threads(threads))
    return out


batchnorm = batchnorm_cpu
