"""What a layer of one of Keras's classes computes: the table ``LAYERS``, {class: maker}.

A maker gets a layer's config and the shapes of what it reads, and gives operators, the last of which makes the layer's output:
a convolution with an activation becomes two. Keras 1 (``nb_filter``, ``border_mode``, ``Merge``), 2 and 3 spell the same
things differently; all are understood. A new layer is one entry of the table of its kind:

    layer_config.py  what a maker gets
    settings.py      numbers of a description that can be trusted
    activations.py   activations, as layers and by name
    weighted.py      convolutions, dense layers, normalisations
    maps.py          pools, borders, other shapes
    joining.py       sums, products
    functions.py     functions in the place of layers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..operators import Activation, ChannelReduce, Channels, Operator
from . import settings
from .activations import ACTIVATION_LAYERS, activation
from .functions import function_of, layers_of, one_channel, stacked_channels
from .joining import JOINING
from .layer_config import LayerConfig, Maker, Shape, Unsupported
from .maps import MAPS
from .weighted import WEIGHTED

__all__ = [
    "LAYERS",
    "LayerConfig",
    "Shape",
    "Unsupported",
    "one_channel",
    "operators_of",
    "settings",
    "stacked_channels",
]


def operators_of(layer: LayerConfig, name: str = "") -> list[Operator]:
    """The operators of one layer, in order; none for a layer that does nothing. Raises Unsupported."""
    own = layer.custom.get(name) or layer.custom.get(layer.kind)
    if own is not None:
        return [Activation(own)]
    if function_of(layer) is not None:
        return [
            operator
            for kind, config in layers_of(layer)
            for operator in _made(replace(layer, kind=kind, config=config))
        ]
    return _made(layer)


def _unknown(layer: LayerConfig) -> str:
    if layer.module and not layer.module.startswith(("keras", "tf_keras", "tensorflow")):
        return f"it is a class of {layer.module!r}, which is code; if it is a function of each number by itself, give it with custom="
    return "npresnet has no such layer"


def _made(layer: LayerConfig) -> list[Operator]:
    if layer.kind not in LAYERS:
        raise Unsupported(_unknown(layer))
    if len(layer.shapes) != 1 and layer.kind not in JOINING:
        raise Unsupported(f"it has {len(layer.shapes)} inputs")
    if layer.kind in IDLE and layer.arguments.get("training"):
        raise Unsupported("it is called with training=True, so that it changes numbers at random; npresnet does not")
    if "Normalization" in layer.kind and layer.arguments.get("training") and layer.config.get("trainable") is not False:
        raise Unsupported(
            "it is called with training=True: then it goes by the statistics of the batch, so that no image has an answer of its "
            "own; call it with training=False and save again"
        )
    return LAYERS[layer.kind](layer)


def _channels(layer: LayerConfig) -> list[Operator]:
    """No layer of Keras's: what some functions come to (``functions.py``)."""
    order = settings.setting(layer.config, "order")
    if not isinstance(order, list | tuple):
        raise Unsupported(f"order is {settings.short(order)}; it must be a list of channels")
    return [Channels(tuple(settings.whole("order", channel, 0, layer.channels - 1) for channel in order))]


def _channel_reduce(layer: LayerConfig) -> list[Operator]:
    """No layer of Keras's either."""
    function = settings.setting(layer.config, "function")
    if function not in ("mean", "max"):
        raise Unsupported(f"function is {settings.short(function)}; it must be 'mean' or 'max'")
    return [ChannelReduce(function)]


def _code(layer: LayerConfig) -> list[Operator]:
    raise Unsupported(
        "it is code, and nothing from a file is executed; if it is a function of each number by itself, give it with custom=, or "
        "save the model with layers in its place (Rescaling, say)"
    )


IDLE = (
    "ActivityRegularization",
    "AlphaDropout",
    "AugMix",
    "CutMix",
    "Dropout",
    "Equalization",
    "FixedDropout",  # of efficientnet, for one of Keras's early faults
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
"""What does something only while a network is being trained. ``RandomCrop``, ``RandomHeight`` and ``RandomWidth`` are not among
them: they change the size of what they get."""

LAYERS: Mapping[str, Maker] = {
    **dict.fromkeys(IDLE, lambda layer: []),
    **ACTIVATION_LAYERS,
    **JOINING,
    **MAPS,
    **WEIGHTED,
    "Activation": activation,
    "ChannelReduce": _channel_reduce,
    "Channels": _channels,
    "Lambda": _code,
}
"""{class in Keras: what makes its operators}; a maker raises Unsupported where settings are not run here."""
