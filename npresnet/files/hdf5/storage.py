"""The numbers of a dataset: where they lie in the file, and how they are packed.

Keras writes them in one piece ("contiguous"), or, if they are few, into the object header ("compact"). Programs that
compress files cut them into chunks, which a B-tree finds, and pass each through filters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import WeightsError
from .checksums import fletcher32
from .datatypes import Bytes, Number
from .groups import tree_leaves
from .headers import Message, Messages
from .source import UNDEFINED, Damaged, Fields, OutsideSubset, Source

__all__ = ["Array", "storage"]

Array = npt.NDArray[Any]

_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = 0, 1, 2, 3
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_TREE_WIDTH = 64  # children of a node of the tree of chunks; only an unusual superblock can change it
_MOST_EXPANSION = 1032  # bytes out per byte in: deflate can do no better

_NOT_WRITTEN = "its numbers were never written; save it again"


def storage(
    source: Source, found: Messages, kind: Number | Bytes, shape: tuple[int, ...], path: str
) -> Callable[[], npt.NDArray[np.float32]]:
    """A function that reads the numbers of a dataset as float32; what can be checked without reading them is, now.

    kind  ``Bytes`` of size 2 are bfloat16

    Raises WeightsError, Damaged, OutsideSubset; so does the function, but not OutsideSubset.
    """
    if found.one(Message.EXTERNAL_FILES) is not None:
        raise WeightsError(f"{path!r} keeps its numbers in another file; Keras writes none such: save it anew")
    _check_fill_value(found)
    body = found.one(Message.LAYOUT)
    if body is None:
        raise Damaged(f"{path!r} has no layout")
    dtype = kind.dtype if isinstance(kind, Number) else np.dtype("<u2")
    fields = Fields(body, "a layout message")
    version, layout = fields.unpack("<BB")
    if version not in (3, 4):
        raise OutsideSubset(f"version {version} of the layout message")
    if layout == _VIRTUAL:
        raise WeightsError(f"{path!r} keeps its numbers in another file; Keras writes none such: save it anew")
    if layout == _CHUNKED and version == 4:
        raise OutsideSubset("chunks that are found without a B-tree of version 1")
    size = math.prod(shape) * dtype.itemsize

    read: Callable[[], Array]
    if layout == _COMPACT:
        data = fields.take(fields.uint(2))
        if len(data) != size:
            raise Damaged(f"{path!r} has {len(data)} bytes for {size} of numbers")

        def read() -> Array:
            source.reserve(size)
            return np.frombuffer(data, dtype).reshape(shape).copy()

    elif layout == _CONTIGUOUS:
        at, held = fields.numbers(2)
        if size and at == UNDEFINED:
            raise WeightsError(f"{path!r}: {_NOT_WRITTEN}")
        if held != size:
            raise Damaged(f"{path!r} claims {size} bytes (shape {shape}) and keeps {held}")
        if size and at + size > source.size:
            raise Damaged(f"the numbers of {path!r} would end at {at + size}, in a file of {source.size} bytes")

        def read() -> Array:
            source.reserve(size)
            array = np.empty(shape, dtype)
            if size:
                source.readinto(at, array.reshape(-1).view(np.uint8).data)
            return array

    elif layout == _CHUNKED:
        read = _Chunks.from_messages(source, found, fields, dtype, shape, path).read
    else:
        raise Damaged(f"{path!r} has a layout of class {layout}")

    if layout != _CHUNKED and found.one(Message.FILTERS) is not None:
        raise Damaged(f"{path!r} has filters but no chunks")
    return lambda: _float32(read(), bfloat16=isinstance(kind, Bytes))


def _check_fill_value(found: Messages) -> None:
    """Raise Damaged where the number that stands for those never written, which is not used here, is cut off."""
    for kind in (Message.OLD_FILL_VALUE, Message.FILL_VALUE):
        body = found.one(kind)
        if body is None:
            continue
        fields = Fields(body, "a fill value")
        defined = True
        if kind == Message.FILL_VALUE and fields.uint(1) == 3:
            defined = bool(fields.uint(1) & 32)
        elif kind == Message.FILL_VALUE:
            defined = bool(fields.take(3)[2])
        if defined:
            fields.take(fields.uint(4))


def _float32(array: Array, *, bfloat16: bool) -> npt.NDArray[np.float32]:
    if bfloat16:  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite or NaN, weights.py reports
        return np.ascontiguousarray(array, np.float32).reshape(array.shape)


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk of the array begins, and where its packed bytes are. Bit i of ``skipped``: filter i was not used."""

    start: tuple[int, ...]
    at: int
    size: int
    skipped: int


@dataclass(frozen=True)
class _Chunks:
    """A dataset in chunks of equal shape; those at the edges stick out over it."""

    source: Source
    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    tree_at: int
    filters: Sequence[int]

    @staticmethod
    def from_messages(
        source: Source, found: Messages, fields: Fields, dtype: np.dtype[Any], shape: tuple[int, ...], path: str
    ) -> _Chunks:
        axes, tree_at = fields.unpack("<BQ")
        axes -= 1  # the bytes of a number count as one
        if axes != len(shape) or axes < 1:
            raise Damaged(f"{path!r} has {len(shape)} axes and its chunks {axes}")
        *chunk_shape, item = fields.numbers(axes + 1, 4)
        if item != dtype.itemsize or 0 in chunk_shape:
            raise Damaged(f"{path!r} is stored in chunks of impossible shape {(*chunk_shape, item)}")
        filters = _filters(found.one(Message.FILTERS), dtype.itemsize)
        size = math.prod(shape) * dtype.itemsize
        if size > _MOST_EXPANSION * source.size:
            raise WeightsError(
                f"{path!r} claims {size} bytes (shape {shape}) in a file of {source.size}; the file is damaged or made to "
                "exhaust memory"
            )
        return _Chunks(source, path, dtype, shape, tuple(chunk_shape), tree_at, filters)

    @property
    def _chunk_bytes(self) -> int:
        return math.prod(self.chunk_shape) * self.dtype.itemsize

    def read(self) -> Array:
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        counts = [-(-n // step) for n, step in zip(self.shape, self.chunk_shape, strict=True)]
        size = math.prod(self.shape) * self.dtype.itemsize
        unpacked = math.prod(counts) * self._chunk_bytes  # with what sticks out
        if self.tree_at == UNDEFINED:
            raise WeightsError(f"{self.path!r}: {_NOT_WRITTEN}")
        self.source.reserve(math.prod(self.shape) * max(4, self.dtype.itemsize) + unpacked - size)
        chunks = self._find(math.prod(counts))
        array = np.empty(self.shape, self.dtype)
        for chunk in chunks:
            inside = tuple(slice(0, n - start) for n, start in zip(self.shape, chunk.start, strict=True))
            place = tuple(slice(start, start + n) for start, n in zip(chunk.start, self.chunk_shape, strict=True))
            array[place] = self._unpack(chunk)[inside]
        return array

    def _find(self, expected: int) -> list[_Chunk]:
        """All chunks of the array. Raises Damaged where one is missing, or is there twice."""
        axes = len(self.shape)
        found: dict[tuple[int, ...], _Chunk] = {}

        def place(key: bytes) -> tuple[int, ...]:
            found = tuple(Fields(key[8:], "a chunk's key").numbers(axes + 1))
            if any(n % step for n, step in zip(found, (*self.chunk_shape, self.dtype.itemsize), strict=True)):
                raise Damaged(f"{self.path!r} has a chunk at an impossible place {found}")
            return found

        for key, at, _ in tree_leaves(self.source, self.tree_at, 1, 8 + 8 * (axes + 1), place, _TREE_WIDTH, "chunks"):
            size, skipped = Fields(key, "a chunk's key").unpack("<II")
            *start, zero = place(key)
            if zero or any(begin >= n for begin, n in zip(start, self.shape, strict=True)):
                raise Damaged(f"{self.path!r} has a chunk at an impossible place {(*start, zero)}")
            found[tuple(start)] = _Chunk(tuple(start), at, size, skipped)
        if len(found) != expected:
            raise Damaged(f"{self.path!r} has {len(found)} of its {expected} chunks")
        return list(found.values())

    def _unpack(self, chunk: _Chunk) -> Array:
        """The numbers of a chunk: its bytes taken through the filters, the last one first."""
        if chunk.at + chunk.size > self.source.size:
            raise Damaged(f"a chunk of {self.path!r} would end after the file")
        if chunk.size > self._chunk_bytes + self._chunk_bytes // 8 + 1024:  # the filters add little where they fail
            raise Damaged(f"a chunk of {self.path!r} has {chunk.size} bytes for {self._chunk_bytes}")
        packed = bytearray(chunk.size)
        self.source.readinto(chunk.at, memoryview(packed))
        data: bytes = bytes(packed)
        for position in range(len(self.filters) - 1, -1, -1):
            if not chunk.skipped >> position & 1:
                data = self._undo(self.filters[position], data)
        if len(data) != self._chunk_bytes:
            raise Damaged(f"a chunk of {self.path!r} unpacks to {len(data)} bytes, not {self._chunk_bytes}")
        return np.frombuffer(data, self.dtype).reshape(self.chunk_shape)

    def _undo(self, kind: int, data: bytes) -> bytes:
        if kind == _DEFLATE:
            unpacking = zlib.decompressobj()
            try:
                data = unpacking.decompress(data, self._chunk_bytes + 4)  # 4 for a checksum
            except zlib.error as error:
                raise Damaged(f"the numbers of {self.path!r} cannot be unpacked: {error}") from None
            if not unpacking.eof:
                raise Damaged(f"the packed numbers of {self.path!r} do not end where they should")
            return data
        if kind == _SHUFFLE:  # first the first byte of every number, then the second, ...
            n = self.dtype.itemsize
            if len(data) % n:
                raise Damaged(f"a chunk of {self.path!r} has {len(data)} bytes, no multiple of {n}")
            return np.frombuffer(data, np.uint8).reshape(n, -1).T.tobytes()
        data, checksum = data[:-4], int.from_bytes(data[-4:], "little")
        if fletcher32(data) != checksum:
            raise Damaged(f"the checksum of a chunk of {self.path!r} is wrong")
        return data


def _filters(body: bytes | None, item: int) -> list[int]:
    """The filters that each chunk of numbers of ``item`` bytes went through, in order.

    Raises OutsideSubset for a filter that this reader does not have; Damaged.
    """
    if body is None:
        return []
    fields = Fields(body, "a filter message")
    version, count = fields.unpack("<BB")
    if version not in (1, 2):
        raise OutsideSubset(f"version {version} of the filter message")
    fields.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        kind = fields.uint(2)
        named = version == 1 or kind >= 256
        name = fields.uint(2) if named else 0
        _, count_values = fields.unpack("<HH")
        fields.take(name + (-name % 8 if version == 1 else 0))
        values = fields.numbers(count_values, 4)
        fields.take(4 * (count_values % 2) if version == 1 else 0)
        if kind not in (_DEFLATE, _SHUFFLE, _FLETCHER32):
            raise OutsideSubset(f"filter {kind}")
        if kind == _SHUFFLE and values != [item]:
            raise Damaged(f"numbers of {item} bytes are shuffled as if they had {values}")
        if kind in found:
            raise Damaged(f"filter {kind} is there twice")
        found.append(kind)
    return found
