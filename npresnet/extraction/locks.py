"""Never two writers of one shard: byte ranges of one file, locked for as long as a process lives, and freed by the kernel
when it dies, so that no lock is ever left behind.

Byte 0 stands for ``job.json`` and the lists, byte n + 1 for shard n. (Where Python has no ``fcntl``, on Windows, nothing is
locked: there it is up to the user.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["JobLock"]

_mine: set[str] = set()  # folders that this process works in: the kernel's locks are between processes alone
_guard = threading.Lock()


class JobLock:
    """The lock of a job's folder, held by this process. Made by ``held``."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._folder, self._descriptor = folder, descriptor

    @staticmethod
    @contextmanager
    def held(folder: Path) -> Iterator[JobLock]:
        """With this context ranges can be locked. Raises UsageError where another thread works in the folder."""
        name = os.path.realpath(folder)
        with _guard:
            if name in _mine:
                raise UsageError(f"{folder}: another thread of this process is at work there; wait for it")
            _mine.add(name)
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                yield JobLock(folder, descriptor)
            finally:
                os.close(descriptor)  # and with it go all locks
        finally:
            with _guard:
                _mine.discard(name)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Nobody else reads or writes ``job.json`` in this context: waits until that is so."""
        if fcntl is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            if fcntl is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, 0)

    def shards(self, first: int, stop: int) -> None:
        """Shards ``first`` to ``stop`` - 1 are this process's from now on. Raises UsageError where one is another's."""
        if stop > first and not self._taken(first + 1, stop - first):
            raise UsageError(
                f"{self._folder}: another process is at work on these shards ({first} to {stop - 1}); wait for it, or give each "
                "process its own share: --shard 1/2 and --shard 2/2"
            )

    def whole(self) -> None:
        """The folder is this process's from now on. Raises UsageError where it is another's."""
        if not self._taken(0, 0):
            raise UsageError(f"{self._folder}: another process is at work there; wait for it, or give another folder")

    def _taken(self, first: int, count: int) -> bool:
        """Lock ``count`` bytes, 0 for all that follow, if nobody else has; whether that is so."""
        try:
            if fcntl is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
        except OSError:
            return False
        return True
