"""Cards: which there are, whether they can be used and why not, and what a run borrows of one: a stream and memory."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError, MissingExtraError, UsageError
from ..plan.recent import Recent
from .driver import checked, driver, simulated, wait_for
from .recorded import wait_for_all

if TYPE_CHECKING:
    from .copies import Placed, Staged

__all__ = ["Bindable", "Card", "Found", "Lane", "find_cards", "open_card", "parse_device", "why_no_cuda"]

Array = npt.NDArray[Any]

_T = TypeVar("_T")
_Bound = TypeVar("_Bound", covariant=True)

NUMBA_CUDA = (0, 30, 4)
"""The oldest numba-cuda that goes with today's Numba: those before end at its first kernel. `pyproject.toml` asks for it, too."""

LOWEST = (7, 5)
"""The oldest compute capability that CUDA 13 compiles for."""

TENSOR_CORES = (8, 0)
"""The oldest compute capability with the instructions of the kernels for tensor cores."""

_SPARE = 8  # results' memory that is kept
_MADE = 64  # of which it is known in what order they were made
_RESULTS = 2  # sets of results that a program writes by itself: a loop that holds the last one while it asks for the next has two
_INSTEAD = "the same network runs with device='cpu'"


def parse_device(device: str) -> int:
    """The number of the card for "cuda" and "cuda:1". Raises UsageError for anything else."""
    found = re.fullmatch(r"cuda(?::(\d{1,4}))?", device) if isinstance(device, str) else None
    if found is None:
        raise UsageError(f"device: got {device!r}; it must be 'cpu', 'cuda', or 'cuda:1' for the second card")
    return int(found[1] or 0)


@dataclass(frozen=True)
class Found:
    """A card that the driver knows: its number, name, compute capability, multiprocessors, memory in bytes, and what keeps
    it from being used, or None."""

    index: int
    name: str
    capability: tuple[int, int]
    sms: int
    free: int
    total: int
    problem: str | None


def why_no_cuda() -> str | None:
    """What keeps this process from using any card, in words; None where cards can be used.

    Raises nothing. The driver is asked, which takes a moment the first time.
    """
    if importlib.util.find_spec("numba_cuda") is None:  # which the simulator takes, too
        return 'numba-cuda is not installed; `pip install "npresnet[cuda]"` adds it'
    if simulated():
        return None
    import numba_cuda
    from numba import cuda

    version = str(numba_cuda.__version__)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < NUMBA_CUDA:
        needed = ".".join(map(str, NUMBA_CUDA))
        return (
            f"numba-cuda {version} is installed, and the kernels take {needed} or newer; "
            f'`pip install -U "numba-cuda[cu13]>={needed}"`'
        )
    try:
        available = cuda.is_available()
        reason = cuda.cuda_error()
    except Exception as error:  # each broken installation has an error of its own
        return f"CUDA does not start ({type(error).__name__}: {_line(error)}); check the driver with `nvidia-smi`"
    if reason is not None:
        return f"no NVIDIA driver answers ({_line(reason)}); install one, or check it with `nvidia-smi`"
    if not available:
        return 'CUDA\'s compiler is not installed; `pip install "numba-cuda[cu13]"` adds it ([cu12] for older drivers)'
    return _too_old_a_driver()


def _too_old_a_driver() -> str | None:
    """Machine code is linked for the major version of CUDA that is installed; older drivers refuse it."""
    from cuda.bindings import driver, nvjitlink

    error, version = driver.cuDriverGetVersion()
    major = nvjitlink.version()[0]
    if int(error) == 0 and version // 1000 < major:
        return (
            f"the driver knows CUDA up to {version // 1000}.{version % 1000 // 10}, but the parts installed here are of CUDA "
            f'{major}; update the driver, or `pip install "numba-cuda[cu{version // 1000}]"`'
        )
    return None


def _line(text: object) -> str:
    """``text`` in one line."""
    return " ".join(str(text).split())


def find_cards(opened: int | None = None) -> list[Found]:
    """The cards that there are; none where ``why_no_cuda`` says something.

    opened  the only one to be opened, which takes memory there; None: each
    """
    if why_no_cuda() is not None:
        return []
    from numba import cuda

    found = []
    for index in range(len(cuda.gpus)):
        context = cuda.gpus[index]
        capability = tuple(context.compute_capability)
        problem = None
        if capability < LOWEST and not simulated():
            problem = (
                f"its compute capability is {capability[0]}.{capability[1]}; CUDA 13 needs {LOWEST[0]}.{LOWEST[1]} "
                "(a card of 2018 or later)"
            )
        free = total = 0
        if problem is None and opened in (None, index) and not simulated():
            try:
                with context:
                    free, total = (int(count) for count in cuda.current_context().get_memory_info())
            except Exception as error:  # a card in exclusive use, say
                problem = f"it cannot be opened ({_line(error)})"
        name = getattr(context, "name", "Numba's simulator")
        name = name.decode() if isinstance(name, bytes) else name
        sms = int(getattr(context, "MULTIPROCESSOR_COUNT", 1))
        found.append(Found(index, name, capability, sms, free, total, problem))
    return found


_opened: dict[int, Card] = {}
_opening = threading.Lock()


def open_card(index: int) -> Card:
    """The card number ``index``, one object per process.

    Raises MissingExtraError without numba-cuda; DeviceError without a driver, without such a card, or for one that is
    too old, each time with what to do.
    """
    with _opening:
        if index in _opened:
            return _opened[index].check_process()
        reason = why_no_cuda()
        if reason is not None:
            kind = MissingExtraError if reason.startswith("numba-cuda") else DeviceError
            raise kind(f"device 'cuda': {reason}; {_INSTEAD}")
        cards = find_cards(opened=index)
        if index >= len(cards):
            names = ", ".join(f"cuda:{card.index} {card.name}" for card in cards) or "none at all"
            raise DeviceError(f"device 'cuda:{index}': there is no such card, but {names}; {_INSTEAD}")
        if cards[index].problem is not None:
            raise DeviceError(f"device 'cuda:{index}' ({cards[index].name}): {cards[index].problem}; {_INSTEAD}")
        _opened[index] = Card(cards[index])
        return _opened[index]


class Card:
    """A card in use. Made by ``open_card``."""

    def __init__(self, found: Found) -> None:
        self.index, self.name, self.capability, self.sms = found.index, found.name, found.capability, found.sms
        self._process = os.getpid()
        self.context: Any = None  # the driver's, once there is a lane; before that, Numba looks for it
        self._lock = threading.Lock()
        self._idle: list[Lane] = []
        # Memory of results that nobody refers to any more. It comes from finalizers, which may run at any moment, also while
        # the lock is held: so every change is one operation of the deque, and takes no lock.
        self._spare: deque[Any] = deque(maxlen=_SPARE)
        self._made: deque[int] = deque(maxlen=_MADE)  # ids of results' memory, the oldest first

    def check_process(self) -> Card:
        """This card, unless the process has forked since it was opened, which CUDA does not survive: DeviceError."""
        if os.getpid() != self._process:
            raise DeviceError(
                f"device 'cuda:{self.index}': it was opened before this process was forked, and CUDA does not survive that; "
                "load networks in the child only, or start workers with multiprocessing's 'spawn'"
            )
        return self

    def check_precision(self, precision: str) -> None:
        """Refuse tensor cores that this card does not have: DeviceError."""
        if precision != "fp32" and self.capability < TENSOR_CORES and not simulated():
            raise DeviceError(
                f"precision: got {precision!r}, but device 'cuda:{self.index}' ({self.name}) has compute capability "
                f"{self.capability[0]}.{self.capability[1]}, and that takes 8.0; give precision='fp32'"
            )

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the card that the calls inside the block, by this thread, are about."""
        self.check_process()
        if self.context is None:
            from numba import cuda

            with cuda.gpus[self.index]:
                yield
            return
        checked(driver().cuCtxPushCurrent(self.context))
        try:
            yield
        finally:
            checked(driver().cuCtxPopCurrent())

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes."""
        from numba import cuda

        with self.current():
            free, total = cuda.current_context().get_memory_info()
        return int(min(free, 1 << 60)), int(min(total, 1 << 60))  # the simulator has infinite memory

    def allocated(self, size: int, purpose: str, allocate: Callable[[], _T]) -> _T:
        """What ``allocate`` returns. Raises DeviceError with ``size`` bytes and ``purpose`` where memory is short."""
        try:
            return allocate()
        except Exception as error:
            if not _out_of_memory(error):
                raise
        with self._lock:  # what is kept for later runs
            self._idle.clear()
            self._spare.clear()
        try:
            return allocate()
        except Exception as error:
            if not _out_of_memory(error):
                raise
            free, total = self.memory()
            raise DeviceError(
                f"device 'cuda:{self.index}' ({self.name}): out of memory: {purpose} takes {size:,} bytes, and "
                f"{free:,} of {total:,} are free; give fewer or smaller images at a time, or free memory that other "
                "programs hold (`nvidia-smi` lists them)"
            ) from None

    def array(self, shape: tuple[int, ...], purpose: str) -> Any:
        """An uninitialised float32 array on this card, which must be the current one. Raises DeviceError."""
        from numba import cuda

        size = 4 * math.prod(shape)
        return self.allocated(size, purpose, lambda: cuda.device_array(shape, np.float32))

    def results(self, shapes: Mapping[str, tuple[int, ...]], stream: Any) -> dict[str, Any]:
        """As ``array``, for a user, one of each shape; from memory that ``give_back`` got, where there is some of that shape.

        What is queued on ``stream`` is then done. Whoever had the memory may have left work queued on it, on any stream: that
        is waited for, too.
        """
        found = {name: self._spare_of(shape) for name, shape in shapes.items()}
        if any(memory is not None for memory in found.values()):
            wait_for_all()
        else:
            wait_for(stream)
        for name, shape in shapes.items():
            if found[name] is None:
                found[name] = memory = self.array(shape, "the outputs")
                with suppress(ValueError):  # of memory that is gone
                    self._made.remove(id(memory))
                self._made.append(id(memory))
        return found

    def _spare_of(self, shape: tuple[int, ...]) -> Any:
        """Memory of a shape that was given back; None where there is none. Of several the one that was made first, so that it is
        always the same: programs know it."""
        ages = {made: age for age, made in enumerate(tuple(self._made))}
        found: Any = None
        for _ in range(len(self._spare)):
            try:
                spare = self._spare.popleft()
            except IndexError:  # another thread took the last one
                break
            if spare.shape == shape and (found is None or ages.get(id(spare), _MADE) < ages.get(id(found), _MADE)):
                spare, found = found, spare
            if spare is not None:
                self._spare.append(spare)
        return found

    def give_back(self, memory: Any) -> None:
        """Keep memory that ``results`` gave, for the next one of its shape; of all that comes, the last few arrays."""
        self._spare.append(memory)

    def upload(self, array: Array) -> Any:
        """A copy of a NumPy array on this card, which must be the current one. Raises DeviceError."""
        from numba import cuda

        from ..kernels.cuda.launch import contiguous

        host = contiguous(array)
        there = self.allocated(array.nbytes, "a tensor of the network", lambda: cuda.to_device(host))
        cuda.default_stream().synchronize()  # the copy may be in flight on it; lanes do not wait for that stream
        return there

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A stream with memory of its own, for one run at a time; after an error it is not used again."""
        with self._lock:
            lane = self._idle.pop() if self._idle else None
        if lane is None:
            with self.current():
                lane = Lane(self)
        yield lane
        with self._lock:
            self._idle.append(lane)


class Bindable(Protocol[_Bound]):
    """What can be given memory of a lane: a program of ``program.py``, of which a card knows no more than this."""

    @property
    def arena_bytes(self) -> int:
        """Memory for all activations."""

    def bind(self, arena: Any, results: Mapping[str, Any] | None = None) -> _Bound:
        """It with its activations in ``arena``, float32 of at least ``arena_bytes``, and its outputs in ``results``, if given."""


class _Kept(Generic[_Bound]):
    """A program as it is bound to a lane's arena, and to memory of the last few results that came more than once."""

    def __init__(self, bound: _Bound) -> None:
        self.bound = bound
        self.writing: Recent[tuple[int, ...], _Bound] = Recent(_RESULTS)
        self._seen: deque[tuple[int, ...]] = deque(maxlen=2 * _RESULTS)

    def again(self, where: tuple[int, ...]) -> bool:
        """Whether results at these addresses were asked for before, not long ago."""
        known = where in self._seen
        if not known:
            self._seen.append(where)
        return known


class Lane:
    """What one run at a time works with: a stream, an arena for activations, page-locked memory for copies.

    Callers on several threads each have their own. All of it is kept between runs, and grows to what the largest needs.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.stream = _own_stream()
        if not simulated():
            card.context = checked(driver().cuCtxGetCurrent())
        self._arena: Any = None
        self._staging: dict[str, Array] = {}
        self._staged: dict[tuple[str, tuple[int, ...]], Staged] = {}  # cut from it
        # no longer than the programs are kept by their networks, whose weights they hold
        self._bound: weakref.WeakKeyDictionary[Bindable[Any], _Kept[Any]] = weakref.WeakKeyDictionary()

    def arena(self, size: int) -> Any:
        """float32 memory on the card, of at least ``size`` bytes."""
        if self._arena is None or 4 * self._arena.size < size:
            self._bound.clear()  # programs that were bound to the old one
            self._arena = None
            self._arena = self.card.array((-(-size // 4),), "working memory for these images")
        return self._arena

    def bound(self, program: Bindable[_Bound], results: Mapping[str, Placed] | None = None) -> _Bound:
        """``program`` with its activations in this lane's arena; kept, so that a shape of images is bound once.

        results  where its outputs are wanted. When the same memory comes again, as it does for who lets go of what he got, the
                 program is bound to that, too, and writes there; else its outputs are in the arena, to be copied
        """
        arena = self.arena(program.arena_bytes)
        kept: _Kept[_Bound] | None = self._bound.get(program)
        if kept is None:
            kept = self._bound[program] = _Kept(program.bind(arena))
        if results is None:
            return kept.bound
        where = tuple(place.address for place in results.values())
        if not kept.again(where):
            return kept.bound
        return kept.writing.get(
            where, lambda: program.bind(arena, {name: place.array for name, place in results.items()})
        )

    def staging(self, name: str, shape: tuple[int, ...]) -> Staged:
        """Page-locked float32 memory, from and to which the card copies by itself while others compute."""
        if (name, shape) not in self._staged:
            from .copies import Staged

            count = math.prod(shape)
            if name not in self._staging or self._staging[name].size < count:
                self._make_staging(name, count)
            self._staged[name, shape] = Staged(self._staging[name][:count].reshape(shape))
        return self._staged[name, shape]

    def _make_staging(self, name: str, count: int) -> None:
        from numba import cuda

        self._staging.pop(name, None)
        self._staged = {key: staged for key, staged in self._staged.items() if key[0] != name}
        self._staging[name] = self.card.allocated(
            4 * count, "page-locked memory for copies", lambda: cuda.pinned_array(count, np.float32)
        )


def _out_of_memory(error: Exception) -> bool:
    return int(getattr(error, "code", 0)) == 2  # CUDA_ERROR_OUT_OF_MEMORY


def _own_stream() -> Any:
    """A stream on the current card that waits for no other one.

    Numba's own streams and the default one, which other libraries use, wait for each other; work on that while steps are
    being recorded would be an error, in whichever thread.
    """
    from numba import cuda

    if simulated():
        return cuda.stream()
    error, handle = driver().cuStreamCreate(driver().CUstream_flags.CU_STREAM_NON_BLOCKING)
    if int(error) != 0:
        raise DeviceError(
            f"device 'cuda': a stream cannot be made (error {int(error)}); check the card with `nvidia-smi`"
        )
    stream = cuda.external_stream(int(handle))
    weakref.finalize(stream, driver().cuStreamDestroy, handle).atexit = False
    return stream
