"""Shapes of which a description leaves sizes open: None in place of a height or a width."""

from __future__ import annotations

from collections.abc import Sequence

from .operators import Operator, Reshape
from .operators import Shape as KnownShape

__all__ = ["Shape", "shape_after"]

Shape = tuple[int | None, ...]

_ANY = 2**16, 3 * 2**16
"""Two sizes that stand for any: larger than whatever an operator may cut off, and divisible by whatever a network halves."""


def shape_after(operator: Operator, inputs: Sequence[Shape]) -> Shape:
    """The shape after an operator: a size is known where it is the same for maps of two sizes. Raises ValueError where the
    inputs do not fit."""
    if all(None not in shape for shape in inputs):
        return operator.output_shape(*inputs)  # type: ignore[arg-type]
    if isinstance(operator, Reshape):  # fits some sizes only, and of these nothing is known
        return tuple(None if size == -1 else size for size in operator.shape)
    small, large = (operator.output_shape(*_filled(inputs, size)) for size in _ANY)
    return tuple(size if size == other else None for size, other in zip(small, large, strict=True))


def _filled(inputs: Sequence[Shape], size: int) -> list[KnownShape]:
    """The shapes with ``size`` for what is open; or with what another input of that rank has there, because it must fit that."""

    def fill(shape: Shape) -> KnownShape:
        others = [other for other in inputs if len(other) == len(shape)]
        known = [[n for n in sizes if n is not None and n > 1] for sizes in zip(*others, strict=True)]
        return tuple(
            (found[0] if found else size) if given is None else given for given, found in zip(shape, known, strict=True)
        )

    return [fill(shape) for shape in inputs]
