"""What is measured: a network of the families' table with seeded weights, and images of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..network.architecture import Architecture, parse_architecture
from ..network.building import build_graph
from ..network.graph import Graph
from ..network.seeded import random_weights, write_keras_file
from .peer import Batch

__all__ = ["Case", "full_name", "noise_images", "seeded_file", "standard_graph"]


@dataclass(frozen=True)
class Case:
    """One network on images of one shape, on so many threads.

    network  family and depth, such as "matterport/resnet50"
    batch    (n, h, w) of the images
    """

    network: str
    batch: Batch
    threads: int

    def __str__(self) -> str:
        n, h, w = self.batch
        return f"{self.network}, {w}x{h} pixels, batch {n}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def full_name(network: str) -> str:
    """Family and depth of ``network``; the first family that has the depth where it names none. Raises UsageError."""
    family, depth = parse_architecture(network).candidates[0]
    return Architecture(family, depth).name


def standard_graph(network: str) -> Graph:
    """``network`` at full width; families that come with a classifier have theirs of 1000 classes. Raises UsageError."""
    family, depth = parse_architecture(network).candidates[0]
    return build_graph(Architecture.standard(family, depth, classes=1000 if family.classifier else None))


def seeded_file(network: str, folder: Path) -> Path:
    """A Keras file of ``standard_graph`` with seeded random weights, written into ``folder`` unless it is there."""
    path = folder / f"{full_name(network).replace('/', '-')}.h5"
    if not path.exists():
        graph = standard_graph(network)
        write_keras_file(path, graph, random_weights(graph))
    return path


def noise_images(batch: Batch) -> npt.NDArray[np.float32]:
    """The images of every measurement, float32[n, h, w, 3] for ``batch`` = (n, h, w): noise, as bright as pictures."""
    return np.random.default_rng(0).uniform(-120, 130, (*batch, 3)).astype(np.float32)
