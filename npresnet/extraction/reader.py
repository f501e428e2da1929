"""``open_features``: what a job has come to, lazily and read-only."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .job import Job
from .shards import Record, ShardFiles, Trailer, row_dtype

__all__ = ["ExtractedFeatures", "LazyRows", "open_features"]

Array = npt.NDArray[Any]


def open_features(folder: str | os.PathLike[str]) -> ExtractedFeatures:
    """The features in the folder of a job, done or not: what was committed before this call.

    Raises UsageError for a folder without a job, and, where they are read, for damaged shards.
    """
    return ExtractedFeatures(Job.read(Path(folder)))


class LazyRows:
    """Rows of several files as if they were one array [rows, ...], read where they are asked for.

    ``[3]``, ``[10:20]``, ``[[1, 5]]`` and ``numpy.asarray(rows)`` give arrays; of records also ``["c5"]``. Nothing can be written.
    """

    def __init__(self, files: list[tuple[ShardFiles, Trailer]], row: np.dtype[Any], field: str | None = None) -> None:
        self._files, self._row, self._field = files, row, field
        self._ends = list(itertools.accumulate(trailer.rows for _, trailer in files))
        self._open: dict[int, Array] = {}
        whole = np.empty(0, row)
        whole = whole if field is None else whole[field]
        self.dtype = whole.dtype
        self.shape: tuple[int, ...] = (self._ends[-1] if self._ends else 0, *whole.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<rows {self.dtype} {list(self.shape)}, read where they are asked for>"

    def blocks(self) -> Iterator[Array]:
        """The rows, as many at a time as a shard has."""
        for number in range(len(self._files)):
            yield self._block(number)

    def _block(self, number: int) -> Array:
        if number not in self._open:
            files, trailer = self._files[number]
            rows = files.rows(trailer)
            self._open[number] = rows if self._field is None else rows[self._field]
        return self._open[number]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if self.dtype.names is None or key not in self.dtype.names:
                raise UsageError(f"features: got the name {key!r}; rows of {self.dtype} have no such field")
            return LazyRows(self._files, self._row, key)
        if isinstance(key, slice):
            key = range(*key.indices(len(self)))
            if key.step == 1 and len(key):
                return self._stretch(key.start, key.stop)
        elif isinstance(key, int | np.integer):
            return self._one(int(key))
        places = np.asarray(key)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        for at, place in enumerate(places):
            found[at] = self._one(int(place))
        return found

    def _one(self, place: int) -> Any:
        place = place + len(self) if place < 0 else place
        if not 0 <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        number = bisect.bisect_right(self._ends, place)
        return self._block(number)[place - (self._ends[number - 1] if number else 0)]

    def _stretch(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop`` - 1; without a copy where they are in one file."""
        parts = []
        for number in range(bisect.bisect_right(self._ends, start), len(self._files)):
            first = self._ends[number - 1] if number else 0
            if first >= stop:
                break
            parts.append(self._block(number)[max(0, start - first) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.blocks())

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        whole: Array = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)


class ExtractedFeatures:
    """Features by the paths of their images. Made by ``open_features``."""

    def __init__(self, job: Job) -> None:
        self._job = job
        shards = ((ShardFiles(job.folder, shard.number), shard) for shard in job.shards)
        found = [(files, files.trailer()) for files, _ in shards]
        self._files = [(files, trailer) for files, trailer in found if trailer is not None]
        self._complete = len(self._files) == len(found)
        self._paths: list[str] | None = None
        self._rows: dict[str, int] | None = None
        self._errors: dict[str, str] | None = None
        self.array = LazyRows(self._files, row_dtype(job.row))

    @property
    def complete(self) -> bool:
        """Whether all images of the job have a row or an error."""
        return self._complete

    @property
    def layers(self) -> dict[str, str]:
        """{name in the results: layer of the network}."""
        return dict(self._job.settings.layers)

    @property
    def paths(self) -> list[str]:
        """The paths of the rows, in their order; as ``os.fsdecode`` has those that are not UTF-8."""
        if self._paths is None:
            self._paths = [record.path for record in self.records() if record.row is not None]
        return self._paths

    @property
    def errors(self) -> dict[str, str]:
        """{path: "kind: what is wrong"} of the images without a row."""
        if self._errors is None:
            self._errors = {r.path: f"{r.error}: {r.text}" for r in self.records() if r.row is None}
        return self._errors

    def records(self) -> Iterator[Record]:
        """What became of each image, in order; ``row`` counts within its shard."""
        for files, trailer in self._files:
            yield from files.records(trailer)

    def __len__(self) -> int:
        """Rows."""
        return len(self.array)

    def __contains__(self, path: object) -> bool:
        return path in self._by_path

    @property
    def _by_path(self) -> dict[str, int]:
        if self._rows is None:
            self._rows = {}
            for number, path in enumerate(self.paths):
                self._rows.setdefault(path, number)
        return self._rows

    def __getitem__(self, path: str | os.PathLike[str]) -> Any:
        """The row of an image. Raises KeyError, which says why where the image has failed."""
        name = os.fspath(path)
        if name in self._by_path:
            return self.array[self._by_path[name]]
        why = self.errors.get(name)
        raise KeyError(f"{name}: {'not among the images' if why is None else why}")

    def __repr__(self) -> str:
        return f"<npresnet features of {len(self)} images{'' if self.complete else ', more to come'}, {self.array.dtype} {list(self.array.shape[1:])}>"
