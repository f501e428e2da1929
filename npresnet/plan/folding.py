"""Folding: what multiplies each channel by a number and adds one, as two numbers per channel, in float64.

y = scale * (conv(x, w) + bias) + shift  =  conv(x, w * scale) + (bias * scale + shift)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.operators import BatchNorm, Normalization, Rescale, Scale
from ..network.weights import Weights

__all__ = ["composed", "deviation"]


Array = npt.NDArray[Any]


def composed(graph: Graph, weights: Weights, norms: Sequence[str], channels: int) -> tuple[Array, Array]:
    """The two numbers per channel, float64[channels] each, that ``norms`` come to, one after another: y = x * scale + shift."""
    from ..kernels.batchnorm import scale_and_shift  # here, because it imports Numba

    scale, shift = np.ones(channels), np.zeros(channels)
    for name in norms:
        w, operator = weights.get(name, {}), graph.by_name[name].operator
        factor: Any
        offset: Any
        match operator:
            case BatchNorm(epsilon=epsilon):
                factor, offset = scale_and_shift(w.get("gamma"), w.get("beta"), w["mean"], w["variance"], epsilon)
            case Scale():
                factor, offset = w["gamma"].astype(np.float64), w["beta"]
            case Rescale(factor, offset):
                factor, offset = np.array(factor), np.array(offset)
            case Normalization():
                factor = 1 / deviation(w["variance"].astype(np.float64))
                offset = -w["mean"] * factor
            case _:
                raise AssertionError(operator)
        scale, shift = scale * factor, shift * factor + offset
    return scale, shift


def deviation(variance: Array) -> Array:
    """What Keras's Normalization divides by."""
    root: Array = np.maximum(np.sqrt(variance), variance.dtype.type(1e-7))
    return root
