"""A block of threads in Numba's simulator, without waiting in circles.

Numba's own manager of a block asks each thread again and again whether it has ended or waits at a barrier, and the threads
that work wait for that. Here the last thread that arrives at a barrier, or that ends before it, lets the others go on. And
where threads have nothing to do with each other, one after another runs in the thread that is there: to start one takes
longer than most of them do. What the threads do is the simulator's.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np
from numba.cuda.simulator.kernel import BlockManager, BlockThread
from numba.cuda.simulator.kernelapi import Dim3

__all__ = ["Manager", "together"]


@functools.cache
def together(function: Any) -> bool:
    """Whether threads that run ``function`` need each other: it, or what it calls, has a barrier, or memory that they share."""
    return any(name.startswith("sync") or name in ("shared", "wait") for name in _names(function, set()))


def _names(function: Any, seen: set[Any]) -> Iterator[str]:
    """All names in the code of a function, and of those that it may call."""
    if function in seen:
        return
    seen.add(function)
    codes, known = [function.__code__], inspect.getclosurevars(function)
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        yield from code.co_names
    for value in (*known.globals.values(), *known.nonlocals.values()):
        called = getattr(value, "fn", value)  # what Numba has wrapped
        if isinstance(called, FunctionType):
            yield from _names(called, seen)


class _Thread(BlockThread):  # type: ignore[misc]
    def run(self) -> None:
        super().run()
        self._manager.ended(self)

    def syncthreads(self) -> None:
        self._manager.arrived(self)
        self.syncthreads_event.wait()
        self.syncthreads_event.clear()
        if self.abort:
            raise RuntimeError("abort flag set on syncthreads clear")


class _Alone(NamedTuple):
    """What a kernel asks of its thread, where there is none but the one that was there before."""

    blockIdx: Dim3
    threadIdx: Dim3
    thread_id: int

    def syncthreads(self) -> None:
        raise AssertionError("a barrier in a kernel that was taken for one without: see together()")


class Manager(BlockManager):  # type: ignore[misc]
    """In the place of Numba's ``BlockManager``; a barrier is passed when all threads that have not ended are there."""

    def run(self, grid_point: tuple[int, ...], *args: Any) -> None:
        """Run all threads of one block. Raises what the first of them raised."""
        if together(self._f):
            self._run_together(grid_point, *args)
        else:
            self._run_in_turn(grid_point, *args)

    def _run_in_turn(self, grid_point: tuple[int, ...], *args: Any) -> None:
        """Here, as each of the block's threads in turn: a kernel asks Python which one it is in."""
        here, width, height = threading.get_ident(), self._block_dim[0], self._block_dim[1]
        active: dict[int, Any] = threading._active  # type: ignore[attr-defined]
        outside, block = active[here], Dim3(*grid_point)
        try:
            for x, y, z in np.ndindex(*self._block_dim):
                active[here] = _Alone(block, Dim3(x, y, z), x + width * (y + height * z))
                try:
                    self._f(*args)
                except Exception as error:  # in the simulator's words
                    raise type(error)(f"tid={[x, y, z]} ctaid={list(grid_point)}: {error}") from error
        finally:
            active[here] = outside

    def _run_together(self, grid_point: tuple[int, ...], *args: Any) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Thread] = []
        self._live = int(np.prod(self._block_dim))
        self._failed: list[_Thread] = []

        def target() -> None:
            self._f(*args)

        threads = [
            _Thread(target, self, grid_point, block_point, self._debug) for block_point in np.ndindex(*self._block_dim)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed:
            error, traceback = self._failed[0].exception
            raise error.with_traceback(traceback)

    def arrived(self, thread: _Thread) -> None:
        with self._lock:
            self._waiting.append(thread)
            self._let_go()

    def ended(self, thread: _Thread) -> None:
        with self._lock:
            self._live -= 1
            if thread.exception:
                self._failed.append(thread)
            self._let_go()

    def _let_go(self) -> None:
        """Where nobody is left to wait for, or one has failed, which ends them all."""
        if self._failed or len(self._waiting) == self._live:
            for thread in self._waiting:
                thread.abort = bool(self._failed)
                thread.syncthreads_event.set()
            self._waiting = []
