"""What all operators have in common, and the checks of their sizes.

Shapes are NHWC without the batch: (h, w, c), or (c,) after global pooling; any other rank after a reshape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from ..kernels.geometry import window_geometry

__all__ = [
    "MOST_CHANNELS",
    "MOST_PIXELS",
    "MOST_WEIGHTS",
    "OperatorBase",
    "Padding",
    "Pads",
    "Shape",
    "after_window",
    "as_map",
    "check_channels",
    "check_map",
    "check_sizes",
    "check_window",
    "window_leaves_out",
]

Shape = tuple[int, ...]
Pads = tuple[int, int, int, int]  # top, bottom, left, right
Padding = Literal["same", "valid"] | Pads

MOST_CHANNELS = 2**20
MOST_WEIGHTS = 2**40  # numbers in one tensor, or in an output of one image
MOST_PIXELS = 2**15  # of a window, a stride, a border
"""Limits of sizes: far beyond any network, and small enough that products of a few stay within 64 bits."""


class OperatorBase:
    """What all operators have in common, and what others ask of them in place of a list of classes.

    kind         one word for it
    pointwise    an activation: each number by itself, without tensors
    per_channel  multiplies each channel by a number and adds one
    commutative  of two inputs, in either order
    epilogue     can be done on a tile of another operator's result, as part of the same step: before that is stored, as
                 ``slope_and_floor`` says, or right after, by a function
    drops_nan    NaN that it reads need not show in its output
    divides      by what the map itself has at each pixel, so that small numbers come out large, and their errors with them
    reshapes     the same numbers, in memory too, in another shape
    """

    kind: ClassVar[str]
    pointwise: ClassVar[bool] = False
    per_channel: ClassVar[bool] = False
    commutative: ClassVar[bool] = False
    epilogue: ClassVar[bool] = False
    drops_nan: ClassVar[bool] = False
    divides: ClassVar[bool] = False
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

    def leaves_out(self, shape: Shape) -> bool:
        """Whether there are pixels, or channels, in an input of this shape that it does not read, so that NaN there does not
        show in its output."""
        return False

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Floating-point operations for one image; a multiply-add counts as two."""
        return math.prod(output)


def as_map(shape: Shape) -> tuple[int, int, int]:
    """A shape of any rank as kernels see it, (h, w, channels): the last axis is the channels', the one before the columns',
    all others are rows."""
    return math.prod(shape[:-2]), shape[-2] if len(shape) > 1 else 1, shape[-1]


def check_map(shape: Shape) -> None:
    """Raises ValueError for what is no feature map."""
    if len(shape) != 3:
        raise ValueError(f"the input has shape {shape}; it must be a feature map, (h, w, channels)")


def after_window(
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Height and width after a sliding window, by the kernels' own arithmetic. Raises ValueError where it does not fit."""
    check_map(shape)
    _, height, width = window_geometry((shape[0], shape[1]), kernel, stride, padding, dilation)
    return height, width


def window_leaves_out(
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
) -> bool:
    """Whether a sliding window leaves out pixels of a map: between its taps, between its positions, or after the last one."""
    pads, *counts = window_geometry((shape[0], shape[1]), kernel, stride, padding, dilation)
    axes = zip(shape, pads[::2], counts, kernel, stride, dilation, strict=False)
    return any(_axis_leaves_out(*axis) for axis in axes)


def _axis_leaves_out(size: int, before: int, count: int, kernel: int, stride: int, dilation: int) -> bool:
    """The same of one axis; the first pixel may be left out, too, where the window begins with a gap behind the padding."""
    if dilation == 1 and stride <= kernel:
        return (count - 1) * stride + kernel < before + size
    read = {o * stride + k * dilation - before for o in range(count) for k in range(kernel)}
    return not read.issuperset(range(size))


def check_sizes(what: str, sizes: Sequence[int], least: int, most: int) -> None:
    """Raises ValueError where one of ``sizes`` is out of range: no kernel is ever given such."""
    if any(isinstance(size, bool) or not isinstance(size, int) or not least <= size <= most for size in sizes):
        raise ValueError(f"{what} is {tuple(sizes)}; it must be whole numbers from {least} to {most}")


def check_window(
    kernel: Sequence[int], stride: Sequence[int], padding: Padding, dilation: Sequence[int] = (1, 1)
) -> None:
    """Raises ValueError for a window that no kernel can run."""
    for what, sizes in (("the window", kernel), ("its stride", stride), ("its dilation", dilation)):
        check_sizes(what, sizes, 1, MOST_PIXELS)
    if padding not in ("same", "valid"):
        check_sizes("its padding", padding, 0, MOST_PIXELS)  # type: ignore[arg-type]


def check_channels(shape: Shape, channels: int) -> None:
    if shape[-1] != channels:
        raise ValueError(f"the input has {shape[-1]} channels but the weights take {channels}")
