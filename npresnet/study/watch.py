"""``study watch``: the loops of a kernel at work on a small crop: what is read and written, in which order, and what caches make
of it. Recorded from the loop that is shipped, not drawn (``recorded.py``; ``stepwise.py`` where it is of vector instructions).

The counts are exact. Caches are simulated (``caches.py``), smaller than real ones in the measure in which the crop is smaller than a
layer. Their sizes are stated, and so are the sizes of blocks, which are smaller here, too. The numbers are small and whole, so that
every order of summing gives the same bits: what was recorded must equal what the compiled kernel makes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .caches import LINE, Cache, reuse_distances
from .crops import CROPS
from .forms import Column, Grid
from .recorded import Log
from .warps import CARD_KERNELS, CARD_TABLES, CardRecording, watch_card

__all__ = ["CROPS", "TABLES", "ArrayUse", "CacheUse", "LoopRecording", "Reuse", "tables_of", "watch"]

Array = npt.NDArray[Any]

TABLES = (
    Grid(
        "arrays",
        (
            Column("array", "name"),
            Column("shape", "shape", "shape"),
            Column("reads", "reads", "count"),
            Column("writes", "writes", "count"),
            Column("reads per element", "reads_each", "three"),
            Column("what it is", "meaning"),
        ),
        "Every element that the loop touches, counted",
    ),
    Grid(
        "caches",
        (
            Column("cache", "name"),
            Column("bytes", "bytes", "count"),
            Column("ways", "ways", "count"),
            Column("hits", "hits", "count"),
            Column("misses", "misses", "count"),
            Column("misses of all", "share", "percent1"),
        ),
        "Simulated, lines of 64 bytes, the least recently used thrown out",
    ),
    Grid(
        "reuse",
        (
            Column("other lines touched since", "since"),
            Column("accesses", "count", "count"),
            Column("of all", "share", "percent1"),
        ),
        "How far apart two uses of a cache line are",
    ),
)


@dataclass(frozen=True)
class ArrayUse:
    """What became of one array. ``heat``: how often each element was touched, in the array's shape; drawn ``columns`` side by side."""

    name: str
    meaning: str
    shape: tuple[int, ...]
    reads: int
    writes: int
    reads_each: float
    columns: int
    heat: Array


@dataclass(frozen=True)
class CacheUse:
    """A simulated cache after the run; L2 sees what L1 misses."""

    name: str
    bytes: int
    ways: int
    hits: int
    misses: int
    share: float


@dataclass(frozen=True)
class Reuse:
    """How many accesses come so many lines after the last one to theirs."""

    since: str
    count: int
    share: float


@dataclass(frozen=True)
class Piece:
    """A part of the work: from access ``first`` to that of the next piece.

    boxes  of each array, (top, bottom, left, right) of the cells that it touches, the second of each pair not included, as the array
           is drawn; None where it touches none
    """

    first: int
    boxes: Sequence[tuple[int, int, int, int] | None]


@dataclass(frozen=True)
class LoopRecording:
    """A kernel on a crop.

    constants  of its module that are smaller here
    accesses   [array's number, element, 1 where written], the first of them, in order; ``total``: of all
    piece      what a piece is; ``pieces``: those that the accesses belong to, ``piece_count``: how many there are
    exact      whether the recorded result equals the compiled kernel's, bit for bit
    """

    kernel: str
    idea: str
    source: str
    constants: Mapping[str, int]
    arrays: Sequence[ArrayUse]
    caches: Sequence[CacheUse]
    reuse: Sequence[Reuse]
    accesses: Sequence[tuple[int, int, int]]
    total: int
    piece: str
    pieces: Sequence[Piece]
    piece_count: int
    exact: bool


# bytes; a crop's arrays take some thousands, as a layer's do some hundred times these caches
_L1, _L2, _WAYS = 1024, 4096, 4
_SHOWN = 10_000  # accesses that are kept in order


def watch(kernel: str = "gemm_blocked", l1: int = _L1, l2: int = _L2) -> LoopRecording | CardRecording:
    """Run a kernel's loop in Python on a crop, and note every access. Takes about a second.

    kernel  one of ``CROPS``, or of a card's, ``CARD_KERNELS``, whose threads are then run one by one
    l1, l2  bytes of the simulated caches, of four ways

    Raises UsageError for another name, or a size that no cache can have; MissingExtraError for a card's kernel where numba-cuda is not installed.
    """
    if kernel in CARD_KERNELS:
        return watch_card(kernel)
    if kernel not in CROPS:
        raise UsageError(
            f"watch: got {kernel!r}; what can be recorded is {', '.join((*CROPS, *CARD_KERNELS))}; `npresnet study asm` shows "
            "machine code"
        )
    for size in (l1, l2):
        try:
            Cache(size, _WAYS)
        except ValueError as error:
            raise UsageError(str(error)) from None
    crop = CROPS[kernel]
    given, done = crop.given(), crop.run()
    exact = bool(np.array_equal(done.result, crop.compiled({name: array for name, (array, _) in given.items()})))
    uses = [_use(done.log, number, name, *array) for number, (name, array) in enumerate(given.items())]
    addresses = _addresses(done.log)
    pieces = _pieces(done.log, [use.columns for use in uses])
    return LoopRecording(
        kernel, crop.idea, crop.source(), dict(crop.constants), uses, simulated(addresses, l1, l2), _histogram(addresses),
        [(n, e, int(w)) for n, e, w in done.log.accesses[:_SHOWN]], len(done.log.accesses), crop.piece,
        [piece for piece in pieces if piece.first < _SHOWN], len(pieces), exact,
    )  # fmt: skip


def tables_of(recording: LoopRecording | CardRecording) -> tuple[Grid, ...]:
    """How a recording is shown."""
    return CARD_TABLES if isinstance(recording, CardRecording) else TABLES


def _use(log: Log, number: int, name: str, array: Array, meaning: str) -> ArrayUse:
    heat = np.zeros(array.size, np.int64)
    reads = writes = 0
    for which, element, written in log.accesses:
        if which == number:
            heat[element] += 1
            reads += not written
            writes += written
    columns = array.shape[-1] * (array.shape[-2] if array.ndim > 2 else 1)
    return ArrayUse(name, meaning, array.shape, reads, writes, reads / array.size, columns, heat.reshape(array.shape))


def _pieces(log: Log, columns: Sequence[int]) -> list[Piece]:
    """The pieces in which anything is touched, and where that is."""
    found = []
    for first, stop in zip(log.pieces, [*log.pieces[1:], len(log.accesses)], strict=True):
        touched: dict[int, set[int]] = {}
        for number, element, _ in log.accesses[first:stop]:
            touched.setdefault(number, set()).add(element)
        if touched:
            found.append(Piece(first, [_box(touched.get(number), width) for number, width in enumerate(columns)]))
    return found


def _box(elements: set[int] | None, columns: int) -> tuple[int, int, int, int] | None:
    if not elements:
        return None
    rows, across = [element // columns for element in elements], [element % columns for element in elements]
    return min(rows), max(rows) + 1, min(across), max(across) + 1


def _addresses(log: Log) -> list[int]:
    """Where each access goes, in bytes: arrays lie one behind the other, each at the beginning of a cache line."""
    starts, at = [], 0
    for size in log.sizes:
        starts.append(at)
        at += -(-4 * size // LINE) * LINE
    return [starts[number] + 4 * element for number, element, _ in log.accesses]


def simulated(addresses: Sequence[int], l1: int, l2: int) -> list[CacheUse]:
    """The caches after these accesses."""
    caches = []
    for name, size in (("L1", l1), ("L2", l2)):
        cache = Cache(size, _WAYS)
        addresses = [address for address in addresses if not cache.touch(address)]
        total = cache.hits + cache.misses
        caches.append(CacheUse(name, size, _WAYS, cache.hits, cache.misses, cache.misses / total if total else 0.0))
    return caches


_BOUNDS = ((-1, -1, "first time"), (0, 0, "0"), (1, 3, "1 to 3"), (4, 15, "4 to 15"), (16, 63, "16 to 63"))


def _histogram(addresses: Sequence[int]) -> list[Reuse]:
    counts = Counter(reuse_distances(addresses))
    rows = [(text, sum(n for d, n in counts.items() if low <= d <= high)) for low, high, text in _BOUNDS]
    rows.append(("64 and more", sum(n for d, n in counts.items() if d > _BOUNDS[-1][1])))
    return [Reuse(text, count, count / len(addresses)) for text, count in rows]
