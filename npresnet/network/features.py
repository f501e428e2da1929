"""Which layers of a network that has no row in the families' table are its feature maps C1 to C5."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .graph import Graph
from .operators import Add, Input, MaxPool, ReLU

__all__ = ["feature_maps"]


# ---------------------------------------------------------------------------------------------------------------------
# What a network is like


_NOMINAL = 512  # pixels: large enough that borders do not blur what is 32 times smaller


def feature_maps(graph: Graph) -> dict[str, str]:
    """{"C1": layer, ...} of a residual network whose layers have unknown names.

    C1 is the last max-pool before the first residual block, C2 to C5 are the last sums, or the ReLU after them, that are
    4, 8, 16 and 32 times smaller than the image.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in graph.layers:  # as far as it goes: a head may want another size
        try:
            shapes[layer.name] = (
                (_NOMINAL, _NOMINAL, layer.operator.channels)
                if isinstance(layer.operator, Input)
                else layer.operator.output_shape(*(shapes[name] for name in layer.inputs))
            )
        except (ValueError, KeyError):
            continue
    readers = Counter(name for layer in graph.layers for name in layer.inputs)
    follower = {layer.inputs[0]: layer.name for layer in graph.layers if isinstance(layer.operator, ReLU)}
    found: dict[str, str] = {}
    for layer in graph.layers:
        shape = shapes.get(layer.name, ())
        stage = round(np.log2(_NOMINAL / shape[0])) if len(shape) == 3 else 0
        if isinstance(layer.operator, MaxPool) and stage == 2 and "C2" not in found:
            found["C1"] = layer.name
        if not isinstance(layer.operator, Add):
            continue
        if 2 <= stage <= 5:
            alone = readers[layer.name] == 1
            found[f"C{stage}"] = follower.get(layer.name, layer.name) if alone else layer.name
    return found
