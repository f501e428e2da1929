"""Memory for large arrays: aligned to cache lines, placed side by side in one arena, and used again.

Asking the system for memory costs little, touching it for the first time a great deal: every page is cleared. At
1024 x 1024 pixels that is some per cent of a whole run. So working memory, and the arrays that users get, are kept when they
are no longer used, and given out again.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["SMALL", "Buffer", "Memory", "Room", "Slab", "aligned", "lent", "place", "rounded"]

Array = npt.NDArray[Any]

_LINE = 64  # bytes of a cache line
_PAGE = 1 << 21  # bytes of a large page
_SLAB = 1 << 25  # bytes
SMALL = 1 << 18  # bytes; the C library keeps smaller arrays by itself


def rounded(size: int) -> int:
    """``size`` bytes, up to the end of a cache line."""
    return -(-size // _LINE) * _LINE


def aligned(shape: tuple[int, ...]) -> Array:
    """An uninitialised float32 array that starts at a multiple of 64 bytes, so that no vector crosses a cache line."""
    size = 4 * math.prod(shape)
    unit = _LINE if size < _PAGE else _PAGE
    raw = np.empty(size + unit, np.uint8)
    start = -raw.ctypes.data % unit
    return raw[start : start + size].view(np.float32).reshape(shape)


def _lent(block: Array, shape: tuple[int, ...], back: Callable[[], object]) -> Array:
    """The first of ``block`` as a float32 array of ``shape``; ``back`` is called when no array refers to it any more."""
    # NumPy cannot tell when the last view of an array is gone; but all of them keep this object alive.
    owner = (ctypes.c_float * math.prod(shape)).from_buffer(block.data)
    weakref.finalize(owner, back).atexit = False
    values: Array = np.frombuffer(memoryview(owner), np.float32)
    return values.reshape(shape)


class _Stretch:
    """Memory from which arrays are cut. ``taken``: {where one begins: its numbers}, without those that are gone."""

    def __init__(self, count: int) -> None:
        self.memory, self.taken = aligned((count,)), dict[int, int]()

    def take(self, count: int) -> int | None:
        """Where so many numbers in a row were free, and are taken now; None where they are not."""
        start = 0
        for at, held in sorted(self.taken.copy().items()):
            if start + count <= at:
                break
            start = at + held
        if start + count > self.memory.size:
            return None
        self.taken[start] = count
        return start


class Slab:
    """Arrays that stay for long, cut from large stretches: those the system maps in pages of 2 MB, where an array of its own
    would lie in hundreds of small ones, each to be looked up when weights are read. Where an array is gone, there is room for
    others, and stretches that are empty go when the next array is made, or by ``tidy``. Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """That are held, in use or not."""
        return sum(stretch.memory.nbytes for stretch in self._stretches)

    def array(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised float32 array that starts at a multiple of 64 bytes."""
        count = rounded(4 * math.prod(shape)) // 4
        if not count:
            return np.empty(shape, np.float32)
        with self._lock:
            for stretch in self._stretches:
                start = stretch.take(count)
                if start is not None:
                    break
            else:
                stretch = _Stretch(max(count, _SLAB // 4))
                start = stretch.take(count)
                self._stretches.append(stretch)
        assert start is not None
        # one dict operation, which may come at any time, in any thread
        return _lent(stretch.memory[start:], shape, partial(stretch.taken.pop, start))

    def tidy(self) -> None:
        """Give the stretches back to the system in which nothing is used."""
        with self._lock:
            self._stretches = [stretch for stretch in self._stretches if stretch.taken]


def lent(size: int) -> int:
    """Of how many bytes the block is, at the least, that ``Memory.lend`` takes for ``size``: in two large pages lies a whole one."""
    return max(size, 2 * _PAGE)


class Memory:
    """Blocks of memory that are lent and come back. Safe to use from many threads: every change is one dict operation.

    limit  how many bytes may lie idle
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._idle: dict[int, Array] = {}  # by address; the first came back first

    @property
    def idle(self) -> int:
        """Bytes that are kept and not in use."""
        return sum(block.nbytes for block in list(self._idle.values()))

    def _take(self, size: int) -> Array:
        """The smallest idle block of at least ``size`` bytes and not much more: larger ones are left to whoever needs them. Or a
        new one, whose pages the system has to clear: for 64 MB that takes as long as a convolution."""
        for key, block in sorted(self._idle.items(), key=lambda item: item[1].nbytes):
            if size <= block.nbytes <= 2 * size and self._idle.pop(key, None) is not None:
                return block
        return aligned((rounded(size) // 4,))

    def _give(self, block: Array) -> None:
        self._idle[block.ctypes.data] = block
        for key in list(self._idle):
            if self.idle <= self.limit:
                break
            self._idle.pop(key, None)

    @contextmanager
    def lend(self, size: int) -> Iterator[Array]:
        """At least ``size`` bytes, until the end of the block; not used again if that ends in an error, because
        another thread might still write there."""
        block = self._take(lent(size))
        yield block
        self._give(block)

    def array(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised float32 array for a user. Its memory comes back when no array refers to it any more."""
        size = 4 * math.prod(shape)
        if size < SMALL:
            return np.empty(shape, np.float32)
        block = self._take(size)
        return _lent(block, shape, partial(self._give, block))


class Room(NamedTuple):
    """Memory that is there for something else, and free before the step ``until``: an output that is not yet written, say.

    stretch  which one it is, to whoever asks
    """

    stretch: int
    size: int
    until: int


@dataclass
class Buffer:
    """A stretch of an arena, in bytes, needed from one step to another, both included; or of a room."""

    size: int
    first: int
    last: int
    offset: int = 0
    room: Room | None = None


def place(buffers: Sequence[Buffer], rooms: Sequence[Room] = ()) -> int:
    """Give every buffer an offset such that no two that live at one time overlap: in one of ``rooms`` if it is done with before
    that is needed, otherwise in the arena, whose size in bytes is returned.

    Largest first, each at the lowest offset that is free: simple, and within some per cent of the least possible here. Of the same
    size, those that are needed last go first, for which there are the fewest rooms.
    """
    placed: dict[Room | None, list[Buffer]] = {room: [] for room in (*rooms, None)}
    for buffer in sorted(buffers, key=lambda b: (-b.size, -b.last)):
        for room, others in placed.items():
            buffer.offset = _free(buffer, others)
            if room is None or (buffer.last < room.until and buffer.offset + buffer.size <= room.size):
                buffer.room = room
                others.append(buffer)
                break
    return max((b.offset + b.size for b in placed[None]), default=0)


def _free(buffer: Buffer, others: Sequence[Buffer]) -> int:
    """The lowest offset at which ``buffer`` overlaps none of ``others`` that live when it does."""
    offset = 0
    for other in sorted(others, key=lambda b: b.offset):
        if other.last < buffer.first or buffer.last < other.first:
            continue
        if offset + buffer.size <= other.offset:
            break
        offset = max(offset, other.offset + other.size)
    return offset
