"""Folding: a convolution and all that multiplies each channel by a number and adds one, as one convolution.

    y = scale * (conv(x, w) + bias) + shift  =  conv(x, w * scale) + (bias * scale + shift)

It is done in float64, so that it costs one rounding. How the product lies in memory is each device's own business
(``packing.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph, Layer
from ..network.operators import BatchNorm, Normalization, Rescale, Scale
from ..network.weights import Weights

__all__ = ["Constant", "Folded", "cancels", "fold", "statistics"]


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Constant:
    """The weights that one step reads.

    form      how they lie in memory: a name that the device's ``packing.py`` knows
    layer     whose kernel and bias; None for the norms by themselves, or ones and zeros
    norms     names of the layers to fold in, in order: each multiplies every channel by a number and adds one
    channels  of the result
    """

    form: str
    layer: str | None
    norms: tuple[str, ...]
    channels: int


class Folded(NamedTuple):
    """What a constant comes to, whatever its form.

    kernel  as stored, float32[..., channels], or [..., channels, channels in] of a transposed convolution, yet to be multiplied
            by ``scale``; None for norms by themselves
    scale   float64[channels]
    bias    float64[channels], what is added in the end
    """

    kernel: Array | None
    scale: Array
    bias: Array


def fold(graph: Graph, weights: Weights, constant: Constant) -> Folded:
    """The weights of ``constant`` with its norms folded in, but for the product with the kernel."""
    scale, shift = _composed(graph, weights, constant.norms, constant.channels)
    if constant.layer is None:
        return Folded(None, scale, shift)
    w = weights[constant.layer]
    return Folded(w["kernel"], scale, w.get("bias", np.float64(0.0)) * scale + shift)


def _composed(graph: Graph, weights: Weights, norms: Sequence[str], channels: int) -> tuple[Array, Array]:
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
                mean, divisor = statistics(operator, {role: array.astype(np.float64) for role, array in w.items()})
                factor, offset = 1 / divisor, -mean / divisor
            case _:
                raise AssertionError(operator)
        scale, shift = scale * factor, shift * factor + offset
    return scale, shift


def statistics(operator: Normalization, weights: Mapping[str, Array]) -> tuple[Array, Array]:
    """What Keras's Normalization subtracts and divides by: one number, or one per channel, in the dtype of the weights."""
    if operator.mean is None or operator.variance is None:
        mean, variance = weights["mean"], weights["variance"]
    else:
        mean, variance = np.array(operator.mean), np.array(operator.variance)
    root: Array = np.maximum(np.sqrt(variance), variance.dtype.type(1e-7))
    return mean, root


_MOST_DEVIATIONS = 16


def cancels(layer: Layer, weights: Weights) -> bool:
    """Whether a layer must subtract before it multiplies: folded, x / d - mean / d, its result would be a small difference of
    large numbers.

    Whoever subtracts first has errors of some EPS * abs(y), for the mean lies near x. Folded they are EPS * abs(mean / d), and y is
    of order one by design. Pictures have a mean of two deviations; sixteen cost four bits.
    """
    if not isinstance(layer.operator, Normalization):
        return False
    mean, divisor = statistics(layer.operator, weights.get(layer.name, {}))
    return bool((np.abs(mean) > _MOST_DEVIATIONS * divisor).any())
