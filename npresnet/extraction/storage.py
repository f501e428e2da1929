"""Writing the files of a job: whole or not at all, and on the disk before anything else relies on them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError, UsageError
from ..files.safe_write import replaced

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = ["disk_errors", "write_whole"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """What goes wrong with the files of a job in this context, and is not told yet, is told as an OutputError."""
    try:
        yield
    except OSError as error:
        # whoever reads what is printed has gone; there is no memory; or a library is not there: nothing of this is the disk's
        if error.errno in (None, errno.EPIPE, errno.ENOMEM):
            raise
        name = os.fspath(error.filename) if error.filename else folder
        raise OutputError(
            f"{name}: {error.strerror or error}; when that is put right, give the same command again, and it goes on from here"
        ) from error


def write_whole(path: Path, pieces: Iterable[Buffer], size: int | None = None, durable: bool = True) -> None:
    """Write a file of ``pieces``; it takes its name when all of them are on the disk.

    size  in bytes, where that is known, for the message

    Raises OutputError where it cannot be written.
    """
    try:
        with replaced(path, durable) as temporary, temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
    except UsageError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise
        needed = "" if size is None else f", which takes {size:,} bytes"
        if cause.errno in _FULL:
            advice = "the disk is full, or a quota is used up; make room and give the same command again"
        else:
            advice = f"{cause.strerror or cause}; when that is put right, give the same command again"
        raise OutputError(f"{path}: cannot be written{needed}: {advice}, and it goes on from here") from error
