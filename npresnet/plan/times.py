"""What is known of a step that has run: of a layer, ``LayerStep``, or of a plan's step, ``StepTime``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

__all__ = ["LayerStep", "StepTime"]


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LayerStep:
    """One layer that has run.

    name, kind     the layer's Keras name and its operator: conv, batchnorm, relu, add, maxpool, ...
    shape          of the output, batch included
    array          the output itself
    seconds        wall time of this layer's kernel
    flop           floating-point operations for the whole batch, a multiply-add counting as two
    planned        how ``net(images)`` computes this layer: "F(4x4,3x3)" say, or "in conv1" if it is part of that step
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    array: Array
    seconds: float
    flop: int
    planned: str = ""

    @property
    def gflop_per_second(self) -> float:
        """Speed of this layer, in 1e9 floating-point operations per second."""
        return self.flop / self.seconds / 1e9 if self.seconds > 0 else 0.0


class StepTime(NamedTuple):
    """How long a step of ``net(images)`` took: its last layer, its algorithm, the output's shape with the batch, seconds,
    and the FLOP of its layers by definition (Winograd does with fewer)."""

    name: str
    algorithm: str
    shape: tuple[int, ...]
    seconds: float
    flop: int
