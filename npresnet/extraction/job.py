"""``job.json``: what is computed of which images, decided once, before the first of them is read.

DIR/job.json          settings, versions, sources, and the parts of the list with their hashes
DIR/inputs-0.jsonl    the images, one a line (``inputs.Item``); what was added later is in inputs-1.jsonl, ...
DIR/shards/           one pair of files for each shard (``shards``)
DIR/status.json       how far it has come, for whoever looks on
DIR/lock              whose byte number n + 1 is locked by the process that writes shard n (``locks``)
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .inputs import InputList, InputSource, Item
from .storage import write_whole

__all__ = ["Job", "JobSettings", "Part", "Shard"]

FORMAT = 1


@dataclass(frozen=True)
class JobSettings:
    """What a row depends on. Two jobs with the same settings and images have the same features, bit for bit.

    layers   {name in the results: layer of the network}
    size     "none", "square", "pad64" or "WIDTHxHEIGHT"
    formats  Pillow's names of those that are decoded
    """

    weights_sha256: str
    architecture: str
    layers: dict[str, str]
    pool: str
    dtype: str
    size: str
    preprocessing: str
    channels: int
    algorithm: str
    device: str
    precision: str
    orient: bool
    fast_decode: bool
    formats: tuple[str, ...]
    most_pixels: int

    def differences(self, asked: JobSettings) -> list[str]:
        """'name: what it is here, and what is ``asked`` for', for each that differs."""
        pairs = ((f.name, getattr(self, f.name), getattr(asked, f.name)) for f in fields(self))
        return [f"{name}: {_brief(here)} there, {_brief(other)} now" for name, here, other in pairs if here != other]

    @staticmethod
    def kept(found: dict[str, Any]) -> JobSettings:
        """What ``asdict`` and JSON made a dictionary of. Raises TypeError, KeyError for another one."""
        return JobSettings(**{**found, "formats": tuple(found["formats"])})


def _brief(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple | dict) else str(value)
    return text if len(text) <= 60 else f"{text[:24]}..."


@dataclass(frozen=True)
class Part:
    """Images that were listed at one time: ``count`` of them in ``file``, ``shard_images`` to a shard."""

    file: str
    count: int
    sha256: str
    shard_images: int

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard_images)


@dataclass(frozen=True)
class Shard:
    """A fixed range of the images of a job: numbers ``first`` to ``stop`` - 1 of all."""

    number: int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first


@dataclass(frozen=True)
class Job:
    """A job as ``job.json`` has it.

    weights      where the weight file was, absolute; for ``verify``
    root         what relative names of files start from
    row          (dtype's description as NumPy writes it, shape) of a row
    versions     of what the bits may depend on
    passed_over  {why: how many names were left out of the list}
    """

    folder: Path
    settings: JobSettings
    weights: str
    root: str
    row: Any
    versions: dict[str, str]
    sources: tuple[InputSource, ...]
    parts: tuple[Part, ...] = ()
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Images in all."""
        return sum(part.count for part in self.parts)

    @property
    def shards(self) -> list[Shard]:
        """All shards, in order."""
        found: list[Shard] = []
        start = 0
        for part in self.parts:
            for first in range(0, part.count, part.shard_images):
                stop = start + min(first + part.shard_images, part.count)
                found.append(Shard(len(found), start + first, stop))
            start += part.count
        return found

    def items(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, list[Item]]]:
        """Each of the shards, which are in order, with its images, whose files are absolute paths."""
        with_lines = self._lines()
        at = 0
        for shard in shards:
            lines = itertools.islice(with_lines, shard.first - at, shard.stop - at)
            found = (Item.of_line(line) for line in lines)
            yield shard, [replace(item, file=os.path.join(self.root, item.file)) for item in found]
            at = shard.stop

    def _lines(self) -> Iterator[bytes]:
        for part in self.parts:
            with (self.folder / part.file).open("rb") as file:
                yield from file

    # Keeping ----------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write ``job.json``. Raises OutputError."""
        contents = {
            "format": FORMAT,
            **{f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("folder", "settings")},
            "settings": asdict(self.settings),
            "sources": [asdict(source) for source in self.sources],
            "parts": [asdict(part) for part in self.parts],
        }
        write_whole(self.folder / "job.json", [(json.dumps(contents, indent=1) + "\n").encode()])

    @staticmethod
    def read(folder: Path) -> Job:
        """The job in a folder. Raises UsageError where there is none, or it is no longer what it was."""
        path = folder / "job.json"
        try:
            found = json.loads(path.read_bytes())
            if "ray" in found:
                raise UsageError(
                    f"{folder}: a job of `python -m npresnet.ray` is there, whose results are features/*.parquet"
                )
            if found.pop("format") != FORMAT:
                raise UsageError(f"{path}: of another version of npresnet; use that, or extract into another folder")
            found["settings"] = JobSettings.kept(found["settings"])
            found["sources"] = tuple(InputSource(**source) for source in found["sources"])
            found["parts"] = tuple(Part(**part) for part in found["parts"])
            return Job(folder=folder, **found)
        except FileNotFoundError:
            raise UsageError(
                f"{folder}: there is no job.json, so nothing was extracted into it; check the path"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path}: not a job of npresnet ({error}); extract into another folder") from None

    def check(self) -> None:
        """Raise UsageError where the lists of images are not what they were."""
        for part in self.parts:
            path = self.folder / part.file
            try:
                with path.open("rb") as file:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == part.sha256
            except OSError as error:
                raise UsageError(f"{path}: cannot be read ({error.strerror}); extract into another folder") from None
            if not same:
                raise UsageError(f"{path}: was changed since the job began; extract into another folder")

    def with_more(self, listing: InputList, shard_images: int, known: bool) -> Job:
        """The job with the images of a listing, which are written as its next part, in another order of events than ``write``:
        a list that no ``job.json`` names is nothing.

        known  whether to leave out images that are there already

        Raises OutputError.
        """
        have = self._names() if known else set()
        file = f"inputs-{len(self.parts)}.jsonl"
        digest, count = hashlib.sha256(), 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for item in listing:
                if have and _digest(item.path) in have:
                    continue
                line = item.line().encode() + b"\n"
                digest.update(line)
                count += 1
                yield line

        write_whole(self.folder / file, lines())
        passed_over = dict(Counter(listing.passed_over))
        if not count:
            return replace(self, passed_over=passed_over)
        part = Part(file, count, digest.hexdigest(), shard_images)
        return replace(self, parts=(*self.parts, part), passed_over=passed_over)

    def _names(self) -> set[bytes]:
        """The names of all images, each as a few bytes, for there may be millions."""
        return {_digest(Item.of_line(line).path) for line in self._lines()}


def _digest(path: str) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=12).digest()
