"""A weight file in no time, without TensorFlow: for tests of whatever is around a network."""

from __future__ import annotations

from pathlib import Path

from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file

__all__ = ["thin_file"]


def thin_file(folder: Path, width: int = 4) -> Path:
    """``thin.h5``: keras-resnet's ResNet-18 with a stem of ``width`` channels, seeded."""
    graph = build_graph(Architecture.standard(FAMILIES["keras-resnet"], 18, width=width))
    return write_keras_file(folder / "thin.h5", graph, random_weights(graph))
