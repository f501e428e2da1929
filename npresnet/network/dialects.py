"""What a layer of one of Keras's classes computes: the table ``LAYERS``, {class: maker}.

A maker gets a layer's config and the shapes of what it reads, and gives operators, the last of which makes the layer's output:
a convolution with an activation becomes two. Keras 1 (``nb_filter``, ``border_mode``, ``Merge``), 2 and 3 spell the same
things differently; all are understood. A new layer is one entry of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .operators import (
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    LeakyReLU,
    MaxPool,
    Multiply,
    Normalization,
    Operator,
    Pad,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    Sigmoid,
    Softmax,
)

__all__ = ["LAYERS", "LayerConfig", "Shape", "Unsupported", "operators_of"]

Shape = tuple[int | None, ...]
"""Of a feature map, (h, w, c), or of numbers, (c,); None where the description leaves it open."""


class Unsupported(Exception):
    """This layer is not run here; the text says why."""


@dataclass(frozen=True)
class LayerConfig:
    """One layer of a description.

    kind            its class in Keras
    shapes          of what it reads, in NHWC without the batch, however the images were
    channels_first  the network was made for (channels, height, width)
    """

    kind: str
    config: Mapping[str, Any]
    shapes: Sequence[Shape]
    channels_first: bool = False

    @property
    def shape(self) -> Shape:
        """Of the one thing that it reads."""
        return self.shapes[0]

    @property
    def channels(self) -> int:
        """Of the one thing that it reads. Raises Unsupported where the description leaves that open."""
        channels = self.shape[-1]
        if channels is None:
            raise Unsupported("how many numbers it gets depends on the size of the image, which the file does not fix")
        return channels


def operators_of(layer: LayerConfig) -> list[Operator]:
    """The operators of one layer, in order; none for a layer that does nothing. Raises Unsupported."""
    if len(layer.shapes) != 1 and layer.kind not in (*_IDLE, *_JOINING):
        raise Unsupported(f"it has {len(layer.shapes)} inputs")
    if layer.kind not in LAYERS:
        raise Unsupported("npresnet has no such layer")
    return LAYERS[layer.kind](layer)


# ---------------------------------------------------------------------------------------------------------------------
# Settings


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _padding(config: Mapping[str, Any]) -> Literal["same", "valid"]:
    padding = str(config.get("padding", config.get("border_mode", "valid"))).lower()
    if padding not in ("same", "valid"):
        raise Unsupported(f"padding {padding!r}")
    return "same" if padding == "same" else "valid"


def _pads(padding: Any) -> tuple[int, int, int, int]:
    if isinstance(padding, dict):  # Keras 1: top_pad, bottom_pad, ...
        top, bottom, left, right = (int(padding[f"{side}_pad"]) for side in ("top", "bottom", "left", "right"))
        return top, bottom, left, right
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 4:
        return tuple(map(int, padding))  # type: ignore[return-value]
    (top, bottom), (left, right) = map(_pair, padding)
    return top, bottom, left, right


def _bias(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_bias", config.get("bias", True)))


def _along_channels(axis: Any, channels_first: bool) -> None:
    """Raises Unsupported for any other axis."""
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if axis not in ((1, -3) if channels_first else (-1, 3)):
        raise Unsupported(f"it works along axis {axis}, not along the channels")


def _constants(value: Any, channels: int) -> tuple[float, ...]:
    """Numbers of a description: one, or one per channel."""
    if isinstance(value, dict):  # Keras 3 may write an array as an object
        value = value["config"]["value"] if "value" in value.get("config", {}) else value["value"]
    numbers = tuple(float(number) for number in np.ravel(value))
    if len(numbers) not in (1, channels):
        raise Unsupported(f"{len(numbers)} constants for {channels} channels")
    return numbers


# ---------------------------------------------------------------------------------------------------------------------
# Activations: by a layer of their own, or by name

_ACTIVATIONS: Mapping[str | None, tuple[Operator, ...]] = {
    "linear": (),
    None: (),
    "relu": (ReLU(),),
    "leaky_relu": (LeakyReLU(0.2),),  # the layer of that name has another slope
    "sigmoid": (Sigmoid(),),
    "softmax": (Softmax(),),
}


def _activation(layer: LayerConfig) -> list[Operator]:
    """The operator of an activation by name, or by a layer in its place; none for linear."""
    found = layer.config.get("activation", "linear")
    if isinstance(found, dict):  # a function by name, as Keras 3 writes some, or a layer
        kind, settings = str(found.get("class_name")), found.get("config")
        if isinstance(settings, dict) and kind in _ACTIVATION_LAYERS:
            return _ACTIVATION_LAYERS[kind](LayerConfig(kind, settings, layer.shapes, layer.channels_first))
        found = settings if isinstance(settings, str) else kind
    if found not in _ACTIVATIONS:
        raise Unsupported(f"activation {found!r}")
    return [*_ACTIVATIONS[found]]


def _relu(layer: LayerConfig) -> list[Operator]:
    limits = tuple(layer.config.get(setting) for setting in ("max_value", "negative_slope", "threshold"))
    if limits[0] is not None or limits[2]:
        raise Unsupported(f"max_value, negative_slope and threshold are {limits}")
    (slope,) = _constants(limits[1] or 0, 1)
    return [LeakyReLU(slope)] if slope else [ReLU()]


def _leaky_relu(layer: LayerConfig) -> list[Operator]:
    """``alpha`` before Keras 3; 0.3 where a description leaves it out, which Keras itself never does."""
    (slope,) = _constants(layer.config.get("negative_slope", layer.config.get("alpha", 0.3)), 1)
    return [LeakyReLU(slope)]


def _softmax(layer: LayerConfig) -> list[Operator]:
    _along_channels(layer.config.get("axis", -1), False)
    return [Softmax()]


_ACTIVATION_LAYERS: Mapping[str, Callable[[LayerConfig], list[Operator]]] = {
    "LeakyReLU": _leaky_relu,
    "ReLU": _relu,
    "Sigmoid": lambda layer: [Sigmoid()],
    "Softmax": _softmax,
}
"""Activations that are layers, and may stand in the place of another layer's activation."""


# ---------------------------------------------------------------------------------------------------------------------
# Layers with weights


def _conv(layer: LayerConfig) -> list[Operator]:
    filters = int(layer.config.get("filters") or layer.config["nb_filter"])
    return _convolution(layer, filters, int(layer.config.get("groups") or 1))


def _depthwise_conv(layer: LayerConfig) -> list[Operator]:
    return _convolution(layer, layer.channels * int(layer.config.get("depth_multiplier", 1)), layer.channels)


def _convolution(layer: LayerConfig, filters: int, groups: int) -> list[Operator]:
    config, channels = layer.config, layer.channels
    kernel = _pair(config.get("kernel_size") or (config["nb_row"], config["nb_col"]))
    stride = _pair(config.get("strides") or config.get("subsample") or 1)
    dilation = _pair(config.get("dilation_rate") or config.get("atrous_rate") or 1)
    padding = "valid" if kernel == (1, 1) else _padding(config)  # "same" pads nothing around one pixel
    if channels % groups or filters % groups:
        raise Unsupported(f"{groups} groups do not divide {channels} and {filters} channels")
    conv = Conv2D(channels, filters, kernel, stride, padding, _bias(config), groups, dilation)
    return [conv, *_activation(layer)]


def _dense(layer: LayerConfig) -> list[Operator]:
    units = int(layer.config.get("units") or layer.config["output_dim"])
    activation = _activation(layer)
    softmax = activation == [Softmax()]
    return [Dense(layer.channels, units, softmax, _bias(layer.config)), *([] if softmax else activation)]


def _batch_norm(layer: LayerConfig) -> list[Operator]:
    config = layer.config
    if len(layer.shape) == 3:
        _along_channels(config.get("axis", -1), layer.channels_first)
    if config.get("mode", 0) == 1:
        raise Unsupported("it normalises each image by itself (mode 1)")
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    return [BatchNorm(layer.channels, float(config.get("epsilon", 1e-3)), scale, center)]


def _normalization(layer: LayerConfig) -> list[Operator]:
    if layer.config.get("invert"):
        raise Unsupported("it is inverted")
    if layer.config.get("mean") is None:
        return [Normalization(layer.channels)]
    mean, variance = (np.array(_constants(layer.config[key], layer.channels)) for key in ("mean", "variance"))
    factor = 1 / np.maximum(np.sqrt(variance), 1e-7)
    mean, factor = np.broadcast_arrays(mean, factor)
    return [Rescale(tuple(map(float, factor)), tuple(map(float, -mean * factor)))]


# ---------------------------------------------------------------------------------------------------------------------
# Layers without


def _nothing(layer: LayerConfig) -> list[Operator]:
    return []


def _joining(operator: Callable[[], Operator]) -> Callable[[LayerConfig], list[Operator]]:
    """Of several maps: each operator takes two."""

    def make(layer: LayerConfig) -> list[Operator]:
        if len(layer.shapes) < 2:
            raise Unsupported("it has one input")
        return [operator() for _ in layer.shapes[1:]]

    return make


def _merge(layer: LayerConfig) -> list[Operator]:
    modes: Mapping[Any, Callable[[], Operator]] = {"sum": Add, "mul": Multiply}
    mode = layer.config.get("mode")
    if mode not in modes:
        raise Unsupported(f"mode {mode!r}")
    return _joining(modes[mode])(layer)


def _pool(operator: type[MaxPool] | type[AveragePool]) -> Callable[[LayerConfig], list[Operator]]:
    def make(layer: LayerConfig) -> list[Operator]:
        window = _pair(layer.config.get("pool_size") or 2)
        stride = _pair(layer.config.get("strides") or window)
        return [operator(window, stride, "valid" if window == (1, 1) else _padding(layer.config))]

    return make


def _flatten(layer: LayerConfig) -> list[Operator]:
    if layer.channels_first and layer.shape[:2] != (1, 1) and len(layer.shape) == 3:
        raise Unsupported("it flattens channels before pixels")
    return [Flatten()] if len(layer.shape) == 3 else []


def _reshape(layer: LayerConfig) -> list[Operator]:
    target = tuple(int(n) for n in layer.config["target_shape"])
    target = tuple(layer.channels if n == -1 and all(m in (1, -1) for m in target) else n for n in target)
    if min(target) < 1 or layer.channels_first:
        raise Unsupported(f"target shape {tuple(layer.config['target_shape'])}")
    return [Reshape(target)]


def _rescaling(layer: LayerConfig) -> list[Operator]:
    config, channels = layer.config, layer.channels
    return [Rescale(_constants(config.get("scale", 1), channels), _constants(config.get("offset", 0), channels))]


def _code(layer: LayerConfig) -> list[Operator]:
    raise Unsupported("it is code, and nothing from a file is executed")


# ---------------------------------------------------------------------------------------------------------------------
# The table

Maker = Callable[[LayerConfig], list[Operator]]

_IDLE = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "RandomBrightness",
    "RandomContrast",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "SpatialDropout2D",
)
"""What does something only while a network is being trained. ``RandomCrop``, ``RandomHeight`` and ``RandomWidth`` are not among
them: they change the size of what they get."""

_JOINING: Mapping[str, Maker] = {
    "Add": _joining(Add),
    "Multiply": _joining(Multiply),
    "Merge": _merge,  # Keras 1
}
"""What reads several maps."""

LAYERS: Mapping[str, Maker] = {
    **dict.fromkeys(_IDLE, _nothing),
    **_JOINING,
    **_ACTIVATION_LAYERS,
    "Activation": _activation,
    "AveragePooling2D": _pool(AveragePool),
    "BatchNorm": _batch_norm,
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "BatchNormalizationV2": _batch_norm,
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise_conv,
    "Flatten": _flatten,
    "GlobalAveragePooling2D": lambda layer: [GlobalAveragePool(bool(layer.config.get("keepdims", False)))],
    "GlobalMaxPooling2D": lambda layer: [GlobalMaxPool(bool(layer.config.get("keepdims", False)))],
    "Lambda": _code,
    "MaxPooling2D": _pool(MaxPool),
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Scale": lambda layer: [Scale(layer.channels)],
    "SlicingOpLambda": _code,
    "SyncBatchNormalization": _batch_norm,
    "TFOpLambda": _code,
    "ZeroPadding2D": lambda layer: [Pad(_pads(layer.config.get("padding", 1)))],
}
"""{class in Keras: what makes its operators}; a maker raises Unsupported where settings are not run here."""
