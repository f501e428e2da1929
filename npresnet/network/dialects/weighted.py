"""Layers with weights: convolutions, dense layers, normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..operators import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    GroupNorm,
    LayerNorm,
    Normalization,
    Operator,
    PReLU,
    Scale,
    Softmax,
    UnitNorm,
)
from .activations import activation
from .layer_config import LayerConfig, Maker, Unsupported
from .settings import along_channels, constants, flag, number, padding_of, pair, setting, short, whole

__all__ = ["WEIGHTED"]


def _bias(layer: LayerConfig) -> bool:
    return flag("use_bias", setting(layer.config, "use_bias", "bias", default=True))


def _conv(layer: LayerConfig) -> list[Operator]:
    filters = whole("filters", setting(layer.config, "filters", "nb_filter"))
    return _convolution(layer, filters, whole("groups", setting(layer.config, "groups", default=1)))


def _depthwise_conv(layer: LayerConfig) -> list[Operator]:
    each = whole("depth_multiplier", setting(layer.config, "depth_multiplier", default=1))
    return _convolution(layer, layer.channels * each, layer.channels)


def _convolution(layer: LayerConfig, filters: int, groups: int) -> list[Operator]:
    conv = Conv2D(layer.channels, filters, *_window(layer), _bias(layer), groups, _dilation(layer))
    return [conv, *activation(layer)]


def _dilation(layer: LayerConfig) -> tuple[int, int]:
    return pair("dilation_rate", setting(layer.config, "dilation_rate", "atrous_rate", default=1))


def _window(layer: LayerConfig) -> tuple[tuple[int, int], tuple[int, int], Literal["same", "valid"]]:
    """Kernel, stride and padding of a convolution."""
    config = layer.config
    if config.get("nb_row") is not None:
        kernel = pair("the kernel's size", [config["nb_row"], config.get("nb_col")])
    else:
        kernel = pair("kernel_size", setting(config, "kernel_size"))
    stride = pair("strides", setting(config, "strides", "subsample", default=1))
    return kernel, stride, "valid" if kernel == (1, 1) else padding_of(config)  # "same" pads nothing around one pixel


def _separable_conv(layer: LayerConfig) -> list[Operator]:
    """A depthwise convolution, and one of single pixels with the bias."""
    each = whole("depth_multiplier", setting(layer.config, "depth_multiplier", default=1))
    filters = whole("filters", setting(layer.config, "filters", "nb_filter"))
    between = layer.channels * each
    depthwise = Conv2D(layer.channels, between, *_window(layer), False, layer.channels, _dilation(layer))
    return [depthwise, Conv2D(between, filters, (1, 1), bias=_bias(layer)), *activation(layer)]


def _conv_transpose(layer: LayerConfig) -> list[Operator]:
    config = layer.config
    kernel = pair("kernel_size", setting(config, "kernel_size"))
    stride = pair("strides", setting(config, "strides", default=1))
    given = setting(config, "output_padding", default=None)
    more = None if given is None else pair("output_padding", given, 0)
    filters, padding = whole("filters", setting(config, "filters")), padding_of(config)
    conv = Conv2DTranspose(layer.channels, filters, kernel, stride, padding, more, _dilation(layer), _bias(layer))
    return [conv, *activation(layer)]


def _dense(layer: LayerConfig) -> list[Operator]:
    if layer.channels_first and len(layer.shape) == 3:
        raise Unsupported("it works along the width of maps, which come channels first")
    units = whole("units", setting(layer.config, "units", "output_dim"))
    operators = activation(layer)
    softmax = operators == [Softmax()]
    return [Dense(layer.channels, units, softmax, _bias(layer)), *([] if softmax else operators)]


def _batch_norm(layer: LayerConfig) -> list[Operator]:
    config = layer.config
    along_channels(layer, setting(config, "axis", default=-1))
    if config.get("mode", 0) == 1:
        raise Unsupported("it normalises each image by itself (mode 1)")
    scale, center = (flag(name, setting(config, name, default=True)) for name in ("scale", "center"))
    return [BatchNorm(layer.channels, number("epsilon", setting(config, "epsilon", default=1e-3), 0), scale, center)]


def _normalization(layer: LayerConfig) -> list[Operator]:
    if layer.config.get("invert"):
        raise Unsupported("it is inverted")
    along_channels(layer, setting(layer.config, "axis", default=-1))
    if layer.config.get("mean") is None:
        return [Normalization(layer.channels)]
    mean, variance = (constants(key, layer.config.get(key), layer.channels) for key in ("mean", "variance"))
    if min(variance) < 0:
        raise Unsupported(f"a variance is {min(variance):g}; it must be at least 0")
    return [Normalization(layer.channels, mean, variance)]


def _epsilon(layer: LayerConfig, default: float) -> float:
    return number("epsilon", setting(layer.config, "epsilon", default=default), 0)


def _scale_and_center(layer: LayerConfig) -> tuple[bool, bool]:
    scale, center = (flag(name, setting(layer.config, name, default=True)) for name in ("scale", "center"))
    return scale, center


def _layer_norm(layer: LayerConfig) -> list[Operator]:
    if layer.config.get("rms_scaling"):
        raise Unsupported("rms_scaling is set")
    axis, rank = setting(layer.config, "axis", default=-1), len(layer.shape)
    given = axis if isinstance(axis, list) else [axis]
    axes = sorted(whole("axis", one, -rank - 1, rank) % (rank + 1) for one in given)
    shape: tuple[int, ...] = (layer.channels,)
    if axes == [1, 2, 3] and None not in layer.shape and not layer.channels_first:
        shape = tuple(size for size in layer.shape if size is not None)
    else:
        along_channels(layer, axis)
    return [LayerNorm(shape, _epsilon(layer, 1e-3), *_scale_and_center(layer))]


def _group_norm(layer: LayerConfig) -> list[Operator]:
    along_channels(layer, setting(layer.config, "axis", default=-1))
    groups = whole("groups", setting(layer.config, "groups", default=32), -1)
    groups = layer.channels if groups == -1 else groups
    return [GroupNorm(layer.channels, groups, _epsilon(layer, 1e-3), *_scale_and_center(layer))]


def _unit_norm(layer: LayerConfig) -> list[Operator]:
    """Before Keras 3 it is the square that is at least 1e-12. ``least`` is of functions, which say it themselves."""
    along_channels(layer, setting(layer.config, "axis", default=-1))
    usual = 1e-12 if layer.keras >= 3 else 1e-6
    return [UnitNorm(number("the least length", setting(layer.config, "least", default=usual), 0))]


def _prelu(layer: LayerConfig) -> list[Operator]:
    if layer.channels_first and len(layer.shape) > 1:
        raise Unsupported("its slopes are of maps that come channels first")
    shared = layer.config.get("shared_axes") or []
    if not isinstance(shared, list):
        raise Unsupported(f"shared_axes is {short(shared)}; it must be a list")
    axes = {whole("shared_axes", axis, 1, len(layer.shape)) for axis in shared}
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(layer.shape, 1))
    if None in shape:
        raise Unsupported("how many slopes it has depends on the size of the image, which the file does not fix")
    return [PReLU(tuple(size for size in shape if size is not None))]


WEIGHTED: Mapping[str, Maker] = {
    "BatchNorm": _batch_norm,
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "BatchNormalizationV2": _batch_norm,
    "Conv2D": _conv,
    "Conv2DTranspose": _conv_transpose,
    "Convolution2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise_conv,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Scale": lambda layer: [Scale(layer.channels)],
    "SeparableConv2D": _separable_conv,
    "SeparableConvolution2D": _separable_conv,
    "SyncBatchNormalization": _batch_norm,
    "UnitNormalization": _unit_norm,
}
"""{class in Keras: what makes its operators}."""
