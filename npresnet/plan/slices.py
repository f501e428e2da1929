"""Concatenation for nothing: whatever makes a map writes it at once where it lies in the whole, between the channels of others.

That takes no more of a step than to honour a pitch, which all do. A map is part of one whole only, and of none where it is wanted
as an output, which has no gaps; there a concatenation copies it. A whole may be part of another: all maps of one of DenseNet's
blocks lie in its last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..network.operators import Concatenate, Shape
from .fusion import Alone, Node

__all__ = ["Slice", "slices"]


class Slice(NamedTuple):
    """Where a map lies: in the output of the layer ``whole``, from channel ``first`` on."""

    whole: str
    first: int


def slices(nodes: Sequence[Node], outputs: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, Slice]:
    """{name of a node's output: where it lies}, of those that are part of a whole."""
    # what has been reshaped is copied into pixels of another size, which lie close together
    movable = {node.output for node in nodes if not (isinstance(node, Alone) and node.layer.operator.reshapes)}
    movable.difference_update(outputs)
    found: dict[str, Slice] = {}
    for node in nodes:
        if isinstance(node, Alone) and isinstance(node.layer.operator, Concatenate):
            first = 0
            for name in node.inputs:
                if name in movable:
                    found.setdefault(name, Slice(node.output, first))
                first += shapes[name][-1]
    return found
