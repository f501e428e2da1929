"""``study memory``: where the activations lie, how long each must stay, and what that saves.

All activations of a run lie in one stretch of memory, the arena. What a step writes stays until the last step that reads it; then
its place is given to others. The chart has the plan's steps across and the arena's bytes upwards: no two blocks may overlap.
Outputs are arrays of their own, which may serve as room for something else until they are written.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..cpu.building import GIVEN, InMemory
from ..cpu.by_plan import Plan
from ..files.safe_write import replaced
from ..kernels.phasetile import EDGE
from ..kernels.steps.grouped_winograd import GroupedWinogradStep
from ..kernels.steps.phases import PhasesStep
from ..kernels.steps.records import places
from ..kernels.steps.winograd import WinogradOutStep, WinogradStep
from ..model import ResNet
from ..network.operators import Conv2D, Dense
from ..plan.memory import Buffer
from .forms import Column, Grid
from .plans import plan_of

__all__ = ["TABLES", "Block", "Held", "MemoryStudy", "memory", "write_trace"]

Array = npt.NDArray[Any]

TABLES = (
    Grid(
        "held",
        (Column("what", "what"), Column("bytes", "bytes", "bytes"), Column("how it comes about", "how")),
        "What a network holds while it runs",
    ),
    Grid(
        "blocks",
        (
            Column("made by", "producer"),
            Column("bytes", "bytes", "bytes"),
            Column("offset", "offset", "bytes"),
            Column("from step", "first", "count"),
            Column("to step", "last", "count"),
            Column("lies in", "where"),
            Column("read by", "consumers", "list", wide=True),
        ),
        "What lies where, and how long",
    ),
)


@dataclass(frozen=True)
class Block:
    """One stretch: needed from step ``first`` to ``last``, both included.

    producer   layer whose step writes it; consumers: of those that read it
    where      "arena", or the output in whose place it lies until that is written
    offset     bytes from the beginning of that
    """

    producer: str
    consumers: Sequence[str]
    bytes: int
    offset: int
    first: int
    last: int
    where: str


@dataclass(frozen=True)
class Held:
    """Bytes, and what for."""

    what: str
    bytes: int
    how: str


@dataclass(frozen=True)
class MemoryStudy:
    """A plan's memory, for images of ``batch`` = (n, h, w).

    steps          names of the plan's steps, in order: the chart's horizontal axis
    arena_bytes    what is asked for: where the highest block ends, rounded up to cache lines
    sum_bytes      of all blocks: what they would take without being used again
    peak_bytes     the most that is needed at any one step: no arrangement can do with less
    total_bytes    of all that is held
    """

    batch: tuple[int, int, int]
    steps: Sequence[str]
    blocks: Sequence[Block]
    arena_bytes: int
    sum_bytes: int
    peak_bytes: int
    saved: float
    held: Sequence[Held]
    total_bytes: int


def memory(net: ResNet, batch: tuple[int, int, int]) -> MemoryStudy:
    """What a call of ``net`` with images of ``batch`` = (n, h, w) needs. Nothing is run, but weights are packed.

    Raises UsageError as ``plan_of``.
    """
    plan = plan_of(net, batch)
    blocks = _blocks(plan)
    steps = [step.output for step in plan.steps]
    loads = [sum(block.bytes for block in blocks if block.first <= at <= block.last) for at in range(len(steps))]
    in_arena = [block for block in blocks if block.where == "arena"]
    total = sum(block.bytes for block in blocks)
    held = _held(net, plan)
    return MemoryStudy(
        batch, steps, blocks, plan.arena_bytes, total, max(loads, default=0),
        1 - plan.arena_bytes / sum(block.bytes for block in in_arena) if in_arena else 0.0,
        held, sum(part.bytes for part in held),
    )  # fmt: skip


def _blocks(plan: Plan) -> list[Block]:
    """Every stretch that is shared out, with the steps that write and read it."""
    users: dict[int, list[int]] = {}
    buffers: dict[int, Buffer] = {}
    for index, record in enumerate(plan.records):
        for place in places(record):
            if isinstance(place, InMemory) and place.buffer is not None:
                key = id(place.buffer)
                buffers[key] = place.buffer
                if index not in users.setdefault(key, []):
                    users[key].append(index)
    outputs = list(plan.outputs)
    found = []
    for key, buffer in buffers.items():
        producer, *readers = (plan.steps[index].output for index in users[key])
        where = "arena"
        if buffer.room is not None:  # outputs are numbered behind all that is given
            where = outputs[buffer.room.stretch - GIVEN - len(plan.inputs)]
        consumers = list(dict.fromkeys(readers))
        found.append(Block(producer, consumers, buffer.size, buffer.offset, buffer.first, buffer.last, where))
    return found


def _held(net: ResNet, plan: Plan) -> list[Held]:
    stored = 4 * net._inspection.parameters
    needed = {name for step in plan.steps for name in step.layers}
    growth = _winograd_growth(net, plan)
    outputs = 4 * plan.batch[0] * sum(math.prod(shape) for shape in plan.outputs.values())
    twins = net.graph.twins
    own = {twins[name] for name in needed if name in twins}  # layers that are used again have their weights once
    kept = sum(
        4 * math.prod(shape)
        for name in own
        if isinstance(operator := net.graph.by_name[name].operator, Conv2D | Dense)
        for shape in operator.tensors().values()
    )
    return [
        Held(
            "weights, packed", plan.weights_bytes,
            f"{kept / 1e6:.1f} MB of kernels and biases (the file holds {stored / 1e6:.1f} MB), with batch-norms folded in; those of "
            f"Winograd are transformed, which adds {growth / 1e6:.1f} MB",
        ),
        Held("arena", plan.arena_bytes, "activations between steps, each until its last reader is done"),
        Held(
            "scratch", plan.threads * plan.scratch_bytes,
            f"{plan.threads} threads, each with room for patches and tiles of its own",
        ),
        Held("outputs", outputs, ", ".join(plan.outputs)),
    ]  # fmt: skip


def _winograd_growth(net: ResNet, plan: Plan) -> int:
    """Bytes by which transformed kernels are larger than the kernels: 4 times for F(4x4), 1.8 times for F(2x2); where only those are
    kept from which the others follow, 2.7 and 1.3 times; twice along rows."""
    elements = {}
    for step, record in zip(plan.steps, plan.records, strict=True):
        if isinstance(record, WinogradStep | WinogradOutStep):
            elements[net.graph.twins[step.leader]] = (record.made.m + 2) * record.made.stored
        elif isinstance(record, GroupedWinogradStep):
            elements[net.graph.twins[step.leader]] = 18
        elif isinstance(record, PhasesStep):
            elements[net.graph.twins[step.leader]] = EDGE * EDGE * 4
    kernels = [(net.graph.by_name[name].operator.tensors()["kernel"], count) for name, count in elements.items()]
    return sum(4 * math.prod(shape[2:]) * (count - math.prod(shape[:2])) for shape, count in kernels)


def write_trace(path: str | os.PathLike[str], net: ResNet, images: Array) -> None:
    """Write one run of ``net`` as a timeline: the JSON of Chrome's tracing, which Perfetto and chrome://tracing show.

    One span for each step, within one for the run. Raises UsageError as calling the network, and where ``path`` cannot be written.
    """
    plan = plan_of(net, images.shape[:3])
    steps = net.profile(images, list(plan.outputs), repeats=1)
    microseconds, events = 0.0, []
    for step, done in zip(plan.steps, steps, strict=True):
        events.append(
            {
                "name": done.name, "cat": done.algorithm, "ph": "X", "pid": 1, "tid": 1, "ts": microseconds,
                "dur": done.seconds * 1e6, "args": {"algorithm": done.algorithm, "layers": list(step.layers), "flop": done.flop},
            }
        )  # fmt: skip
        microseconds += done.seconds * 1e6
    whole = {"name": str(net.architecture), "cat": "run", "ph": "X", "pid": 1, "tid": 1, "ts": 0.0, "dur": microseconds}
    with replaced(path) as temporary:
        Path(temporary).write_text(json.dumps({"traceEvents": [whole, *events], "displayTimeUnit": "ms"}) + "\n")
