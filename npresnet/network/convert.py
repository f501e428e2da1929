"""From any weight file that npresnet reads to the plain one that everything reads: legacy Keras HDF5, float32.

The result holds the network and nothing else: no optimizer's state, no layers that are not run, no second layer of packing. It
is read again and compared, bit by bit, before it takes its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, WeightsError
from ..files.keras_h5 import write_layers
from ..files.layers import read_layers
from ..files.opening import open_weights
from ..files.safe_write import check_writable, replaced
from ..files.stored import StoredFile, StoredLayer
from .architecture import Architecture, parse_architecture
from .detector import MODELS
from .graph import Graph, Layer
from .recognise import find_network
from .weights import Inspection, inspect, load_weights

__all__ = ["Conversion", "convert"]


@dataclass(frozen=True)
class Conversion:
    """What was written: ``layers`` with weights, ``tensors``, ``bytes``; and ``dropped``, {layer: how many tensors}."""

    architecture: Architecture
    layers: int
    tensors: int
    bytes: int
    dropped: Mapping[str, int]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    architecture: str | None = None,
    force: bool = False,
) -> Conversion:
    """Write the network in ``source`` as a legacy Keras file of weights alone, which Keras loads by layer name.

    source        any file that ``load`` takes
    target        a name that ends in ``.h5``, but not in ``.weights.h5``, by which Keras 3 expects another layout
    architecture  as for ``load``; what ``source`` needs ``target`` may need, too
    force         write over ``target`` where it exists

    The file appears under its name only when it is complete and was read back with the same network and the same
    numbers. Raises as ``load``; UsageError where ``target`` exists, is badly named or cannot be written; WeightsError
    where the new layout cannot say what the network is.
    """
    source, target = Path(source), Path(target)
    if not target.name.endswith(".h5") or target.name.endswith(".weights.h5"):
        raise UsageError(
            f"{target}: the result is a legacy Keras file, by whose name Keras knows it; the name must end in .h5 and not in "
            ".weights.h5"
        )
    if target.exists() and not force:
        raise UsageError(f"{target}: exists already; choose another name, or write over it with --force (force=True)")
    check_writable(target)
    found = load_weights(source, architecture)
    with open_weights(source) as root:
        file = read_layers(root)
        network = find_network(file, source, parse_architecture(architecture) if architecture else None)
        weighted = [*network.graph.weighted.values()]
        names = _keras_names(file, network.layers)
        held = {layer.source: layer for layer in weighted}  # several of the graph's may be one in the file
        arrays = ((names[source], _read(layer, network.layers[source])) for source, layer in held.items())
        with replaced(target) as temporary:
            write_layers(temporary, _listed(file, network.graph, names), arrays, file.config, MODELS)
            again = inspect(temporary, architecture)
            if not _same(again, found):
                raise WeightsError(
                    f"a file of weights alone cannot say what this network is: {found.architecture} would be read again "
                    f"as {again.architecture}; run the file as it is"
                )
            size = temporary.stat().st_size
    tensors = sum(len(network.layers[source]) for source in held)
    return Conversion(found.architecture, len(weighted), tensors, size, found.unused)


def _read(layer: Layer, stored: StoredLayer) -> dict[str, npt.NDArray[np.float32]]:
    """A layer's tensors as the file keeps them, in Keras's order, by which Keras tells them apart."""
    order = {role: position for position, role in enumerate(() if layer.share else layer.operator.tensors())}
    return {role: stored[role].read() for role in sorted(stored, key=lambda role: order.get(role, -1))}


def _keras_names(file: StoredFile, layers: Mapping[str, StoredLayer]) -> dict[str, str]:
    """{layer of the network: its name in Keras}. They differ where Keras counted (``conv2d_3``) and the table has names."""
    if file.unnamed:
        return {name: name for name in layers}
    known = {tensor.path: name for name, tensors in file.layers.items() for tensor in tensors.values()}
    return {
        name: name if name in file.paths else known[next(iter(tensors.values())).path]
        for name, tensors in layers.items()
    }


def _listed(file: StoredFile, graph: Graph, names: Mapping[str, str]) -> list[str]:
    """All layers of the new file, those without weights too, for they help to tell what a network is.

    A legacy file lists them in order: taken are those up to the network's last with weights, but for what is dropped.
    """
    if not file.layout.startswith("legacy"):
        every = (*graph.layers, *graph.weighted.values())
        return list(dict.fromkeys(names.get(layer.source, layer.source) for layer in every))
    weighted = [names[layer.source] for layer in graph.weighted.values()]
    end = max((position for position, name in enumerate(file.layer_names) if name in weighted), default=-1)
    kept = [name for name in file.layer_names[: end + 1] if name in weighted or name not in file.layers]
    return list(dict.fromkeys([*kept, *weighted]))


def _same(again: Inspection, found: Inspection) -> bool:
    """Whether two files hold the same network with the same bits in all of its weights."""
    return again.graph == found.graph and all(
        np.array_equal(array.view(np.uint32), again.weights[name][role].view(np.uint32))
        for name, tensors in found.weights.items()
        for role, array in tensors.items()
    )
