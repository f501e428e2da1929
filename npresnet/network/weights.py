"""From a Keras weight file to the tensors of a network: what the file holds, which network it is, what fits.

Three steps: ``files.layers.read_layers`` turns every layout and spelling into {layer: {role: tensor}}; ``recognise`` finds the
network; ``inspect`` compares the two and reports everything that is missing, unused, mis-shaped, not a number or
suspicious at once. ``load_weights`` raises when anything is wrong.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from ..files.layers import read_layers
from ..files.opening import open_weights
from ..files.shards import remedy
from ..files.stored import StoredLayer
from .architecture import Architecture, parse_architecture
from .graph import Graph, Layer
from .operators import BatchNorm, Operator, Shape
from .recognise import find_network
from .reconcile import in_words
from .stored_form import as_needed, by_role, stored_shapes
from .stored_weights import StoredWeights, Weights

__all__ = ["Inspection", "Weights", "inspect", "load_weights"]

_HALF_LOADED = 0.1  # of the batch-norms untouched since their making, and the rest not: no trained network is so


@dataclass(frozen=True)
class Inspection:
    """What a weight file turned out to be.

    reasons     how the network was recognised
    doubts      what was assumed because the file does not say
    matched     layers of the network whose tensors are all there
    missing     'layer/role (shape)' that the network needs and the file lacks
    misshaped   'layer/role: shape in the file, shape needed'
    unsound     'layer/role: what is wrong with its numbers'
    refused     {layer: why} of the layers that the file describes and that are not run
    lacking     what the model in the file returns and this network does not, by layers' names
    suspicious  sentences about numbers that can be run but look wrong
    unused      layers of the file that are not part of the network (a detector's heads, say), with their tensor count
    preprocessing  why pictures are prepared as ``architecture.preprocessing`` says
    unprepared  which of the doubts is about that, if one is
    """

    path: Path
    bytes: int
    layout: str
    keras_version: str | None
    backend: str | None
    architecture: Architecture
    reasons: Sequence[str]
    graph: Graph
    weights: Weights
    matched: Sequence[str] = ()
    missing: Sequence[str] = ()
    misshaped: Sequence[str] = ()
    unsound: Sequence[str] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
    doubts: Sequence[str] = ()
    suspicious: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    lacking: Sequence[str] = ()
    preprocessing: str = ""
    unprepared: str | None = None

    @property
    def parameters(self) -> int:
        """Numbers in the network's own tensors, each counted once however often it is used."""
        return sum(math.prod(shape) for shape in self._shapes)

    @property
    def tensors(self) -> int:
        """How many tensors the network's layers have, each counted once however often it is used."""
        return len(self._shapes)

    @property
    def _shapes(self) -> list[Shape]:
        """Of all tensors that are there, each once: the numbers themselves need not be read for it."""
        own = (name for name in self.matched if self.graph.twins[name] == name)
        return [shape for name in own for shape in self.graph.weighted[name].operator.tensors().values()]

    @property
    def no_prediction(self) -> str:
        """Why the network does not return what the model in the file does."""
        if self.lacking:
            ends = ", ".join(map(repr, self.lacking))
            return f"the file's own output {ends} is not run, because of {in_words(self.refused)}"
        return f"the weights of {self.architecture} hold no classifier"

    @property
    def problems(self) -> list[str]:
        """One sentence for each kind of trouble; empty when the weights can be run."""
        kinds = (
            ("missing", self.missing, "the file lacks"),
            ("misshaped", self.misshaped, "shapes do not fit for"),
            ("unsound", self.unsound, "numbers are unusable in"),
        )
        return [
            f"{text} {len(found)} {'tensor' if len(found) == 1 else 'tensors'}: {_some(found)}"
            for _, found, text in kinds
            if found
        ]


def _some(items: Sequence[str], most: int = 12) -> str:
    """The items in words, cut after ``most``."""
    text = "; ".join(items[:most])
    return text if len(items) <= most else f"{text}; and {len(items) - most} more"


def _unsound(role: str, array: npt.NDArray[np.float32], epsilon: float | None) -> str | None:
    """What makes a tensor's numbers unusable, or None."""
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        return f"{bad} of {array.size} numbers are NaN or infinite"
    if epsilon is not None and role == "variance" and array.size and float(array.min()) + epsilon <= 0:
        return f"a variance is negative ({float(array.min()):g})"
    return None


_FRESH = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}
"""What Keras puts into a new batch-norm."""


class _Looks(NamedTuple):
    """What is noted of a layer's numbers while they are at hand.

    norm   it is a batch-norm, and some of its numbers are there
    fresh  a batch-norm as Keras makes it
    still  channels of a batch-norm whose variance is zero
    dead   a kernel of nothing but zeros
    """

    norm: bool
    fresh: bool
    still: int
    dead: bool

    @staticmethod
    def of(operator: Operator, arrays: Mapping[str, npt.NDArray[np.float32]]) -> _Looks:
        norm = isinstance(operator, BatchNorm) and bool(arrays)
        fresh = norm and all(bool((array == _FRESH[role]).all()) for role, array in arrays.items())
        still = int((arrays["variance"] == 0).sum()) if norm and "variance" in arrays else 0
        kernel = arrays.get("kernel")
        return _Looks(norm, fresh, still, kernel is not None and kernel.size > 0 and not kernel.any())


def _suspicious(graph: Graph, looks: Mapping[str, _Looks]) -> tuple[list[str], list[str]]:
    """(what looks wrong, what looks so wrong that the weights must not be run) about numbers that are sound."""
    norms = [layer.name for layer in graph.layers if layer.name in looks and looks[layer.name].norm]
    fresh = [name for name in norms if looks[name].fresh]
    found: list[str] = []
    if fresh and len(fresh) == len(norms):
        found.append("no batch-norm was ever trained: means 0, variances 1 throughout, as Keras makes them")
    elif len(fresh) >= _HALF_LOADED * len(norms) and fresh:
        return found, [
            f"{name}: as Keras makes a new one (mean 0, variance 1, gamma 1, beta 0), though others are trained"
            for name in fresh
        ]
    elif fresh:
        found.append(f"never trained, as Keras makes them new: {_some(fresh)}")
    dead = [name for name, look in looks.items() if look.dead]
    if dead:
        found.append(f"kernels of nothing but zeros: {_some(dead)}")
    still = {name: looks[name].still for name in norms if looks[name].still}
    if still:
        found.append(
            f"{sum(still.values())} channels with a variance of zero, whose output is constant, in: {_some([*still])}"
        )
    return found, []


def inspect(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    preprocessing: str | None = None,
    custom: Mapping[str, str] | None = None,
) -> Inspection:
    """Read a weight file and say what it is and what fits; only a file that is no ResNet at all is an error.

    path           a Keras ``.h5``, ``.weights.h5``, ``.weights.json`` or ``.keras`` file
    architecture   None to detect, ``"resnet101"``, or ``"matterport/resnet101"``
    preprocessing  None to find out, or a name in ``images.conventions.CONVENTIONS``
    custom         the user's own activations, see ``network_from_config``

    Raises WeightsError for what cannot be read or recognised, UsageError for an unknown architecture.
    """
    request = parse_architecture(architecture) if architecture else None
    with open_weights(path) as root:
        file = read_layers(root)
        network = find_network(file, Path(path), request, preprocessing, custom)
        report = _Report(root.files.lasting)
        for layer in network.graph.weighted.values():
            twin = network.graph.twins[layer.name]
            if twin == layer.name:
                report.compare(layer, network.layers.get(layer.source, {}))
            else:
                report.repeat(layer.name, twin)
        sources = {layer.source for layer in (*network.graph.layers, *network.graph.weighted.values())}
        unused = {name: len(tensors) for name, tensors in network.layers.items() if name not in sources}
        suspicious, half_loaded = _suspicious(network.graph, report.looks)
        weights = StoredWeights(root.files, report.stored) if root.files.keep() else report.weights
        return Inspection(
            Path(path), root.size, file.layout, file.keras_version, file.backend, network.architecture,
            network.reasons, network.graph, weights, tuple(report.matched), report.missing, report.misshaped,
            [*report.unsound, *half_loaded], unused, network.doubts, suspicious, network.refused, network.lacking,
            network.preprocessing, network.unprepared,
        )  # fmt: skip


class _Report:
    """What fits between a graph and a file, collected layer by layer.

    weights  their numbers, where they cannot be read again; otherwise what they are read from is ``stored``
    """

    def __init__(self, lasting: bool) -> None:
        self._lasting = lasting
        self.weights: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
        self.stored: dict[str, tuple[Operator, StoredLayer]] = {}
        self.looks: dict[str, _Looks] = {}
        self.matched: dict[str, None] = {}
        self.missing: list[str] = []
        self.misshaped: list[str] = []
        self.unsound: list[str] = []

    def compare(self, layer: Layer, stored: StoredLayer) -> None:
        """Read one layer's tensors, if they fit."""
        stored = by_role(layer, stored)
        needed = stored_shapes(layer.operator, stored)
        epsilon = layer.operator.epsilon if isinstance(layer.operator, BatchNorm) else None
        arrays: dict[str, npt.NDArray[np.float32]] = {}
        for role, shape in needed.items():
            where = f"{layer.source}/{role}"
            if role not in stored:
                self.missing.append(f"{where} {shape}")
            elif stored[role].shape != shape:
                self.misshaped.append(f"{where}: {stored[role].shape} in the file, {shape} needed")
            elif stored[role].dtype.kind != "f":  # quantised, perhaps; other layers may well count in integers
                self.unsound.append(f"{where}: stored as {stored[role].dtype}, not as floating-point numbers")
            else:
                arrays[role] = stored[role].read()
                trouble = _unsound(role, arrays[role], epsilon)
                if trouble:
                    self.unsound.append(f"{where}: {trouble}")
        for role in stored:
            if role not in needed:
                self.misshaped.append(f"{layer.source}/{role}: in the file, but the network has no such tensor")
        if len(arrays) == len(needed):
            self.matched[layer.name] = None
        found = as_needed(layer.operator, arrays)
        self.looks[layer.name] = _Looks.of(layer.operator, found)
        if self._lasting:
            self.stored[layer.name] = layer.operator, {role: stored[role] for role in arrays}
        else:
            self.weights[layer.name] = found

    def repeat(self, name: str, twin: str) -> None:
        """A layer that is another once more has what that has."""
        self.looks[name] = self.looks[twin]
        if self._lasting:
            self.stored[name] = self.stored[twin]
        else:
            self.weights[name] = self.weights[twin]
        if twin in self.matched:
            self.matched[name] = None


def load_weights(
    path: str | os.PathLike[str],
    architecture: str | None = None,
    preprocessing: str | None = None,
    custom: Mapping[str, str] | None = None,
) -> Inspection:
    """As ``inspect``, but anything that keeps the weights from being run is an error. Raises WeightsError, UsageError."""
    found = inspect(path, architecture, preprocessing, custom)
    if found.problems:
        raise WeightsError(
            f"{found.path}: recognised as {found.architecture}, but {'; '.join(found.problems)}; "
            f"`npresnet info {found.path.name}` shows all of it; give a complete file of this network{remedy(found.path)}"
        )
    return found
