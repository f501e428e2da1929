"""Layers without weights that read one map: pools, borders, other shapes, constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..operators import (
    AveragePool,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool,
    Operator,
    Pad,
    Rescale,
    Reshape,
)
from .layer_config import LayerConfig, Maker, Unsupported
from .settings import constants, flag, padding_of, pads, pair, setting, whole

__all__ = ["MAPS"]


def _pool(operator: type[MaxPool] | type[AveragePool]) -> Maker:
    def make(layer: LayerConfig) -> list[Operator]:
        window = pair("pool_size", setting(layer.config, "pool_size", default=2))
        stride = pair("strides", setting(layer.config, "strides", default=window))
        return [operator(window, stride, "valid" if window == (1, 1) else padding_of(layer.config))]

    return make


def _global_pool(operator: Callable[[bool], Operator]) -> Maker:
    return lambda layer: [operator(flag("keepdims", setting(layer.config, "keepdims", default=False)))]


def _flatten(layer: LayerConfig) -> list[Operator]:
    if layer.channels_first and layer.shape[:2] != (1, 1) and len(layer.shape) == 3:
        raise Unsupported("it flattens channels before pixels")
    return [Flatten()] if len(layer.shape) == 3 else []


def _reshape(layer: LayerConfig) -> list[Operator]:
    given = setting(layer.config, "target_shape")
    if not isinstance(given, list | tuple):
        given = [given]
    target = tuple(whole("target_shape", n, -1) for n in given)
    target = tuple(layer.channels if n == -1 and all(m in (1, -1) for m in target) else n for n in target)
    if min(target, default=0) < 1 or layer.channels_first:
        raise Unsupported(f"target_shape is {tuple(given)}")
    return [Reshape(target)]


def _rescaling(layer: LayerConfig) -> list[Operator]:
    config, channels = layer.config, layer.channels
    scale, offset = setting(config, "scale", default=1), setting(config, "offset", default=0)
    factors, offsets = constants("scale", scale, channels), constants("offset", offset, channels)
    if layer.channels_first and max(len(factors), len(offsets)) > 1:
        raise Unsupported("it has a constant for each column of maps, which come channels first")
    return [Rescale(factors, offsets)]


MAPS: Mapping[str, Maker] = {
    "AveragePooling2D": _pool(AveragePool),
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_pool(GlobalAveragePool),
    "GlobalMaxPooling2D": _global_pool(GlobalMaxPool),
    "MaxPooling2D": _pool(MaxPool),
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "ZeroPadding2D": lambda layer: [Pad(pads("padding", setting(layer.config, "padding", default=1)))],
}
"""{class in Keras: what makes its operators}."""
