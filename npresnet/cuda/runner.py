"""Batches through a network on a card: images go in, outputs come out, where the images were.

A large batch goes in chunks, on two lanes by turns: while one chunk is computed, the next one's images are copied
to the card and the last one's outputs back from it, through page-locked memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph
from ..network.inputs import network_input
from ..plan.memory import Memory
from ..plan.recent import Recent
from ..plan.steps import algorithms, step_times
from ..plan.times import LayerStep, StepTime
from .arrays import DeviceArray, device_images, on_card
from .by_layer import Tensors, layer_program
from .by_plan import planned_program
from .card import Card, Lane
from .copies import Placed, Staged
from .driver import wait_for
from .measured import Choices, Measured, Measuring
from .packing import Constants
from .program import Bound, Program
from .timing import timed

__all__ = ["Runner"]

Array = npt.NDArray[Any]

_CHUNK = 1 << 22  # pixels of images in one chunk: 64 of 224x224 fill any card
_PROGRAMS = 8  # that are kept


class _Pending(NamedTuple):
    """A chunk that was queued on a lane: which images it holds."""

    lane: Lane
    bound: Bound
    first: int
    images: int


class Runner:
    """One network on one card. May be called from many threads at once.

    algorithm  "im2col": layer by layer; "auto", "direct": by plan, the latter without Winograd
    precision  "fp32", "tf32", "3xtf32": of the convolutions of a plan
    threads    how many share the copying on the host's side
    """

    def __init__(
        self,
        card: Card,
        graph: Graph,
        weights: Mapping[str, Mapping[str, Array]],
        algorithm: str,
        precision: str,
        threads: int = 1,
    ) -> None:
        self.card = card
        self.algorithm = algorithm
        self.precision = precision
        self._graph, self._weights = graph, weights
        self._tensors = Tensors(card, graph, weights)
        self._constants = Constants(card, graph, weights)
        self._choices = Choices(card)
        self._threads = threads
        self._memory = Memory()
        self._programs: Recent[tuple[Any, ...], Program] = Recent(_PROGRAMS)
        self._sizes: Recent[tuple[Any, ...], dict[str, tuple[int, ...]]] = Recent(_PROGRAMS)

    def of(self, graph: Graph) -> Runner:
        """What runs another graph of the same weights on the same card."""
        return Runner(self.card, graph, self._weights, self.algorithm, self.precision, self._threads)

    def run(self, images: Any, outputs: tuple[str, ...]) -> dict[str, Any]:
        """{output: array} of float32[n, h, w, c] images: NumPy arrays, or DeviceArrays for images that are on a card.

        Raises ImageError, UsageError as calling the network does; DeviceError where memory is short.
        """
        with self.card.current():
            if on_card(images):
                return self._run_on_card(images, outputs)
            return self._run_from_host(network_input(images, self._graph.channels), outputs)

    def trace(self, images: Any, outputs: Sequence[str]) -> Iterator[LayerStep]:
        """Each layer's output, as a NumPy array, and its time on the card, measured by events around its kernels.

        The layers run all in a row for the times, after a run that is not counted, and once more to look at each. Raises as
        ``run``.
        """
        batch = self._from_card(images) if on_card(images) else network_input(images, self._graph.channels)
        with self.card.current():
            program = layer_program(self._graph, self._tensors, batch.shape[:3], tuple(outputs), every=True)
        return self._traced(program, batch)

    def _from_card(self, images: Any) -> Array:
        """Images that are on the card, as a NumPy array."""
        with self.card.current(), self.card.lane() as lane:
            given = device_images(self.card, images, self._graph.channels, lane.stream)
            copy: Array = given.copy_to_host(stream=lane.stream)  # that is the stream that waits for the images
            lane.stream.synchronize()
        return copy

    def _traced(self, program: Program, batch: Array) -> Iterator[LayerStep]:
        with self.card.lane() as lane:
            with self.card.current():
                bound = lane.bound(program)
                feed = partial(bound.images.upload, Staged(batch), lane.stream)
                (seconds,) = timed(lane.stream, bound.queues, 1, feed)
                feed()
            for step, queue, taken in zip(program.steps, bound.queues, seconds, strict=True):
                with self.card.current():
                    queue(lane.stream)
                    array = bound.view(step.output).copy_to_host(stream=lane.stream)
                    lane.stream.synchronize()
                name = step.what.output
                kind = self._graph.by_name[name].operator.kind
                yield LayerStep(name, kind, array.shape, array, taken, len(batch) * step.what.flop)

    def profile(self, images: Any, outputs: tuple[str, ...], repeats: int) -> list[StepTime] | None:
        """Each step's median time on the card in ``repeats`` runs, after one that is not counted; None where the network
        runs layer by layer, which ``trace`` times. Raises as ``run``."""
        batch = self._from_card(images) if on_card(images) else network_input(images, self._graph.channels)
        with self.card.current(), self.card.lane() as lane:
            program = self._program(batch.shape[:3], outputs)
            if not program.planned:
                return None
            bound = lane.bound(program)
            feed = partial(bound.images.upload, Staged(batch), lane.stream)
            medians = np.median(timed(lane.stream, bound.queues, repeats, feed), axis=0)
        return step_times([step.what for step in program.steps], len(batch), medians)

    def algorithms(self, size: tuple[int, int], outputs: tuple[str, ...]) -> dict[str, str]:
        """{layer: how it is computed} for one image of ``size`` (h, w). Raises as ``run``."""
        with self.card.current():
            program = self._program((1, *size), outputs)
        return algorithms([step.what for step in program.steps], self._graph.by_name)

    def tune(self, batch: tuple[int, int, int], outputs: tuple[str, ...], seen: Callable[[Measured], None]) -> None:
        """Measure how each convolution is the fastest for images of ``batch`` = (n, h, w), where that is not known, and go by
        it from now on. ``seen`` is called after each. Raises as ``run``."""
        count, height, width = batch
        with self.card.current(), self.card.lane() as lane:
            measuring = Measuring(self.card, self._choices, lane.stream, seen)
            try:
                for images in {images for _, images in self._chunks((count, height, width))}:
                    self._make((images, height, width), outputs, False, measuring)
            finally:
                self._choices.keep()
        self._programs.clear()  # they go by what was known before

    def _shapes(self, images: Sequence[int], outputs: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        """{output: shape} for images of a shape [n, h, w, c]."""
        count, height, width, _ = images
        each = self._sizes.get((height, width, outputs), lambda: self._graph.shapes(height, width, outputs))
        return {name: (count, *each[name]) for name in outputs}

    def _program(self, batch: tuple[int, int, int], outputs: tuple[str, ...], exact: bool = False) -> Program:
        """The program for a chunk of (n, h, w) images; made if it is not at hand.

        exact  one that has infinity and NaN in their places
        """
        return self._programs.get((batch, outputs, exact), lambda: self._make(batch, outputs, exact, self._choices))

    def _make(self, batch: tuple[int, int, int], outputs: tuple[str, ...], exact: bool, choices: Choices) -> Program:
        if self.algorithm != "im2col":
            precision = "fp32" if exact and self.precision == "3xtf32" else self.precision
            winograd = self.algorithm == "auto" and not exact
            return planned_program(
                choices, self._graph, self._constants, self._tensors, batch, outputs, precision, winograd
            )
        return layer_program(self._graph, self._tensors, batch, outputs)

    def _chunks(self, shape: Sequence[int]) -> list[tuple[int, int]]:
        """(first image, how many) of each chunk of a batch [n, h, w, c]: all of one size but the last."""
        count, pixels = shape[0], shape[1] * shape[2]
        most = 1 << max(_CHUNK // pixels, 1).bit_length() - 1
        return [(first, min(most, count - first)) for first in range(0, count, most)]

    def _each_chunk(
        self,
        shape: Sequence[int],
        outputs: tuple[str, ...],
        feed: Callable[[_Pending], None],
        fetch: Callable[[_Pending], None],
        collect: Callable[[_Pending], None],
        exact: bool,
        results: Mapping[str, Placed] | None = None,
    ) -> list[int]:
        """Queue every chunk on one of two lanes; ``feed`` and ``fetch`` queue its copies, ``collect`` comes when it is
        done. The card must be the current one. A batch of one chunk may write its ``results`` by itself, see ``Lane.bound``.
        Returns the images that are to be run once more, exactly; why: see ``plan/winograd.py``."""
        suspects: list[int] = []

        def finish(chunk: _Pending) -> None:
            wait_for(chunk.lane.stream)
            collect(chunk)
            if chunk.bound.suspects is not None:
                marks = chunk.lane.staging("suspects", chunk.bound.suspects.shape)
                suspects.extend(chunk.first + int(index) for index in np.nonzero(marks.array)[0])

        chunks = self._chunks(shape)
        with ExitStack() as stack:
            lanes = [stack.enter_context(self.card.lane()) for _ in chunks[:2]]
            pending: dict[int, _Pending] = {}
            try:
                for number, (first, count) in enumerate(chunks):
                    turn = number % 2
                    if turn in pending:
                        finish(pending.pop(turn))
                    program = self._program((count, shape[1], shape[2]), outputs, exact)
                    bound = lanes[turn].bound(program, results if len(chunks) == 1 else None)
                    pending[turn] = chunk = _Pending(lanes[turn], bound, first, count)
                    feed(chunk)
                    chunk.bound.queue(chunk.lane.stream)
                    fetch(chunk)
                    if chunk.bound.suspects is not None:
                        marks = chunk.lane.staging("suspects", chunk.bound.suspects.shape)
                        chunk.bound.suspects.download(marks, chunk.lane.stream)
                for turn in sorted(pending, key=lambda turn: pending[turn].first):
                    finish(pending[turn])
            finally:
                for chunk in pending.values():  # nothing may still be running when the lanes are given back
                    wait_for(chunk.lane.stream)
        return suspects

    def _run_from_host(self, images: Array, outputs: tuple[str, ...], exact: bool = False) -> dict[str, Any]:
        results = {name: self._memory.array(shape) for name, shape in self._shapes(images.shape, outputs).items()}
        self._memory.limit = sum(array.nbytes for array in results.values())

        def feed(chunk: _Pending) -> None:
            staged = chunk.lane.staging("images", chunk.bound.images.shape)
            _copy(images[chunk.first : chunk.first + chunk.images], staged.array, self._threads)
            chunk.bound.images.upload(staged, chunk.lane.stream)

        def fetch(chunk: _Pending) -> None:
            for name, output in chunk.bound.outputs.items():
                output.download(chunk.lane.staging(f"output {name}", output.shape), chunk.lane.stream)

        def collect(chunk: _Pending) -> None:
            for name, output in chunk.bound.outputs.items():
                into = results[name][chunk.first : chunk.first + chunk.images]
                _copy(chunk.lane.staging(f"output {name}", output.shape).array, into, self._threads)

        for index in self._each_chunk(images.shape, outputs, feed, fetch, collect, exact):
            again = self._run_from_host(images[index : index + 1], outputs, exact=True)
            for name, array in again.items():
                results[name][index] = array[0]
        return results

    def _run_on_card(self, images: Any, outputs: tuple[str, ...], exact: bool = False) -> dict[str, Any]:
        from numba import cuda

        with self.card.lane() as lane:
            given = Placed(device_images(self.card, images, self._graph.channels, lane.stream))
            results = self.card.results(self._shapes(given.shape, outputs), lane.stream)
        places = {name: Placed(array) for name, array in results.items()}

        def feed(chunk: _Pending) -> None:
            chunk.bound.images.take(0, given, chunk.first, chunk.images, chunk.lane.stream)

        def fetch(chunk: _Pending) -> None:
            for name, output in chunk.bound.outputs.items():
                if output.array is not results[name]:  # else the steps have written it there
                    places[name].take(chunk.first, output, 0, chunk.images, chunk.lane.stream)

        for index in self._each_chunk(given.shape, outputs, feed, fetch, lambda chunk: None, exact, places):
            again = self._run_on_card(given.array[index : index + 1], outputs, exact=True)
            for name, array in again.items():
                places[name].take(index, Placed(array.memory), 0, 1, cuda.default_stream())
            wait_for(None)
        return {name: DeviceArray(self.card, array) for name, array in results.items()}


_PIECE = 1 << 22  # bytes that one thread copies at a time


def _copy(source: Array, target: Array, threads: int) -> None:
    """Copy an array to another of its shape, on several threads if it is large: one alone does not use the memory's speed."""
    if threads == 1 or source.nbytes <= 2 * _PIECE:
        np.copyto(target, source)
        return
    flat, into = source.reshape(-1), target.reshape(-1)
    step = max(_PIECE // 4, -(-flat.size // threads))
    with ThreadPoolExecutor(threads) as pool:  # NumPy copies without the GIL
        list(pool.map(lambda at: np.copyto(into[at : at + step], flat[at : at + step]), range(0, flat.size, step)))
