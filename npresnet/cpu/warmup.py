"""Compiling ahead: every kernel that a network may call, so that nobody waits for it later."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Warmup", "warmup"]

_NETWORK = "keras-resnet/resnet18"
"""A small one: which kernels are compiled does not depend on the network's size."""


class Warmup(NamedTuple):
    """How long it took, in seconds; how many kernels were compiled, the others having been there; how many of these could not
    be kept; and where the others are, None if no directory is writable: then they serve this process alone."""

    seconds: float
    compiled: int
    unkept: int
    directory: Path | None


def warmup() -> Warmup:
    """Compile all kernels that networks call, by plan and layer by layer, or load them where they are kept."""
    start = time.perf_counter()
    from .. import kernels
    from ..kernels.cache import lasting_directory
    from ..kernels.compiling import compiled, unkept
    from ..kernels.jit import Native
    from ..network.architecture import Architecture
    from ..network.building import build_graph
    from ..network.graph import Graph, Layer
    from ..network.operators import Conv2D, Input, LeakyReLU
    from ..network.seeded import random_weights
    from . import by_layer
    from .runner import Planner

    before, lost = len(compiled), len(unkept)
    kernels.LADDER, kernels.CHOOSING  # noqa: B018 (which imports them all, those that detectors alone call, too)
    for function in Native.declared:  # all that steps of any kind are made of
        function.address  # noqa: B018
    common = build_graph(Architecture.named(_NETWORK, classes=2))
    rare = Graph(  # layers that it lacks, and whose kernels no step has
        (
            Layer("images", Input(3)),
            Layer("depthwise", Conv2D(3, 3, (1, 1), groups=3, bias=False), ("images",)),
            Layer("leaky", LeakyReLU(0.1), ("depthwise",)),
        ),
        {},
    )
    for graph in (common, rare):
        weights, images = random_weights(graph), np.zeros((1, 32, 32, 3), np.float32)
        outputs = (graph.layers[-1].name,)
        Planner(graph, weights, 1).run(images, outputs, winograd=True)
        for _ in by_layer.run(graph, weights, images, outputs, algorithm="im2col", threads=1):
            pass
    seconds = time.perf_counter() - start
    return Warmup(seconds, len(compiled) - before, len(unkept) - lost, lasting_directory())
