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

from .files import replaced
from .graph import BatchNorm, Conv2D, Dense, Graph
from .weights import Weights
from .writer import write_layers

__all__ = ["random_weights", "write_keras_file"]


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
        return sums.astype(np.float32).reshape(shape) * np.float32(deviation / unit)

    def uniform(self, low: float, high: float, size: int) -> npt.NDArray[np.float32]:
        """Evenly spread from ``low`` to ``high``."""
        share = (self._bits.random_raw(size) >> np.uint64(11)) * 2.0**-53
        return (low + (high - low) * share).astype(np.float32)


def random_weights(graph: Graph, seed: int = 0) -> Weights:
    """He-initialised kernels and batch-norm statistics around those of a trained network: for each ``seed`` the same,
    to the last bit, on every machine.

    Activations stay of order one through any depth: kernels have variance 2 / fan-in (He et al., "Delving deep into
    rectifiers", 2015), and the last batch-norm of each block, which feeds a sum, is scaled down.
    """
    random = _Numbers(seed)
    last_of_block = {name for layer in graph.layers if layer.operator.kind == "add" for name in layer.inputs}
    weights: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for layer in graph.layers:
        operator = layer.operator
        if isinstance(operator, Conv2D | Dense):
            shape = operator.tensors()["kernel"]
            weights[layer.name] = {"kernel": random.normal(shape, math.sqrt(2 / math.prod(shape[:-1])))}
            if "bias" in operator.tensors():
                weights[layer.name]["bias"] = random.uniform(-0.05, 0.05, shape[-1])
        elif isinstance(operator, BatchNorm):
            gain = 0.4 if layer.name in last_of_block else 1.0
            ranges = {"gamma": (0.8, 1.2), "beta": (-0.1, 0.1), "mean": (-0.1, 0.1), "variance": (0.7, 1.3)}
            values = {role: random.uniform(*r, operator.channels) for role, r in ranges.items()}
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
