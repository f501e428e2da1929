"""``npresnet extract``."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ImageError, OutputError, UsageError
from .interrupt import can_go_on
from .options import (
    Algorithm,
    AlgorithmOption,
    ArchitectureOption,
    DeviceOption,
    Precision,
    PrecisionOption,
    PreprocessingOption,
    SizeOption,
    ThreadsOption,
    load_network,
    parse_words,
)
from .printing import dimensions, fact, fail, guarded, print_table, printable, say

if TYPE_CHECKING:
    from ..extraction.progress import Progress
    from ..extraction.run import Start
    from ..extraction.summary import Summary

__all__ = ["extract"]

_EVERY = 30.0  # seconds between lines where there is no terminal


@guarded
def extract(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT", help="A folder, a list of paths (- for standard input), a .tar, a .npy, or pictures."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="A Keras weight file (.h5, .keras, .weights.json).")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of the results.")] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="A,B", help="c5, c4, or layers by name; else the last map.")
    ] = None,
    pool: Annotated[str, typer.Option(metavar="POOL", help="mean, max or gem over pixels, or none.")] = "mean",
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="f32 or f16.")] = "f32",
    size: SizeOption = None,
    preprocessing: PreprocessingOption = None,
    shard: Annotated[str, typer.Option(metavar="K/N", help="Only the K-th of N shares of the work.")] = "1/1",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Compute again what has failed, and files that have changed.")
    ] = False,
    extend: Annotated[bool, typer.Option("--extend", help="Add images that are new among the inputs.")] = False,
    on_error: Annotated[
        str, typer.Option(metavar="WHAT", help="record images that fail, or stop at the first.")
    ] = "record",
    decoders: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that read pictures; else as many as processors.", min=1)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Images that the network takes at a time.", min=1)
    ] = None,
    threads: ThreadsOption = None,
    orient: Annotated[bool, typer.Option("--orient", help="Turn pictures as their EXIF orientation says.")] = False,
    fast_decode: Annotated[
        bool, typer.Option("--fast-decode", help="Decode large JPEGs at a half, quarter or eighth: other features.")
    ] = False,
    formats: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Those to read, as Pillow calls them; else JPEG,PNG,WEBP,BMP,DIB,GIF,TIFF,PPM."
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(metavar="N", help="Pictures of more fail; else 89,478,485.", min=1)
    ] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Read links to files, in folders.")] = False,
    images_per_shard: Annotated[
        int | None, typer.Option(metavar="N", help="Of a new job; else a minute's, 64 MB, or 10,000.", min=1)
    ] = None,
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="Go on with other versions of NumPy or Pillow.")
    ] = False,
    device: DeviceOption = "cpu",
    algorithm: AlgorithmOption = Algorithm.auto,
    precision: PrecisionOption = Precision.fp32,
    architecture: ArchitectureOption = None,
    status: Annotated[Path | None, typer.Option(metavar="DIR", help="How far a job has come.")] = None,
    verify: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Check a job: read its rows, compute a sample again.")
    ] = None,
    sample: Annotated[str, typer.Option(metavar="SHARE", help="Of the rows, for --verify.")] = "1%",
    merge: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="DIR FILE", help="Make one .npy of a job's rows.")
    ] = None,
) -> None:
    """Compute features of whole folders, in jobs that can be resumed.

    A row for each image goes into DIR, in shards. Python reads it with npresnet.open_features(DIR). Exit status 1: some images
    have failed, or the disk is full; what is done stays.
    """
    chosen = [name for name, given in (("--status", status), ("--verify", verify), ("--merge", merge)) if given]
    if len(chosen) > 1 or (chosen and inputs):
        raise UsageError(f"{' and '.join(chosen)}: {'one at a time' if len(chosen) > 1 else 'no INPUT goes with it'}")
    try:
        if status is not None:
            _status(status)
            return
        if verify is not None:
            _verify(verify, weights, sample, architecture)
            return
        if merge is not None:
            from ..extraction.checks import merge as merged

            say(
                f"{merged(*merge)} rows in {merge[1]}, and what became of each image in {merge[1].with_suffix('.jsonl')}"
            )
            return
        for name, given in (("INPUT", inputs), ("--weights", weights), ("--out", out)):
            if not given:
                raise UsageError(f"{name}: not given; it takes `npresnet extract INPUT --weights WEIGHTS --out DIR`")
        assert inputs is not None
        assert weights is not None
        assert out is not None
        from ..extraction.decoder import FORMATS, MOST_PIXELS
        from ..extraction.run import extract as extracted

        can_go_on(f"npresnet {shlex.join(sys.argv[1:])}")
        net = load_network(weights, architecture, device, algorithm, threads, precision, preprocessing)
        with _shown() as show:
            summary = extracted(
                inputs, net, out, layers=layers, pool=pool, dtype=dtype, size=size, shard=_share(shard),
                retry_failed=retry_failed, extend=extend, on_error=on_error, decoders=decoders, batch=batch, orient=orient,
                fast_decode=fast_decode, formats=FORMATS if formats is None else tuple(parse_words("--formats", formats)),
                most_pixels=max_pixels or MOST_PIXELS, follow_links=follow_links, images_per_shard=images_per_shard,
                other_versions=other_versions, started=_print_start, progress=show,
            )  # fmt: skip
    except (ImageError, OutputError) as error:  # a part of the work failed, and what is done stays
        fail(str(error), 1)
    _print_summary(summary)
    if summary.failed:
        raise typer.Exit(1)


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found:
        raise UsageError(f"--shard: got {text!r}; it must be K/N, such as 2/8 for the second of eight shares")
    return int(found[1]), int(found[2])


def _percent(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", text)
    if not found:
        raise UsageError(f"--sample: got {text!r}; it must be a share such as 1% or 0.01")
    return float(found[1]) / (100 if found[2] else 1)


def _print_start(start: Start) -> None:
    """What is known before the first image: how many there are, and what they take."""
    from ..extraction.shards import row_dtype

    job = start.job
    row = row_dtype(job.row)
    fact("network", job.settings.architecture)
    done = f", {start.done} of them done" if start.done else ""
    fact("images", f"{start.images:,} in {_many(start.shards, 'shard')}{done}")
    for why, count in job.passed_over.items():
        fact("", f"passed over: {count:,} x {why}")
    for name, layer in job.settings.layers.items():
        one = row if row.names is None else row[name]
        shape = dimensions(one.shape) or "1"
        fact("row", f"{name} ({layer}), {job.settings.pool}: {one.base} {shape}, {_bytes(one.itemsize)}")
    fact("disk", f"{_bytes(start.bytes)} still to be written, {_bytes(start.free)} free")
    if start.bytes > start.free:
        print(
            f"npresnet: note: the results need {_bytes(start.bytes)} and the disk has {_bytes(start.free)}; when it is full, make "
            "room and give the same command again",
            file=sys.stderr,
        )
    sys.stdout.flush()


def _print_summary(summary: Summary) -> None:
    """What has become of the job."""
    speed = f", {summary.computed / summary.seconds:.1f} images/s" if summary.computed else ""
    fact("computed", f"{_many(summary.computed, 'image')} in {summary.seconds:.1f} s{speed}")
    fact(
        "job", f"{_many(summary.rows, 'row')} and {_many(summary.failed, 'failure')} of {_many(summary.total, 'image')}"
    )
    fact("saved", str(summary.folder))
    if summary.sha256:
        fact("sha256", summary.sha256)
    if summary.failed:
        say()
        rows = [(kind, f"{count:,}", *summary.examples[kind]) for kind, count in summary.errors.items()]
        print_table(("failed", "images", "the first of them", "why"), rows, "lrll")
        say()
        say("Once they are repaired, --retry-failed computes them, and nothing else, again.")


def _status(folder: Path) -> None:
    import json

    from ..extraction.job import Job
    from ..extraction.progress import was_killed
    from ..extraction.summary import summarise

    job = Job.read(folder)
    summary = summarise(job, digest=False)
    done = summary.rows + summary.failed
    fact("network", job.settings.architecture)
    fact("images", f"{done:,} of {summary.total:,} done, {summary.failed:,} of them failed")
    for kind, count in summary.errors.items():
        fact("", f"{count:,} x {kind}")
    for path in sorted(folder.glob("status*.json")):
        found = json.loads(path.read_bytes())
        ago = max(0.0, time.time() - found["time"])
        left = "" if found["remaining"] is None else f", {_time(found['remaining'])} to go"
        state = f"{found['per_second']:.1f} images/s{left}" if found["state"] == "running" else found["state"]
        if was_killed(found):
            state = "killed, and the same command goes on with it"
        images = f"{found['done']:,} of {found['total']:,} images"
        fact(path.stem, f"{images}; {state}; process {found['pid']} on {found['host']}, {_time(ago)} ago")


def _verify(folder: Path, weights: Path | None, sample: str, architecture: str | None) -> None:
    from ..extraction.checks import verify
    from ..extraction.job import Job

    job = Job.read(folder)
    how = job.settings
    net = load_network(
        weights or Path(job.weights), architecture, how.device, how.algorithm, None, how.precision, how.preprocessing
    )
    found = verify(folder, _percent(sample), net)
    fact("rows", f"{found.rows:,}, all of them whole; {found.computed:,} computed again, {len(found.wrong):,} differ")
    if found.changed:
        fact("changed", f"{_many(len(found.changed), 'file')} since then, {found.changed[0]} for one: --retry-failed")
    if found.wrong:
        print_table(("image", "what is wrong"), found.wrong.items(), "ll")
        raise typer.Exit(1)


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """How far the job has come: a bar on a terminal, else a line now and then; on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def line(now: Progress) -> None:
            nonlocal last
            if time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                print(f"{now.done:,} of {now.total:,} images, {_told(now)}", file=sys.stderr, flush=True)

        yield line
        return
    columns: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda now: bar.update(task, total=now.total, completed=now.done, description=printable(_told(now)))


def _told(now: Progress) -> str:
    left = "" if now.remaining is None else f", {_time(now.remaining)} to go"
    return f"{now.per_second:.1f} images/s{left}, {now.failed:,} failed, {_bytes(now.bytes)} written"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _bytes(count: float) -> str:
    """Three digits that count: 1.23 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _time(seconds: float) -> str:
    """45 s, 3:20 min, 12:05 h, 3.4 days."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes}:{int(seconds % 60):02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"
