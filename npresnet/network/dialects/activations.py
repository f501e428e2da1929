"""Activations: layers of their own, or by name in another layer's ``activation``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..operators import LeakyReLU, Operator, ReLU, Sigmoid, Softmax
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
    if name == "softmax":
        return _softmax(replace(layer, kind="Softmax", config={}))
    if name not in ACTIVATIONS:
        raise Unsupported(f"its activation is {name!r}, which npresnet has not")
    return [*ACTIVATIONS[name]]


def _relu(layer: LayerConfig) -> list[Operator]:
    config = layer.config
    slope = number("negative_slope", setting(config, "negative_slope", default=0))
    if config.get("max_value") is not None or config.get("threshold"):
        raise Unsupported(f"max_value is {config.get('max_value')}, threshold {config.get('threshold')}")
    return [LeakyReLU(slope)] if slope else [ReLU()]


def _leaky_relu(layer: LayerConfig) -> list[Operator]:
    """``alpha`` before Keras 3; 0.3 where a description leaves it out, which Keras itself never does."""
    return [LeakyReLU(number("negative_slope", setting(layer.config, "negative_slope", "alpha", default=0.3)))]


def _softmax(layer: LayerConfig) -> list[Operator]:
    along_channels(layer, setting(layer.config, "axis", default=-1))
    return [Softmax()]


ACTIVATIONS: Mapping[str, tuple[Operator, ...]] = {
    "linear": (),
    "relu": (ReLU(),),
    "leaky_relu": (LeakyReLU(0.2),),  # the layer of that name has another slope
    "sigmoid": (Sigmoid(),),
}
"""{name in ``activation=``: operators}; softmax is another one, which depends on the axis."""

ACTIVATION_LAYERS: Mapping[str, Maker] = {
    "LeakyReLU": _leaky_relu,
    "ReLU": _relu,
    "Sigmoid": lambda layer: [Sigmoid()],
    "Softmax": _softmax,
}
"""Activations that are layers, and may stand in the place of another layer's activation."""
