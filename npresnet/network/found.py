"""What comes out of the search for the network in a file, and what is noted on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..files.stored import StoredLayer
from .architecture import Architecture
from .graph import Graph

__all__ = ["Network", "Notes", "StoredLayers"]

StoredLayers = Mapping[str, StoredLayer]
"""{layer: {role: tensor}}."""


@dataclass(frozen=True)
class Network:
    """The network in a file.

    layers         the file's tensors under the names of the graph's layers, kernels in the order and direction of TensorFlow's
    reasons        how it was recognised
    doubts         what was assumed because the file does not say
    refused        {layer: why it is not run} of the layers that the file describes and that are not run
    lacking        what the model in the file returns and this network does not, by layers' names
    preprocessing  why its pictures are prepared as they are
    unprepared     which of the doubts is about that, if one is: it does not matter to whoever has arrays
    """

    architecture: Architecture
    graph: Graph
    layers: StoredLayers
    reasons: Sequence[str]
    doubts: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    lacking: Sequence[str] = ()
    preprocessing: str = ""
    unprepared: str | None = None


@dataclass
class Notes:
    """What is to be told about a search while it goes on. ``assumed``: doubts that a file's own description settles."""

    reasons: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
