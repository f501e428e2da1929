"""What a layer computes: one frozen dataclass for each operator, with its sizes, the tensors that it needs and its output's
shape. The arithmetic itself lives in ``npresnet.kernels``.

Shapes are NHWC without the batch: (h, w, c), or (c,) after global pooling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ..kernels.geometry import window_geometry
from .elementwise import Activation, Add, Divide, LeakyReLU, Maximum, Minimum, Multiply, PReLU, ReLU, Subtract
from .norms import BatchNorm, GroupNorm, LayerNorm, Normalization, Rescale, Scale, UnitNorm
from .operator_base import (
    MOST_CHANNELS,
    MOST_PIXELS,
    MOST_WEIGHTS,
    Padding,
    Pads,
    Shape,
    _Operator,
    check_channels,
    check_sizes,
    check_window,
)

__all__ = [
    "MOST_CHANNELS",
    "MOST_PIXELS",
    "MOST_WEIGHTS",
    "Activation",
    "Add",
    "AveragePool",
    "BatchNorm",
    "Channels",
    "Conv2D",
    "Dense",
    "Divide",
    "Flatten",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNorm",
    "Input",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "Operator",
    "PReLU",
    "Pad",
    "Padding",
    "Pads",
    "ReLU",
    "Rescale",
    "Reshape",
    "Scale",
    "Shape",
    "Softmax",
    "Subtract",
    "UnitNorm",
]


def _windows(
    size: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Height and width after a sliding window, by the kernels' own arithmetic."""
    _, height, width = window_geometry((size[0], size[1]), kernel, stride, padding, dilation)
    return height, width


@dataclass(frozen=True)
class Input(_Operator):
    """What the network is fed: images, float32[n, h, w, channels], or rows of numbers, float32[n, channels].

    size  (height, width) of images where the file fixes both; a network's layers may fit others, too
    maps  whether it is images
    """

    channels: int = 3
    size: tuple[int, int] | None = field(default=None, compare=False)
    maps: bool = True
    kind: ClassVar[str] = "input"

    def __post_init__(self) -> None:
        check_sizes("the number of channels", (self.channels,), 1, MOST_CHANNELS)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Pad(_Operator):
    """A border of zeros, (top, bottom, left, right) pixels wide. A pool that follows sees them as numbers."""

    pads: Pads
    kind: ClassVar[str] = "pad"

    def __post_init__(self) -> None:
        check_sizes("the border", self.pads, 0, MOST_PIXELS)

    def output_shape(self, *inputs: Shape) -> Shape:
        h, w, c = inputs[0]
        return h + self.pads[0] + self.pads[1], w + self.pads[2] + self.pads[3], c

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Channels(_Operator):
    """Some of the channels in another order: channel i of the result is channel ``order[i]``. RGB to BGR, say."""

    order: tuple[int, ...]
    kind: ClassVar[str] = "channels"

    def __post_init__(self) -> None:
        check_sizes("the number of channels", (len(self.order),), 1, MOST_CHANNELS)
        check_sizes("the order of channels", self.order, 0, MOST_CHANNELS - 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        if max(self.order) >= inputs[0][-1]:
            raise ValueError(f"the input has {inputs[0][-1]} channels, but channel {max(self.order)} is taken (from 0)")
        return *inputs[0][:-1], len(self.order)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Conv2D(_Operator):
    """Convolution from ``channels_in`` to ``channels``; kernel, stride, dilation as (vertical, horizontal).

    groups  how many equal parts the channels are split into, each convolved on its own: output channel o reads the
            input channels of part o // (channels / groups). ``channels_in`` of them make a depthwise convolution.
    """

    channels_in: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    bias: bool = True
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        check_sizes("the number of channels", (self.channels_in, self.channels, self.groups), 1, MOST_CHANNELS)
        check_window(self.kernel, self.stride, self.padding, self.dilation)
        if self.channels_in % self.groups or self.channels % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.channels_in} and {self.channels} channels")

    @property
    def depthwise(self) -> bool:
        """Whether each input channel is convolved by itself."""
        return self.groups == self.channels_in

    def tensors(self) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (*self.kernel, self.channels_in // self.groups, self.channels)}
        return {**kernel, "bias": (self.channels,)} if self.bias else kernel

    def output_shape(self, *inputs: Shape) -> Shape:
        check_channels(inputs[0], self.channels_in)
        return *_windows(inputs[0], self.kernel, self.stride, self.padding, self.dilation), self.channels

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output) * math.prod(self.kernel) * self.channels_in // self.groups


@dataclass(frozen=True)
class Softmax(_Operator):
    """exp(x) over its sum, along the channels."""

    kind: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class MaxPool(_Operator):
    """Largest value in each window; padding never wins."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    kind: ClassVar[str] = "maxpool"
    drops_nan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_window(self.window, self.stride, self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        return *_windows(inputs[0], self.window, self.stride, self.padding), inputs[0][2]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * (math.prod(self.window) - 1)


@dataclass(frozen=True)
class AveragePool(_Operator):
    """Mean of each window; padding does not count, neither in the sum nor in the number."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    kind: ClassVar[str] = "avgpool"

    def __post_init__(self) -> None:
        check_window(self.window, self.stride, self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        return *_windows(inputs[0], self.window, self.stride, self.padding), inputs[0][2]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * math.prod(self.window)


@dataclass(frozen=True)
class _GlobalPool(_Operator):
    keep_dims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = inputs[0][2]
        return (1, 1, channels) if self.keep_dims else (channels,)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[0])


@dataclass(frozen=True)
class GlobalAveragePool(_GlobalPool):
    """Mean over all pixels: (h, w, c) to (c,), or to (1, 1, c) with ``keep_dims``."""

    kind: ClassVar[str] = "avgpool"


@dataclass(frozen=True)
class GlobalMaxPool(_GlobalPool):
    """Largest value over all pixels: (h, w, c) to (c,), or to (1, 1, c) with ``keep_dims``."""

    kind: ClassVar[str] = "maxpool"


@dataclass(frozen=True)
class Flatten(_Operator):
    """All numbers of a feature map in a row: (h, w, c) to (h * w * c,), channels changing fastest."""

    kind: ClassVar[str] = "flatten"
    reshapes: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return (math.prod(inputs[0]),)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Reshape(_Operator):
    """The same numbers, in the same order, in another shape: (c,) to (1, 1, c), say."""

    shape: Shape
    kind: ClassVar[str] = "reshape"
    reshapes: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        if math.prod(inputs[0]) != math.prod(self.shape):
            raise ValueError(f"the input of shape {inputs[0]} does not fill the shape {self.shape}")
        return self.shape

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Dense(_Operator):
    """Matrix product, with a bias or without, and softmax over the result if asked for."""

    channels_in: int
    channels: int
    softmax: bool
    bias: bool = True
    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        check_sizes("the number of units", (self.channels_in, self.channels), 1, MOST_WEIGHTS)

    def tensors(self) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (self.channels_in, self.channels)}
        return {**kernel, "bias": (self.channels,)} if self.bias else kernel

    def output_shape(self, *inputs: Shape) -> Shape:
        check_channels(inputs[0], self.channels_in)
        return (*inputs[0][:-1], self.channels)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * self.channels_in * math.prod(output)


Operator = (
    Input | Pad | Channels | Conv2D | BatchNorm | Scale | Rescale | Normalization | ReLU | LeakyReLU | PReLU | Activation
    | LayerNorm | GroupNorm | UnitNorm | Softmax | Add
    | Subtract | Multiply | Divide | Maximum | Minimum | MaxPool | AveragePool | GlobalAveragePool | GlobalMaxPool | Flatten | Reshape | Dense
)  # fmt: skip
