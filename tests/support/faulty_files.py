"""A disk on which the n-th operation fails, or at whose n-th operation the machine stops: SQLite's method.

Counted are the operations on files below one folder, of whatever Python code does them: temporary files, opening, reading,
writing, syncing, renaming, removing, making folders.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Callable
from typing import Any

__all__ = ["Crash", "FaultyFiles"]


class Crash(BaseException):
    """The machine has stopped. Nothing that is done to a file from here on has an effect."""


class FaultyFiles:
    """In this context the operation number ``at``, from 1, fails: with an error ``kind``, or, for "crash", once it is done,
    everything stops. ``stop`` is called for a crash. ``count`` is how many operations there were."""

    def __init__(
        self, folder: os.PathLike[str], at: int = 0, kind: str = "ENOSPC", stop: Callable[[], None] | None = None
    ):
        self.count = 0
        self._folder, self._at, self._kind, self._stop = os.path.realpath(folder), at, kind, stop
        self._stopped = False
        self._saved: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> FaultyFiles:
        for module, name in (
            (os, "replace"), (os, "unlink"), (os, "mkdir"), (os, "fsync"), (os, "open"), (os, "chmod"), (os, "scandir"), (tempfile, "mkstemp"),
            (io, "open"),
        ):  # fmt: skip
            self._patch(module, name)
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, original in reversed(self._saved):
            setattr(module, name, original)

    def _patch(self, module: Any, name: str) -> None:
        original = getattr(module, name)
        self._saved.append((module, name, original))

        def patched(*arguments: Any, **options: Any) -> Any:
            if not self._concerns(name, arguments, options):
                return original(*arguments, **options)
            found = self._operation(lambda: original(*arguments, **options))
            return _File(found, self) if name == "open" and module is io else found

        setattr(module, name, patched)

    def _concerns(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
        place = options.get("dir") if name == "mkstemp" else arguments[0] if arguments else None
        if name == "fsync":
            try:
                place = os.readlink(f"/proc/self/fd/{place}")
            except OSError:
                return False
        if not isinstance(place, str | os.PathLike):
            return False
        return os.path.abspath(os.fspath(place)).startswith(self._folder)

    def _operation(self, do: Callable[[], Any]) -> Any:
        if self._stopped:
            raise Crash
        self.count += 1
        if self.count != self._at:
            return do()
        if self._kind != "crash":
            number = getattr(errno, self._kind)
            raise OSError(number, os.strerror(number))
        with contextlib.suppress(OSError):
            do()
        self._stopped = True
        if self._stop is not None:
            self._stop()
        raise Crash


class _File:
    """An open file whose reads and writes are counted, too."""

    def __init__(self, file: Any, faulty: FaultyFiles) -> None:
        self._file, self._faulty = file, faulty

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name not in ("read", "write", "readinto", "readline", "flush"):
            return found
        return lambda *arguments: self._faulty._operation(lambda: found(*arguments))

    def __iter__(self) -> Any:
        return iter(self._file)

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *reason: Any) -> Any:
        return self._file.__exit__(*reason)
