"""Which layers of a network that has no row in the families' table are its feature maps C1 to C5.

Nothing but the sizes of maps and the sums tells. A residual network only ever makes its maps smaller, stage by stage, and
each stage ends with a sum that the next one is computed from. What a detector or a segmenter puts behind it (a pyramid, a
decoder) has sums of the same sizes, but either it has made maps larger on the way there, or nothing smaller is computed from
its sums: by that the sums of the backbone are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from .graph import Graph
from .operators import Add, Input, MaxPool

__all__ = ["feature_maps", "stage_ends"]


_NOMINAL = 512  # pixels: large enough that borders do not blur what is 32 times smaller


def feature_maps(graph: Graph) -> dict[str, str]:
    """{"C1": layer, ...} of a residual network whose layers have unknown names.

    C1 is the last max-pool that is 4 times smaller than the image, before the first sum of that size. C2 to C5 are the
    backbone's last sums, or the activation after them, that are 4, 8, 16 and 32 times smaller: those from which something smaller
    is computed, or the smallest, and on the way to which no map was made larger.
    """
    halvings = _halvings(graph)
    found: dict[str, str] = {}
    for layer in graph.layers:
        if isinstance(layer.operator, MaxPool) and halvings.get(layer.name) == 2:
            found["C1"] = layer.name
        if isinstance(layer.operator, Add) and halvings.get(layer.name) == 2:
            break
    ends = _stage_ends(graph, halvings)
    return found | {f"C{stage}": name for stage, name in ends.items() if 2 <= stage <= 5}


def stage_ends(graph: Graph) -> dict[int, str]:
    """{how many times smaller than the image: layer} of the last maps of each size that a backbone makes, whichever those are."""
    return {2**stage: name for stage, name in sorted(_stage_ends(graph, _halvings(graph)).items())}


def _stage_ends(graph: Graph, halvings: Mapping[str, int]) -> dict[int, str]:
    """{halvings: layer} of the backbone's last sums, or the activation after them."""
    backbone = _never_larger(graph, halvings)
    continued = _something_smaller_follows(graph, halvings, backbone)
    sums = [layer for layer in graph.layers if isinstance(layer.operator, Add) and layer.name in backbone]
    smallest = max((halvings[layer.name] for layer in sums), default=0)
    readers = Counter(name for layer in graph.layers for name in layer.inputs)
    follower = {layer.inputs[0]: layer.name for layer in graph.layers if layer.operator.pointwise}
    found: dict[int, str] = {}
    for layer in sums:
        stage = halvings[layer.name]
        if layer.name in continued or stage == smallest:
            alone = readers[layer.name] == 1
            found[stage] = follower.get(layer.name, layer.name) if alone else layer.name
    return found


def _halvings(graph: Graph) -> dict[str, int]:
    """{layer: how many times its map was halved since the image}, of the layers that make maps; a gate's single pixel is
    none."""
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
    return {
        name: round(np.log2(_NOMINAL / shape[0]))
        for name, shape in shapes.items()
        if len(shape) == 3 and shape[:2] != (1, 1)
    }


def _never_larger(graph: Graph, halvings: Mapping[str, int]) -> set[str]:
    """The layers whose maps were made from the image by halving alone."""
    found: set[str] = set()
    for layer in graph.layers:
        if layer.name not in halvings:
            continue
        maps = [name for name in layer.inputs if name in halvings]  # a gate, which has none, changes no size
        enlarged = bool(layer.inputs) and not maps
        if not enlarged and all(name in found and halvings[name] <= halvings[layer.name] for name in maps):
            found.add(layer.name)
    return found


def _something_smaller_follows(graph: Graph, halvings: Mapping[str, int], among: set[str]) -> set[str]:
    """The layers from which a smaller map is computed, through layers ``among`` these."""
    smallest: dict[str, int] = {}  # of all maps that are computed from a layer
    for layer in reversed(graph.layers):
        if layer.name in among:
            least = max(smallest.get(layer.name, 0), halvings[layer.name])
            for name in layer.inputs:
                smallest[name] = max(smallest.get(name, 0), least)
    return {name for name, least in smallest.items() if name in among and least > halvings[name]}
