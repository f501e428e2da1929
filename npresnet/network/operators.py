"""What a layer computes: one frozen dataclass for each operator, with its sizes, the tensors that it needs and its output's
shape. The arithmetic itself lives in ``npresnet.kernels``.

Shapes are NHWC without the batch: (h, w, c), or (c,) after global pooling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..kernels.geometry import window_geometry

__all__ = [
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
    "Input",
    "LeakyReLU",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "Operator",
    "Pad",
    "ReLU",
    "Rescale",
    "Reshape",
    "Scale",
    "Softmax",
    "Subtract",
]


Shape = tuple[int, ...]
Pads = tuple[int, int, int, int]  # top, bottom, left, right
Padding = Literal["same", "valid"] | Pads

MOST_CHANNELS = 2**20
MOST_WEIGHTS = 2**40  # numbers in one tensor, or in an output of one image
MOST_PIXELS = 2**15  # of a window, a stride, a border
"""Limits of sizes: far beyond any network, and small enough that products of a few stay within 64 bits."""


class _Operator:
    """What all operators have in common, and what others ask of them in place of a list of classes.

    kind         one word for it
    pointwise    an activation: each number by itself, without tensors
    per_channel  multiplies each channel by a number and adds one
    commutative  of two inputs, in either order
    epilogue     can be done on a tile of another operator's result, as part of the same step: before that is stored, as
                 ``slope_and_floor`` says, or right after, by a function
    drops_nan    NaN in its input need not show in its output
    reshapes     the same numbers, in memory too, in another shape
    """

    kind: ClassVar[str]
    pointwise: ClassVar[bool] = False
    per_channel: ClassVar[bool] = False
    commutative: ClassVar[bool] = False
    epilogue: ClassVar[bool] = False
    drops_nan: ClassVar[bool] = False
    reshapes: ClassVar[bool] = False

    def tensors(self) -> dict[str, Shape]:
        """The weights that this operator needs: {role: shape}, in the order in which Keras stores them."""
        return {}

    def slope_and_floor(self) -> tuple[float, float]:
        """(slope, floor) of an activation that can be an epilogue (``kernels/steps/epilogue.py``): x where that is not below
        zero, else the larger of x * slope and floor."""
        raise NotImplementedError

    def output_shape(self, *inputs: Shape) -> Shape:
        """The shape that comes out, without the batch. Raises ValueError where the inputs do not fit."""
        return inputs[0]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Floating-point operations for one image; a multiply-add counts as two."""
        return math.prod(output)


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


def _check_sizes(what: str, sizes: Sequence[int], least: int, most: int) -> None:
    """Raises ValueError where one of ``sizes`` is out of range: no kernel is ever given such."""
    if any(isinstance(size, bool) or not isinstance(size, int) or not least <= size <= most for size in sizes):
        raise ValueError(f"{what} is {tuple(sizes)}; it must be whole numbers from {least} to {most}")


def _check_window(
    kernel: Sequence[int], stride: Sequence[int], padding: Padding, dilation: Sequence[int] = (1, 1)
) -> None:
    """Raises ValueError for a window that no kernel can run."""
    for what, sizes in (("the window", kernel), ("its stride", stride), ("its dilation", dilation)):
        _check_sizes(what, sizes, 1, MOST_PIXELS)
    if padding not in ("same", "valid"):
        _check_sizes("its padding", padding, 0, MOST_PIXELS)  # type: ignore[arg-type]


def _check_channels(shape: Shape, channels: int) -> None:
    if shape[-1] != channels:
        raise ValueError(f"the input has {shape[-1]} channels but the weights take {channels}")


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
        _check_sizes("the number of channels", (self.channels,), 1, MOST_CHANNELS)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


@dataclass(frozen=True)
class Pad(_Operator):
    """A border of zeros, (top, bottom, left, right) pixels wide. A pool that follows sees them as numbers."""

    pads: Pads
    kind: ClassVar[str] = "pad"

    def __post_init__(self) -> None:
        _check_sizes("the border", self.pads, 0, MOST_PIXELS)

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
        _check_sizes("the number of channels", (len(self.order),), 1, MOST_CHANNELS)
        _check_sizes("the order of channels", self.order, 0, MOST_CHANNELS - 1)

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
        _check_sizes("the number of channels", (self.channels_in, self.channels, self.groups), 1, MOST_CHANNELS)
        _check_window(self.kernel, self.stride, self.padding, self.dilation)
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
        _check_channels(inputs[0], self.channels_in)
        return *_windows(inputs[0], self.kernel, self.stride, self.padding, self.dilation), self.channels

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output) * math.prod(self.kernel) * self.channels_in // self.groups


@dataclass(frozen=True)
class BatchNorm(_Operator):
    """Batch normalisation with stored statistics; ``epsilon`` is added to the variance.

    scale, center  whether there is a gamma, a beta
    """

    channels: int
    epsilon: float
    scale: bool = True
    center: bool = True
    kind: ClassVar[str] = "batchnorm"
    per_channel: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        roles = {"gamma": self.scale, "beta": self.center, "mean": True, "variance": True}
        return {role: (self.channels,) for role, there in roles.items() if there}

    def output_shape(self, *inputs: Shape) -> Shape:
        _check_channels(inputs[0], self.channels)
        return inputs[0]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class Scale(_Operator):
    """x * gamma + beta, one number of each per channel: Caffe's Scale layer, kept apart from the batch-norm."""

    channels: int
    kind: ClassVar[str] = "scale"
    per_channel: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        return {"gamma": (self.channels,), "beta": (self.channels,)}

    def output_shape(self, *inputs: Shape) -> Shape:
        _check_channels(inputs[0], self.channels)
        return inputs[0]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class Rescale(_Operator):
    """x * factor + offset with constants that are part of the network: one of each, or one per channel."""

    factor: tuple[float, ...]
    offset: tuple[float, ...]
    kind: ClassVar[str] = "rescale"
    per_channel: ClassVar[bool] = True

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class Normalization(_Operator):
    """(x - mean) / sqrt(variance), with both stored, one per channel: Keras's layer for input data.

    The deviation is at least 1e-7 (Keras's ``epsilon()``).
    """

    channels: int
    kind: ClassVar[str] = "normalize"
    per_channel: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        return {"mean": (self.channels,), "variance": (self.channels,)}

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class ReLU(_Operator):
    """max(x, 0)."""

    kind: ClassVar[str] = "relu"
    pointwise: ClassVar[bool] = True
    epilogue: ClassVar[bool] = True

    def slope_and_floor(self) -> tuple[float, float]:
        return 1.0, 0.0


@dataclass(frozen=True)
class LeakyReLU(_Operator):
    """x where that is above zero, else x * slope."""

    slope: float
    kind: ClassVar[str] = "leaky_relu"
    pointwise: ClassVar[bool] = True
    epilogue: ClassVar[bool] = True

    def slope_and_floor(self) -> tuple[float, float]:
        return self.slope, -math.inf


@dataclass(frozen=True)
class Activation(_Operator):
    """Any other function of each number by itself.

    function   its name in the table ``kernels/functions.py``
    constants  of the function, where it has some
    """

    function: str
    constants: tuple[float, ...] = ()
    pointwise: ClassVar[bool] = True
    epilogue: ClassVar[bool] = True

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.function


@dataclass(frozen=True)
class Softmax(_Operator):
    """exp(x) over its sum, along the channels."""

    kind: ClassVar[str] = "softmax"


def joined_shape(*inputs: Shape) -> Shape:
    """The shape of two maps joined number by number: shapes are aligned at their ends, and what one has but once, a row, a column, a
    channel, goes with all of the other."""
    rank = max(map(len, inputs))
    aligned = [(1,) * (rank - len(shape)) + tuple(shape) for shape in inputs]
    if any(len({*sizes} - {1}) > 1 for sizes in zip(*aligned, strict=True)) or (rank > 3 and len({*inputs}) > 1):
        raise ValueError(
            f"the two inputs have shapes {inputs[0]} and {inputs[1]}; from the last size on, they must be equal, or 1 in one of them"
        )
    return tuple(max(sizes, key=lambda size: size != 1) for sizes in zip(*aligned, strict=True))


@dataclass(frozen=True)
class _Join(_Operator):
    def output_shape(self, *inputs: Shape) -> Shape:
        return joined_shape(*inputs)


@dataclass(frozen=True)
class Add(_Join):
    """Sum of two feature maps."""

    kind: ClassVar[str] = "add"
    commutative: ClassVar[bool] = True


@dataclass(frozen=True)
class Subtract(_Join):
    """The first of two feature maps less the second."""

    kind: ClassVar[str] = "subtract"


@dataclass(frozen=True)
class Multiply(_Join):
    """Product of two feature maps, one of which may be a gate: one number per channel or per pixel."""

    kind: ClassVar[str] = "multiply"
    commutative: ClassVar[bool] = True


@dataclass(frozen=True)
class Divide(_Join):
    """The first of two feature maps over the second."""

    kind: ClassVar[str] = "divide"


@dataclass(frozen=True)
class Maximum(_Join):
    """The larger of two numbers; NaN if either is that."""

    kind: ClassVar[str] = "maximum"
    commutative: ClassVar[bool] = True


@dataclass(frozen=True)
class Minimum(_Join):
    """The smaller of two numbers; NaN if either is that."""

    kind: ClassVar[str] = "minimum"
    commutative: ClassVar[bool] = True


@dataclass(frozen=True)
class MaxPool(_Operator):
    """Largest value in each window; padding never wins."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    kind: ClassVar[str] = "maxpool"
    drops_nan: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_window(self.window, self.stride, self.padding)

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
        _check_window(self.window, self.stride, self.padding)

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
        _check_sizes("the number of units", (self.channels_in, self.channels), 1, MOST_WEIGHTS)

    def tensors(self) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (self.channels_in, self.channels)}
        return {**kernel, "bias": (self.channels,)} if self.bias else kernel

    def output_shape(self, *inputs: Shape) -> Shape:
        _check_channels(inputs[0], self.channels_in)
        return (*inputs[0][:-1], self.channels)

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * self.channels_in * math.prod(output)


Operator = (
    Input | Pad | Channels | Conv2D | BatchNorm | Scale | Rescale | Normalization | ReLU | LeakyReLU | Activation | Softmax | Add
    | Subtract | Multiply | Divide | Maximum | Minimum | MaxPool | AveragePool | GlobalAveragePool | GlobalMaxPool | Flatten | Reshape | Dense
)  # fmt: skip
