"""Operators without weights that change shapes: borders, cuts, larger maps, maps side by side, other orders
of channels, other ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from .operator_base import MOST_CHANNELS, MOST_PIXELS, MOST_WEIGHTS, OperatorBase, Pads, Shape, check_map, check_sizes

__all__ = ["Channels", "Concatenate", "Crop", "Flatten", "Pad", "Reshape", "Resize", "UpSample"]


class _Moved(OperatorBase):
    """What computes nothing."""

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 0


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"the interpolation is {interpolation!r}; it must be 'nearest' or 'bilinear'")


@dataclass(frozen=True)
class Pad(_Moved):
    """A border of zeros, (top, bottom, left, right) pixels wide. A pool that follows sees them as numbers."""

    pads: Pads
    kind: ClassVar[str] = "pad"

    def __post_init__(self) -> None:
        check_sizes("the border", self.pads, 0, MOST_PIXELS)

    def output_shape(self, *inputs: Shape) -> Shape:
        check_map(inputs[0])
        h, w, c = inputs[0]
        return h + self.pads[0] + self.pads[1], w + self.pads[2] + self.pads[3], c


@dataclass(frozen=True)
class Channels(_Moved):
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

    def leaves_out(self, shape: Shape) -> bool:
        return len(set(self.order)) < shape[-1]


@dataclass(frozen=True)
class Crop(_Moved):
    """Without a border that is (top, bottom, left, right) pixels wide."""

    crops: Pads
    kind: ClassVar[str] = "crop"

    def __post_init__(self) -> None:
        check_sizes("what is cut off", self.crops, 0, MOST_PIXELS)

    def output_shape(self, *inputs: Shape) -> Shape:
        check_map(inputs[0])
        h, w, c = inputs[0]
        height, width = h - self.crops[0] - self.crops[1], w - self.crops[2] - self.crops[3]
        if min(height, width) < 1:
            raise ValueError(
                f"of the input's {h}x{w} pixels nothing is left without {self.crops} (top, bottom, left, right)"
            )
        return height, width, c

    def leaves_out(self, shape: Shape) -> bool:
        return any(self.crops)


@dataclass(frozen=True)
class Resize(OperatorBase):
    """Maps of another size, (height, width): each pixel the nearest one, or between pixels by straight lines."""

    size: tuple[int, int]
    interpolation: Literal["nearest", "bilinear"] = "bilinear"
    kind: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        check_sizes("the size", self.size, 1, MOST_PIXELS)
        _check_interpolation(self.interpolation)

    def output_shape(self, *inputs: Shape) -> Shape:
        check_map(inputs[0])
        return *self.size, inputs[0][2]

    def leaves_out(self, shape: Shape) -> bool:
        return self.size[0] < shape[0] or self.size[1] < shape[1]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 6 * math.prod(output) if self.interpolation == "bilinear" else 0


@dataclass(frozen=True)
class UpSample(OperatorBase):
    """Maps that are larger by ``size`` = (vertical, horizontal): each pixel repeated, or between pixels by straight lines."""

    size: tuple[int, int]
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    kind: ClassVar[str] = "upsample"

    def __post_init__(self) -> None:
        check_sizes("the factor", self.size, 1, MOST_PIXELS)
        _check_interpolation(self.interpolation)

    def output_shape(self, *inputs: Shape) -> Shape:
        check_map(inputs[0])
        h, w, c = inputs[0]
        return h * self.size[0], w * self.size[1], c

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 6 * math.prod(output) if self.interpolation == "bilinear" else 0


@dataclass(frozen=True)
class Concatenate(_Moved):
    """Two maps or more of the same pixels, the channels of one behind those of the other."""

    kind: ClassVar[str] = "concatenate"

    def output_shape(self, *inputs: Shape) -> Shape:
        if len({shape[:-1] for shape in inputs}) != 1:
            shapes = " and ".join(map(str, inputs))
            raise ValueError(
                f"the inputs have shapes {shapes}; they must be equal but for the channels, which come last"
            )
        return *inputs[0][:-1], sum(shape[-1] for shape in inputs)


@dataclass(frozen=True)
class Flatten(_Moved):
    """All numbers of a feature map in a row: (h, w, c) to (h * w * c,), channels changing fastest."""

    kind: ClassVar[str] = "flatten"
    reshapes: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return (math.prod(inputs[0]),)


@dataclass(frozen=True)
class Reshape(_Moved):
    """The same numbers, in the same order, in another shape, of any rank; one size may be -1, which is what remains."""

    shape: Shape
    kind: ClassVar[str] = "reshape"
    reshapes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes("the shape", [size for size in self.shape if size != -1], 1, MOST_WEIGHTS)
        if not self.shape or self.shape.count(-1) > 1:
            raise ValueError(f"the shape is {self.shape}; it must have sizes, and no more than one of them may be -1")

    def output_shape(self, *inputs: Shape) -> Shape:
        numbers, given = math.prod(inputs[0]), math.prod(size for size in self.shape if size != -1)
        if numbers % given if -1 in self.shape else numbers != given:
            raise ValueError(f"the input of shape {inputs[0]} does not fill the shape {self.shape}")
        return tuple(numbers // given if size == -1 else size for size in self.shape)
