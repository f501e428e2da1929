"""NaN and infinity come out of a plan where TensorFlow has them. How, is written here for all devices:

Winograd's algorithm spreads NaN over a whole tile and makes NaN of infinity. It cannot hide that: whatever may stand behind it
keeps NaN, arithmetic and activations alike, but for a max-pool, where NaN never wins. So what max-pools read, directly or not,
is computed without it (``read_by_pools``), and where it went wrong in an image, there is NaN in one of the outputs that no
other output is computed from (``ends``). Such an image is run once more, alone and without Winograd, and that run's outputs are
what counts.

The parts into which "3xtf32" cuts numbers make NaN of infinity, too, and are dealt with in the same way; but they are used for
what max-pools read as well, and there such a NaN may be lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..network.graph import Graph
from .fusion import Node

__all__ = ["ends", "read_by_pools"]


def read_by_pools(graph: Graph, nodes: Sequence[Node]) -> set[str]:
    """What layers read, directly or not, that drop NaN: the nodes that make it must not do so by Winograd's algorithm."""
    found: set[str] = set()
    for node in reversed(nodes):
        if node.output in found or any(graph.by_name[name].operator.drops_nan for name in node.layers):
            found.update(node.inputs)
    return found


def ends(graph: Graph, outputs: Sequence[str]) -> tuple[str, ...]:
    """Those of ``outputs`` that no other one is computed from: there NaN is looked for."""
    behind = {name: {layer.name for layer in graph.needed_for([name])} for name in outputs}
    return tuple(name for name in outputs if not any(name in behind[other] for other in outputs if other != name))
