"""Where Winograd's algorithm may not stand, and how NaN and infinity come out of a plan where TensorFlow has them; written
here for all devices.

Its error in each pixel goes with the largest numbers of a whole tile. Behind most layers that is as good as any other. But
what divides a pixel by numbers of its own makes small numbers large, and such an error with them: what those layers read is
computed without that algorithm (``read_by_divisions``).

Winograd's algorithm spreads NaN over a whole tile and makes NaN of infinity. Whatever may stand behind it keeps that NaN,
arithmetic and activations alike, with two exceptions. In a max-pool NaN never wins, so that another number comes out: what
max-pools read, directly or not, is computed without that algorithm (``read_by_pools``), but for what is computed from the images
themselves, the stem above all: these can be looked at before, and where all numbers are ordinary, nothing becomes infinite or
NaN on the way (``ordinary``). And some layers leave numbers out: a
cut, channels that are not picked, or a window that takes too long strides or ends before the map does. What comes out of those
is right, whatever is in what they have not read. So where the algorithm went wrong in an image, there is NaN in an output; it
is looked for in those of which not every NaN shows in another (``ends``). Such an image, and one that is not ordinary where it
should be, is run once more, alone and without Winograd, and that run's outputs are what counts.

The parts into which "3xtf32" cuts numbers make NaN of infinity, too, and are dealt with in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.operators import Shape
from .fusion import FusedConv, FusedTransposed, Node

__all__ = ["ends", "ordinary", "read_by_divisions", "read_by_pools"]


def read_by_pools(graph: Graph, nodes: Sequence[Node]) -> set[str]:
    """What layers read, directly or not, that drop NaN: the nodes that make it must not do so by Winograd's algorithm."""
    found: set[str] = set()
    for node in reversed(nodes):
        if node.output in found or any(graph.by_name[name].operator.drops_nan for name in node.layers):
            found.update(node.inputs)
    return found


def read_by_divisions(graph: Graph, nodes: Sequence[Node]) -> set[str]:
    """What layers read that divide by numbers of the map itself, directly or past layers that sum over no pixels."""
    found: set[str] = set()
    for node in reversed(nodes):
        if any(graph.by_name[name].operator.divides for name in node.layers):
            found.update(node.inputs)
        elif node.output in found:  # of a convolution it is what is added to its sums
            found.update(node.inputs[1 if isinstance(node, FusedConv | FusedTransposed) else 0 :])
    return found


def ordinary(array: npt.NDArray[Any]) -> bool:
    """Whether all numbers of a float32 array are less than 2**50, at the speed of reading them: False for NaN, too.

    Of images and transformed kernels like these, Winograd's algorithm makes numbers below 2**56 (a patch, transformed), 2**118 (its
    products, summed over 4096 channels) and 2**126 (the result), all of which a float32 can hold.
    """
    values = array.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.dot(values, values) < 2.0**100)


def ends(graph: Graph, outputs: Sequence[str], shapes: Mapping[str, Shape], exact: Collection[str]) -> tuple[str, ...]:
    """Those of ``outputs`` in which NaN is looked for: all but those whose every NaN shows in another, and those that are
    ``exact``, with all that they are computed from.

    shapes  {layer: shape of its output} of all that the outputs need
    """
    shown = {name: _shown_in(graph, name, shapes) for name in outputs}
    return tuple(
        name
        for name in outputs
        if name not in exact and not any(name in shown[other] for other in outputs if other != name)
    )


def _shown_in(graph: Graph, name: str, shapes: Mapping[str, Shape]) -> set[str]:
    """The layers before ``name`` whose every NaN shows in its output."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        layer = graph.by_name[waiting.pop()]
        for source in layer.inputs:
            kept = not layer.operator.drops_nan and not layer.operator.leaves_out(shapes[source])
            if kept and source not in found:
                found.add(source)
                waiting.append(source)
    return found
