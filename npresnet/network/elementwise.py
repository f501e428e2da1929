"""Operators that work number by number: activations, and two maps joined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .operator_base import OperatorBase, Shape

__all__ = [
    "Activation",
    "Add",
    "Divide",
    "LeakyReLU",
    "Maximum",
    "Minimum",
    "Multiply",
    "PReLU",
    "ReLU",
    "Subtract",
    "joined_shape",
]


@dataclass(frozen=True)
class ReLU(OperatorBase):
    """max(x, 0)."""

    kind: ClassVar[str] = "relu"
    pointwise: ClassVar[bool] = True
    epilogue: ClassVar[bool] = True

    def slope_and_floor(self) -> tuple[float, float]:
        return 1.0, 0.0


@dataclass(frozen=True)
class LeakyReLU(OperatorBase):
    """x where that is above zero, else x * slope."""

    slope: float
    kind: ClassVar[str] = "leaky_relu"
    pointwise: ClassVar[bool] = True
    epilogue: ClassVar[bool] = True

    def slope_and_floor(self) -> tuple[float, float]:
        return self.slope, -math.inf


@dataclass(frozen=True)
class Activation(OperatorBase):
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
class PReLU(OperatorBase):
    """x where that is above zero, else x * alpha; alpha, of ``shape``, goes with x as the second of two maps that are joined."""

    shape: Shape
    kind: ClassVar[str] = "prelu"
    pointwise: ClassVar[bool] = True

    def tensors(self) -> dict[str, Shape]:
        return {"alpha": self.shape}

    def output_shape(self, *inputs: Shape) -> Shape:
        if joined_shape(inputs[0], self.shape) != inputs[0]:
            raise ValueError(f"the input has shape {inputs[0]} but the weights are of shape {self.shape}")
        return inputs[0]


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
class _Join(OperatorBase):
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
    divides: ClassVar[bool] = True


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
