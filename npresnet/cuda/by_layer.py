"""A network on the card layer by layer: one kernel per Keras layer, nothing fused, the textbook path (``"im2col"``).

The twin of ``npresnet/cpu/by_layer.py``, with the kernels of ``npresnet.kernels.cuda``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph, Layer
from ..network.operators import (
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Input,
    MaxPool,
    Multiply,
    Normalization,
    Operator,
    Pad,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    Shape,
    Sigmoid,
    Softmax,
)
from ..plan.steps import PlanStep
from .card import Card
from .program import Layout, Program, Queue, Region, Step, View

__all__ = ["Tensors", "layer_program"]

Array = npt.NDArray[Any]


class Tensors:
    """The weights of each layer as its kernel takes them, brought to the card once, when first needed."""

    def __init__(self, card: Card, graph: Graph, weights: Mapping[str, Mapping[str, Array]]) -> None:
        self._card, self._graph, self._weights = card, graph, weights
        self._made: dict[str, tuple[Any, ...]] = {}

    def of(self, layer: Layer) -> tuple[Any, ...]:
        """The layer's arrays on the card, which must be the current one. Raises DeviceError."""
        if layer.name not in self._made:
            arrays = _host_tensors(layer.operator, self._weights.get(layer.name, {}))
            self._made[layer.name] = tuple(self._card.upload(array) for array in arrays)
        return self._made[layer.name]


def _host_tensors(operator: Operator, w: Mapping[str, Array]) -> tuple[Array, ...]:
    """What a layer's kernel needs beside its inputs, float32; a missing bias is zeros."""
    from ..kernels.batchnorm import scale_and_shift

    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    match operator:
        case Conv2D(channels=channels) | Dense(channels=channels):
            return w["kernel"], w.get("bias", np.zeros(channels, np.float32))
        case BatchNorm(epsilon=epsilon):
            scale, shift = scale_and_shift(w.get("gamma"), w.get("beta"), w["mean"], w["variance"], epsilon)
            return scale.astype(np.float32), shift.astype(np.float32)
        case Scale():
            return w["gamma"], w["beta"]
        case Rescale(factor, offset):
            return np.array(factor, np.float32), np.array(offset, np.float32)
        case Normalization():  # in two steps, as on the CPU: subtract, then divide
            from ..plan.folding import deviation

            return one, -w["mean"], 1 / deviation(w["variance"]), zero
    return ()


def _queue(operator: Operator, inputs: Sequence[Any], tensors: Sequence[Any], out: Any, cols: Any) -> Queue:
    """The function that queues one layer on a stream, from arrays on the card into ``out``."""
    from ..kernels import cuda as k

    def rows(array: Any) -> Any:
        channels = tuple(array.shape)[-1]
        return array.reshape(array.size // channels, channels)

    def maps(array: Any) -> Any:
        return array if len(array.shape) == 4 else array.reshape(array.shape[0], 1, 1, array.size // array.shape[0])

    x = inputs[0]
    match operator:
        case Pad(pads):
            return lambda stream: k.pad_cuda(x, pads, out=out, stream=stream)
        case Conv2D(stride=stride, padding=padding, groups=groups, dilation=dilation):
            options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "out": out}
            if groups > 1:
                return lambda stream: k.grouped_conv2d_cuda(x, *tensors, groups=groups, stream=stream, **options)
            return lambda stream: k.conv2d_cuda_im2col(x, *tensors, cols=cols, stream=stream, **options)
        case BatchNorm() | Scale() | Rescale():
            a, b = maps(x), maps(out)
            return lambda stream: k.scale_cuda(a, *tensors, out=b, stream=stream)
        case Normalization():
            a, b = maps(x), maps(out)

            def normalize(stream: Any) -> None:
                k.scale_cuda(a, *tensors[:2], out=b, stream=stream)
                k.scale_cuda(b, *tensors[2:], out=b, stream=stream)

            return normalize
        case ReLU():
            a, b = maps(x), maps(out)
            return lambda stream: k.relu_cuda(a, out=b, stream=stream)
        case Sigmoid():
            return lambda stream: k.sigmoid_cuda(x, out=out, stream=stream)
        case Softmax():
            a, b = rows(x), rows(out)
            return lambda stream: k.softmax_cuda(a, out=b, stream=stream)
        case Add():
            a, b, c = maps(x), maps(inputs[1]), maps(out)
            return lambda stream: k.add_cuda(a, b, out=c, stream=stream)
        case Multiply():
            a, b = (maps(array) for array in sorted(inputs, key=lambda array: array.size, reverse=True))
            c = maps(out)
            return lambda stream: k.multiply_cuda(a, b, out=c, stream=stream)
        case MaxPool(window, stride, padding):
            return lambda stream: k.maxpool_cuda(x, window, stride=stride, padding=padding, out=out, stream=stream)
        case AveragePool(window, stride, padding):
            return lambda stream: k.avgpool_cuda(x, window, stride=stride, padding=padding, out=out, stream=stream)
        case GlobalAveragePool():
            a = rows(out)
            return lambda stream: k.global_avgpool_cuda(x, out=a, stream=stream)
        case GlobalMaxPool():
            a = rows(out)
            return lambda stream: k.global_maxpool_cuda(x, out=a, stream=stream)
        case Dense():
            a, b = rows(x), rows(out)

            def dense(stream: Any) -> None:
                k.dense_cuda(a, *tensors, out=b, stream=stream)
                if operator.softmax:
                    k.softmax_cuda(b, out=b, stream=stream)

            return dense
    raise AssertionError(operator)


def _workspace(operator: Operator, x: Shape) -> Shape | None:
    """The shape of the matrix of patches that a layer needs beside its output, or None."""
    from ..kernels.cuda import workspace_rows

    if not isinstance(operator, Conv2D) or operator.groups > 1:
        return None
    rows = workspace_rows(x, operator.kernel, operator.stride, operator.padding, operator.dilation)
    return (rows, math.prod(operator.kernel) * operator.channels_in) if rows else None


def layer_step(
    layer: Layer, inputs: Sequence[Region], tensors: Tensors, layout: Layout, at: int, shape: Shape
) -> tuple[Step | None, Region]:
    """One layer by its own kernel, as step number ``at``, and its output of ``shape``; no step for what only looks at the
    same numbers in another shape."""
    if isinstance(layer.operator, Flatten | Reshape):
        return None, inputs[0].reshaped(shape)
    out = layout.new(at, shape)
    wanted = _workspace(layer.operator, inputs[0].shape)
    cols = layout.new(at, wanted) if wanted else None
    flop = layer.operator.flop([x.shape[1:] for x in inputs], shape[1:])
    what = PlanStep((layer.name,), "im2col", layer.inputs, shape[1:], layer.name, flop)
    bind = _binder(layer, inputs, tensors.of(layer), out, cols)
    return Step(what, out, bind), out


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
    steps: list[Step] = []
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


def _looked_at(layer: Layer, algorithm: str, output: Region) -> Step:
    """A step that does nothing, of a layer whose output is there without one."""
    what = PlanStep((layer.name,), algorithm, layer.inputs, output.shape[1:], layer.name)
    return Step(what, output, lambda view: lambda stream: None)


def _binder(layer: Layer, inputs: Sequence[Region], tensors: Sequence[Any], out: Region, cols: Region | None) -> Any:
    def bind(view: View) -> Queue:
        return _queue(layer.operator, [view(x) for x in inputs], tensors, view(out), view(cols) if cols else None)

    return bind
