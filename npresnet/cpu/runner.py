"""The plans of one network, kept by shape of images, and running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.operators import Shape
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

    def plan(
        self,
        batch: tuple[int, int, int],
        outputs: tuple[str, ...],
        winograd: bool,
        further: tuple[tuple[str, Shape], ...] = (),
    ) -> Plan:
        """The plan for images of ``batch`` = (n, h, w); made if it is not at hand. Raises UsageError.

        further  (input, shape) of those beside the images, as far as it is not what ``Graph.shapes`` takes them for
        """
        return self._plans.get(
            (batch, outputs, winograd, further),
            lambda: make_plan(
                self._graph, self._constants, batch, outputs, dict(further), winograd=winograd, threads=self._threads
            ),
        )  # fmt: skip

    def _plan_for(self, images: Mapping[str, Array], outputs: tuple[str, ...], winograd: bool) -> Plan:
        entry = self._graph.layers[0].name
        n, height, width, _ = images[entry].shape
        further = tuple((name, array.shape[1:]) for name, array in images.items() if name != entry)
        return self.plan((n, height, width), outputs, winograd, further)

    def _limit_memory(self, plans: Sequence[Plan]) -> None:
        """As much may lie idle as the largest plan needs."""
        self._memory.limit = max(plan.lent_bytes for plan in plans)

    def run(self, images: Array | Mapping[str, Array], outputs: tuple[str, ...], winograd: bool) -> dict[str, Array]:
        """{output: array} for float32[n, h, w, c] images; {input: ...} for a network of several inputs. Raises UsageError."""
        images = images if isinstance(images, Mapping) else {self._graph.layers[0].name: images}
        plan = self._plan_for(images, outputs, winograd)
        results = plan.run(images, self._memory)
        if not plan.winograd:
            return results
        for index in range(plan.batch[0]):  # why: see ``plan/winograd.py``
            if not plan.suits(images, index) or any(_has_nan(results[name][index]) for name in plan.ends):
                one = {name: array[index : index + 1] for name, array in images.items()}
                alone = self._plan_for(one, outputs, False)
                for name, array in alone.run(one, self._memory).items():
                    results[name][index] = array[0]
        return results

    def profile(
        self, images: Mapping[str, Array], outputs: tuple[str, ...], winograd: bool, repeats: int
    ) -> list[StepTime]:
        """Each step's median time in ``repeats`` whole runs, after one that is not counted. Raises as ``run``."""
        plan = self._plan_for(images, outputs, winograd)
        seconds = np.median([plan.timed(images, self._memory)[1] for _ in range(repeats + 1)][1:], axis=0)
        return step_times(plan.steps, plan.batch[0], seconds)

    def algorithms(self, size: tuple[int, int], outputs: tuple[str, ...], winograd: bool) -> dict[str, str]:
        """{layer: how it is computed} for images of ``size`` (h, w). Raises UsageError."""
        return algorithms(self.plan((1, *size), outputs, winograd).steps, self._graph.by_name)
