"""``extract``: a job, from its inputs to its shards."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError, UsageError
from ..files.safe_write import remove_abandoned
from ..images.resizing import Size
from ..kernels.threads import available_threads
from ..model import ResNet, load
from .decoder import FORMATS, MOST_PIXELS
from .decoders import Decoded, Decoders, usual_batch
from .inputs import Item
from .job import Job, Shard
from .locks import JobLock
from .opening import Asked, open_job, preparation_of, prepare_folder, settings_of
from .progress import Progress, Watch
from .rows import Extractor, chosen_layers
from .shards import Record, ShardFiles, Trailer, row_dtype, tidy
from .storage import disk_errors

__all__ = ["Start", "Summary", "extract", "features_digest", "file_state", "summarise"]

_NOTE_BYTES = 150  # of a line in a shard's .jsonl, about


@dataclass(frozen=True)
class Start:
    """What is known before the first image is read.

    images, shards  of this process's share, and how many of these ``shards`` are ``done`` already
    bytes           that all rows and notes of it that are still to come take on the disk; ``free`` are there
    """

    job: Job
    images: int
    shards: int
    done: int
    bytes: int
    free: int


@dataclass(frozen=True)
class Summary:
    """What a job has come to.

    total, rows, failed  images of the whole job, and of its shards that are there those with a row and those without
    computed, seconds    images in this run, and how long it took
    errors, examples     {kind of failure: how many images}, and (path, text) of the first of each
    sha256               over each path and its row's bytes, in order; "" before all shards are there
    """

    folder: Path
    total: int
    rows: int
    failed: int
    computed: int
    seconds: float
    errors: dict[str, int]
    examples: dict[str, tuple[str, str]]
    sha256: str

    @property
    def complete(self) -> bool:
        """Whether every image has a row or an error."""
        return self.rows + self.failed == self.total


def extract(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    net: ResNet | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layers: str | Sequence[str] | None = None,
    pool: str = "mean",
    dtype: str = "f32",
    size: Size | None = None,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    extend: bool = False,
    on_error: str = "record",
    decoders: int | None = None,
    batch: int | None = None,
    threads: int | None = None,
    orient: bool = False,
    fast_decode: bool = False,
    formats: Sequence[str] = FORMATS,
    most_pixels: int = MOST_PIXELS,
    follow_links: bool = False,
    images_per_shard: int | None = None,
    other_versions: bool = False,
    started: Callable[[Start], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Compute a row of features for each image, and keep them in a folder. Killed and called again, it goes on where it was.

    inputs   a folder, searched for pictures; a text with a path in each line, or "-" for standard input; a .tar of pictures; a
             .npy of prepared images; a picture; or several of these
    net      a network, or a weight file, which is loaded with ``threads``
    out      a folder, which may hold the same job, begun before
    layers   "c5", ["c4", "c5"], layers by name; None for the last feature map. One makes rows of one array, several make records
    pool     "mean", "max" or "gem" over the pixels of a map; "none": maps as they are, for which there must be one size
    dtype    "f32" or "f16"
    size     as ``ResNet.prepare`` has it
    shard    (k, n): only the k-th of n shares, k from 1, so that n processes on any machines that see the folder do all
    retry_failed  compute again, of what is done, the images that have failed, and those whose file has another size or time now
    extend   add images that the inputs have and the job has not
    on_error "record", or "stop": raise ImageError at the first image that fails
    decoders how many processes prepare images; None: as many as there are processors
    batch    images that the network is given at a time; None for a usual number. Rows do not depend on it
    orient   turn pictures as their EXIF orientation says, which neither Keras nor Mask R-CNN does
    fast_decode   decode JPEGs at a half, a quarter or an eighth where they are so much larger than ``size``: other features
    formats  that are decoded, by Pillow's names; most_pixels  of a picture
    follow_links  whether links to files in folders are read; those to folders never are
    images_per_shard  None: 64 MB of rows, a minute's worth, or 10,000, whatever is least; kept from then on
    other_versions    go on with other versions of NumPy, Numba, Pillow or npresnet than the job began with
    started, progress called with what is known before the first image, and a few times a second

    Of an image that fails there is a note, and no row; see ``open_features``. Raises UsageError for a wrong argument, and where
    another job is in the folder; OutputError where a file cannot be written, on a full disk say, with all that is committed
    kept; MissingExtraError for pictures without Pillow; and as ``load`` does.
    """
    if os.name == "nt":
        raise UsageError("extract: it runs on Linux and macOS; call the network itself for each of your images")
    _check(shard, on_error, decoders, batch, images_per_shard)
    began = time.monotonic()
    folder = Path(out)
    given: Sequence[object] = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    prepare_folder(folder)
    if not isinstance(net, ResNet):
        net = load(net, threads=threads)
    named = chosen_layers(net, layers)
    extractor = Extractor(net, named, pool, dtype)
    how = preparation_of(net, size, formats, most_pixels, orient, fast_decode)
    extractor.row(how.shape)  # an image that is too small is an error before anything is written
    batch = batch or usual_batch(how.shape)
    asked = Asked(given, extend, follow_links, images_per_shard, other_versions)
    with ExitStack() as stack:
        stack.enter_context(disk_errors(folder))
        lock = stack.enter_context(JobLock.held(folder))
        job = open_job(
            folder,
            lock,
            net,
            extractor,
            how,
            settings_of(net, named, pool, dtype, how),
            asked,
        )
        k, n = shard
        everything = job.shards
        mine = everything[len(everything) * (k - 1) // n : len(everything) * k // n]
        status = "status.json" if n == 1 else f"status-{k}-of-{n}.json"
        if mine:
            lock.shards(mine[0].number, mine[-1].number + 1)
            tidy(folder, mine[0].number, mine[-1].number + 1)
            remove_abandoned(folder, lambda name: name == status)
        trailers = {each.number: ShardFiles(folder, each.number).trailer() for each in mine}
        todo = [_Open(job, each) for each in mine if trailers[each.number] is None]
        if retry_failed:
            todo += _to_repeat(job, [each for each in mine if trailers[each.number] is not None])
            todo.sort(key=lambda each: each.shard.number)
        watch = Watch(sum(map(len, mine)), folder / status, progress)
        _count_done(job, mine, trailers, todo, watch)
        if started is not None:
            to_come = watch.total - watch.done
            needed = to_come * (row_dtype(job.row).itemsize + _NOTE_BYTES)
            started(Start(job, watch.total, len(mine), len(mine) - len(todo), needed, shutil.disk_usage(folder).free))
        try:
            if todo:
                count = decoders or available_threads()
                with Decoders(min(count, watch.total - watch.done), how, job.root, batch) as pool_of_decoders:
                    _work(job, todo, extractor, pool_of_decoders, watch, on_error)
        except BaseException:
            watch.tell("stopped")
            raise
        watch.tell("done")
        return summarise(job, watch.computed, time.monotonic() - began)


def _check(shard: object, on_error: str, *counts: object) -> None:
    """Raise UsageError for an argument that makes no sense."""
    if not (
        isinstance(shard, tuple)
        and len(shard) == 2
        and all(isinstance(n, int) for n in shard)
        and 1 <= shard[0] <= shard[1]
    ):
        raise UsageError(f"shard: got {shard!r}; it must be (k, n), the k-th of n shares, k from 1 to n")
    if on_error not in ("record", "stop"):
        raise UsageError(f"on_error: got {on_error!r}; it must be 'record' or 'stop'")
    for name, count in zip(("decoders", "batch", "images_per_shard"), counts, strict=True):
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise UsageError(f"{name}: got {count!r}; it must be a whole number of at least 1, or None")


class _Open:
    """A shard whose images are being computed: all of them, or, of one that was there before, those at the places ``again``."""

    def __init__(self, job: Job, shard: Shard, again: Sequence[int] | None = None) -> None:
        self.shard = shard
        self._files = ShardFiles(job.folder, shard.number)
        self._again = again
        self._places = deque(range(len(shard)) if again is None else again)
        self._row = row_dtype(job.row)
        self._rows: Any = None
        self._count = 0
        self._records: list[Record] = []
        self._old: list[Record] = []
        self._old_rows: Any = None
        self._changed = again is None

    def __len__(self) -> int:
        """Images that are to be computed."""
        return len(self._places)

    def begin(self, items: Sequence[Item]) -> list[Item]:
        """Which of its images are to be computed."""
        self._rows = np.empty(len(self.shard), self._row)
        if self._again is None:
            return list(items)
        trailer = self._files.trailer()
        assert trailer is not None
        self._old, self._old_rows = self._files.records(), self._files.rows(trailer)
        return [items[place] for place in self._again]

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
        self._keep(len(self.shard))
        rows = self._rows[: self._count]
        if self._changed:
            self._files.commit(self._records, rows)
        return int(rows.nbytes)


def _to_repeat(job: Job, shards: Sequence[Shard]) -> list[_Open]:
    """Of shards that are there, those with images that have failed, or whose files are not what they were."""
    found = []
    for shard, items in job.items(shards):
        records = ShardFiles(job.folder, shard.number).records()
        again = [
            place
            for place, (item, record) in enumerate(zip(items, records, strict=True))
            if record.row is None or file_state(job.absolute(item)) != (record.size, record.mtime)
        ]
        if again:
            found.append(_Open(job, shard, again))
    return found


def file_state(path: str) -> tuple[int, int]:
    """(size in bytes, time in ns) of a file; (-1, -1) where it cannot be asked."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _count_done(
    job: Job, shards: Sequence[Shard], trailers: dict[int, Trailer | None], todo: Sequence[_Open], watch: Watch
) -> None:
    """Let ``watch`` know of what is there and stays."""
    again = {each.shard.number: len(each) for each in todo}
    for shard in shards:
        trailer = trailers[shard.number]
        if trailer is not None:
            watch.done += len(shard) - again.get(shard.number, 0)
            watch.bytes += trailer.rows * row_dtype(job.row).itemsize
            if shard.number not in again:
                watch.failed += trailer.failed


def _work(
    job: Job, todo: Sequence[_Open], extractor: Extractor, decoders: Decoders, watch: Watch, on_error: str
) -> None:
    """Compute and commit shards, in order."""
    begun: deque[_Open] = deque()

    def items() -> Iterator[Item]:
        for each, (_, found) in zip(todo, job.items([each.shard for each in todo]), strict=True):
            begun.append(each)
            yield from each.begin(found)

    for window in decoders.windows(items()):
        for decoded, row in extractor.rows(window):
            if row is None and on_error == "stop":
                raise ImageError(
                    f"{decoded.item.path}: {decoded.text}; repair it, or give --on-error record", decoded.error
                )
            begun[0].add(decoded, row)
            watch.count("" if row is not None else decoded.error)
            if not begun[0]:
                watch.bytes += begun.popleft().commit()
        watch.tell()


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
            for record in files.records():
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
        for record in files.records():
            if record.row is not None:
                name = os.fsencode(record.path)
                digest.update(len(name).to_bytes(8, "little") + name + np.ascontiguousarray(rows[record.row]).tobytes())
    return digest.hexdigest()
