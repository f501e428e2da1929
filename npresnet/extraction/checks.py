"""What can be done with a job's folder afterwards: check it, and make one file of it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..files.safe_write import check_writable
from ..kernels.threads import available_threads
from ..model import ResNet, load
from .decoder import Preparation
from .decoders import Decoders, usual_batch
from .inputs import Item, file_state
from .job import Job
from .opening import weights_hash
from .rows import Extractor
from .shards import ShardFiles, row_dtype
from .storage import write_whole

__all__ = ["Verified", "merge", "verify"]


@dataclass(frozen=True)
class Verified:
    """What ``verify`` has found.

    rows      of the whole job; ``computed`` of them again
    changed   paths of images whose files are not what they were, and which therefore were not computed
    wrong     {path: what is wrong} of rows that came out otherwise
    """

    rows: int
    computed: int
    changed: list[str]
    wrong: dict[str, str]


def verify(folder: Path, sample: float = 0.01, net: ResNet | None = None) -> Verified:
    """Read all rows of a job and compare their sums; compute a share of ``sample`` of them again and compare their bits.

    net  the job's network; None: loaded from where its weights were

    Raises UsageError for shards that are damaged, and for weights that are not the job's.
    """
    if not 0 < sample <= 1:
        raise UsageError(
            f"sample: got {sample!r}; it must be a share of the rows, above 0 and up to 1: 0.01 for every hundredth"
        )
    job = Job.read(folder)
    job.check()
    settings = job.settings
    if net is None:
        net = load(job.weights, device=settings.device, algorithm=settings.algorithm, precision=settings.precision)
    if weights_hash(net) != settings.weights_sha256:
        raise UsageError(f"{net.path}: other weights than those of {folder}; give the file that it was made with")
    how = Preparation(
        settings.preprocessing, settings.size, settings.channels, settings.formats, settings.most_pixels, settings.orient,
        settings.fast_decode,
    )  # fmt: skip
    extractor = Extractor(net, settings.layers, settings.pool, settings.dtype)
    every = round(1 / sample)
    rows, changed, wrong = 0, list[str](), dict[str, str]()
    expected: list[bytes] = []

    def items() -> Iterator[Item]:
        nonlocal rows
        for shard, found in job.items(job.shards):
            files = ShardFiles(job.folder, shard.number)
            trailer = files.trailer()
            if trailer is None:
                continue
            array = files.rows(trailer, check=True)
            for item, record in zip(found, files.records(trailer), strict=True):
                if record.row is None:
                    continue
                rows += 1
                if (rows - 1) % every:
                    continue
                if file_state(item.file) != (record.size, record.mtime):
                    changed.append(record.path)
                    continue
                expected.append(array[record.row].tobytes())
                yield item

    computed = 0
    batch = usual_batch(how.shape)
    with Decoders(min(available_threads(), math.ceil(job.count / every)), how, batch) as decoders:
        one = np.empty(1, row_dtype(job.row))
        for window in decoders.windows(items()):
            for decoded, row in extractor.rows(window):
                if row is None:
                    wrong[decoded.item.path] = f"{decoded.error}: {decoded.text}"
                else:
                    one[0] = row
                    if one.tobytes() != expected[computed]:
                        wrong[decoded.item.path] = "other bits"
                expected[computed] = b""
                computed += 1
    return Verified(rows, computed, changed, wrong)


def merge(folder: Path, out: Path) -> int:
    """Write all rows of a job into one .npy, and beside it, with the ending .jsonl, the notes on all images, whose rows count
    from its beginning. The number of rows. Raises UsageError where shards are missing or damaged, OutputError on a full disk."""
    if out.suffix != ".npy":
        raise UsageError(f"{out}: rows are merged into a .npy; give it such a name")
    check_writable(out)
    job = Job.read(folder)
    files = [ShardFiles(job.folder, shard.number) for shard in job.shards]
    trailers = [each.trailer() for each in files]
    there = [(each, trailer) for each, trailer in zip(files, trailers, strict=True) if trailer is not None]
    if len(there) < len(files):
        raise UsageError(
            f"{folder}: {len(there)} of {len(files)} shards are there; give the command again that began it"
        )
    count = sum(trailer.rows for _, trailer in there)
    row = row_dtype(job.row)
    base, shape = row.subdtype if row.subdtype else (row, ())
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(base), "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(header, described)

    def notes() -> Iterator[bytes]:
        before = 0
        for each, trailer in there:
            for record in each.records(trailer):
                if record.row is not None:
                    record.row += before
                yield record.line().encode() + b"\n"
            before += trailer.rows

    def data() -> Iterator[bytes | memoryview]:
        yield header.getvalue()
        for each, trailer in there:
            yield np.ascontiguousarray(each.rows(trailer, check=True)).reshape(-1).view(np.uint8).data

    write_whole(out, data(), len(header.getvalue()) + count * row.itemsize)
    write_whole(out.with_suffix(".jsonl"), notes())
    return count
