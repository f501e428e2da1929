"""Activations: layers of their own, or by name in another layer's ``activation``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ..operators import Activation, LeakyReLU, Operator, ReLU, Softmax
from .layer_config import LayerConfig, Maker, Unsupported
from .settings import along_channels, number, setting

__all__ = ["ACTIVATIONS", "ACTIVATION_LAYERS", "activation"]


def activation(layer: LayerConfig) -> list[Operator]:
    """The operators of a layer's ``activation``, by name or by a layer in its place; none for linear."""
    found = layer.config.get("activation")
    if isinstance(found, dict):  # a function by name, as Keras 3 writes some, or a layer
        kind, settings = str(found.get("class_name")), found.get("config")
        if isinstance(settings, dict) and kind in ACTIVATION_LAYERS:
            return ACTIVATION_LAYERS[kind](replace(layer, kind=kind, config=settings))
        found = settings if isinstance(settings, str) else kind
    return by_name("linear" if found is None else str(found), layer)


def by_name(name: str, layer: LayerConfig) -> list[Operator]:
    """The operators of an activation function; ``layer`` is what it is applied in."""
    name = name.rpartition(">")[2]  # "Package>name" of a registered one
    if name in layer.custom:
        return [Activation(layer.custom[name])]
    if name == "softmax":
        return _softmax(replace(layer, kind="Softmax", config={}))
    if name == "hard_sigmoid" and layer.keras < 3:  # another line: x / 5 + 1 / 2 and not x / 6 + 1 / 2
        return [Activation("hard_sigmoid_keras2")]
    if name not in ACTIVATIONS:
        raise Unsupported(f"its activation is {name!r}, which npresnet has not")
    return [*ACTIVATIONS[name]]


def _relu(layer: LayerConfig) -> list[Operator]:
    config = layer.config
    slope = number("negative_slope", setting(config, "negative_slope", default=0))
    ceiling = config.get("max_value")
    ceiling = math.inf if ceiling is None else number("max_value", ceiling, 0)
    threshold = number("threshold", setting(config, "threshold", default=0), 0)
    if ceiling == math.inf and threshold == 0:
        return [LeakyReLU(slope)] if slope else [ReLU()]
    return [Activation("clipped_relu", (slope, ceiling, threshold))]


def _thresholded_relu(layer: LayerConfig) -> list[Operator]:
    """A class of its own before Keras 3."""
    threshold = number("theta", setting(layer.config, "theta", default=1), 0)
    return [Activation("clipped_relu", (0.0, math.inf, threshold))]


def _elu(layer: LayerConfig) -> list[Operator]:
    return [Activation("elu", (number("alpha", setting(layer.config, "alpha", default=1)),))]


def _leaky_relu(layer: LayerConfig) -> list[Operator]:
    """``alpha`` before Keras 3; 0.3 where a description leaves it out, which Keras itself never does. Of infinity a slope of 0
    makes NaN, but not before Keras 3, which has ReLU there."""
    slope = number("negative_slope", setting(layer.config, "negative_slope", "alpha", default=0.3))
    return [LeakyReLU(slope)] if slope or layer.keras > 2 else [ReLU()]


def _softmax(layer: LayerConfig) -> list[Operator]:
    along_channels(layer, setting(layer.config, "axis", default=-1))
    return [Softmax()]


_SAME = (
    "abs",
    "exponential",
    "gelu",
    "gelu_tanh",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "log_sigmoid",
    "mish",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
)
"""What Keras calls as we do."""

ACTIVATIONS: Mapping[str, tuple[Operator, ...]] = {
    "linear": (),
    "relu": (ReLU(),),
    "leaky_relu": (LeakyReLU(0.2),),  # the layer of that name has another slope
    "relu6": (Activation("clipped_relu", (0.0, 6.0, 0.0)),),
    "elu": (Activation("elu", (1.0,)),),
    "celu": (Activation("celu", (1.0,)),),
    "gelu_exact": (Activation("gelu"),),
    "hard_swish": (Activation("hard_silu"),),
    "swish": (Activation("silu"),),
    **{name: (Activation(name),) for name in _SAME},
}
"""{name in ``activation=``: operators}; softmax is another one, which depends on the axis."""

ACTIVATION_LAYERS: Mapping[str, Maker] = {
    "ELU": _elu,
    "LeakyReLU": _leaky_relu,
    "ReLU": _relu,
    "Sigmoid": lambda layer: [Activation("sigmoid")],
    "Softmax": _softmax,
    "ThresholdedReLU": _thresholded_relu,
}
"""Activations that are layers, and may stand in the place of another layer's activation."""
