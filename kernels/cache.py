"""Where compiled kernels and other things worth keeping live on disk: the only place that decides it.

``cache_directory()`` is the user's directory; ``kernel_cache()`` is the folder below it for machine code. Three facts
shape them:

- Numba reads its cache with pickle, so whoever can write that directory can run code as the user. The directory must
  belong to the user, be closed to others (0700) and be no symbolic link; otherwise a fresh temporary directory is
  used for this process alone.
- Numba's own cache key covers one source file. A kernel that calls a helper in another file would be served stale
  after the helper changed. The folder's name therefore carries a hash over all kernel sources.
- No writable directory at all (a read-only container, say) must never be an error: kernels are then compiled anew in
  each process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import threading
from pathlib import Path

__all__ = [
    "NOWHERE",
    "cache_directory",
    "existing_cache",
    "kernel_cache",
    "lasting_directory",
    "remove_temporary",
    "source_hash",
    "write_whole",
]

NOWHERE = "this user has no cache directory that can be written; NPRESNET_CACHE_DIR may name one"

_temporary: dict[Path, int] = {}
"""Directories that go with the process that made them, where there is no other: {path: the process's number}."""


def _preferred() -> Path:
    """The directory that the user's settings and platform ask for; it may not exist yet."""
    chosen = os.environ.get("NPRESNET_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()  # the same place wherever the program moves to
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        root = "~/Library/Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "npresnet"


def _is_private(path: Path) -> bool:
    """Whether only this user can put a file into the directory ``path``, which is no link."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        return False
    if sys.platform == "win32":  # access lists, not mode bits, guard a Windows profile
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


@functools.cache
def cache_directory() -> Path | None:
    """This user's private npresnet directory, made if need be; a temporary one if that cannot be; None if nothing can.

    ``NPRESNET_CACHE_DIR`` overrides the platform's place (``~/.cache/npresnet`` on Linux).
    """
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: this user has no home
        path = _preferred()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(path):
            tempfile.TemporaryFile(dir=path).close()  # the mode bits do not tell of a read-only mount
            return path
    with contextlib.suppress(OSError):
        path = Path(tempfile.mkdtemp(prefix="npresnet-"))  # made 0700 by the library
        _temporary[path] = os.getpid()
        atexit.register(remove_temporary)
        return path
    return None


def lasting_directory() -> Path | None:
    """``cache_directory()``; None if it goes with this process."""
    directory = cache_directory()
    return None if directory in _temporary else directory


def remove_temporary() -> None:
    """Remove the temporary directories that this process has made; forked children run atexit hooks too."""
    for path, owner in _temporary.items():
        if owner == os.getpid():
            shutil.rmtree(path, ignore_errors=True)


@functools.cache
def source_hash() -> str:
    """A short hash over every kernel source file: names and contents."""
    digest = hashlib.sha256()
    root = Path(sys.modules["npresnet.kernels"].__path__[0])  # wherever in the package this file itself is
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _folder(root: Path, settings: tuple[str, ...]) -> Path:
    return root / "kernels" / "-".join([source_hash(), *settings])


@functools.cache
def kernel_cache(*settings: str) -> str | None:
    """The folder for compiled kernels of exactly these sources and ``settings``; None when nothing is writable."""
    root = cache_directory()
    if root is None:
        return None
    path = _folder(root, settings)
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(path)
    return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that other processes see whole, or as it was before. Raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def existing_cache(*settings: str) -> str | None:
    """As ``kernel_cache``, but nothing is made: None where the folder is not there, or could be another user's."""
    with contextlib.suppress(OSError, RuntimeError):
        root = _preferred()
        path = _folder(root, settings)
        if path.is_dir() and _is_private(root):
            return str(path)
    return None
