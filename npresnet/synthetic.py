"""Weights without a download: seeded random numbers of a plausible spread, and Keras weight files of them.

Such a network recognises nothing, but it computes exactly as a trained one does: what the demo, the benchmarks and
many tests run on.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .files import replaced
from .graph import BatchNorm, Conv2D, Dense, Graph
from .weights import Weights
from .writer import write_layers

__all__ = ["random_weights", "write_keras_file"]


def random_weights(graph: Graph, seed: int = 0) -> Weights:
    """He-initialised kernels and batch-norm statistics around those of a trained network, the same for each ``seed``.

    Activations stay of order one through any depth: kernels have variance 2 / fan-in (He et al., "Delving deep into
    rectifiers", 2015), and the last batch-norm of each block, which feeds a sum, is scaled down.
    """
    random = np.random.default_rng(seed)
    last_of_block = {name for layer in graph.layers if layer.operator.kind == "add" for name in layer.inputs}
    weights: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for layer in graph.layers:
        operator = layer.operator
        if isinstance(operator, Conv2D | Dense):
            shape = operator.tensors()["kernel"]
            kernel = random.standard_normal(shape, np.float32)
            kernel *= np.float32(np.sqrt(2 / np.prod(shape[:-1])))
            weights[layer.name] = {"kernel": kernel}
            if "bias" in operator.tensors():
                weights[layer.name]["bias"] = random.uniform(-0.05, 0.05, shape[-1]).astype(np.float32)
        elif isinstance(operator, BatchNorm):
            gain = 0.4 if layer.name in last_of_block else 1.0
            ranges = {"gamma": (0.8, 1.2), "beta": (-0.1, 0.1), "mean": (-0.1, 0.1), "variance": (0.7, 1.3)}
            values = {role: random.uniform(*r, operator.channels).astype(np.float32) for role, r in ranges.items()}
            values["gamma"] *= np.float32(gain)
            weights[layer.name] = values
    if graph.layers[0].operator.kind == "input":  # images arrive with values of about 60: bring the stem to order one
        stem = next(layer for layer in graph.layers if isinstance(layer.operator, Conv2D))
        weights[stem.name]["kernel"] *= np.float32(1 / 60)
    return weights


def write_keras_file(path: str | os.PathLike[str], graph: Graph, weights: Weights) -> Path:
    """Write a network's weights in the legacy Keras layout; Keras itself loads the file by name.

    The file appears under its name only when it is complete. Returns its path.
    """
    names = [layer.name for layer in graph.layers]
    tensors = (
        (layer.name, {role: weights[layer.name][role] for role in layer.operator.tensors()})
        for layer in graph.layers
        if layer.operator.tensors()
    )
    with replaced(path) as temporary:
        write_layers(temporary, names, tensors)
    return Path(path)
