"""What every engine beside npresnet has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights

__all__ = ["Batch", "Peer", "chw", "nchw", "nhwc", "oihw"]

Array = npt.NDArray[Any]
Batch = tuple[int, int, int]
"""(n, h, w) of the images, which have three channels."""


class Peer(ABC):
    """One engine with one network in it, for images of one shape.

    ``run(prepare(images))`` computes all outputs, and of it only ``run`` is timed; ``features`` turns the engine's own
    results into {"C1": float32[n, h', w', c], ..., "probabilities": float32[n, classes]}. Calling a peer does all three.
    """

    title: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    """What must be importable."""
    packages: ClassVar[tuple[str, ...]]
    """What to install for that."""

    settings: ClassVar[str]
    """Layout, precision, what is done to the graph: in words, the same for every network."""

    version: str
    chosen: str = ""
    """What was found to be best for this network, where an engine has to be asked for it."""
    convert_seconds: float = 0.0
    """What a converter in a process of its own took: no part of the engine's start-up."""

    @abstractmethod
    def __init__(self, graph: Graph, weights: Weights, batch: Batch, threads: int) -> None:
        """Build the network for ``batch`` = (n, h, w) on ``threads`` threads."""

    @abstractmethod
    def prepare(self, images: Array) -> Any:
        """The engine's own form of images float32[n, h, w, 3]."""

    @abstractmethod
    def run(self, prepared: Any) -> Any:
        """Compute all outputs, and leave them as the engine makes them. They are valid until the next call."""

    @abstractmethod
    def features(self, results: Any) -> dict[str, Array]:
        """What ``run`` returned, by name and as NHWC."""

    def __call__(self, images: Array) -> dict[str, Array]:
        return self.features(self.run(self.prepare(images)))


def nchw(images: Array) -> Array:
    """float32[n, h, w, c] as float32[n, c, h, w], C-contiguous."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def nhwc(array: Array) -> Array:
    """What an NCHW engine made, as float32[n, h, w, c]; probabilities, float32[n, c], as they are."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def oihw(kernel: Array | None) -> Array:
    """float32[kh, kw, ci, co] as float32[co, ci, kh, kw], C-contiguous."""
    assert kernel is not None
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def chw(values: Array | None) -> Array:
    """One value per channel, float32[c] as float32[c, 1, 1]: to be spread over NCHW."""
    assert values is not None
    return values.reshape(-1, 1, 1)
