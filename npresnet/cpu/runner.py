"""The plans of one network, kept by shape of images, and running them."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from ..plan.memory import Memory
from ..plan.times import StepTime
from .by_plan import Plan, make_plan
from .packing import Constants

__all__ = ["Planner"]


Array = npt.NDArray[Any]


def _has_nan(array: Array) -> bool:
    """Whether there is NaN in ``array``, at the speed of reading it."""
    values = array.ravel()
    with np.errstate(over="ignore"):  # a sum of squares may be infinite, but is NaN for NaN alone
        return bool(np.isnan(np.dot(values, values)))


class Planner:
    """The plans of one network, one for each shape of images and set of outputs; the most recent few are kept."""

    _MOST = 8

    def __init__(self, graph: Graph, weights: Weights, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._constants = Constants(graph, weights)
        self._memory = Memory()
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._lock = threading.Lock()

    def plan(self, batch: tuple[int, int, int], outputs: tuple[str, ...], winograd: bool) -> Plan:
        """The plan for images of ``batch`` = (n, h, w); made if it is not at hand. Raises UsageError."""
        key = (batch, outputs, winograd)
        with self._lock:
            found = self._plans.pop(key, None)
            if found is None:
                found = make_plan(
                    self._graph, self._constants, batch, outputs, winograd=winograd, threads=self._threads
                )  # fmt: skip
            self._plans[key] = found  # the last is the most recently used
            while len(self._plans) > self._MOST:
                del self._plans[next(iter(self._plans))]
            self._memory.limit = max(plan.memory_bytes for plan in self._plans.values())
        return found

    def run(self, images: Array, outputs: tuple[str, ...], winograd: bool) -> dict[str, Array]:
        """{output: array} for float32[n, h, w, c] images. Raises UsageError."""
        n, height, width, _ = images.shape
        plan = self.plan((n, height, width), outputs, winograd)
        results = plan.run(images, self._memory)
        if not plan.winograd:
            return results
        # Winograd spreads infinity and NaN over a tile, as NaN, which nothing behind it takes away again: an image in
        # whose last outputs there is NaN is run once more without it, so that they come out where TensorFlow has them.
        for index in range(n):
            if any(_has_nan(results[name][index]) for name in plan.ends):
                alone = self.plan((1, height, width), outputs, False).run(images[index : index + 1], self._memory)
                for name, array in alone.items():
                    results[name][index] = array[0]
        return results

    def profile(self, images: Array, outputs: tuple[str, ...], winograd: bool, repeats: int) -> list[StepTime]:
        """Each step's median time in ``repeats`` whole runs, after one that is not counted. Raises as ``run``."""
        n, height, width, _ = images.shape
        plan = self.plan((n, height, width), outputs, winograd)
        seconds = np.median([plan.timed(images, self._memory)[1] for _ in range(repeats + 1)][1:], axis=0)
        return [
            StepTime(step.output, step.algorithm, (n, *step.shape), float(taken), n * step.flop)
            for step, taken in zip(plan.steps, seconds, strict=True)
        ]

    def algorithms(self, size: tuple[int, int], outputs: tuple[str, ...], winograd: bool) -> dict[str, str]:
        """{layer: how it is computed} for images of ``size`` (h, w). Raises UsageError."""
        found: dict[str, str] = {}
        for step in self.plan((1, *size), outputs, winograd).steps:
            for layer in step.layers:
                if layer in self._order:  # not one of the plan's own
                    found[layer] = step.algorithm if layer == step.leader else f"in {step.leader}"
        return found

    @cached_property
    def _order(self) -> dict[str, int]:
        return {layer.name: index for index, layer in enumerate(self._graph.layers)}
