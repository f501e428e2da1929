"""Each operator as calls of kernels: the one table by which networks run layer by layer, on the processor and on a card.

A call names a kernel, and says how the kernel sees a layer's inputs and output, which tensors it takes behind the inputs,
and which options. Whoever runs it adds the version: ``NAME_reference``, ``NAME`` and ``NAME_cuda`` take the same arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    ChannelReduce,
    Channels,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Crop,
    Dense,
    Divide,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    Input,
    LayerNorm,
    LeakyReLU,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Normalization,
    Operator,
    Pad,
    PReLU,
    ReLU,
    Rescale,
    Reshape,
    Resize,
    Scale,
    Softmax,
    Subtract,
    UnitNorm,
    UpSample,
)
from .folding import statistics

__all__ = ["CALLS", "DEFINITIONS", "LayerCall", "calls"]

Array = npt.NDArray[Any]
_Tensors = Mapping[str, Array]


# How a kernel sees an array: functions of NumPy's arrays and of a card's ---------------------------------------------


def as_is(array: Any) -> Any:
    """As it comes: maps where the kernel takes nothing else, any shape where it takes all."""
    return array


def as_maps(array: Any) -> Any:
    """As feature maps [n, h, w, c]: after global pooling, [n, c], there is one pixel."""
    if len(array.shape) == 4:
        return array
    n, *pixels, channels = array.shape
    return array.reshape(n, 1, math.prod(pixels), channels)


def as_pixels(array: Any) -> Any:
    """As many images of one pixel each."""
    *pixels, channels = array.shape
    return array.reshape(math.prod(pixels), 1, 1, channels)


def as_rows(array: Any) -> Any:
    """As a matrix with one row of channels per pixel."""
    *pixels, channels = array.shape
    return array.reshape(math.prod(pixels), channels)


# Tensors and options: functions of the operator, and of its weights --------------------------------------------------


def _stored(*roles: str) -> Callable[[Any, _Tensors], Sequence[Array | None]]:
    """The weights of these roles, None for what a layer does without."""
    return lambda operator, weights: [weights.get(role) for role in roles]


def _kernel_and_bias(operator: Conv2D | Conv2DTranspose | Dense, weights: _Tensors) -> Sequence[Array]:
    """Zeros for a missing bias: a kernel on a card would make them anew in every run."""
    return weights["kernel"], weights.get("bias", np.zeros(operator.channels))


def _fields(*names: str) -> Callable[[Any], dict[str, Any]]:
    """The operator's fields of these names, which are the kernel's options."""
    return lambda operator: {name: getattr(operator, name) for name in names}


def _constants(operator: Rescale, weights: _Tensors) -> Sequence[Array]:
    return np.array(operator.factor), np.array(operator.offset)


def _alpha(operator: PReLU, weights: _Tensors) -> Sequence[Array]:
    """As maps, of one image that goes with all."""
    return (as_maps(weights["alpha"][None]),)


def _one_group(operator: LayerNorm) -> dict[str, Any]:
    return {"groups": 1, "epsilon": operator.epsilon}


def _folded(operator: BatchNorm, weights: _Tensors) -> Sequence[Array]:
    from ..kernels.batchnorm import scale_and_shift  # here, because it imports Numba

    gamma, beta = weights.get("gamma"), weights.get("beta")
    return scale_and_shift(gamma, beta, weights["mean"], weights["variance"], operator.epsilon)


# The table -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerCall:
    """One call of a kernel: ``kernel(*inputs, *tensors, **options)``.

    kernel   its name in ``npresnet.kernels``, that of its reference without the ending
    view     how it sees its inputs
    tensors  of the operator and the layer's weights: the arrays behind the inputs
    options  of the operator: the keywords
    result   how it sees its output; None: as its inputs
    when     of the operator: whether it takes this call
    """

    kernel: str
    view: Callable[[Any], Any] = as_is
    tensors: Callable[[Any, _Tensors], Sequence[Array | None]] = lambda operator, weights: ()
    options: Callable[[Any], dict[str, Any]] = lambda operator: {}
    result: Callable[[Any], Any] | None = None
    when: Callable[[Any], bool] = lambda operator: True

    def arrays(self, operator: Operator, weights: _Tensors, dtype: npt.DTypeLike = np.float32) -> list[Any]:
        """The tensors in ``dtype``, in which they are also found; by the definition, None for what a layer does without."""
        weights = {role: array.astype(dtype, copy=False) for role, array in weights.items()}
        found = self.tensors(operator, weights)
        return [None if array is None else array.astype(dtype, copy=False) for array in found]


_WINDOW = _fields("window", "stride", "padding")
_JOINED = (LayerCall("combine", as_maps, options=lambda operator: {"function": operator.kind}),)

CALLS: Mapping[type[Any], tuple[LayerCall, ...]] = {
    Input: (),
    Pad: (LayerCall("pad", options=_fields("pads")),),
    Channels: (LayerCall("channels", as_maps, lambda op, w: [np.array(op.order)]),),
    Crop: (LayerCall("crop", options=_fields("crops")),),
    Conv2D: (
        LayerCall("conv2d", tensors=_kernel_and_bias, options=_fields("stride", "padding", "dilation"),
             when=lambda op: op.groups == 1),
        LayerCall("grouped_conv2d", tensors=_kernel_and_bias, options=_fields("groups", "stride", "padding", "dilation"),
             when=lambda op: op.groups > 1),
    ),
    Conv2DTranspose: (
        LayerCall("conv2d_transpose", tensors=_kernel_and_bias,
             options=_fields("stride", "padding", "output_padding", "dilation")),
    ),
    BatchNorm: (LayerCall("scale", as_maps, _folded),),
    Scale: (LayerCall("scale", as_maps, _stored("gamma", "beta")),),
    Rescale: (LayerCall("scale", as_maps, _constants),),
    Normalization: (
        LayerCall("scale", as_maps, lambda op, w: (np.ones(1), -statistics(op, w)[0])),
        LayerCall("scale", as_maps, lambda op, w: (1 / statistics(op, w)[1], np.zeros(1))),
    ),
    ReLU: (LayerCall("relu", as_maps),),
    LeakyReLU: (LayerCall("leaky_relu", as_maps, options=_fields("slope")),),
    PReLU: (LayerCall("combine", as_maps, _alpha, lambda op: {"function": "prelu"}),),
    Activation: (LayerCall("activation", options=_fields("function", "constants")),),
    LayerNorm: (
        LayerCall("groupnorm", as_pixels, _stored("gamma", "beta"), _one_group, when=lambda op: len(op.shape) == 1),
        LayerCall("groupnorm", as_maps, _stored("gamma", "beta"), _one_group, when=lambda op: len(op.shape) > 1),
    ),
    GroupNorm: (LayerCall("groupnorm", as_maps, _stored("gamma", "beta"), _fields("groups", "epsilon")),),
    UnitNorm: (LayerCall("unitnorm", as_rows, options=_fields("least")),),
    Softmax: (LayerCall("softmax", as_rows),),
    Add: (LayerCall("add", as_maps),),
    **dict.fromkeys((Subtract, Multiply, Divide, Maximum, Minimum), _JOINED),
    Concatenate: (LayerCall("concatenate", as_maps),),
    MaxPool: (LayerCall("maxpool", options=_WINDOW),),
    AveragePool: (LayerCall("avgpool", options=_WINDOW),),
    GlobalAveragePool: (LayerCall("global_avgpool", as_maps, result=as_rows),),
    GlobalMaxPool: (LayerCall("global_maxpool", as_maps, result=as_rows),),
    ChannelReduce: (LayerCall("channel_reduce", as_maps, options=_fields("function")),),
    Resize: (LayerCall("resize", options=_fields("size", "interpolation")),),
    UpSample: (LayerCall("upsample", options=_fields("size", "interpolation")),),
    Flatten: (),
    Reshape: (),
    Dense: (LayerCall("dense", as_rows, _kernel_and_bias), LayerCall("softmax", as_rows, when=lambda op: op.softmax)),
}  # fmt: skip
"""Operator -> the calls that compute it, one after another; none where there is nothing to compute."""

DEFINITIONS = {
    **CALLS,
    BatchNorm: (
        LayerCall("batchnorm", as_maps, _stored("gamma", "beta", "mean", "variance"), _fields("epsilon")),
    ),
    # the square's root is the deviation again, to the last bit: in binary, sqrt(d * d) rounds to d
    Normalization: (
        LayerCall("batchnorm", as_maps, lambda op, w: (None, None, statistics(op, w)[0], statistics(op, w)[1] ** 2),
             lambda op: {"epsilon": 0.0}),
    ),
}  # fmt: skip
"""The same by the definition, as the reference has it: nothing is found beforehand from the weights."""


def calls(operator: Operator, by_definition: bool = False) -> list[LayerCall]:
    """The calls that compute ``operator``, in order. Each but the first takes the result of the one before; it may write
    over it."""
    table = DEFINITIONS if by_definition else CALLS
    return [call for call in table[type(operator)] if call.when(operator)]
