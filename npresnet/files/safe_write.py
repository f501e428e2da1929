"""Writing files so that a name never stands for half of one, and the hash by which one is known again."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError

__all__ = ["check_writable", "file_hash", "remove_unfinished", "replaced"]

_unfinished: set[Path] = set()
"""Temporary files that are being written."""


def _temporary(target: Path) -> Path:
    """A new, empty file beside ``target``. Raises UsageError where ``target`` cannot become a file."""
    try:
        if target.exists() and not target.is_file():  # a folder; or a device, which a file must not replace
            raise UsageError(f"{target}: this is no ordinary file, so it is not written over; give a file name")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise UsageError(
            f"{target}: cannot write there ({error.strerror}); choose a directory you can write to"
        ) from None
    os.close(handle)
    _unfinished.add(Path(name))
    return Path(name)


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink()
    _unfinished.discard(temporary)


def remove_unfinished() -> None:
    """Remove what is being written, for a process that ends at once, without leaving its contexts."""
    for temporary in tuple(_unfinished):
        _remove(temporary)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise UsageError where ``replaced`` could not write ``path``: to be known before the work, not after it."""
    _remove(_temporary(Path(path)))


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside ``path`` to write into; it takes the name ``path`` when the context ends well.

    If the context ends with an error, or the process dies, ``path`` is what it was before. Raises UsageError where
    the file cannot be written.
    """
    target = Path(path)
    temporary = _temporary(target)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # a temporary file is made private; the result is an ordinary file
        os.replace(temporary, target)
        _unfinished.discard(temporary)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            raise UsageError(f"{target}: cannot be written ({error.strerror or error}); is the disk full?") from error
        raise


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
