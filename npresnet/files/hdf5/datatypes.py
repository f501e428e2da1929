"""Datatype and dataspace: what one element is, and how many there are.

Both occur in the header of a dataset and, in the same form, within each attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .source import Damaged, Fields, OutsideSubset

__all__ = ["Bytes", "Datatype", "Number", "Other", "Text", "dataspace", "datatype"]

_MOST_AXES = 32  # as many as HDF5 allows


@dataclass(frozen=True)
class Number:
    """Integers, or floating-point numbers in IEEE format."""

    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return self.dtype.itemsize


@dataclass(frozen=True)
class Text:
    """Text: of ``size`` bytes each, or, if ``variable``, references of ``size`` bytes into a global heap."""

    size: int
    variable: bool


@dataclass(frozen=True)
class Bytes:
    """Bytes without a meaning that HDF5 knows ("opaque"); Keras stores bfloat16 so, as two bytes."""

    size: int


@dataclass(frozen=True)
class Other:
    """A type that no weight has: records, references, enumerations, ..."""

    size: int
    name: str


Datatype = Number | Text | Bytes | Other

_INTEGER, _FLOAT, _STRING, _OPAQUE, _VARIABLE = 0, 1, 3, 5, 9
_OTHER = {2: "time", 4: "bit field", 6: "compound", 7: "reference", 8: "enumerated", 10: "array", 11: "complex"}

# (bits of the exponent, bits of the mantissa, bias of the exponent) by size in bytes
_IEEE = {2: (5, 10, 15), 4: (8, 23, 127), 8: (11, 52, 1023)}
_BFLOAT16 = (8, 7, 127)


def datatype(data: bytes) -> Datatype:
    """A datatype message. Raises Damaged, OutsideSubset."""
    fields = Fields(data, "a datatype")
    first, low, high, size = fields.unpack("<BHBI")
    kind, version, bits = first & 15, first >> 4, high << 16 | low
    if version not in (1, 2, 3):
        raise OutsideSubset(f"version {version} of the datatype message")
    if size == 0:
        raise Damaged("a datatype has size 0")
    if kind == _INTEGER:
        return _integer(fields, bits, size)
    if kind == _FLOAT:
        return _float(fields, bits, size)
    if kind == _STRING:
        return Text(size, variable=False)
    if kind == _VARIABLE and bits & 15 == 1:
        if size != 16:
            raise Damaged(f"a reference to text has {size} bytes, not 16")
        _check_characters(fields)
        return Text(size, variable=True)
    if kind == _OPAQUE:
        return Bytes(size)
    if kind == _VARIABLE:
        return Other(size, "variable-length")
    if kind in _OTHER:
        return Other(size, _OTHER[kind])
    raise OutsideSubset(f"datatype class {kind}")


def _check_characters(fields: Fields) -> None:
    """Raise Damaged unless the elements of a variable-length text are bytes; a type within the type says what they are."""
    first, bits, size = fields.unpack("<BHxI")
    kind, version = first & 15, first >> 4
    if (
        version not in (1, 2, 3)
        or kind != _INTEGER
        or size != 1
        or not isinstance(_integer(fields, bits, size), Number)
    ):
        raise Damaged("the characters of a text are no single bytes")


def _integer(fields: Fields, bits: int, size: int) -> Datatype:
    offset, precision = fields.unpack("<HH")
    if size not in (1, 2, 4, 8) or offset or precision != 8 * size:
        return Other(size, f"{precision}-bit integer")
    order, sign = ">" if bits & 1 else "<", "i" if bits & 8 else "u"
    return Number(np.dtype(f"{order}{sign}{size}"))


def _float(fields: Fields, bits: int, size: int) -> Datatype:
    """IEEE numbers are told by their layout, bit by bit: HDF5 has no other name for them."""
    offset, precision, exponent_at, exponent, mantissa_at, mantissa, bias = fields.unpack("<HH4BI")
    big, vax, implied_one, sign_at = bits & 1, bits & 64, bits >> 4 & 3 == 2, bits >> 8 & 255
    plain = not offset and not mantissa_at and not vax and implied_one and precision == 8 * size
    if not plain or exponent_at != mantissa or sign_at != precision - 1:
        return Other(size, "floating-point, but not IEEE")
    if size == 2 and (exponent, mantissa, bias) == _BFLOAT16 and not big:
        return Bytes(size)
    if (exponent, mantissa, bias) != _IEEE.get(size):
        return Other(size, "floating-point, but not IEEE")
    return Number(np.dtype(f"{'>' if big else '<'}f{size}"))


def dataspace(data: bytes) -> tuple[int, ...] | None:
    """The shape in a dataspace message: () for a single element, None for no element at all. Raises Damaged."""
    fields = Fields(data, "a dataspace")
    version, axes, flags, kind = fields.unpack("<4B")  # the kind is reserved in version 1
    if version not in (1, 2):
        raise OutsideSubset(f"version {version} of the dataspace message")
    if axes > _MOST_AXES:
        raise Damaged(f"a dataspace has {axes} axes")
    if version == 1:
        fields.take(4)
    if flags & 2:
        raise OutsideSubset("permuted axes")
    if version == 2 and kind == 2:
        return None
    if version == 2 and kind != (axes > 0):
        raise Damaged(f"a dataspace of kind {kind} has {axes} axes")
    shape = tuple(fields.numbers(axes))
    largest = fields.numbers(axes) if flags & 1 else shape
    if any(n > most for n, most in zip(shape, largest, strict=True)):
        raise Damaged("a dataspace is larger than its own maximum")
    return shape
