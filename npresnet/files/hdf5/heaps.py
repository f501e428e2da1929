"""Heaps: where HDF5 keeps text. A group has a local heap with the names of its members; variable-length strings are in
global heaps, which all objects of the file share.
"""

from __future__ import annotations

from .source import Damaged, Fields, OutsideSubset, Source

__all__ = ["GlobalHeaps", "LocalHeap", "checked_name"]

_LAST_BLOCK = 1  # no address, for blocks begin at multiples of 8
_LONGEST_NAME = 1000  # bytes; Keras joins the names of scopes by slashes, which HDF5 makes groups of


class LocalHeap:
    """The names of one group's members, and between them free space, which is a chain of blocks."""

    def __init__(self, source: Source, at: int) -> None:
        fields = Fields(source.get(at, 32, "a local heap"), "a local heap")
        fields.expect(b"HEAP")
        version, size, free, data_at = fields.unpack("<B3xQQQ")
        if version != 0:
            raise OutsideSubset(f"version {version} of the local heap")
        self._source = source
        self._data = source.get(data_at, size, "a local heap")
        self._free: list[tuple[int, int]] = []
        while free != _LAST_BLOCK:
            source.step()
            block = Fields(self._data[free : free + 16], "a free block of a local heap")
            following, length = block.numbers(2)
            if length < 16 or free + length > size:
                raise Damaged("the free space of a local heap is not in it")
            self._free.append((free, free + length))
            free = following

    def name(self, at: int) -> bytes:
        """The name that begins at ``at`` in the heap and ends with a null. Raises Damaged, WeightsError."""
        end = self._data.find(b"\0", at, at + _LONGEST_NAME + 1)
        if end < 0:
            raise Damaged(f"a name does not end within the heap, or has more than {_LONGEST_NAME} bytes")
        if any(start <= end and at < stop for start, stop in self._free):
            raise Damaged("a name is where its heap is free")
        self._source.charge(end - at)
        return self._data[at:end]


def checked_name(name: bytes) -> str:
    """A link's name as text. Raises Damaged where it could not be one step of a path."""
    if not name or len(name) > _LONGEST_NAME or b"/" in name or b"\0" in name or name == b".":
        raise Damaged(f"{name[:20]!r} cannot be the name of a group or dataset")
    return name.decode("utf-8", "replace")


class GlobalHeaps:
    """The objects of the global heaps: each is fetched from (address of a heap, index in it)."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def get(self, at: int, index: int) -> bytes:
        """The bytes of one object. Raises Damaged, OutsideSubset, WeightsError."""
        if at not in self._heaps:
            self._heaps[at] = dict(self._objects(at))
        if index not in self._heaps[at]:
            raise Damaged(f"the global heap at {at} has no object {index}")
        return self._source.get(*self._heaps[at][index], "text in a global heap")

    def _objects(self, at: int) -> list[tuple[int, tuple[int, int]]]:
        """(index, (offset in the file, bytes)) of every object of the heap at ``at``."""
        fields = Fields(self._source.get(at, 16, "a global heap"), "a global heap")
        fields.expect(b"GCOL")
        version, size = fields.unpack("<B3xQ")
        if version != 1:
            raise OutsideSubset(f"version {version} of the global heap")
        end = at + size
        if end > self._source.size:
            raise Damaged(f"a global heap would end at {end}, in a file of {self._source.size} bytes")
        found = []
        at += 16
        while end - at >= 16:
            object_fields = Fields(self._source.get(at, 16, "a global heap"), "a global heap")
            index, length = object_fields.unpack("<H6xQ")
            if index == 0:  # the free space, which is last
                break
            if length > end - at - 16:
                raise Damaged(f"object {index} of a global heap is longer than the heap")
            found.append((index, (at + 16, length)))
            at += 16 + (length + 7) // 8 * 8
        if len(found) != len({index for index, _ in found}):
            raise Damaged("a global heap has two objects of one number")
        return found
