"""A shard on the disk: rows in ``00042.npy``, and in ``00042.jsonl`` what became of each image; the second makes the first count.

    {"path": ..., "size": bytes, "mtime": ns, "row": 0, "width": 500, "height": 375}
    {"path": ..., "size": ..., "mtime": ..., "row": null, "error": "truncated", "text": ...}
    {"npy": "00042.npy", "rows": 1, "failed": 1, "crc32": of the rows' bytes}              the last line

Both are written whole, the ``.npy`` first. A shard that is written again gets another ``.npy``, ``00042-1.npy``, and the new
``.jsonl`` says so: whoever reads has either the old pair or the new one.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError, UsageError
from ..files.safe_write import remove_abandoned, sync_folder
from .storage import write_whole

__all__ = ["FOLDER", "Record", "ShardFiles", "Trailer", "row_dtype", "row_format", "tidy"]

FOLDER = "shards"

_TAIL = 4096  # bytes; the last line has some hundred

Rows = npt.NDArray[Any]


@dataclass
class Record:
    """What became of an image: a row, or an error; ``row`` counts within the shard.

    size, mtime    of its file in bytes and ns; -1 where it could not be asked
    width, height  of the picture in the file, in pixels; 0 where that is not known
    error          kind of failure, "" for none; ``text`` says more
    """

    path: str
    size: int
    mtime: int
    row: int | None = None
    width: int = 0
    height: int = 0
    error: str = ""
    text: str = ""

    def line(self) -> str:
        found: dict[str, Any] = {"path": self.path, "size": self.size, "mtime": self.mtime, "row": self.row}
        found |= {"error": self.error, "text": self.text} if self.row is None else {}
        found |= {"width": self.width, "height": self.height} if self.width else {}
        return json.dumps(found)


@dataclass(frozen=True)
class Trailer:
    """The last line of a shard's ``.jsonl``."""

    npy: str
    rows: int
    failed: int
    crc32: int


class ShardFiles:
    """The files of shard ``number`` in a job's folder."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self._folder = folder / FOLDER
        self._name = f"{number:05d}"

    @property
    def notes(self) -> Path:
        """The ``.jsonl``."""
        return self._folder / f"{self._name}.jsonl"

    def trailer(self) -> Trailer | None:
        """The last line; None where the shard is not there, or its rows are not."""
        try:
            with self.notes.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - _TAIL))
                found = Trailer(**json.loads(file.read().splitlines()[-1]))
            return found if (self._folder / found.npy).exists() else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.notes}: cannot be read ({error.strerror}); is the disk sound?") from None
        except (ValueError, TypeError, IndexError) as error:
            raise UsageError(f"{self.notes}: damaged ({error}); delete it, and give the same command again") from None

    def records(self, trailer: Trailer) -> list[Record]:
        """What became of its images, in order, as the commit with this ``trailer`` has it.

        Raises UsageError where another commit has taken its place: its rows are others.
        """
        try:
            lines = self.notes.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        if not lines or Trailer(**json.loads(lines[-1])) != trailer:
            raise self._gone(self.notes)
        return [Record(**json.loads(line)) for line in lines[:-1]]

    def rows(self, trailer: Trailer, check: bool = False) -> Rows:
        """The rows, mapped into memory and read-only.

        check  whether to read all of them, and compare their sum

        Raises UsageError for a file that is damaged.
        """
        path = self._folder / trailer.npy
        try:
            rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise self._gone(path) from None
        except (OSError, ValueError) as error:
            rows, why = np.empty(0), str(error)
        else:
            why = "" if len(rows) == trailer.rows else f"{len(rows)} rows, not {trailer.rows}"
            if not why and check and zlib.crc32(rows.reshape(-1).view(np.uint8).data) != trailer.crc32:
                why = "its rows are not those that were written"
        if why:
            raise UsageError(f"{path}: damaged ({why}); delete {self.notes.name}, and give the same command again")
        return rows

    @staticmethod
    def _gone(path: Path) -> UsageError:
        return UsageError(f"{path}: is gone; was the shard computed again meanwhile? open the features once more")

    def commit(self, records: Sequence[Record], rows: Rows) -> Trailer:
        """Write the shard. Raises OutputError; then what was there before is there still."""
        before = self.trailer()
        name = f"{self._name}.npy" if before is None else self._next(before.npy)
        rows = np.ascontiguousarray(rows)
        data = rows.reshape(-1).view(np.uint8).data
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
        trailer = Trailer(name, len(rows), len(records) - len(rows), zlib.crc32(data))
        notes = "".join(f"{record.line()}\n" for record in records) + json.dumps(vars(trailer)) + "\n"
        write_whole(self._folder / name, [header.getvalue(), data], len(header.getvalue()) + data.nbytes)
        write_whole(self.notes, [notes.encode()], len(notes))
        try:
            sync_folder(self._folder)
            if before is not None:
                (self._folder / before.npy).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self._folder}: {error.strerror}; give the same command again") from error
        return trailer

    def _next(self, name: str) -> str:
        """The name of the rows that come after those of this name."""
        found = re.fullmatch(rf"{self._name}(?:-(\d+))?\.npy", name)
        return f"{self._name}-{int(found[1] or 0) + 1 if found else 1}.npy"


def tidy(folder: Path, first: int, stop: int) -> None:
    """Remove what processes that were killed have left of shards ``first`` to ``stop`` - 1: half files, and rows that no
    ``.jsonl`` names. For their only writer."""
    within = folder / FOLDER

    def number(name: str) -> int:
        found = re.fullmatch(r"(\d{5,})(?:-\d+)?\.(?:npy|jsonl)", name)
        return int(found[1]) if found else -1

    remove_abandoned(within, lambda name: first <= number(name) < stop)
    for path in within.glob("*.npy"):
        if first <= number(path.name) < stop:
            trailer = ShardFiles(folder, number(path.name)).trailer()
            if trailer is None or trailer.npy != path.name:
                path.unlink(missing_ok=True)


def row_format(dtype: np.dtype[Any]) -> Any:
    """A row's dtype as JSON can keep it."""
    base, shape = (dtype.subdtype[0], dtype.subdtype[1]) if dtype.subdtype else (dtype, ())
    return [np.lib.format.dtype_to_descr(base), list(shape)]


def row_dtype(found: Any) -> np.dtype[Any]:
    """What ``row_format`` made a text of."""
    described, shape = found
    if isinstance(described, list):
        described = [(name, form, *map(tuple, shapes)) for name, form, *shapes in described]
    return np.dtype((np.dtype(described), tuple(shape)))
