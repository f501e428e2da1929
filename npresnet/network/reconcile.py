"""The families' table beside the file's own description of its network: which of the two is built.

What a file says about its own network is believed before the table: a changed epsilon or a new head is followed. The table
stays right where the description says the same, where it cannot be followed, and where the user asked for something else;
its names of feature maps are kept wherever they can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .architecture import Architecture, Request
from .described import OwnNetwork
from .fingerprints import fingerprints
from .found import Network, Notes, StoredLayers
from .graph import Graph, Layer
from .structure import mapped

__all__ = ["followed", "in_words", "reconciled"]


def in_words(refused: Mapping[str, str]) -> str:
    """Layers of a description that are not run, {layer: why}, in words."""
    items = [f"{name!r} ({why})" for name, why in refused.items()]
    return ", ".join(items[:4]) + (f", and {len(items) - 4} more" if len(items) > 4 else "")


def followed(
    own: OwnNetwork,
    layers: StoredLayers,
    architecture: Architecture,
    outputs: Mapping[str, Mapping[str, str]],
    notes: Notes,
) -> Network:
    """The network of a file's own description, with the sets of ``outputs`` of a row where one is known."""
    graph = replace(own.graph, outputs=outputs)
    notes.reasons.append(f"built from the file's own description of {own.name!r}: {len(graph.layers)} layers")
    if own.lacking:
        notes.doubts.append(
            f"the model in the file is not run to its end: because of {in_words(own.unsupported)} it lacks its output "
            f"{', '.join(map(repr, own.lacking))}; all layers before are run"
        )
    return _network(architecture, graph, own, layers, notes)


def _network(architecture: Architecture, graph: Graph, own: OwnNetwork, layers: StoredLayers, notes: Notes) -> Network:
    return Network(
        architecture, graph, layers, notes.reasons, notes.doubts, refused=own.unsupported, lacking=own.lacking
    )


def reconciled(
    architecture: Architecture,
    graph: Graph,
    own: OwnNetwork,
    layers: StoredLayers,
    request: Request | None,
    notes: Notes,
) -> Network:
    """The row of the table, or the file's own description where that says something else or more.

    Two layers are the same if all that is computed up to them is (``fingerprints``), whatever they are called.
    """
    known: dict[object, int] = {}
    row, mine = fingerprints(graph, known), fingerprints(own.graph, known)
    by_number = {number: name for name, number in mine.items()}
    ends = [name for maps in graph.outputs.values() for name in maps.values()]
    ends += [graph.classifier] if graph.classifier else []
    if all(row[name] in by_number for name in ends):
        notes.reasons.append("the file's own description of its layers says the same")
        in_row = {number: name for name, number in row.items()}
        same = {name: in_row[number] for name, number in mine.items() if number in in_row}
        if not own.lacking and all(name in same for name in own.outputs):
            return _network(architecture, _called(graph, own, same), own, layers, notes)
        outputs = {
            which: {feature: by_number[row[name]] for feature, name in maps.items()}
            for which, maps in graph.outputs.items()
        }
        return followed(own, layers, replace(architecture, classes=None, own=own.name), outputs, notes)
    odd = next(x for x in graph.layers if row[x.name] not in by_number and all(row[i] in by_number for i in x.inputs))
    if request is not None and request.options:
        notes.doubts.append(f"the file's own description differs from what was asked for, first at {odd.name!r}")
        return Network(architecture, graph, layers, notes.reasons, notes.doubts)
    if own.unsupported and not _covers(own, graph):
        notes.doubts.append(_instead(own, graph, architecture))
        notes.doubts += notes.assumed
        return _network(architecture, graph, own, layers, notes)
    notes.reasons.append(_difference(odd, own.graph, architecture))
    maps = _feature_maps(graph, own.graph)
    return followed(own, layers, replace(architecture, classes=None, own=own.name), maps, notes)


def _called(graph: Graph, own: OwnNetwork, same: Mapping[str, str]) -> Graph:
    """The row's graph with all that a description knows beside: what the model returns, and what its layers are called.

    same  {layer of the description: layer of the row that computes the same}
    """
    names = {**same, **{alias: same[name] for alias, name in own.graph.aliases.items() if name in same}}
    aliases = {name: layer for name, layer in names.items() if name not in graph.by_name}
    return replace(graph, aliases=aliases, result=mapped(own.graph.result, same))


def _instead(own: OwnNetwork, graph: Graph, architecture: Architecture) -> str:
    """What is to be said where a description stops before the feature maps, and the row is taken."""
    sources = {layer.source for layer in own.graph.layers}
    first = next(layer for layer in graph.layers if layer.operator.tensors())
    text = (
        f"the file's own description of its layers cannot be followed, because of {in_words(own.unsupported)}; the table's "
        f"{architecture.name} is taken instead, and nothing of what comes behind its feature maps"
    )
    if first.source in sources:
        return text
    return (
        f"{text}; what is left out comes before the first convolution, so that the features are those of other pixels"
    )


def _feature_maps(graph: Graph, own: Graph) -> Mapping[str, Mapping[str, str]]:
    """The sets of feature maps of a description: those of the row by its layers' names, so that C5 means the same in a network
    with another head or front; by their sizes those whose layers are not there."""
    named = {feature: name for feature, name in graph.features.items() if name in own.by_name}
    return {**own.outputs, "C": dict(sorted({**own.features, **named}.items()))}


def _covers(own: OwnNetwork, graph: Graph) -> bool:
    """Whether all layers with weights of ``graph`` are among those that a file describes and that can be run."""
    sources = {layer.source for layer in own.graph.layers}
    return all(layer.source in sources for layer in graph.layers if layer.operator.tensors())


def _difference(odd: Layer, own: Graph, architecture: Architecture) -> str:
    """In words, from where on the description leaves the table."""
    theirs = own.by_name.get(odd.name)
    if theirs is None or theirs.operator == odd.operator:
        return f"the file's own description is followed, which leaves {architecture.name} at {odd.name!r}"
    return (
        f"the file's own description is followed: it has {theirs.operator} for {odd.name!r}, where {architecture.name} "
        f"has {odd.operator}"
    )
