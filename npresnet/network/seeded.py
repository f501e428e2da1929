"""Weights without a download: seeded random numbers of a plausible spread, and Keras weight files of them.

Such a network recognises nothing, but it computes exactly as a trained one does: what the demo, the benchmarks and
many tests run on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..files.safe_write import replaced
from .architecture import Architecture
from .building import build_graph
from .detector import MODELS
from .graph import Graph
from .operators import Add, BatchNorm, Conv2D, Multiply, Scale
from .stored_form import as_stored
from .weights import Inspection, Weights

__all__ = ["random_weights", "seeded", "write_keras_file"]


class _Numbers:
    """Random numbers that are the same to the last bit on every machine.

    NumPy promises that of the bits alone: its normal distribution takes logarithms, which differ from one C library to
    the next. Here are only sums, which are exact, and products, which IEEE 754 rounds alike everywhere.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def normal(self, shape: Sequence[int], deviation: float) -> npt.NDArray[np.float32]:
        """Nearly normal, with mean 0: each the sum of four evenly spread numbers of 16 bits."""
        bits = self._bits.random_raw(math.prod(shape)).astype("<u8")
        sums = bits.view("<u2").reshape(-1, 4).sum(axis=1, dtype=np.int32) - 2 * 0xFFFF
        unit = math.sqrt(4 * (2**32 - 1) / 12)  # deviation of such a sum
        values: npt.NDArray[np.float32] = sums.astype(np.float32).reshape(shape)
        values *= np.float32(deviation / unit)
        return values

    def uniform(self, low: float, high: float, size: int) -> npt.NDArray[np.float32]:
        """Evenly spread from ``low`` to ``high``."""
        share = (self._bits.random_raw(size) >> np.uint64(11)) * 2.0**-53
        return (low + (high - low) * share).astype(np.float32)


def random_weights(graph: Graph, seed: int = 0) -> Weights:
    """He-initialised kernels, scales, and batch-norm statistics around those of a trained network: for each ``seed`` the
    same, to the last bit, on every machine.

    Activations stay of order one through any depth: kernels have variance 2 / fan-in (He et al., "Delving deep into
    rectifiers", 2015), and the last layer with weights of each block, which feeds a sum (or a gate before it), is scaled
    down.
    """
    random = _Numbers(seed)
    gated = {layer.name: layer.inputs[0] for layer in graph.layers if isinstance(layer.operator, Multiply)}
    summed = {name for layer in graph.layers if isinstance(layer.operator, Add) for name in layer.inputs}
    last_of_block = {gated.get(name, name) for name in summed}
    weights: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for layer in graph.weighted.values():
        operator = layer.operator
        tensors = operator.tensors()
        gain = 0.4 if layer.name in last_of_block else 1.0
        if graph.twins[layer.name] != layer.name:
            weights[layer.name] = weights[graph.twins[layer.name]]
        elif "kernel" in tensors:
            shape = tensors["kernel"]
            weights[layer.name] = {"kernel": random.normal(shape, gain * math.sqrt(2 / math.prod(shape[:-1])))}
            if "bias" in tensors:
                weights[layer.name]["bias"] = random.uniform(-0.05, 0.05, shape[-1])
        elif isinstance(operator, BatchNorm | Scale):
            gamma = (0.8 * gain, 1.2 * gain)
            ranges = {"gamma": gamma, "beta": (-0.1, 0.1), "mean": (-0.1, 0.1), "variance": (0.7, 1.3)}
            values = {role: random.uniform(*ranges[role], operator.channels) for role in tensors}
            weights[layer.name] = values
    if graph.layers[0].operator.kind == "input":  # images arrive with values of about 60: bring the stem to order one
        stem = next(layer for layer in graph.layers if isinstance(layer.operator, Conv2D))
        weights[stem.name]["kernel"] *= np.float32(1 / 60)
    return weights


def seeded(architecture: Architecture, seed: int = 0) -> Inspection:
    """A network with ``random_weights``, as if it had been found in a file; ``model.assemble`` makes it run."""
    graph = build_graph(architecture)
    weights = random_weights(graph, seed)
    size = sum(array.nbytes for tensors in weights.values() for array in tensors.values())
    source = f"seed {seed}"
    return Inspection(Path(source), size, source, None, None, architecture, (), graph, weights, matched=tuple(weights))


def write_keras_file(path: str | os.PathLike[str], graph: Graph, weights: Weights) -> Path:
    """Write the weights of one of the families' networks in the legacy Keras layout; Keras itself loads the file by name.

    The file appears under its name only when it is complete. Returns its path.
    """
    from ..files.keras_h5 import write_layers  # here, because it takes h5py

    held = {layer.source: layer for layer in graph.weighted.values()}
    names = list(dict.fromkeys(layer.source for layer in (*graph.layers, *held.values())))
    tensors = (
        (source, as_stored(layer.operator, {role: weights[layer.name][role] for role in layer.operator.tensors()}))
        for source, layer in held.items()
    )
    with replaced(path) as temporary:
        write_layers(temporary, names, tensors, models=MODELS)
    return Path(path)
