"""Attributes: small named values of a group or dataset. Keras keeps lists of names in them, versions, and the config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .datatypes import Bytes, Datatype, Number, Other, dataspace, datatype
from .headers import Message, Messages
from .heaps import GlobalHeaps
from .source import UNDEFINED, Damaged, Fields, OutsideSubset, Source

__all__ = ["Unreadable", "Value", "attributes"]

Scalar = str | int | float


@dataclass(frozen=True)
class Unreadable:
    """A value that is neither text nor numbers, and why."""

    reason: str


Value = Scalar | list[Scalar] | Unreadable


def attributes(source: Source, heaps: GlobalHeaps, found: Messages) -> Mapping[str, Value]:
    """{name: value} of an object. Raises Damaged, OutsideSubset, WeightsError."""
    info = found.one(Message.ATTRIBUTE_INFO)
    if info is not None:
        _refuse_dense(info)
    result: dict[str, Value] = {}
    for body in found.all(Message.ATTRIBUTE):
        name, value = _attribute(source, heaps, body)
        if name in result:
            raise Damaged(f"an object has two attributes {name!r}")
        result[name] = value
    return result


def _refuse_dense(info: bytes) -> None:
    """Raise OutsideSubset where an object keeps its attributes in a heap of its own."""
    fields = Fields(info, "an attribute info message")
    version, flags = fields.unpack("<BB")
    if version != 0:
        raise OutsideSubset(f"version {version} of the attribute info message")
    fields.take(2 * (flags & 1))
    if fields.uint(8) != UNDEFINED:
        raise OutsideSubset("attributes in a fractal heap")


def _attribute(source: Source, heaps: GlobalHeaps, body: bytes) -> tuple[str, Value]:
    fields = Fields(body, "an attribute")
    version, flags = fields.unpack("<BB")
    if version not in (1, 2, 3):
        raise OutsideSubset(f"version {version} of the attribute message")
    if version > 1 and flags & 3:
        raise OutsideSubset("types that several objects share")
    sizes = fields.numbers(3, 2)
    if version == 3:
        fields.uint(1)  # character set of the name

    def part(n: int) -> bytes:
        data = fields.take(n)
        if version == 1:  # each part is filled up to a multiple of 8
            fields.take(-n % 8)
        return data

    name, kind, shape = part(sizes[0]), datatype(part(sizes[1])), dataspace(part(sizes[2]))
    if name.find(b"\0") != len(name) - 1:
        raise Damaged("the name of an attribute does not end where it should")
    return name[:-1].decode("utf-8", "replace"), _value(source, heaps, kind, shape, fields)


def _value(source: Source, heaps: GlobalHeaps, kind: Datatype, shape: tuple[int, ...] | None, fields: Fields) -> Value:
    if isinstance(kind, Other | Bytes) or shape is None:
        return Unreadable(f"{kind.name} values" if isinstance(kind, Other) else "nothing" if shape is None else "bytes")
    count = math.prod(shape)
    source.step(count)
    data = fields.take(count * kind.size)
    items: list[Scalar]
    if isinstance(kind, Number):
        items = np.frombuffer(data, kind.dtype).tolist()
    else:
        pieces = (data[i : i + kind.size] for i in range(0, len(data), kind.size))
        items = [_text(_referenced(heaps, piece) if kind.variable else piece) for piece in pieces]
    return items if shape else items[0]


def _referenced(heaps: GlobalHeaps, reference: bytes) -> bytes:
    """The text that a reference leads to: (bytes, address of a global heap, index in it)."""
    fields = Fields(reference, "a reference to text")
    size, at, index = fields.unpack("<IQI")
    if size == 0 and at in (0, UNDEFINED):
        return b""
    found = heaps.get(at, index)
    if len(found) != size:
        raise Damaged(f"a text has {len(found)} bytes where {size} are expected")
    return found


def _text(data: bytes) -> str:
    """Text without the nulls that fill it up. Raises Damaged where there are others."""
    text = data.rstrip(b"\0")
    if b"\0" in text:
        raise Damaged("there is a null within a text")
    return text.decode("utf-8", "replace")
