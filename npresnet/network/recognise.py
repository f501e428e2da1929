"""Which network a weight file holds: a row of the table of families, or the network that the file itself describes.

The way through, step by step:

    orientation.py    kernels as TensorFlow has them
    without_names.py  where a file has no names of layers: by how many there are of each class, and by their shapes
    by_names.py       the row of the table, by the names of layers
    measured.py       what the shapes tell beside: widths, groups, the classifier
    described.py      the network that the file describes, if it does
    reconcile.py      which of the two is built
    preprocessing.py  how its pictures are prepared
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import WeightsError
from ..files.stored import StoredFile
from .architecture import Request, own_architecture
from .building import build_graph
from .by_names import cut_from, recognised
from .described import NotDescribed, OwnNetwork, network_from_config
from .detector import detector_in, with_detector
from .family import Family
from .found import Network, Notes, StoredLayers
from .graph import Graph
from .operators import Add, Input
from .orientation import oriented
from .preprocessing import preprocessing_of
from .reconcile import followed, in_words, reconciled
from .without_names import named_by_position

__all__ = ["Network", "find_network"]


def find_network(
    file: StoredFile,
    path: Path,
    request: Request | None,
    preprocessing: str | None = None,
    custom: Mapping[str, str] | None = None,
) -> Network:
    """The network in a file.

    path           the file's, whose name may tell how kernels are stored
    request        restricts the search to some families and depths
    preprocessing  how pictures are prepared for it, None to find out
    custom         the user's own activations, see ``network_from_config``

    Raises WeightsError when nothing fits, or what fits is not what was asked for.
    """
    notes = Notes()
    notes.doubts += file.doubts
    own = _own_network(file, notes, custom)
    found, habits = _found(file, path, request, own, notes)
    found = _with_detector(found)
    graph = found.graph if own is None else _sized(found.graph, own.graph.size)
    pixels, why, doubt = preprocessing_of(found.architecture, graph, habits, preprocessing)
    doubts = [*found.doubts, *([doubt] if doubt else [])]
    layers = _asked_for(graph, found.layers, file.paths)
    architecture = replace(found.architecture, pixels=pixels)
    return replace(
        found, architecture=architecture, graph=graph, layers=layers, doubts=doubts, preprocessing=why, unprepared=doubt
    )


def _own_network(file: StoredFile, notes: Notes, custom: Mapping[str, str] | None) -> OwnNetwork | None:
    """The network that a file describes; a description that is there and cannot be followed is doubtful."""
    if file.config is None:
        return None
    try:
        return network_from_config(file.config, custom)
    except NotDescribed as why:
        notes.doubts.append(f"the file describes its model, but the description was not understood: {why}")
        return None


def _with_detector(found: Network) -> Network:
    """A network of the table with the detector behind it, if the file holds one."""
    architecture = found.architecture
    if architecture.own or not architecture.family.detector:
        return found
    detector, trouble = detector_in(found.layers, found.graph)
    if trouble is not None:
        found = replace(found, doubts=[*found.doubts, trouble])
    if detector is None:
        return found
    reasons = [*found.reasons, f"layers 'fpn_c5p5' and such behind it: {detector}"]
    architecture = replace(architecture, detector=detector)
    return replace(found, architecture=architecture, graph=with_detector(found.graph, detector), reasons=reasons)


def _sized(graph: Graph, size: tuple[int, int] | None) -> Graph:
    """A graph for images of the size that the file's own description fixes."""
    entry, *others = graph.layers
    if not isinstance(entry.operator, Input):
        return graph
    return replace(graph, layers=(replace(entry, operator=replace(entry.operator, size=size)), *others))


def _asked_for(graph: Graph, layers: StoredLayers, paths: Mapping[str, str]) -> StoredLayers:
    """Tensors under the names by which a graph asks for them, which may be paths through models; all others as they were."""
    keys = {layer.source: paths.get(layer.source, layer.source) for layer in graph.weighted.values()}
    asked = {source: layers[key] for source, key in keys.items() if key in layers}
    return {key: tensors for key, tensors in layers.items() if key not in keys.values()} | asked


def _found(
    file: StoredFile, path: Path, request: Request | None, own: OwnNetwork | None, notes: Notes
) -> tuple[Network, Family | None]:
    """The network in a file that describes ``own``, and the family whose habits it has, if that is known."""
    layers = oriented(file, own.graph if own else None, path, notes)
    try:
        variant = None
        if file.unnamed:
            layers, variant = named_by_position(file, request, notes)
        architecture, layers = recognised(replace(file, layers=layers), request, notes, variant)
    except WeightsError as failure:
        if own is None and notes.doubts:
            raise WeightsError("; ".join([str(failure), *notes.doubts])) from None
        if request is not None or own is None:
            raise
        if not any(isinstance(layer.operator, Add) for layer in own.graph.layers):
            if own.unsupported:
                raise WeightsError(
                    f"{failure}; nor can the network be run that the file describes: {in_words(own.unsupported)}"
                ) from None
            raise
        habits = cut_from(replace(file, layers=layers))
        return followed(own, layers, own_architecture(own.name, own.graph, habits), own.graph.outputs, notes), habits
    graph = build_graph(architecture)
    if own is None:
        return Network(architecture, graph, layers, notes.reasons, [*notes.doubts, *notes.assumed]), architecture.family
    return reconciled(architecture, graph, own, layers, request, notes), architecture.family
