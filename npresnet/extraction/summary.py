"""What a job has come to, as its folder has it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .job import Job
from .shards import ShardFiles

__all__ = ["Outcome", "Summary", "features_digest", "summarise"]


@dataclass(frozen=True)
class Outcome:
    """What a job has come to, on one machine or on many.

    total, rows, failed  images of the whole job, and of what is there those with a row and those without
    computed, seconds    images in this run, and how long it took
    errors               {kind of failure: how many images}
    """

    folder: Path
    total: int
    rows: int
    failed: int
    computed: int
    seconds: float
    errors: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every image has a row or an error."""
        return self.rows + self.failed == self.total


@dataclass(frozen=True)
class Summary(Outcome):
    """What a job has come to on one machine.

    examples  {kind of failure: (path, text) of the first}
    sha256    over each path and its row's bytes, in order; "" before all shards are there
    """

    examples: dict[str, tuple[str, str]]
    sha256: str


def summarise(job: Job, computed: int = 0, seconds: float = 0.0, digest: bool = True) -> Summary:
    """What a job has come to, as its folder has it; without the ``digest``, for which all rows are read, if that is not wanted."""
    rows = failed = there = 0
    errors: Counter[str] = Counter()
    examples: dict[str, tuple[str, str]] = {}
    shards = job.shards
    for shard in shards:
        files = ShardFiles(job.folder, shard.number)
        trailer = files.trailer()
        if trailer is None:
            continue
        there += 1
        rows, failed = rows + trailer.rows, failed + trailer.failed
        if trailer.failed:
            for record in files.records(trailer):
                if record.error:
                    errors[record.error] += 1
                    examples.setdefault(record.error, (record.path, record.text))
    sha256 = features_digest(job) if digest and there == len(shards) else ""
    return Summary(job.folder, job.count, rows, failed, computed, seconds, dict(errors.most_common()), examples, sha256)


def features_digest(job: Job) -> str:
    """SHA-256 over each path, behind its length in 8 bytes, and its row's bytes, in order: what is to be the same however the
    work was cut."""
    digest = hashlib.sha256()
    for shard in job.shards:
        files = ShardFiles(job.folder, shard.number)
        trailer = files.trailer()
        if trailer is None:
            continue
        rows = files.rows(trailer)
        for record in files.records(trailer):
            if record.row is not None:
                name = os.fsencode(record.path)
                digest.update(len(name).to_bytes(8, "little") + name + np.ascontiguousarray(rows[record.row]).tobytes())
    return digest.hexdigest()
