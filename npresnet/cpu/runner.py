"""The plans of one network, kept by shape of images, and running them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.weights import Weights
from ..plan.memory import Memory
from ..plan.recent import Recent
from ..plan.steps import algorithms, step_times
from ..plan.times import StepTime
from .by_plan import Plan, make_plan
from .packing import Constants

__all__ = ["Planner"]


Array = npt.NDArray[Any]

_PLANS = 8  # that are kept


def _has_nan(array: Array) -> bool:
    """Whether there is NaN in ``array``, at the speed of reading it."""
    values = array.ravel()
    with np.errstate(over="ignore"):  # a sum of squares may be infinite, but is NaN for NaN alone
        return bool(np.isnan(np.dot(values, values)))


class Planner:
    """The plans of one network, one for each shape of images and set of outputs; the most recent few are kept."""

    def __init__(self, graph: Graph, weights: Weights, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._constants = Constants(graph, weights)
        self._memory = Memory()
        self._plans: Recent[tuple[Any, ...], Plan] = Recent(_PLANS, self._limit_memory)

    def plan(self, batch: tuple[int, int, int], outputs: tuple[str, ...], winograd: bool) -> Plan:
        """The plan for images of ``batch`` = (n, h, w); made if it is not at hand. Raises UsageError."""
        return self._plans.get(
            (batch, outputs, winograd),
            lambda: make_plan(
                self._graph, self._constants, batch, outputs, winograd=winograd, threads=self._threads
            ),
        )  # fmt: skip

    def _limit_memory(self, plans: Sequence[Plan]) -> None:
        """As much may lie idle as the largest plan needs."""
        self._memory.limit = max(plan.memory_bytes for plan in plans)

    def run(self, images: Array, outputs: tuple[str, ...], winograd: bool) -> dict[str, Array]:
        """{output: array} for float32[n, h, w, c] images. Raises UsageError."""
        n, height, width, _ = images.shape
        plan = self.plan((n, height, width), outputs, winograd)
        results = plan.run(images, self._memory)
        if not plan.winograd:
            return results
        for index in range(n):  # why: see ``plan/nan.py``
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
        return step_times(plan.steps, n, seconds)

    def algorithms(self, size: tuple[int, int], outputs: tuple[str, ...], winograd: bool) -> dict[str, str]:
        """{layer: how it is computed} for images of ``size`` (h, w). Raises UsageError."""
        return algorithms(self.plan((1, *size), outputs, winograd).steps, self._graph.by_name)
