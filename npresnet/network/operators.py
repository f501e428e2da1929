"""What a layer computes: one frozen dataclass for each operator, with its sizes, the tensors that it needs and its output's
shape. The arithmetic itself lives in ``npresnet.kernels``.

Those without weights that change shapes are in ``shape_operators.py``. Shapes are NHWC without the batch: (h, w, c), or (c,)
after global pooling; any other rank after a reshape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..kernels.geometry import Window, transposed_window
from .elementwise import Activation, Add, Divide, LeakyReLU, Maximum, Minimum, Multiply, PReLU, ReLU, Subtract
from .norms import BatchNorm, GroupNorm, LayerNorm, Normalization, Rescale, Scale, UnitNorm
from .operator_base import (
    MOST_CHANNELS,
    MOST_PIXELS,
    MOST_WEIGHTS,
    OperatorBase,
    Padding,
    Pads,
    Shape,
    after_window,
    check_channels,
    check_map,
    check_sizes,
    check_window,
    window_leaves_out,
)
from .shape_operators import Channels, Concatenate, Crop, Flatten, Pad, Reshape, Resize, UpSample

__all__ = [
    "MOST_CHANNELS",
    "MOST_PIXELS",
    "MOST_WEIGHTS",
    "Activation",
    "Add",
    "AveragePool",
    "BatchNorm",
    "ChannelReduce",
    "Channels",
    "Concatenate",
    "Conv2D",
    "Conv2DTranspose",
    "Crop",
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
    "Resize",
    "Scale",
    "Shape",
    "Softmax",
    "Subtract",
    "UnitNorm",
    "UpSample",
]


@dataclass(frozen=True)
class Input(OperatorBase):
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
class Conv2D(OperatorBase):
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
        return *after_window(inputs[0], self.kernel, self.stride, self.padding, self.dilation), self.channels

    def leaves_out(self, shape: Shape) -> bool:
        return window_leaves_out(shape, self.kernel, self.stride, self.padding, self.dilation)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output) * math.prod(self.kernel) * self.channels_in // self.groups


@dataclass(frozen=True)
class Conv2DTranspose(OperatorBase):
    """Transposed convolution from ``channels_in`` to ``channels``: larger maps. Its kernel is (h, w, channels, channels_in).

    output_padding  how many more rows and columns there are than the windows need; None: as many as ``padding`` says
    """

    channels_in: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Literal["same", "valid"] = "valid"
    output_padding: tuple[int, int] | None = None
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True
    kind: ClassVar[str] = "conv transpose"

    def __post_init__(self) -> None:
        check_sizes("the number of channels", (self.channels_in, self.channels), 1, MOST_CHANNELS)
        check_window(self.kernel, self.stride, self.padding, self.dilation)
        check_sizes("the output's padding", self.output_padding or (), 0, MOST_PIXELS)

    def tensors(self) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (*self.kernel, self.channels, self.channels_in)}
        return {**kernel, "bias": (self.channels,)} if self.bias else kernel

    def window(self, size: tuple[int, int]) -> tuple[int, int, Window]:
        """(height, width, window) of what comes out, as ``kernels.geometry.transposed_window``."""
        return transposed_window(size, self.kernel, self.stride, self.padding, self.output_padding, self.dilation)

    def output_shape(self, *inputs: Shape) -> Shape:
        check_map(inputs[0])
        check_channels(inputs[0], self.channels_in)
        height, width, _ = self.window((inputs[0][0], inputs[0][1]))
        return height, width, self.channels

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(inputs[0]) * math.prod(self.kernel) * self.channels


@dataclass(frozen=True)
class Softmax(OperatorBase):
    """exp(x) over its sum, along the channels."""

    kind: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class MaxPool(OperatorBase):
    """Largest value in each window; padding never wins."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    kind: ClassVar[str] = "maxpool"
    drops_nan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_window(self.window, self.stride, self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        return *after_window(inputs[0], self.window, self.stride, self.padding), inputs[0][2]

    def leaves_out(self, shape: Shape) -> bool:
        return window_leaves_out(shape, self.window, self.stride, self.padding)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * (math.prod(self.window) - 1)


@dataclass(frozen=True)
class AveragePool(OperatorBase):
    """Mean of each window; padding does not count, neither in the sum nor in the number."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    kind: ClassVar[str] = "avgpool"

    def __post_init__(self) -> None:
        check_window(self.window, self.stride, self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        return *after_window(inputs[0], self.window, self.stride, self.padding), inputs[0][2]

    def leaves_out(self, shape: Shape) -> bool:
        return window_leaves_out(shape, self.window, self.stride, self.padding)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * math.prod(self.window)


@dataclass(frozen=True)
class _GlobalPool(OperatorBase):
    keep_dims: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        *pixels, channels = inputs[0]
        if not pixels:
            raise ValueError(f"the input has shape {inputs[0]}; it must have pixels to pool, (..., channels)")
        return (*(1 for _ in pixels), channels) if self.keep_dims else (channels,)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[0])


@dataclass(frozen=True)
class GlobalAveragePool(_GlobalPool):
    """Mean over all pixels: (..., c) to (c,), or to (1, ..., 1, c) with ``keep_dims``."""

    kind: ClassVar[str] = "avgpool"


@dataclass(frozen=True)
class GlobalMaxPool(_GlobalPool):
    """Largest value over all pixels: (..., c) to (c,), or to (1, ..., 1, c) with ``keep_dims``."""

    kind: ClassVar[str] = "maxpool"


@dataclass(frozen=True)
class ChannelReduce(OperatorBase):
    """Mean or largest value over the channels of each pixel: (h, w, c) to (h, w, 1)."""

    function: Literal["mean", "max"]
    kind: ClassVar[str] = "channel_reduce"

    def output_shape(self, *inputs: Shape) -> Shape:
        return *inputs[0][:-1], 1

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[0])


@dataclass(frozen=True)
class Dense(OperatorBase):
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
    Input | Pad | Channels | Conv2D | Conv2DTranspose | BatchNorm | Scale | Rescale | Normalization | ReLU | LeakyReLU | PReLU
    | Activation | LayerNorm | GroupNorm | UnitNorm | Softmax | Add | Subtract | Multiply | Divide | Maximum | Minimum | Concatenate
    | MaxPool | AveragePool | GlobalAveragePool | GlobalMaxPool | ChannelReduce | Crop | Resize | UpSample | Flatten | Reshape
    | Dense
)  # fmt: skip
