"""The order in which Keras keeps a model's layers, by which layers without names are counted in a file."""

from __future__ import annotations

from .graph import Graph

__all__ = ["keras_order"]


def keras_order(graph: Graph, output: str | None = None) -> list[str]:
    """The layers of a graph in the order of Keras's ``model.layers``, by which layers without names are counted.

    Keras orders by depth, the longest way to the output, and among equals by a search from the output, depth first,
    that follows the inputs of each layer in their order.
    """
    output = output or graph.layers[-1].name
    depth = {output: 0}
    for layer in reversed(graph.layers):
        if layer.name in depth:
            for source in layer.inputs:
                depth[source] = max(depth.get(source, 0), depth[layer.name] + 1)
    seen: dict[str, int] = {}
    waiting = [output]
    while waiting:  # a stack gives the order of Keras's recursion
        name = waiting.pop()
        if name not in seen:
            seen[name] = len(seen)
            waiting.extend(reversed(graph.by_name[name].inputs))
    return sorted(seen, key=lambda name: (-depth[name], seen[name]))
