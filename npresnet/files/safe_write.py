"""Writing files so that a name never stands for half of one, and the hash by which one is known again."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError

__all__ = ["check_writable", "file_hash", "remove_abandoned", "remove_unfinished", "replaced", "sync_folder"]

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
        ) from error
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


def remove_abandoned(folder: Path, belongs: Callable[[str], bool]) -> None:
    """Remove the temporary files in ``folder`` that processes have left behind which were killed.

    belongs  whether nobody else can be writing the file of this name now
    """
    for path in folder.glob(".*.part"):
        found = re.fullmatch(r"\.(.+)\.\w{8}\.part", path.name)
        if found and belongs(found[1]):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` last, whatever happens to the machine; files' contents ``replaced(durable=True)`` does."""
    if os.name == "nt":  # where folders cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise UsageError where ``replaced`` could not write ``path``: to be known before the work, not after it."""
    _remove(_temporary(Path(path)))


@contextmanager
def replaced(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """A temporary file beside ``path`` to write into; it takes the name ``path`` when the context ends well.

    durable  whether its contents must be on the disk before that, so that not even a power cut leaves half a file

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
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
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
