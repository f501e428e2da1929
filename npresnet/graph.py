"""A network as data: named layers in an order in which they can run, and what each one needs and makes.

A ``Graph`` is what the rest of the package agrees on. The family table (``architecture.py``) builds one, weights are
matched to it by name and shape, the engine runs it, and verification compares it layer by layer. Operators are plain
frozen dataclasses; the arithmetic itself lives in ``npresnet.kernels``.

Shapes are NHWC without the batch inside a graph: (h, w, c), or (c,) after global pooling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from .errors import UsageError

__all__ = [
    "Add",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "GlobalAveragePool",
    "Graph",
    "Input",
    "Layer",
    "MaxPool",
    "Operator",
    "Pad",
    "ReLU",
]

Shape = tuple[int, ...]
Padding = Literal["same", "valid"]


class _Operator:
    """What all operators have in common."""

    kind: ClassVar[str]

    def tensors(self) -> dict[str, Shape]:
        """The weights that this operator needs: {role: shape}, in the order in which Keras stores them."""
        return {}

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape that comes out, without the batch. Raises ValueError where the inputs do not fit."""
        return inputs[0]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Floating-point operations for one image; a multiply-add counts as two."""
        return math.prod(output)


def _windows(size: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: Padding) -> tuple[int, int]:
    """Height and width after a sliding window, by the kernels' own arithmetic."""
    from .kernels.geometry import window_geometry  # here, because the kernels import Numba

    _, height, width = window_geometry((size[0], size[1]), kernel, stride, padding)
    return height, width


@dataclass(frozen=True)
class Input(_Operator):
    """The images: float32[n, h, w, channels]."""

    channels: int = 3
    kind: ClassVar[str] = "input"

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Pad(_Operator):
    """A border of zeros, (top, bottom, left, right) pixels wide."""

    pads: tuple[int, int, int, int]
    kind: ClassVar[str] = "pad"

    def output_shape(self, *inputs: Shape) -> Shape:
        h, w, c = inputs[0]
        return h + self.pads[0] + self.pads[1], w + self.pads[2] + self.pads[3], c

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Conv2D(_Operator):
    """Convolution from ``channels_in`` to ``channels``, kernel and stride as (vertical, horizontal)."""

    channels_in: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    bias: bool = True
    kind: ClassVar[str] = "conv"

    def tensors(self) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (*self.kernel, self.channels_in, self.channels)}
        return {**kernel, "bias": (self.channels,)} if self.bias else kernel

    def output_shape(self, *inputs: Shape) -> Shape:
        if inputs[0][2] != self.channels_in:
            raise ValueError(f"the input has {inputs[0][2]} channels but the kernel takes {self.channels_in}")
        return *_windows(inputs[0], self.kernel, self.stride, self.padding), self.channels

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output) * math.prod(self.kernel) * self.channels_in


@dataclass(frozen=True)
class BatchNorm(_Operator):
    """Batch normalisation with stored statistics; ``epsilon`` is added to the variance."""

    channels: int
    epsilon: float
    kind: ClassVar[str] = "batchnorm"

    def tensors(self) -> dict[str, Shape]:
        return dict.fromkeys(("gamma", "beta", "mean", "variance"), (self.channels,))

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class ReLU(_Operator):
    """max(x, 0)."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True)
class Add(_Operator):
    """Sum of two feature maps of one shape."""

    kind: ClassVar[str] = "add"

    def output_shape(self, *inputs: Shape) -> Shape:
        if inputs[0] != inputs[1]:
            raise ValueError(f"the two inputs have shapes {inputs[0]} and {inputs[1]}; they must be equal")
        return inputs[0]


@dataclass(frozen=True)
class MaxPool(_Operator):
    """Largest value in each window; padding never wins."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    kind: ClassVar[str] = "maxpool"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *_windows(inputs[0], self.window, self.stride, self.padding), inputs[0][2]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * (math.prod(self.window) - 1)


@dataclass(frozen=True)
class GlobalAveragePool(_Operator):
    """Mean over all pixels: (h, w, c) to (c,)."""

    kind: ClassVar[str] = "avgpool"

    def output_shape(self, *inputs: Shape) -> Shape:
        return (inputs[0][2],)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[0])


@dataclass(frozen=True)
class Dense(_Operator):
    """Matrix product with a bias, and softmax over the result if asked for."""

    channels_in: int
    channels: int
    softmax: bool
    kind: ClassVar[str] = "dense"

    def tensors(self) -> dict[str, Shape]:
        return {"kernel": (self.channels_in, self.channels), "bias": (self.channels,)}

    def output_shape(self, *inputs: Shape) -> Shape:
        return (self.channels,)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * self.channels_in * self.channels


Operator = Input | Pad | Conv2D | BatchNorm | ReLU | Add | MaxPool | GlobalAveragePool | Dense


@dataclass(frozen=True)
class Layer:
    """One step of a network: its Keras name, what it does, and the names of the layers that feed it."""

    name: str
    operator: Operator
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """The layers of a network, each after those that feed it; the first is the input.

    features    {"C1": layer name, ...}: the feature maps by their common names
    classifier  the layer whose output is the class probabilities, or None
    """

    layers: tuple[Layer, ...]
    features: Mapping[str, str]
    classifier: str | None = None

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """{layer name: layer}."""
        return {layer.name: layer for layer in self.layers}

    def needed_for(self, outputs: Iterable[str]) -> list[Layer]:
        """The layers that must run to get ``outputs``, in order. Raises UsageError for a name that is not here."""
        wanted = set()
        for name in outputs:
            if name not in self.by_name:
                raise UsageError(
                    f"layer {name!r}: this network has none of that name; `npresnet info WEIGHTS --layers` and "
                    f"`net.layers` list them, from {self.layers[0].name!r} to {self.layers[-1].name!r}"
                )
            wanted.add(name)
        for layer in reversed(self.layers):
            if layer.name in wanted:
                wanted.update(layer.inputs)
        return [layer for layer in self.layers if layer.name in wanted]

    def shapes(self, height: int, width: int) -> dict[str, Shape]:
        """{layer name: output shape without the batch} for images of ``height`` x ``width`` pixels.

        Raises UsageError, with the layer's name, where an image is too small for the network.
        """
        found: dict[str, Shape] = {}
        for layer in self.layers:
            if isinstance(layer.operator, Input):
                found[layer.name] = (height, width, layer.operator.channels)
                continue
            try:
                found[layer.name] = layer.operator.output_shape(*(found[name] for name in layer.inputs))
            except ValueError as error:
                raise UsageError(f"layer {layer.name!r}, for images of {height}x{width} pixels: {error}") from None
        return found
