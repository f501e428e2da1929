"""A card's kernels, thread by thread, without a card: which lane of a warp touches what, and what memory makes of it.

The kernel's Python function runs with a stand-in for Numba's ``cuda``: one thread of the processor for each of a block's, a barrier
for ``syncthreads``. Lanes of a warp do the same at the same time: what 32 threads touch in the same line of the source, the same time
around, is one request.

    device memory  moves sectors of 32 bytes: 32 lanes that read neighbouring float32 need 4, lanes far apart one each
    shared memory  has 32 banks, one word each per cycle: lanes that want different words of one bank wait for each other
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtraError, UsageError
from .caches import conflicts, sectors
from .forms import Column, Grid
from .recorded import python_of
from .sources import lines_of, text_of

__all__ = ["CARD_KERNELS", "CARD_TABLES", "CardRecording", "WarpRequest", "run_blocks", "watch_card"]

Array = npt.NDArray[Any]

WARP = 32

CARD_TABLES = (
    Grid(
        "requests",
        (
            Column("array", "array"),
            Column("memory", "memory"),
            Column("", "kind"),
            Column("requests", "count", "count"),
            Column("numbers", "numbers", "count"),
            Column("sectors each", "sectors", "three"),
            Column("turns each", "turns", "three"),
            Column("in the line", "text", wide=True),
        ),
        "What warps ask of memory; sectors of 32 bytes of device memory, turns that shared memory takes: 1 is without a conflict",
    ),
)


@dataclass(frozen=True)
class WarpRequest:
    """All requests of one line for one array.

    count    how many, of all warps; numbers: how many elements they move
    sectors  that one moves, on average, of device memory; turns: that one takes, of shared memory; None of the other
    lanes    elements that the first one's lanes touch, in the order of lanes
    """

    line: int
    text: str
    array: str
    memory: str
    kind: str
    count: int
    numbers: int
    sectors: float | None
    turns: float | None
    lanes: Sequence[int]


@dataclass(frozen=True)
class CardRecording:
    """A kernel of a card on a crop; threads: of each of its ``blocks``.

    loads    numbers read from device memory; flop: multiply-adds count as two
    exact    whether the result equals the product
    """

    kernel: str
    idea: str
    source: str
    shape: tuple[int, int, int]
    threads: tuple[int, ...]
    blocks: int
    requests: Sequence[WarpRequest]
    loads: int
    loads_per_product: float
    exact: bool


class _Numbers:
    """An index in up to three dimensions."""

    def __init__(self, x: int, y: int = 0, z: int = 0) -> None:
        self.x, self.y, self.z = x, y, z


class _Traced:
    """An array of the card's, that notes which thread touches which element in which line."""

    def __init__(self, cuda: _Block, name: str, data: Array, memory: str) -> None:
        self._cuda, self._name, self._data, self._memory = cuda, name, data, memory
        self.shape = data.shape

    def _element(self, key: Any) -> int:
        key = key if isinstance(key, tuple) else (key,)
        if len(key) != self._data.ndim or not all(isinstance(part, int | np.integer) for part in key):
            raise UsageError(
                f"watch: {self._name}: the index {key!r} cannot be followed; it must be whole numbers, one per axis"
            )
        element = 0
        for part, size in zip(key, self.shape, strict=True):
            if not 0 <= part < size:
                raise UsageError(f"watch: {self._name}: the index {key!r} is outside of {self.shape}")
            element = element * size + int(part)
        return element

    def __getitem__(self, key: Any) -> Any:
        self._cuda.note(self._name, self._memory, "read", self._element(key), sys._getframe(1))
        return self._data[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cuda.note(self._name, self._memory, "write", self._element(key), sys._getframe(1))
        self._data[key] = value


class _Memory:
    """``cuda.shared`` or ``cuda.local``: arrays that a kernel makes."""

    def __init__(self, cuda: _Block, shared: bool) -> None:
        self._cuda, self._shared = cuda, shared

    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> Any:
        """Shared: one for all threads of a block that come to the same line. Local: plain, for it is registers."""
        return self._cuda.shared_array(shape, sys._getframe(1)) if self._shared else np.zeros(shape, np.float32)


@dataclass
class _Note:
    thread: int
    line: int
    array: str
    memory: str
    kind: str
    element: int
    turn: int


class _Block:
    """``cuda`` as the threads of one block see it."""

    def __init__(self, block: int, threads: tuple[int, ...]) -> None:
        self._here = threading.local()
        self._size, self._block = threads, block
        self._barrier = threading.Barrier(int(np.prod(threads)))
        self._made: dict[int, _Traced] = {}
        self._making = threading.Lock()
        self.notes: dict[int, list[_Note]] = {}
        self.shared, self.local = _Memory(self, True), _Memory(self, False)
        self.blockIdx, self.blockDim = _Numbers(block), _Numbers(*threads)

    def enter(self, thread: int) -> None:
        """This is thread number ``thread`` from now on."""
        across = self._size[0]
        self._here.index = _Numbers(thread % across, thread // across)
        self._here.thread = thread
        self._here.turns = Counter[Any]()
        self.notes[thread] = self._here.notes = []

    @property
    def threadIdx(self) -> _Numbers:  # Numba's own name
        """Of this thread."""
        index: _Numbers = self._here.index
        return index

    def grid(self, dimensions: int) -> int:
        """The thread's number in the grid; kernels number theirs in one dimension."""
        assert dimensions == 1
        return int(self._block * self._size[0] + self._here.index.x)

    def syncthreads(self) -> None:
        """Wait for all threads of the block."""
        self._barrier.wait(60)

    def shared_array(self, shape: Any, frame: Any) -> _Traced:
        """The array of the line that asks for it."""
        with self._making:
            if frame.f_lineno not in self._made:
                name = inspect.getframeinfo(frame).code_context or ["shared"]
                self._made[frame.f_lineno] = _Traced(
                    self, name[0].partition("=")[0].strip(), np.zeros(shape, np.float32), "shared"
                )  # fmt: skip
            return self._made[frame.f_lineno]

    def note(self, array: str, memory: str, kind: str, element: int, frame: Any) -> None:
        """One access of this thread."""
        key = (frame.f_lineno, array, kind)
        self._here.turns[key] += 1
        self._here.notes.append(
            _Note(self._here.thread, frame.f_lineno, array, memory, kind, element, self._here.turns[key])
        )

    def stop(self) -> None:
        """Let no thread wait for one that has failed."""
        self._barrier.abort()


def run_blocks(
    kernel: Any, blocks: int, threads: tuple[int, ...], arguments: Mapping[str, Any]
) -> list[tuple[int, list[_Note]]]:
    """Run a kernel's Python function for each thread of ``blocks`` blocks. (block, what its threads touched) of each.

    arguments  by name, in order; arrays are recorded under theirs

    Raises UsageError where an array is indexed in a way that cannot be followed.
    """
    found = []
    for number in range(blocks):
        block = _Block(number, threads)
        function = python_of(kernel, cuda=block, float32=np.float32, divide=divmod)
        given = [
            _Traced(block, name, value, "device") if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        ]
        failed: list[BaseException] = []

        def work(
            thread: int, block: _Block, call: Callable[..., Any], given: list[Any], failed: list[BaseException]
        ) -> None:
            block.enter(thread)
            try:
                call(*given)
            except BaseException as caught:
                failed.append(caught)
                block.stop()

        running = [
            threading.Thread(target=work, args=(thread, block, function, given, failed))
            for thread in range(int(np.prod(threads)))
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        for error in failed:
            if not isinstance(error, threading.BrokenBarrierError):
                raise error
        found.append((number, [note for notes in block.notes.values() for note in notes]))
    return found


def requests_of(kernel: Any, notes: Sequence[tuple[int, list[_Note]]]) -> list[WarpRequest]:
    """What warps ask for, line by line."""
    together: dict[tuple[Any, ...], list[_Note]] = defaultdict(list)
    for block, touched in notes:
        for note in touched:
            together[note.line, note.array, note.kind, note.memory, block, note.thread // WARP, note.turn].append(note)
    lines: dict[tuple[Any, ...], list[list[_Note]]] = defaultdict(list)
    for key, lanes in together.items():
        lines[key[:4]].append(sorted(lanes, key=lambda note: note.thread))
    first, source = lines_of(kernel)
    rows = []
    for (line, array, kind, memory), groups in sorted(lines.items(), key=lambda item: item[0][:3]):
        elements = [[note.element for note in group] for group in groups]
        moved = [sectors([4 * element for element in group]) for group in elements] if memory == "device" else []
        turns = [conflicts(group) for group in elements] if memory == "shared" else []
        inside = 0 <= line - first < len(source)
        rows.append(
            WarpRequest(
                line, source[line - first].strip() if inside else "", array, memory, kind, len(groups), sum(map(len, groups)),
                sum(moved) / len(moved) if moved else None, sum(turns) / len(turns) if turns else None, elements[0],
            )
        )  # fmt: skip
    return rows


@dataclass(frozen=True)
class _CardCrop:
    idea: str
    loop: str
    shape: tuple[int, int, int]
    tile: tuple[int, int]


CARD_KERNELS: Mapping[str, _CardCrop] = {
    "gemm_cuda_naive": _CardCrop(
        "one thread per number of C; neighbouring threads read neighbouring numbers of B", "_gemm_naive", (16, 16, 32), (0, 0)
    ),
    "gemm_cuda_shared": _CardCrop(
        "tiles in shared memory: each number comes from device memory once per tile", "_gemm_shared", (16, 32, 32), (16, 16)
    ),
    "gemm_cuda_tiled": _CardCrop(
        "4x4 sums per thread in registers: eight numbers of shared memory serve sixteen multiply-adds", "_gemm_tiled",
        (64, 16, 64), (64, 64),
    ),
}  # fmt: skip
"""Those that can be watched, on (M, K, N) that whole tiles fill, so that all lanes do the same."""


def watch_card(name: str) -> CardRecording:
    """Run a card's kernel thread by thread. Raises MissingExtraError where numba-cuda, whose language it is in, is not installed."""
    try:
        from ..kernels.cuda import gemm
    except ImportError:
        raise MissingExtraError(
            'watching a kernel of a card needs numba-cuda, which is not installed: pip install "npresnet[cuda]"'
        ) from None
    crop = CARD_KERNELS[name]
    kernel = getattr(gemm, crop.loop)
    m, k, n = crop.shape
    random = np.random.default_rng(m)
    a, b, bias = (random.integers(-4, 5, shape).astype(np.float32) for shape in ((m, k), (k, n), (n,)))
    c = np.zeros((m, n), np.float32)
    threads = tuple(kernel.threads)
    blocks = -(-m * n // threads[0]) if crop.tile == (0, 0) else -(-m // crop.tile[0]) * -(-n // crop.tile[1])
    notes = run_blocks(kernel, blocks, threads, {"a": a, "b": b, "bias": bias, "c": c})
    rows = requests_of(kernel, notes)
    loads = sum(row.numbers for row in rows if row.memory == "device" and row.kind == "read")
    return CardRecording(
        name, crop.idea, text_of(kernel), crop.shape, threads, blocks, rows, loads, loads / (m * n * k),
        bool(np.array_equal(c, a @ b + bias)),
    )  # fmt: skip
