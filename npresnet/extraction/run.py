"""``extract``: a job, from its inputs to its shards."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..files.safe_write import remove_abandoned
from ..images.resizing import Size
from ..kernels.threads import available_threads
from ..model import ResNet, load
from .decoder import FORMATS, MOST_PIXELS
from .decoders import Decoders, usual_batch
from .job import Job, Shard
from .locks import JobLock
from .opening import Asked, open_job, preparation_of, prepare_folder, settings_of
from .progress import Progress, Watch
from .rows import Extractor, chosen_layers
from .shards import ShardFiles, row_dtype, tidy
from .storage import disk_errors
from .summary import Summary, summarise
from .work import Todo, compute, to_repeat

__all__ = ["Start", "extract"]

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
        # a decoder starts while the job is opened
        pool_of_decoders = stack.enter_context(Decoders(decoders or available_threads(), how, batch))
        job = open_job(folder, lock, net, extractor, how, settings_of(net, named, pool, dtype, how), asked)
        mine, status = _share(job, lock, shard)
        watch = Watch(sum(map(len, mine)), folder / status, progress)
        todo = _todo(job, mine, retry_failed, watch)
        if started is not None:
            to_come = watch.total - watch.done
            needed = to_come * (row_dtype(job.row).itemsize + _NOTE_BYTES)
            started(Start(job, watch.total, len(mine), len(mine) - len(todo), needed, shutil.disk_usage(folder).free))
        if todo and batch > 1 and how.shape is not None:  # kernels get ready while decoders start
            extractor.maps(np.zeros((1, *how.shape), np.float32))
        try:
            compute(job, todo, extractor, pool_of_decoders, watch, on_error)
        except BaseException:
            watch.tell("stopped")
            raise
        watch.tell("done")
        pool_of_decoders.close()
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


def _share(job: Job, lock: JobLock, share: tuple[int, int]) -> tuple[list[Shard], str]:
    """The shards of this process's share, locked and tidied up, and the name of its status file."""
    k, n = share
    shards = job.shards
    mine = shards[len(shards) * (k - 1) // n : len(shards) * k // n]
    status = "status.json" if n == 1 else f"status-{k}-of-{n}.json"
    if mine:
        lock.shards(mine[0].number, mine[-1].number + 1)
        tidy(job.folder, mine[0].number, mine[-1].number + 1)
        remove_abandoned(job.folder, lambda name: name == status)
    return mine, status


def _todo(job: Job, shards: Sequence[Shard], retry_failed: bool, watch: Watch) -> list[Todo]:
    """What is to be computed of the shards; ``watch`` gets to know of what is there and stays."""
    trailers = {each.number: ShardFiles(job.folder, each.number).trailer() for each in shards}
    todo = [Todo(each) for each in shards if trailers[each.number] is None]
    if retry_failed:
        todo += to_repeat(job, [each for each in shards if trailers[each.number] is not None])
        todo.sort(key=lambda each: each.shard.number)
    again = {each.shard.number: each.images for each in todo}
    for shard in shards:
        trailer = trailers[shard.number]
        if trailer is not None:
            watch.done += len(shard) - again.get(shard.number, 0)
            if shard.number not in again:
                watch.bytes += trailer.rows * row_dtype(job.row).itemsize
                watch.failed += trailer.failed
    return todo
