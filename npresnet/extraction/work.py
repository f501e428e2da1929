"""Computing shards: which images of which, in order, and what becomes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ImageError
from .decoders import Decoded, Decoders
from .inputs import Item, file_state
from .job import Job, Shard
from .progress import Watch
from .rows import Extractor
from .shards import Record, ShardFiles, row_dtype

__all__ = ["OpenShard", "Todo", "compute", "to_repeat"]


class Todo(NamedTuple):
    """A shard that is to be computed: all of its images, or, of one that was there before, those at the places ``again``."""

    shard: Shard
    again: Sequence[int] | None = None

    @property
    def images(self) -> int:
        """How many images are to be computed."""
        return len(self.shard) if self.again is None else len(self.again)


class OpenShard:
    """A shard whose images are being computed."""

    def __init__(self, job: Job, todo: Todo) -> None:
        self._files = ShardFiles(job.folder, todo.shard.number)
        self._length = len(todo.shard)
        self._places = deque(range(self._length) if todo.again is None else todo.again)
        self._rows = np.empty(self._length, row_dtype(job.row))
        self._count = 0  # of rows
        self._records: list[Record] = []
        self._old: list[Record] = []
        self._old_rows: Any = None
        self._changed = todo.again is None
        if todo.again is not None:
            trailer = self._files.trailer()
            assert trailer is not None
            self._old, self._old_rows = self._files.records(trailer), self._files.rows(trailer)

    @property
    def complete(self) -> bool:
        """Whether all of its images were added."""
        return not self._places

    def add(self, decoded: Decoded, row: Any) -> None:
        """The next image's row, or None and an error."""
        place = self._places.popleft()
        self._keep(place)
        record = Record(decoded.item.path, decoded.size, decoded.mtime, None, *decoded.stored)
        record.error, record.text = ("", "") if row is not None else (decoded.error, decoded.text)
        self._append(record, row)
        self._changed = self._changed or record != self._old[place]

    def _keep(self, stop: int) -> None:
        """What is as it was, up to a place."""
        for place in range(len(self._records), stop):
            old = self._old[place]
            self._append(Record(**vars(old)), None if old.row is None else self._old_rows[old.row])

    def _append(self, record: Record, row: Any) -> None:
        if row is not None:
            record.row = self._count
            self._rows[self._count] = row
            self._count += 1
        self._records.append(record)

    def commit(self) -> int:
        """Write it, unless all is as it was; the bytes of its rows."""
        self._keep(self._length)
        rows = self._rows[: self._count]
        if self._changed:
            self._files.commit(self._records, rows)
        return int(rows.nbytes)


def to_repeat(job: Job, shards: Sequence[Shard]) -> list[Todo]:
    """Of shards that are there, those with images that have failed, or whose files are not what they were."""
    found = []
    for shard, items in job.items(shards):
        files = ShardFiles(job.folder, shard.number)
        trailer = files.trailer()
        assert trailer is not None
        records = files.records(trailer)
        again = [
            place
            for place, (item, record) in enumerate(zip(items, records, strict=True))
            if record.row is None or file_state(item.file) != (record.size, record.mtime)
        ]
        if again:
            found.append(Todo(shard, again))
    return found


def compute(
    job: Job, todo: Sequence[Todo], extractor: Extractor, decoders: Decoders, watch: Watch, on_error: str
) -> None:
    """Compute and commit shards, in order."""
    begun: deque[OpenShard] = deque()

    def items() -> Iterator[Item]:
        for each, (_, found) in zip(todo, job.items([each.shard for each in todo]), strict=True):
            begun.append(OpenShard(job, each))
            yield from found if each.again is None else (found[place] for place in each.again)

    for window in decoders.windows(items()):
        for decoded, row in extractor.rows(window):
            if row is None and on_error == "stop":
                raise ImageError(
                    f"{decoded.item.path}: {decoded.text}; repair it, or give --on-error record", decoded.error
                )
            begun[0].add(decoded, row)
            watch.count("" if row is not None else decoded.error)
            if begun[0].complete:
                watch.bytes += begun.popleft().commit()
        watch.tell()
