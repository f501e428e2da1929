"""A network for one shape of images as steps that are queued on a stream, and where in memory each activation lies.

A program knows no card: ``bind`` gives it memory, an arena of one lane, and makes of each step a function that queues
it. All programs, layer by layer or fused, have this form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plan.memory import Buffer, place
from ..plan.steps import PlanStep
from .copies import Placed
from .recorded import Recorded, record

__all__ = ["Bound", "Layout", "Program", "QueuedStep", "Region"]

_ALIGNMENT = 256  # bytes: what CUDA's own allocations begin at a multiple of

Shape = tuple[int, ...]
View = Callable[["Region"], Any]
Queue = Callable[[Any], None]
"""Queues a step on the stream that it is given."""


@dataclass(frozen=True)
class Region:
    """An array in the arena: its shape, batch included, and the stretch of memory that it lies in."""

    shape: Shape
    buffer: Buffer

    def reshaped(self, shape: Shape) -> Region:
        """The same numbers in another shape."""
        return Region(shape, self.buffer)

    def view(self, arena: Any) -> Any:
        """This region of an arena, as an array of its shape."""
        start = self.buffer.offset // 4
        return arena[start : start + math.prod(self.shape)].reshape(*self.shape)


class Layout:
    """Hands out regions while steps are being added, and places them so that memory is used again when it is free."""

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []

    def new(self, step: int, shape: Shape) -> Region:
        """A region that is needed from ``step`` on, and so far no longer."""
        size = -(-4 * math.prod(shape) // _ALIGNMENT) * _ALIGNMENT
        buffer = Buffer(size, step, step)
        self._buffers.append(buffer)
        return Region(shape, buffer)

    @staticmethod
    def use(region: Region, step: int) -> Region:
        """Keep a region until ``step``."""
        region.buffer.last = max(region.buffer.last, step)
        return region

    def bytes(self) -> int:
        """Place all regions; returns the size of the arena."""
        return place(self._buffers)


@dataclass(frozen=True)
class QueuedStep:
    """One step: what it computes, where its output lies, and how it is queued.

    bind  makes, of a function that turns regions into arrays, the function that queues this step
    """

    what: PlanStep
    output: Region
    bind: Callable[[View], Queue]


@dataclass(frozen=True, eq=False)
class Program:
    """Everything to be queued for one batch of images.

    images, outputs  where the images go in and the wanted layers come out
    arena_bytes      memory for all activations
    suspects         float32[n], not 0 for images whose infinity and NaN may have come out in the wrong places; or None
    planned          whether layers are fused
    """

    images: Region
    outputs: Mapping[str, Region]
    steps: Sequence[QueuedStep]
    arena_bytes: int
    suspects: Region | None = None
    planned: bool = False

    def bind(self, arena: Any, results: Mapping[str, Any] | None = None) -> Bound:
        """This program with its activations in ``arena``, float32 of at least ``arena_bytes``.

        results  {output: array} into which the steps write by themselves what else would be copied there out of the arena
        """
        seen: dict[tuple[int, Shape], Any] = {}
        results = results or {}
        own = {id(self.outputs[name].buffer): name for name in reversed(list(results))}  # two outputs may be one region

        def view(region: Region) -> Any:
            if id(region.buffer) in own:
                return results[own[id(region.buffer)]].reshape(*region.shape)
            key = (region.buffer.offset, region.shape)
            if key not in seen:
                seen[key] = region.view(arena)
            return seen[key]

        outputs = {
            name: Placed(results[name] if own.get(id(region.buffer)) == name else view(region))
            for name, region in self.outputs.items()
        }
        suspects = Placed(view(self.suspects)) if self.suspects else None
        return Bound(Placed(view(self.images)), outputs, suspects, [step.bind(view) for step in self.steps], view)


class Bound:
    """A program on a card: its images, its outputs, and one function per step.

    The first run goes step by step and compiles what is new. The second is recorded as a CUDA graph, and from then on the
    card gets that as a whole: launching some hundred kernels one by one takes longer than running them for one image.
    """

    def __init__(
        self,
        images: Placed,
        outputs: Mapping[str, Placed],
        suspects: Placed | None,
        queues: Sequence[Queue],
        view: View,
    ) -> None:
        self.images, self.outputs, self.suspects, self.queues, self.view = images, outputs, suspects, queues, view
        self._runs = 0
        self._recorded: Recorded | None = None

    def queue(self, stream: Any) -> None:
        """Queue all steps."""
        self._runs += 1
        if self._runs == 2:
            self._recorded = record(stream, self._each)
        if self._recorded is not None:
            self._recorded.queue(stream)
        else:
            self._each(stream)

    def _each(self, stream: Any) -> None:
        for queue in self.queues:
            queue(stream)
