"""What is to be computed: folders, lists, tar archives and arrays as a sequence of images, in an order that never changes.

Nothing here holds all images at once: there may be millions. A listing goes into a file, one JSON text a line, and is read
from there from then on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UsageError

__all__ = ["SUFFIXES", "TAR_HEADER", "InputList", "InputSource", "Item", "file_state", "parse_sources"]

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".npy",
    ]
)
"""Names of files in folders end so; whatever else lies there is passed over, and counted."""

TAR_HEADER = 512  # bytes, directly before a member's own

_LOOKED_AT = 2**20  # bytes of a list in which there must be no zero


@dataclass(frozen=True)
class Item:
    """One image.

    path    its name in the results
    file    where it is, absolute, or as seen from the job's root
    offset  for a member of a tar archive: where it begins in ``file``, in bytes; how many it has; and the CRC-32 of its header, which
            lies before it
    index   its place in ``file``, for an array of many
    """

    path: str
    file: str
    offset: tuple[int, int, int] | None = None
    index: int | None = None

    def line(self) -> str:
        """As one line of JSON; names that are not UTF-8 keep their bytes, as Python's surrogates."""
        if self.offset is None and self.index is None and self.file == self.path:
            return json.dumps(self.path)
        return json.dumps([self.path, self.file, self.offset if self.index is None else self.index])

    @staticmethod
    def of_line(line: str | bytes) -> Item:
        """What ``line`` made."""
        found = json.loads(line)
        if isinstance(found, str):
            return Item(found, found)
        path, file, place = found
        if isinstance(place, int):
            return Item(path, file, index=place)
        return Item(path, file, offset=tuple(place) if place else None)


def file_state(path: str) -> tuple[int, int]:
    """(size in bytes, time in ns) of a file; (-1, -1) where it cannot be asked."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class InputSource:
    """An input as the user gave it: ``kind`` is folder, list, tar, array or picture; ``path`` absolute, or "-"; ``sha256`` of a list."""

    kind: str
    path: str
    sha256: str = ""


def parse_sources(inputs: Sequence[object]) -> tuple[list[InputSource], bytes]:
    """The sources that ``inputs`` name, and what standard input has, where it is one of them: to be read but once. Raises
    UsageError for what is not there."""
    sources, standard_input = [], b""
    for given in inputs:
        if not isinstance(given, str | os.PathLike):
            raise UsageError(
                f"inputs: got {type(given).__name__}; an input is the path of a folder, a list, a .tar, a .npy or a picture"
            )
        text = os.fspath(given)
        if not isinstance(text, str):
            text = os.fsdecode(text)
        path = text if text == "-" else os.path.abspath(text)
        suffix = os.path.splitext(path)[1].lower()
        if path != "-" and not os.path.exists(path):
            raise UsageError(f"{text}: no such file or folder; check the path")
        if path.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")):
            raise UsageError(
                f"{text}: a compressed archive, in which no picture can be found again quickly; give a plain .tar, or unpack it"
            )
        if os.path.isdir(path):
            sources.append(InputSource("folder", path))
        elif suffix == ".tar":
            sources.append(InputSource("tar", path))
        elif suffix == ".npy":
            sources.append(InputSource("array", path))
        elif suffix in SUFFIXES:
            sources.append(InputSource("picture", path))
        else:
            if path == "-":
                standard_input = sys.stdin.buffer.read()
            with io.BytesIO(standard_input) if path == "-" else open(path, "rb") as file:
                if b"\0" in file.read(_LOOKED_AT):
                    raise UsageError(
                        f"{text}: neither a picture by its name ({', '.join(sorted(SUFFIXES))}) nor a text with a path in each line"
                    )
                file.seek(0)
                sources.append(InputSource("list", path, hashlib.file_digest(file, "sha256").hexdigest()))
    if not sources:
        raise UsageError("inputs: none given; give a folder, a list of paths, a .tar, a .npy or pictures")
    return sources, standard_input


@dataclass
class InputList:
    """The images of some sources, found as they are asked for.

    root         what their relative names start from: the folder, where there is but one source, and that is a folder; else the
                 working directory
    avoid        a folder that is not searched: that of the results
    passed_over  {why: how many names were left out}, as far as the listing has come
    """

    sources: Sequence[InputSource]
    standard_input: bytes
    avoid: Path
    follow_links: bool = False
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def root(self) -> str:
        alone = len(self.sources) == 1 and self.sources[0].kind == "folder"
        return self.sources[0].path if alone else os.getcwd()

    def __iter__(self) -> Iterator[Item]:
        for source in self.sources:
            if source.kind == "folder":
                yield from self._folder(source.path)
            elif source.kind == "list":
                with io.BytesIO(self.standard_input) if source.path == "-" else open(source.path, "rb") as lines:
                    for line in lines:
                        if name := line.rstrip(b"\r\n"):
                            yield from self._file(os.fsdecode(name))
            elif source.kind == "tar":
                yield from self._tar(source.path)
            else:
                yield from self._file(self._name(source.path))

    def _name(self, path: str) -> str:
        """How a file is called in the results: from the root, where it lies below it."""
        root = self.root.rstrip(os.sep) + os.sep
        return path[len(root) :] if path.startswith(root) else path

    def _folder(self, top: str) -> Iterator[Item]:
        """The pictures below a folder, in the order of the bytes of their paths."""
        avoid = os.path.abspath(self.avoid)
        waiting = [top.rstrip(os.sep) + os.sep]
        while waiting:
            path = waiting.pop()
            if not path.endswith(os.sep):
                yield from self._file(self._name(path))
                continue
            waiting += reversed(self._within(path, avoid))

    def _within(self, folder: str, avoid: str) -> list[str]:
        """The pictures in a folder, and its folders, which end with a slash: in the order of the bytes of all that is below them."""
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        if entry.path != avoid:
                            found.append(entry.path + os.sep)
                    elif why := self._left_out(entry):
                        self.passed_over[why] += 1
                    else:
                        found.append(entry.path)
        except OSError:
            self.passed_over["folder that cannot be read"] += 1
        return sorted(found, key=os.fsencode)

    def _left_out(self, entry: os.DirEntry[str]) -> str:
        """Why what is no folder is passed over; "" where it is not."""
        if entry.is_symlink() and not (self.follow_links and os.path.isfile(entry.path)):
            return "link, which is not followed"
        if entry.name.startswith("."):
            return "hidden file or folder"
        return "" if os.path.splitext(entry.name)[1].lower() in SUFFIXES else "file that is no picture by its name"

    def _file(self, name: str) -> Iterator[Item]:
        """A file's images: one, or, of an array [n, h, w, c], n of them."""
        if name.lower().endswith(".npy"):
            try:
                array = np.load(os.path.join(self.root, name), mmap_mode="r", allow_pickle=False)
                count = len(array) if isinstance(array, np.ndarray) and array.ndim == 4 else None
            except Exception:  # it is found again where it is decoded, and recorded
                count = None
            if count is not None:
                yield from (Item(f"{name}#{index}", name, index=index) for index in range(count))
                return
        yield Item(name, name)

    def _tar(self, path: str) -> Iterator[Item]:
        """The pictures in a tar archive, in its order. Raises UsageError where it cannot be read to its end."""
        name, size = self._name(path), os.path.getsize(path)
        try:
            with tarfile.open(path, "r:") as archive, open(path, "rb") as file:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # or it keeps them all
                    if (
                        not member.isreg()
                        or member.issparse()
                        or os.path.splitext(member.name)[1].lower() not in SUFFIXES - {".npy"}
                    ):
                        if not member.isdir():
                            self.passed_over["member of an archive that is no picture by its name"] += 1
                        continue
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError(f"{member.name!r} goes on beyond the end of the file")
                    file.seek(member.offset_data - TAR_HEADER)
                    header = zlib.crc32(file.read(TAR_HEADER))
                    yield Item(f"{name}/{member.name}", name, offset=(member.offset_data, member.size, header))
        except (tarfile.TarError, OSError, ValueError) as error:
            raise UsageError(f"{path}: not a whole tar archive ({error}); fetch or make it again") from None
