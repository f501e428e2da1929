"""Operators that normalise: with stored statistics, a number per channel to multiply by and one to add; or with those of what
comes in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .operator_base import MOST_CHANNELS, OperatorBase, Shape, check_channels, check_sizes

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "Normalization", "Rescale", "Scale", "UnitNorm"]


class _OfChannels(OperatorBase):
    """Has tensors with a number for each of so many channels."""

    channels: int

    def output_shape(self, *inputs: Shape) -> Shape:
        check_channels(inputs[0], self.channels)
        return inputs[0]


@dataclass(frozen=True)
class BatchNorm(_OfChannels):
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

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class Scale(_OfChannels):
    """x * gamma + beta, one number of each per channel: Caffe's Scale layer, kept apart from the batch-norm."""

    channels: int
    kind: ClassVar[str] = "scale"
    per_channel: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        return {"gamma": (self.channels,), "beta": (self.channels,)}

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class Rescale(OperatorBase):
    """x * factor + offset with constants that are part of the network: one of each, or one per channel."""

    factor: tuple[float, ...]
    offset: tuple[float, ...]
    kind: ClassVar[str] = "rescale"
    per_channel: ClassVar[bool] = True

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class Normalization(OperatorBase):
    """(x - mean) / sqrt(variance), with both stored, one per channel: Keras's layer for input data.

    The deviation is at least 1e-7 (Keras's ``epsilon()``).

    mean, variance  where they are part of the network and not of its weights: one number, or one per channel
    """

    channels: int
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None
    kind: ClassVar[str] = "normalize"
    per_channel: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        return {"mean": (self.channels,), "variance": (self.channels,)} if self.mean is None else {}

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 2 * math.prod(output)


@dataclass(frozen=True)
class LayerNorm(OperatorBase):
    """Normalisation by statistics of the input itself: of the channels of each pixel, or of an image's all numbers.

    shape          of gamma and beta: (channels,), or that of the whole input
    epsilon        added to the variance
    scale, center  whether there is a gamma, a beta
    """

    shape: Shape
    epsilon: float
    scale: bool = True
    center: bool = True
    kind: ClassVar[str] = "layernorm"
    divides: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        return {role: self.shape for role, there in (("gamma", self.scale), ("beta", self.center)) if there}

    def output_shape(self, *inputs: Shape) -> Shape:
        if self.shape not in (inputs[0], inputs[0][-1:]):
            raise ValueError(f"the input has shape {inputs[0]} but the weights are of shape {self.shape}")
        return inputs[0]

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 6 * math.prod(output)


@dataclass(frozen=True)
class GroupNorm(_OfChannels):
    """Normalisation by statistics of the input itself: of each image's pixels, in ``groups`` equal parts of the channels.

    epsilon        added to the variance
    scale, center  whether there is a gamma, a beta
    """

    channels: int
    groups: int
    epsilon: float
    scale: bool = True
    center: bool = True
    kind: ClassVar[str] = "groupnorm"

    def __post_init__(self) -> None:
        check_sizes("the number of channels", (self.channels, self.groups), 1, MOST_CHANNELS)
        if self.channels % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {self.channels} channels")

    def tensors(self) -> dict[str, Shape]:
        return {role: (self.channels,) for role, there in (("gamma", self.scale), ("beta", self.center)) if there}

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 6 * math.prod(output)


@dataclass(frozen=True)
class UnitNorm(OperatorBase):
    """The channels of each pixel over their length, the root of the sum of their squares, or over ``least`` if that is larger."""

    least: float
    kind: ClassVar[str] = "unitnorm"
    divides: ClassVar[bool] = True

    def flop(self, inputs: Sequence[Shape], output: Shape) -> int:
        return 3 * math.prod(output)
