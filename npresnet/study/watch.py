"""``study watch``: the loops of a kernel at work on a small crop: what is read and written, in which order, and what caches make
of it. Recorded from the loop that is shipped, not drawn (``recorded.py``).

The counts are exact. Caches are simulated (``caches.py``), smaller than real ones in the measure in which the crop is smaller than a
layer. Their sizes are stated, and so are the sizes of blocks, which are smaller here, too. The numbers are small and whole, so that
every order of summing gives the same bits: what was recorded must equal what the compiled kernel makes.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..kernels.geometry import window
from .caches import LINE, Cache, reuse_distances
from .forms import Column, Grid
from .recorded import Log, python_of
from .sources import text_of
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
    """What became of one array. ``heat``: how often each element was touched, in the array's shape."""

    name: str
    meaning: str
    shape: tuple[int, ...]
    reads: int
    writes: int
    reads_each: float
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
class LoopRecording:
    """A kernel on a crop.

    constants  of its module that are smaller here
    accesses   [array's number, element, 1 where written], the first of them, in order; ``total``: of all
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
    exact: bool


@dataclass(frozen=True)
class LoopCrop:
    """A kernel and the small arrays that it is run on.

    module, loop   where the compiled loop is
    arrays         {name: (array, what it is)}; the last is the result
    call           of the loop: the arrays by name, and other arguments
    compiled       the public version, for the same result
    constants      smaller ones
    """

    idea: str
    module: str
    loop: str
    arrays: Callable[[], dict[str, tuple[Array, str]]]
    call: Callable[[Callable[..., Any], Mapping[str, Any]], Any]
    compiled: Callable[[Mapping[str, Array]], Array]
    constants: Mapping[str, int]


def _whole(*shape: int) -> Array:
    """Small whole numbers as float32, the same for the same shape."""
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(np.float32)


_M, _K, _N = 6, 16, 32
_IMAGE, _TAPS, _CHANNELS = (1, 6, 6, 4), (3, 3), 8


def _product() -> dict[str, tuple[Array, str]]:
    return {
        "a": (_whole(_M, _K), "A, rows of pixels"),
        "b": (_whole(_K, _N), "B, the weights"),
        "bias": (_whole(_N), "one number per column"),
        "c": (np.zeros((_M, _N), np.float32), "C = A @ B + bias"),
    }


def _packed() -> dict[str, tuple[Array, str]]:
    return {"b": (_whole(_K, 20), "B, the weights"), "packed": (np.zeros((3, _K, 8), np.float32), "B in panels")}


def _convolution() -> dict[str, tuple[Array, str]]:
    return {
        "x": (_whole(*_IMAGE), "the map, NHWC"),
        "w": (_whole(*_TAPS, _IMAGE[3], _CHANNELS), "the kernels, HWIO"),
        "bias": (_whole(_CHANNELS), "one number per channel"),
        "out": (np.zeros((*_IMAGE[:3], _CHANNELS), np.float32), "the result, NHWC"),
    }


def _patches() -> dict[str, tuple[Array, str]]:
    columns = _TAPS[0] * _TAPS[1] * _IMAGE[3]
    return {
        "x": (_whole(*_IMAGE), "the map, NHWC"),
        "cols": (np.zeros((_IMAGE[1] * _IMAGE[2], columns), np.float32), "patches as rows"),
    }


_WINDOW = window(_IMAGE[1:3], _TAPS, 1, "same", 1)


def _kernel(name: str) -> Any:
    from .. import kernels

    return getattr(kernels, name)


def _gemm(name: str, idea: str, **constants: int) -> LoopCrop:
    return LoopCrop(
        idea, "gemm", f"_{name}", _product,
        lambda loop, a: loop(a["a"], a["b"], a["bias"], a["c"], 0, _M),
        lambda a: _kernel(name)(a["a"], a["b"], a["bias"]), constants,
    )  # fmt: skip


def _pack_compiled(arrays: Mapping[str, Array]) -> Array:
    """Panels of 8 columns, as ``pack_b`` makes them of its own width."""
    b = arrays["b"]
    padded = np.pad(b, ((0, 0), (0, -b.shape[1] % 8)))
    return np.ascontiguousarray(padded.reshape(b.shape[0], -1, 8).transpose(1, 0, 2))


CROPS: Mapping[str, LoopCrop] = {
    "conv2d_direct": LoopCrop(
        "the sum as loops: for each pixel, tap by tap, a number of x times a row of kernels", "conv2d", "_conv2d_direct",
        _convolution,
        lambda loop, a: loop(a["x"], a["w"], a["bias"], _WINDOW, a["out"], 0, _IMAGE[1]),
        lambda a: _kernel("conv2d_direct")(a["x"], a["w"], a["bias"], padding="same"), {},
    ),
    "im2col": LoopCrop(
        "every window copied into a row: each number of the map up to nine times", "im2col", "im2col_rows", _patches,
        lambda loop, a: loop(a["x"], _WINDOW, 0, _IMAGE[1] * _IMAGE[2], a["cols"]),
        lambda a: _kernel("im2col")(a["x"], _TAPS, padding="same"), {},
    ),
    "gemm_naive": _gemm("gemm_naive", "by the definition: down a column of B for each number of C"),
    "gemm_blocked": _gemm("gemm_blocked", "blocks of B that stay in cache, eight steps of k per pass over a row of C", _KC=8, _NC=16),
    "pack_b": LoopCrop(
        "B brought into the order in which it will be read: panels, row after row", "gemm", "_pack_b", _packed,
        lambda loop, a: loop(a["b"], a["packed"], 0, 3), _pack_compiled, {"NR": 8},
    ),
}  # fmt: skip

_L1, _L2, _WAYS = (
    1024,
    4096,
    4,
)  # bytes; a crop's arrays take some thousands, as a layer's do some hundred times these caches
_SHOWN = 3000  # accesses that are kept in order


def watch(kernel: str = "gemm_blocked", l1: int = _L1, l2: int = _L2) -> LoopRecording | CardRecording:
    """Run a kernel's loop in Python on a crop, and note every access. Takes about a second.

    kernel  one of ``CROPS``, or of a card's, ``CARD_KERNELS``, whose threads are then run one by one
    l1, l2  bytes of the simulated caches, of four ways

    Raises UsageError for another name; MissingExtraError for a card's kernel where numba-cuda is not installed.
    """
    if kernel in CARD_KERNELS:
        return watch_card(kernel)
    if kernel not in CROPS:
        raise UsageError(
            f"watch: got {kernel!r}; what can be recorded is {', '.join((*CROPS, *CARD_KERNELS))}; the others are written in vector "
            "instructions: `npresnet study asm` shows those"
        )
    crop = CROPS[kernel]
    given = crop.arrays()
    log = Log()
    loop = getattr(importlib.import_module(f"..kernels.{crop.module}", __package__), crop.loop)
    arrays = {name: array.copy() for name, (array, _) in given.items()}
    crop.call(python_of(loop, **crop.constants), {name: log.array(name, array) for name, array in arrays.items()})
    result = list(arrays.values())[-1]
    exact = bool(np.array_equal(result, crop.compiled({name: array for name, (array, _) in given.items()})))
    uses = [_use(log, number, name, *given[name]) for number, name in enumerate(log.names)]
    addresses = _addresses(log)
    return LoopRecording(
        kernel, crop.idea, text_of(loop), dict(crop.constants), uses,
        simulated(addresses, l1, l2), _histogram(addresses), [(n, e, int(w)) for n, e, w in log.accesses[:_SHOWN]],
        len(log.accesses), exact,
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
    return ArrayUse(name, meaning, array.shape, reads, writes, reads / array.size, heat.reshape(array.shape))


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
