"""Beginning a job, or taking it up again: what is asked for, beside what is there."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..files.safe_write import check_writable, file_hash, remove_abandoned
from ..images.conventions import default_size
from ..images.resizing import Size, parse_size
from ..model import ResNet
from ..verify.recording import tensor_hash
from ..version import __version__
from .decoder import FORMATS, Preparation
from .inputs import InputList, InputSource, parse_sources
from .job import Job, JobSettings
from .locks import JobLock
from .rows import Extractor
from .shards import FOLDER, row_format

__all__ = [
    "Asked",
    "check_root",
    "check_same",
    "open_job",
    "preparation_of",
    "prepare_folder",
    "settings_of",
    "version_differences",
    "versions",
    "weights_hash",
]

SHARD_BYTES, SHARD_SECONDS, SHARD_IMAGES = 64 * 2**20, 60.0, 10_000
"""A shard is as large as the smallest of these makes it: what is lost when a process is killed, and what is kept in memory."""


@dataclass(frozen=True)
class Asked:
    """What the user asks of a job's folder, beside its ``JobSettings``; arguments of ``extract``."""

    inputs: Sequence[object]
    extend: bool
    follow_links: bool
    images_per_shard: int | None
    other_versions: bool


def versions() -> dict[str, str]:
    """Of what rows may depend on."""
    found = {"npresnet": __version__, "numpy": np.__version__}
    for name in ("numba", "pillow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def weights_hash(net: ResNet) -> str:
    """SHA-256 of the weight file, or, where that is not one file, of the network's tensors."""
    if net.path.is_file() and net.path.suffix != ".json":
        return file_hash(net.path)
    return tensor_hash(net.weights)


def settings_of(net: ResNet, layers: dict[str, str], pool: str, dtype: str, how: Preparation) -> JobSettings:
    """The settings of a job with this network."""
    return JobSettings(
        weights_sha256=weights_hash(net),
        architecture=str(net.architecture),
        layers=layers,
        pool=pool,
        dtype=dtype,
        size=how.size,
        preprocessing=how.preprocessing,
        channels=how.channels,
        algorithm=net.algorithm,
        device=net.device.split(":")[0],
        precision=net.precision,
        orient=how.orient,
        fast_decode=how.fast_decode,
        formats=how.formats,
        most_pixels=how.most_pixels,
    )


def preparation_of(
    net: ResNet, size: Size | None, formats: Sequence[str], most_pixels: int, orient: bool, fast_decode: bool
) -> Preparation:
    """How pictures are prepared for a network. Raises UsageError for a bad size, and networks of several inputs."""
    if len(net.graph.inputs) > 1:
        raise UsageError(
            f"{net.path}: the network has {len(net.graph.inputs)} inputs; features are extracted with those of one"
        )
    parsed = parse_size(default_size(net.architecture, net.graph) if size is None else size)
    text = parsed if isinstance(parsed, str) else f"{parsed[0]}x{parsed[1]}"
    if fast_decode and isinstance(parsed, str):
        raise UsageError(f"fast_decode: it needs a size in pixels, and this is {text}; give --size 224x224, say")
    _check_formats(formats)
    preprocessing = net.architecture.preprocessing
    return Preparation(preprocessing, text, net.graph.channels, tuple(formats), most_pixels, orient, fast_decode)


def _check_formats(formats: Sequence[str]) -> None:
    """Raise UsageError for a format that Pillow does not know; where there is no Pillow, that is said later."""
    if tuple(formats) == FORMATS:
        return
    try:
        from PIL import Image
    except ImportError:
        return
    Image.init()
    for name in formats:
        if name not in Image.OPEN:
            raise UsageError(f"formats: got {name!r}; it must be one of {', '.join(sorted(Image.OPEN))}")


def open_job(
    folder: Path,
    lock: JobLock,
    net: ResNet,
    extractor: Extractor,
    how: Preparation,
    settings: JobSettings,
    asked: Asked,
) -> Job:
    """The job in a folder, which is begun where there is none. Raises UsageError where another one is there."""
    with lock.settings():
        remove_abandoned(folder, lambda name: name == "job.json" or name.startswith("inputs-"))
        sources, standard_input = parse_sources(asked.inputs)
        begun = (folder / "job.json").exists()
        if begun:
            job = Job.read(folder)
            job.check()
            _compare(job, settings, sources, asked)
            if not asked.extend:
                return job
        listing = InputList(sources, standard_input, folder, asked.follow_links)
        if begun:
            check_root(folder, job.root, listing.root)
            shard_images = job.parts[-1].shard_images
            more = job.with_more(listing, asked.images_per_shard or shard_images, known=True)
            known = dict.fromkeys((*job.sources, *sources))
            # of a list that has become longer, what it is now
            kept = [old for old in known if not any(old.path == new.path and old != new for new in sources)]
            job = replace(more, sources=tuple(kept))
        else:
            (folder / FOLDER).mkdir(exist_ok=True)
            row = extractor.row(how.shape)
            shard_images = asked.images_per_shard or _shard_images(row.itemsize, extractor, how)
            job = Job(
                folder, settings, os.path.abspath(net.path), listing.root, row_format(row), versions(), tuple(sources)
            )
            job = job.with_more(listing, shard_images, known=False)
            if not job.count:
                raise UsageError(f"inputs: no pictures among them{_passed_over(job.passed_over)}; check the path")
        job.write()
        return job


def _passed_over(found: dict[str, int]) -> str:
    return "".join(f", {count} x {why}" for why, count in found.items())


def _compare(job: Job, settings: JobSettings, sources: Sequence[InputSource], asked: Asked) -> None:
    """Raise UsageError where a job is another than the one that is asked for, with all that differs."""
    found = job.settings.differences(settings)
    if not asked.extend:
        if [(s.kind, s.path) for s in sources] != [(s.kind, s.path) for s in job.sources]:
            names = [", ".join(s.path for s in some[:3]) for some in (job.sources, sources)]
            found.append(f"inputs: {names[0]} there, {names[1]} now")
        elif tuple(sources) != job.sources:
            found.append("inputs: the list has other lines than when the job began (--extend adds what is new)")
    if not asked.other_versions:
        found += version_differences(job.versions)
    check_same(job.folder, found)


def version_differences(there: Mapping[str, str]) -> list[str]:
    """What differs between versions that a job began with and those of now, in words."""
    return [
        f"{name}: {there.get(name)} there, {now} now (--other-versions takes both)"
        for name, now in versions().items() if there.get(name) != now
    ]  # fmt: skip


def check_same(folder: Path, different: Sequence[str]) -> None:
    """Raise UsageError for a folder whose job is another, by what is ``different``, if anything is."""
    if different:
        raise UsageError(
            f"{folder}: another job is there already; {'; '.join(different)}; give it the same settings, or another folder"
        )


def check_root(folder: Path, there: str, now: str) -> None:
    """Raise UsageError where the names of a job's images start from another place than those that are to be added."""
    if there != now:
        raise UsageError(f"{folder}: its inputs are named from {there}, these from {now}; go there first")


def _shard_images(row_bytes: int, extractor: Extractor, how: Preparation) -> int:
    """How many images make a shard: as many as fit into its bytes, and into its seconds."""
    image = np.zeros((1, *(how.shape or (512, 512, how.channels))), np.float32)
    extractor.maps(image)  # kernels get ready
    start = time.perf_counter()
    extractor.maps(image)
    seconds = time.perf_counter() - start
    return max(1, min(SHARD_BYTES // max(1, row_bytes), int(SHARD_SECONDS / max(seconds, 1e-9)), SHARD_IMAGES))


def prepare_folder(folder: Path) -> None:
    """Make a job's folder. Raises UsageError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made ({error.strerror}); choose a folder that you can write to"
        ) from None
    check_writable(folder / "status.json")
