"""The files that one weight file is made of, while they are open: for as long as it is read, or as a network may read it again.

A network keeps its weights in the form in which its kernels read them, and no other. What else asks for them gets them from
the file, which therefore stays open: then it may be moved, deleted, or replaced by another of its name, and is read all the
same. Only what writes into the file itself is in the way; that is noticed.
"""

from __future__ import annotations

import io
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from ..errors import WeightsError
from . import impostors
from .hdf5.source import Budget

__all__ = ["OpenFiles", "regular_file"]

_T = TypeVar("_T")


class OpenFiles:
    """The files of the weight file at ``path``, and what reading them may cost. They are closed by ``done``; once they were to
    be kept, when nobody knows of them any more.

    lasting  whether they may be kept: not on Windows, where an open file cannot be deleted, nor where numbers come from another
             process, or were unpacked into memory
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._streams: dict[io.FileIO, tuple[int, ...]] = {}
        self._budgets: list[Budget] = []
        self.lasting = hasattr(os, "preadv")  # which Windows lacks
        self._kept = False
        self._close = weakref.finalize(self, self._stack.close)

    def enter(self, context: AbstractContextManager[_T]) -> _T:
        """What ``context`` gives; it is left when the files are closed."""
        return self._stack.enter_context(context)

    def stream(self, path: Path) -> io.FileIO:
        """One of the files, opened. Raises WeightsError."""
        stream = self._stack.enter_context(regular_file(path))
        self._streams[stream] = _state(stream)
        return stream

    def budget(self, room: int) -> Budget:
        """What reading may cost, as ``Budget`` has it."""
        self._budgets.append(Budget(room))
        return self._budgets[-1]

    def keep(self) -> bool:
        """Leave the files open for ``again``, if that can be; whether it can."""
        self._kept = self.lasting
        return self._kept

    def done(self) -> None:
        """Close the files, unless they are to be kept."""
        if not self._kept:
            self._close()

    @contextmanager
    def again(self) -> Iterator[None]:
        """In this context numbers are read that were read before. Raises WeightsError where a file is not what it was."""
        for budget in self._budgets:
            budget.renew()
        failure = ""
        try:
            yield
        except WeightsError as error:
            failure = str(error)
        try:
            changed = any(_state(stream) != then for stream, then in self._streams.items())
        except OSError as error:  # it is on a network, say
            failure = (
                f"the file can no longer be read ({error.strerror}); check the disk or the network, and load it anew"
            )
        else:
            if changed:
                failure = (
                    "the file was written to since it was loaded, and its weights are needed again; load it anew, and replace a "
                    "file that is in use by renaming another to its name, which leaves the old one to those who have it open"
                )
        if failure:
            raise WeightsError(f"{self._path}: {failure}")


def _state(stream: io.FileIO) -> tuple[int, ...]:
    """What changes when a file is written to."""
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def regular_file(path: Path) -> io.FileIO:
    """The file, opened; anything that is no ordinary file is refused before it is opened, for a pipe would wait. Raises
    WeightsError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise WeightsError(f"this is {impostors.directory_name(path)}")
        if not stat.S_ISREG(mode):
            raise WeightsError("this is a pipe or a device; give the weight file itself (`.h5` or `.keras`)")
        return io.FileIO(path)
    except FileNotFoundError:
        raise WeightsError("there is no such file; check the path") from None
    except PermissionError as error:
        raise WeightsError(f"the file cannot be read ({error.strerror}); check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise WeightsError(f"the file cannot be read ({error}); check the path") from None
