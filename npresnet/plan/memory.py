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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Buffer", "Memory", "Slab", "aligned", "place", "rounded"]

Array = npt.NDArray[Any]

_LINE = 64  # bytes of a cache line
_PAGE = 1 << 21  # bytes of a large page
_SLAB = 1 << 25  # bytes
_SMALL = 1 << 18  # bytes; the C library keeps smaller arrays by itself


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


class Slab:
    """Arrays that are never given back, cut from large stretches: those the system maps in pages of 2 MB, where an
    array of its own would lie in hundreds of small ones, each to be looked up when weights are read."""

    def __init__(self) -> None:
        self._rest = aligned((0,))
        self._lock = threading.Lock()

    def array(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised float32 array that starts at a multiple of 64 bytes."""
        count = rounded(4 * math.prod(shape)) // 4
        with self._lock:
            if count > self._rest.size:
                self._rest = aligned((max(count, _SLAB // 4),))
            taken, self._rest = self._rest[:count], self._rest[count:]
        return taken[: math.prod(shape)].reshape(shape)


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
        """A block of at least ``size`` bytes, and not much more, unless it is new."""
        for key, block in list(self._idle.items()):
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
        block = self._take(max(size, 2 * _PAGE))
        yield block
        self._give(block)

    def array(self, shape: tuple[int, ...]) -> Array:
        """An uninitialised float32 array for a user. Its memory comes back when no array refers to it any more."""
        size = 4 * math.prod(shape)
        if size < _SMALL:
            return np.empty(shape, np.float32)
        block = self._take(size)
        # NumPy cannot tell when the last view of an array is gone; but all of them keep this object alive.
        owner = (ctypes.c_float * (size // 4)).from_buffer(block.data)
        weakref.finalize(owner, self._give, block).atexit = False
        values: Array = np.frombuffer(memoryview(owner), np.float32)
        return values.reshape(shape)


@dataclass
class Buffer:
    """A stretch of an arena, in bytes, needed from one step to another, both included."""

    size: int
    first: int
    last: int
    offset: int = 0


def place(buffers: Sequence[Buffer]) -> int:
    """Give every buffer an offset such that no two that live at one time overlap; returns the arena's size in bytes.

    Largest first, each at the lowest offset that is free: simple, and within some per cent of the least possible here.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.size):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + buffer.size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        buffer.offset = offset
        placed.append(buffer)
    return max((b.offset + b.size for b in placed), default=0)
