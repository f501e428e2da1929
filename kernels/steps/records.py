"""Steps as typed records: what a step is told, by name, from Python and from compiled code.

A kind of step is a frozen dataclass, declared where its operator is:

    @dataclass(frozen=True, kw_only=True)
    class SoftmaxStep(Step):
        x: Map
        out: Map
        pixels: int

    _view = view_of(SoftmaxStep)

    @SoftmaxStep.native
    def _softmax_item(step, item, scratch):      # one item of the step's work
        s = _view(step)                          # now s.x.address, s.out.pitch, s.pixels are numbers

From the types of its fields follows the record in memory: ``int`` is an int64, ``float`` a float32, ``Address`` and
``Native`` (a function that the step calls) are addresses, another dataclass or named tuple is a record within the
record. A field that is left out is an error when the step is made, one of another type when the plan is. ``Table`` lays the steps of a plan side by side in
memory, in the form in which ``loop.run_steps`` works them off.

All addresses and pitches are in bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import types as python_types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, get_origin, get_type_hints

import numpy as np

from ..arrays import Array
from ..jit import Native, native
from ..numba_later import intrinsic, types

__all__ = ["Address", "Map", "Place", "Step", "Table", "layout", "offset_of", "places", "view_of"]


class Place:
    """Memory whose address is not known before a plan runs; what it is, knows whoever made it."""


Address = int | Place


@dataclasses.dataclass(frozen=True)
class Map:
    """Feature maps in memory, pixel by pixel, row by row, image by image.

    address   of the first pixel
    pitch     bytes from one pixel to the next, at least those of its channels; 0: all pixels are one and the same
    channels  of each pixel, float32, side by side
    """

    address: Address
    pitch: int
    channels: int

    @classmethod
    def plain(cls, address: Address, channels: int) -> Map:
        """Pixels without a gap between them, as in a C-contiguous array [n, h, w, channels]."""
        return cls(address, 4 * channels, channels)

    @classmethod
    def of(cls, array: Array) -> Map:
        """The pixels of a C-contiguous float32 array [..., channels], which must live as long as the step is run."""
        return cls.plain(array.ctypes.data, array.shape[-1])


class Step:
    """What all kinds of steps have in common.

    An item is a part of a step's work that one thread does; no result depends on how the work is cut or who does it.
    """

    compiled: ClassVar[Native]
    """The function that does one item: (address of the record, number of the item, address of scratch memory)."""

    @property
    def items(self) -> int:
        """How many items the step's work is cut into."""
        raise NotImplementedError

    @property
    def scratch_bytes(self) -> int:
        """Working memory that each thread needs for itself."""
        return 0

    @classmethod
    def native(cls, function: Callable[..., Any], contracted: bool = True) -> Native:
        """Decorator: the function that does one item of this kind of step."""
        cls.compiled = native(types.void(types.int64, types.int64, types.int64), contracted=contracted)(function)
        return cls.compiled

    @classmethod
    def rounding_each(cls, function: Callable[..., Any]) -> Native:
        """The same, of a function of which each operation must be rounded by itself, as in the program that it follows."""
        return cls.native(function, contracted=False)


@functools.cache
def layout(kind: Any) -> np.dtype[Any]:
    """How a record of this class lies in memory."""
    hints = get_type_hints(kind)
    fields = [(name, _element(hint)) for name, hint in hints.items() if get_origin(hint) is not ClassVar]
    return np.dtype(fields, align=True)


def _element(hint: Any) -> np.dtype[Any]:
    """The element that a field of type ``hint`` is in memory. Raises TypeError for what no record can hold."""
    if hint is int or hint is Native or isinstance(hint, python_types.UnionType):
        return np.dtype(np.int64)
    if hint is float:
        return np.dtype(np.float32)
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return layout(hint)
    raise TypeError(f"a record's field cannot be of type {hint!r}; it must be int, float, Address, Native or a record")


def offset_of(kind: Any, field: str) -> int:
    """Where in a record the field begins."""
    fields = layout(kind).fields
    assert fields is not None
    return int(fields[field][1])


def view_of(kind: Any) -> Callable[[int], Any]:
    """For compiled code: a function that makes of an address the record of this class that lies there."""

    @intrinsic
    def view(typingctx, address):
        from numba import from_dtype

        record = from_dtype(layout(kind))  # here, because most processes find the machine code on disk and need no type

        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), codegen

    return view


def _leaves(record: Any, at: int) -> Iterator[tuple[int, np.dtype[Any], Any]]:
    """(offset, element, value) of each number and address of a record that begins at ``at``, those of records in it, too."""
    kind: Any = type(record)
    fields = layout(kind).fields
    assert fields is not None
    for name, (element, offset, *_) in fields.items():
        value = getattr(record, name)
        if element.names is None:
            yield at + offset, element, value
        else:
            yield from _leaves(value, at + offset)


def places(record: Any) -> Iterator[Place]:
    """All addresses of a record that are not known yet."""
    return (value for _, _, value in _leaves(record, 0) if isinstance(value, Place))


class Table:
    """The steps of a plan in memory.

    records   uint8[...]: all records, one behind the other; addresses of places are 0 so far
    offsets   where in ``records`` each step's begins
    items     of each step
    places    (offset in ``records``, place) of all addresses that are still to be found
    natives   (offset in ``records``, function) likewise; the functions are not compiled before ``linked``
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.offsets: list[int] = []
        self.items = [step.items for step in steps]
        self.places: list[tuple[int, Place]] = []
        self.natives: list[tuple[int, Native]] = []
        kinds: list[Any] = [type(step) for step in steps]
        size = 0
        for kind in kinds:
            self.offsets.append(size)
            size += -(-layout(kind).itemsize // 8) * 8
        self.records = np.zeros(size, np.uint8)
        words, floats = self.records.view(np.int64), self.records.view(np.float32)
        for step, offset in zip(steps, self.offsets, strict=True):
            for at, element, value in _leaves(step, offset):
                if isinstance(value, Place):
                    self.places.append((at, value))
                elif isinstance(value, Native):
                    self.natives.append((at, value))
                elif element == np.float32:
                    floats[at // 4] = value
                else:  # raises TypeError for a number that is not whole
                    words[at // 8] = operator.index(value)

    def linked(self) -> Array:
        """The records with the addresses of the functions that steps call, which are compiled, or loaded, now if they
        never were. Places are still to be filled in."""
        records = self.records.copy()
        words = records.view(np.int64)
        for at, function in self.natives:
            words[at // 8] = function.address
        return records

    def schedule(self) -> Array:
        """What ``run_steps`` works off: int64[steps, 3], for each the address of its function, which is compiled, or loaded,
        now if it never was, the number of items, and where in the records its own begins."""
        rows = [
            (step.compiled.address, items, offset)
            for step, items, offset in zip(self.steps, self.items, self.offsets, strict=True)
        ]
        return np.array(rows, np.int64).reshape(-1, 3)
