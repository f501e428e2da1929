"""The demo's weight file: a Mask R-CNN ResNet-50 with seeded random weights, written once into the user's cache."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .architecture import Architecture
from .building import build_graph
from .seeded import random_weights, write_keras_file

__all__ = ["weight_file"]

NETWORK = "matterport/resnet50"


def weight_file() -> tuple[Path, bool]:
    """The path of the demo's Keras file, and whether it had to be written now."""
    from ..kernels.cache import cache_directory

    folder = (cache_directory() or Path(tempfile.gettempdir())) / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NETWORK.replace('/', '_')}_seed0.h5"
    if path.exists():
        return path, False
    graph = build_graph(Architecture.named(NETWORK))
    return write_keras_file(path, graph, random_weights(graph, seed=0)), True
