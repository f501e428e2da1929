"""Layers with weights: convolutions, dense layers, normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ..operators import BatchNorm, Conv2D, Conv2DTranspose, Dense, Normalization, Operator, Rescale, Scale, Softmax
from .activations import activation
from .layer_config import LayerConfig, Maker, Unsupported
from .settings import along_channels, constants, flag, number, padding_of, pair, setting, whole

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
    mean, variance = (np.array(constants(key, layer.config.get(key), layer.channels)) for key in ("mean", "variance"))
    factor = 1 / np.maximum(np.sqrt(variance), 1e-7)
    mean, factor = np.broadcast_arrays(mean, factor)
    return [Rescale(tuple(map(float, factor)), tuple(map(float, -mean * factor)))]


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
    "Normalization": _normalization,
    "Scale": lambda layer: [Scale(layer.channels)],
    "SeparableConv2D": _separable_conv,
    "SeparableConvolution2D": _separable_conv,
    "SyncBatchNormalization": _batch_norm,
}
"""{class in Keras: what makes its operators}."""
