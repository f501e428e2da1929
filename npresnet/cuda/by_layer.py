"""A network on the card layer by layer: one kernel per Keras layer, nothing fused, the textbook path (``"im2col"``).

The twin of ``npresnet/cpu/by_layer.py``, with the kernels of ``npresnet.kernels.cuda``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy.typing as npt

from ..network.graph import Graph, Layer
from ..network.operators import Conv2D, Input, Operator, Shape
from ..plan.layer_calls import calls
from ..plan.steps import PlanStep
from .card import Card
from .program import Layout, Program, Queue, QueuedStep, Region, View

__all__ = ["Tensors", "layer_program"]

Array = npt.NDArray[Any]


class Tensors:
    """The weights of each layer as its kernel takes them, brought to the card once, when first needed."""

    def __init__(self, card: Card, graph: Graph, weights: Mapping[str, Mapping[str, Array]]) -> None:
        self._card, self._graph, self._weights = card, graph, weights
        self._made: dict[str, list[list[Any]]] = {}

    def of(self, layer: Layer) -> list[list[Any]]:
        """The arrays on the card, which must be the current one, for each of the layer's calls. Raises DeviceError."""
        if layer.name not in self._made:
            weights = self._weights.get(layer.name, {})
            needed = [call.arrays(layer.operator, weights) for call in calls(layer.operator)]
            self._made[layer.name] = [[self._card.upload(array) for array in arrays] for arrays in needed]
        return self._made[layer.name]


def _queue(operator: Operator, inputs: Sequence[Any], tensors: Sequence[Sequence[Any]], out: Any, cols: Any) -> Queue:
    """The function that queues one layer on a stream, from arrays on the card into ``out``."""
    from ..kernels import cuda as k

    launches: list[Callable[..., Any]] = []
    for call, arrays in zip(calls(operator), tensors, strict=True):
        options = call.options(operator) | ({} if cols is None else {"cols": cols})
        to = (call.result or call.view)(out)
        kernel = getattr(k, f"{call.kernel}_cuda")
        launches.append(partial(kernel, *map(call.view, inputs), *arrays, **options, out=to))
        inputs = [out]  # of the next call, which works in place

    def queue(stream: Any) -> None:
        for launch in launches:
            launch(stream=stream)

    return queue


def _workspace(operator: Operator, x: Shape) -> Shape | None:
    """The shape of the matrix of patches that a layer needs beside its output, or None."""
    from ..kernels.cuda import workspace_rows

    if not isinstance(operator, Conv2D) or operator.groups > 1:
        return None
    rows = workspace_rows(x, operator.kernel, operator.stride, operator.padding, operator.dilation)
    return (rows, math.prod(operator.kernel) * operator.channels_in) if rows else None


def layer_step(
    layer: Layer, inputs: Sequence[Region], tensors: Tensors, layout: Layout, at: int, shape: Shape
) -> tuple[QueuedStep | None, Region]:
    """One layer by its own kernel, as step number ``at``, and its output of ``shape``; no step for what only looks at the
    same numbers in another shape."""
    if layer.operator.reshapes:
        return None, inputs[0].reshaped(shape)
    out = layout.new(at, shape)
    wanted = _workspace(layer.operator, inputs[0].shape)
    cols = layout.new(at, wanted) if wanted else None
    flop = layer.operator.flop([x.shape[1:] for x in inputs], shape[1:])
    what = PlanStep((layer.name,), "im2col", layer.inputs, shape[1:], layer.name, flop)
    bind = _binder(layer, inputs, tensors.of(layer), out, cols)
    return QueuedStep(what, out, bind), out


def layer_program(
    graph: Graph, tensors: Tensors, batch: tuple[int, int, int], outputs: Sequence[str], every: bool = False
) -> Program:
    """The layers that ``outputs`` need, in order, for images of ``batch`` = (n, h, w); the current card gets the weights.

    every  give every layer a step of its own, the input too, for those who want to look at each

    Raises UsageError for unknown outputs or images that are too small; DeviceError where the weights do not fit.
    """
    n, height, width = batch
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(height, width, outputs)
    layout = Layout()
    where: dict[str, Region] = {}
    steps: list[QueuedStep] = []
    for layer in layers:
        at, shape = len(steps), (n, *shapes[layer.name])
        if isinstance(layer.operator, Input):
            where[layer.name] = images = layout.new(0, shape)
            if every:
                steps.append(_looked_at(layer, "input", images))
            continue
        inputs = [layout.use(where[name], at) for name in layer.inputs]
        step, where[layer.name] = layer_step(layer, inputs, tensors, layout, at, shape)
        if step is not None:
            steps.append(step)
        elif every:
            steps.append(_looked_at(layer, "view", where[layer.name]))
    for name in outputs:
        layout.use(where[name], len(steps))
    return Program(images, {name: where[name] for name in outputs}, steps, layout.bytes())


def _looked_at(layer: Layer, algorithm: str, output: Region) -> QueuedStep:
    """A step that does nothing, of a layer whose output is there without one."""
    what = PlanStep((layer.name,), algorithm, layer.inputs, output.shape[1:], layer.name)
    return QueuedStep(what, output, lambda view: lambda stream: None)


def _binder(
    layer: Layer, inputs: Sequence[Region], tensors: Sequence[Sequence[Any]], out: Region, cols: Region | None
) -> Any:
    def bind(view: View) -> Queue:
        return _queue(layer.operator, [view(x) for x in inputs], tensors, view(out), view(cols) if cols else None)

    return bind
