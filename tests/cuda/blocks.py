"""A block of threads in Numba's simulator, without waiting in circles.

Numba's own manager of a block asks each thread again and again whether it has ended or waits at a barrier, and the threads
that work wait for that. Here the last thread that arrives at a barrier, or that ends before it, lets the others go on. What
the threads do is the simulator's.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba.cuda.simulator.kernel import BlockManager, BlockThread

__all__ = ["Manager"]


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


class Manager(BlockManager):  # type: ignore[misc]
    """In the place of Numba's ``BlockManager``; a barrier is passed when all threads that have not ended are there."""

    def run(self, grid_point: tuple[int, ...], *args: Any) -> None:
        """Run all threads of one block. Raises what the first of them raised."""
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
