"""From a graph to a plan: the few large steps in which ``net(images)`` runs, for one shape of images.

Layers are fused (``plan/fusion.py``), batch-norms folded into weights (``packing.py``), each convolution gets the algorithm
that suits its shape (``choice.py``), every activation a place in one arena, reused when its last reader is done
(``building.py``, ``plan/memory.py``). The steps are records that one compiled loop works off (``kernels/steps/``).

A plan's steps are plain data; ``str(step)`` is one line that a person can read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..kernels.steps import loop
from ..kernels.steps.records import Step, Table, places
from ..kernels.tile import NR
from ..network.graph import Graph
from ..network.operators import Input, Shape
from ..plan.folding import Constant
from ..plan.fusion import FusedConv, fuse
from ..plan.memory import Memory, lent, place, rounded
from ..plan.slices import slices
from ..plan.steps import PlanStep
from ..plan.winograd import ends, ordinary, read_by_divisions, read_by_pools
from .building import InMemory, Packed, StepBuilder
from .packing import TRANSFORMED, Constants, PackedPair

__all__ = ["Plan", "make_plan"]


Array = npt.NDArray[Any]


class _Ready(NamedTuple):
    """A plan whose functions are compiled and whose weights are packed.

    schedule   int64[steps, 3], see ``Table.schedule``
    records    of the steps; what lies in stretches of memory that are not known yet counts from their beginnings
    words      int64[...]: which numbers of ``records`` those are, and
    stretches  int64[...]: where each of them counts from
    weights    packed, to keep them alive
    ordinary   whether the kernels in ``Plan.looked_at`` are
    """

    schedule: Array
    records: Array
    words: Array
    stretches: Array
    weights: Sequence[PackedPair]
    ordinary: bool


@dataclass
class Plan:
    """Everything needed to run one graph on images of one shape, again and again and from many threads at once.

    steps          what is done, in order
    batch          (n, h, w) of the images
    inputs         {name: shape of one} of what is read: the images, and whatever a network of several inputs takes beside
    outputs        {name: shape of one image's}
    ends           the outputs in which NaN is looked for
    looked_at      (input, kernels that it meets) that must both be ordinary, see ``plan/winograd.py``
    arena_bytes    memory for activations; scratch_bytes: each thread's own
    """

    steps: tuple[PlanStep, ...]
    batch: tuple[int, int, int]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    ends: tuple[str, ...]
    looked_at: Sequence[tuple[str, Constant]]
    arena_bytes: int
    scratch_bytes: int
    threads: int
    winograd: bool
    _table: Table
    _zeros: Array
    _constants: Constants

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    @property
    def records(self) -> Sequence[Step]:
        """The steps as the kernels see them."""
        return self._table.steps

    @property
    def zeros_bytes(self) -> int:
        """Memory that holds zeros."""
        return self._zeros.nbytes

    @property
    def working_bytes(self) -> int:
        """Memory for activations, and each thread's own."""
        return self.arena_bytes + self.threads * self.scratch_bytes

    @property
    def memory_bytes(self) -> int:
        """Working memory and outputs of one run."""
        return self.working_bytes + 4 * self.batch[0] * sum(math.prod(shape) for shape in self.outputs.values())

    @property
    def lent_bytes(self) -> int:
        """The same in blocks as they are lent, which are kept between two runs."""
        return self.memory_bytes - self.working_bytes + lent(self.working_bytes)

    @property
    def weights_bytes(self) -> int:
        """Memory for the weights as the steps read them; they are packed now, if no run has done it yet."""
        arrays = {id(array): array for pair in self._ready.weights for array in (pair.weights, pair.bias)}
        return sum(array.nbytes for array in arrays.values())

    @cached_property
    def _ready(self) -> _Ready:
        records = self._table.linked()
        numbers = records.view(np.int64)
        constants = list(dict.fromkeys(place.constant for _, place in self._table.places if isinstance(place, Packed)))
        packed = dict(zip(constants, self._constants.packed(constants, self.threads), strict=True))
        words, stretches = [], []
        for offset, where in self._table.places:
            if isinstance(where, Packed):
                pair = packed[where.constant]
                numbers[offset // 8] = (pair.bias if where.bias else pair.weights).ctypes.data
                continue
            assert isinstance(where, InMemory)
            stretch, numbers[offset // 8] = where.placed
            words.append(offset // 8)
            stretches.append(stretch)
        return _Ready(
            self._table.schedule(),
            records,
            np.array(words, np.intp),
            np.array(stretches, np.intp),
            list(packed.values()),
            all(ordinary(packed[constant].weights) for _, constant in self.looked_at),
        )

    def suits(self, images: Mapping[str, Array], index: int) -> bool:
        """Whether image number ``index`` is ordinary where that is asked for."""
        return self._ready.ordinary and all(
            ordinary(images[name][index]) for name in {name for name, _ in self.looked_at}
        )

    def run(self, images: Array | Mapping[str, Array], memory: Memory) -> dict[str, Array]:
        """{output name: float32[n, ...]} for ``images`` float32[n, h, w, c], C-contiguous, of the plan's shape; {input: ...} where
        there are several inputs."""
        return self._run(images, memory)[0]

    def timed(self, images: Array | Mapping[str, Array], memory: Memory) -> tuple[dict[str, Array], Array]:
        """As ``run``, and the seconds that each step took, float64[steps]."""
        results, sync, seconds = self._run(images, memory)
        ticks = np.diff(sync[[-1, *range(loop.SYNC - 1, len(sync) - 1, loop.SYNC)]]).astype(np.float64)
        return results, ticks * (seconds / max(ticks.sum(), 1.0))

    def _run(self, images: Array | Mapping[str, Array], memory: Memory) -> tuple[dict[str, Array], Array, float]:
        """The results, what the threads have left in ``loop.SYNC`` numbers per step, and the seconds that all steps took."""
        fed = images if isinstance(images, Mapping) else {next(iter(self.inputs)): images}
        results = {name: memory.array((self.batch[0], *shape)) for name, shape in self.outputs.items()}
        ready = self._ready
        with memory.lend(self.working_bytes) as block:
            base = block.ctypes.data
            # in the order of ARENA, ZEROS, GIVEN, and the outputs behind all that is given
            given = (self._zeros, *(fed[name] for name in self.inputs), *results.values())
            bases = np.array([base, *(array.ctypes.data for array in given)], np.int64)
            records = ready.records.copy()
            records.view(np.int64)[ready.words] += bases[ready.stretches]
            sync = np.zeros(loop.SYNC * len(ready.schedule) + 1, np.int64)
            scratch = [base + self.arena_bytes + i * self.scratch_bytes for i in range(self.threads)]
            start = time.perf_counter()
            loop.start(ready.schedule, records, sync, scratch, (block, given, ready))
            return results, sync, time.perf_counter() - start


def make_plan(
    graph: Graph,
    constants: Constants,
    batch: tuple[int, int, int],
    outputs: Sequence[str],
    further: Mapping[str, Shape] | None = None,
    *,
    winograd: bool,
    threads: int,
) -> Plan:
    """The plan for images of ``batch`` = (n, h, w) and the wanted ``outputs``, which are layers other than inputs.

    further  {input: shape} of those beside the images, as ``Graph.shapes`` takes it

    Raises UsageError for unknown outputs or images that are too small.
    """
    n, height, width = batch
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(height, width, outputs, further)
    names = tuple(dict.fromkeys(outputs))
    nodes = fuse(layers, outputs, shapes, constants.cancels)
    entries = tuple(layer.name for layer in layers if isinstance(layer.operator, Input))
    builder = StepBuilder(n, shapes, names, entries, threads, slices(nodes, names, shapes))
    pooled = read_by_pools(graph, nodes)
    divided = read_by_divisions(graph, nodes)
    looked_at: list[tuple[str, Constant]] = []
    last = {name: node for node in nodes for name in node.inputs}  # to read it
    for node in nodes:
        of_images = isinstance(node, FusedConv) and node.x in entries
        kept = of_images or node.output not in pooled
        done = [name for name in node.inputs if last[name] is node and name not in names]
        builder.add(node, winograd and kept and node.output not in divided, done)
        if of_images and node.output in pooled:
            kernels = [place.constant for place in places(builder.records[-1]) if isinstance(place, Packed)]
            looked_at += [(node.x, constant) for constant in kernels[:1] if constant.form in TRANSFORMED]
    sizes = [4 * n * math.prod(shapes[name]) for name in names]
    arena = place(builder.buffers, builder.rooms(sizes))
    return Plan(
        tuple(builder.steps), batch, {name: shapes[name] for name in entries}, {name: shapes[name] for name in names}, ends(graph, names, shapes, pooled),
        looked_at, rounded(arena),
        rounded(max(record.scratch_bytes for record in builder.records)), threads, winograd, Table(builder.records),
        np.zeros(builder.zeros + NR, np.float32), constants,
    )  # fmt: skip
