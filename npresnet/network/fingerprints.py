"""Which layers of two graphs compute the same."""

from __future__ import annotations

from typing import Any

from .graph import Graph

__all__ = ["fingerprints"]


def fingerprints(graph: Graph, known: dict[Any, int]) -> dict[str, int]:
    """{layer: number}; layers of two graphs have one number if they compute the same from the same tensors of a file.

    known  shared between the graphs that are to be compared
    """
    found: dict[str, int] = {}
    for layer in graph.layers:
        if not layer.inputs:  # two inputs are never the same, though they look so
            found[layer.name] = known.setdefault((layer.operator, graph.inputs.index(layer.name)), len(known))
            continue
        inputs = tuple(found[name] for name in layer.inputs)
        if layer.operator.commutative:
            inputs = tuple(sorted(inputs))
        key = (layer.operator, layer.source if layer.operator.tensors() else "", inputs)
        found[layer.name] = known.setdefault(key, len(known))
    return found
