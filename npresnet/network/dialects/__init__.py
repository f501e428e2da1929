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
"""

from __future__ import annotations

from collections.abc import Mapping

from ..operators import Operator
from .activations import ACTIVATION_LAYERS, activation
from .joining import JOINING
from .layer_config import LayerConfig, Maker, Shape, Unsupported
from .maps import MAPS
from .weighted import WEIGHTED

__all__ = ["LAYERS", "LayerConfig", "Shape", "Unsupported", "operators_of"]


def operators_of(layer: LayerConfig) -> list[Operator]:
    """The operators of one layer, in order; none for a layer that does nothing. Raises Unsupported."""
    if len(layer.shapes) != 1 and layer.kind not in (*IDLE, *JOINING):
        raise Unsupported(f"it has {len(layer.shapes)} inputs")
    if layer.kind not in LAYERS:
        raise Unsupported("npresnet has no such layer")
    return LAYERS[layer.kind](layer)


def _code(layer: LayerConfig) -> list[Operator]:
    raise Unsupported("it is code, and nothing from a file is executed")


IDLE = (
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

LAYERS: Mapping[str, Maker] = {
    **dict.fromkeys(IDLE, lambda layer: []),
    **ACTIVATION_LAYERS,
    **JOINING,
    **MAPS,
    **WEIGHTED,
    "Activation": activation,
    "Lambda": _code,
    "SlicingOpLambda": _code,
    "TFOpLambda": _code,
}
"""{class in Keras: what makes its operators}; a maker raises Unsupported where settings are not run here."""
