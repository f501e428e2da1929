"""What all operators have in common, and the limits of their sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

__all__ = [
    "MOST_CHANNELS",
    "MOST_PIXELS",
    "MOST_WEIGHTS",
    "Padding",
    "Pads",
    "Shape",
    "_Operator",
    "check_channels",
    "check_sizes",
    "check_window",
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
    pointwise    an activation: each number by itself
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
