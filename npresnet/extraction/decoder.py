"""A decoder: a process that turns files into what the network takes, and may die of one without harm to anything else.

It reads tasks from standard input and answers on standard output, both one JSON text a line; what it made of a picture it
writes into a file in memory that it shares with its parent, at the place of the task's slot:

    {"slot": 3, "file": "/a/b.tar", "offset": [512, 9000, 2774], "index": null}
                             ──>  {"slot": 3, "shape": [224, 224, 3], "stored": [500, 375], "size": 9000, "mtime": ...}
                             ──>  {"slot": 3, "error": "truncated", "text": ..., "size": ..., "mtime": ...}

Files are untrusted: formats are those of a list, pixels and memory are bounded. Time is the parent's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import zlib
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, MissingExtraError
from ..images.conventions import CONVENTIONS
from ..images.prepare import prepare
from ..images.reading import Decoding, decode_picture, load_prepared, unreadable
from ..images.resizing import parse_size
from .inputs import TAR_HEADER, Item, file_state

__all__ = ["FORMATS", "MOST_PIXELS", "Preparation", "prepared", "serve"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
"""Pillow's names of the formats that are decoded if nothing else is asked for: what pictures come in, and no more."""

MOST_PIXELS = 89_478_485
"""Pixels of a picture at most: Pillow's own limit, 256 MB as RGB."""

_LONGEST_TEXT = 500

_NICE = 10
"""Of a decoder that has started. It works in the gaps that the network leaves, and needs few: while it has a processor, one of the
network's threads has none, and the others wait for that one at the end of each layer. By `python -m bench.bench_extract`."""


@dataclass(frozen=True)
class Preparation:
    """How files become the network's input; as ``prepare`` and ``Decoding`` have it."""

    preprocessing: str
    size: str
    channels: int
    formats: tuple[str, ...] = FORMATS
    most_pixels: int = MOST_PIXELS
    orient: bool = False
    fast_decode: bool = False

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(h, w, c) of every image; None where that depends on the picture."""
        size = parse_size(self.size)
        if isinstance(size, str):
            return (1024, 1024, self.channels) if size == "square" else None
        return size[1], size[0], self.channels

    @property
    def decoding(self) -> Decoding:
        size = parse_size(self.size)
        pair = None if isinstance(size, str) else size
        nearest = CONVENTIONS[self.preprocessing].interpolation == "nearest"
        return Decoding(
            self.formats, self.most_pixels, self.orient, pair if self.fast_decode else None, pair if nearest else None
        )


class PreparedImage(NamedTuple):
    """An image, float32[h, w, c], and the (width, height) of the picture in the file; (0, 0) for an array."""

    image: npt.NDArray[np.float32]
    stored: tuple[int, int]


def prepared(item: Item, how: Preparation) -> PreparedImage:
    """The image of an item whose file is given by its absolute path. Raises ImageError, MissingExtraError, MemoryError."""
    if item.file.lower().endswith(".npy"):
        batch = load_prepared(item.file, how.channels, item.index)
        if len(batch) != 1:
            raise ImageError(f"{item.file}: {len(batch)} images where there was one; was the file replaced?")
        shape = how.shape
        if shape is not None and batch.shape[1:] != shape:
            raise ImageError(
                f"{item.file}: an image of {batch.shape[2]}x{batch.shape[1]} pixels, where all have {how.size}; prepare it at that "
                f"size, or give --size {batch.shape[2]}x{batch.shape[1]}",
                kind="size",
            )
        return PreparedImage(batch[0], (0, 0))
    with _opened(item.file) as descriptor:
        if item.offset is None:
            data = _read(descriptor, 0, os.fstat(descriptor).st_size)
        else:
            start, count, header = item.offset
            if zlib.crc32(_read(descriptor, start - TAR_HEADER, TAR_HEADER)) != header:
                raise ImageError(
                    f"{item.file}: another archive than the one that was listed; extract it into another folder",
                    kind="unreadable",
                )
            data = _read(descriptor, start, count)
    pixels, stored = decode_picture(data, item.path, how.channels == 1, how.decoding)
    return PreparedImage(prepare(pixels, how.preprocessing, how.size, how.channels)[0], stored)


@contextlib.contextmanager
def _opened(path: str) -> Any:
    """A file's descriptor; nothing but an ordinary file is opened, for a pipe would wait. Raises ImageError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError(f"{path}: a folder, a pipe or a device; check the path", kind="unreadable")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        yield descriptor
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _read(descriptor: int, start: int, count: int) -> bytes:
    """Bytes of a file; fewer where it ends before."""
    os.lseek(descriptor, start, os.SEEK_SET)
    pieces = []
    while count > 0 and (piece := os.read(descriptor, min(count, 2**24))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


# The process ---------------------------------------------------------------------------------------------------------


def settings(how: Preparation, memory: int, slot_bytes: int, path: list[str]) -> str:
    """What ``serve`` is started with, as a text: ``memory`` is the number of the shared file's descriptor."""
    return json.dumps({"how": asdict(how), "memory": memory, "slot_bytes": slot_bytes, "path": path})


def serve(text: str) -> None:
    """Answer tasks until there are no more: that is, until the parent closes standard input, or dies."""
    given = json.loads(text)
    how = Preparation(**{**given["how"], "formats": tuple(given["how"]["formats"])})
    tasks, answers = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    _limit_memory(how)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    _answer(answers, {"ready": True})
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for line in tasks:
            _answer(answers, _done(json.loads(line), how, given["memory"], given["slot_bytes"]))


def _done(task: dict[str, Any], how: Preparation, memory: int, slot_bytes: int) -> dict[str, Any]:
    """The answer to a task."""
    slot, file = task["slot"], task["file"]
    size, mtime = file_state(file)
    told = {"slot": slot, "size": size, "mtime": mtime}
    offset = tuple(task["offset"]) if task["offset"] else None
    try:
        image, stored = prepared(Item(file, file, offset, task["index"]), how)
        if image.nbytes > slot_bytes:
            raise ImageError(
                f"{file}: {image.nbytes:,} bytes as the network takes it, more than {slot_bytes:,}", "too large"
            )
        _write(memory, slot * slot_bytes, image)
    except MissingExtraError as error:
        return {"fatal": str(error)}
    except MemoryError:
        return {**told, "error": "memory", "text": "it takes more memory than a decoder may have; make it smaller"}
    except ImageError as error:
        text = str(error).removeprefix(f"{file}: ")
        return {**told, "error": error.kind, "text": text[:_LONGEST_TEXT]}
    except OSError as error:
        return {**told, "error": "memory", "text": f"no room for its pixels ({error.strerror})"}
    return {**told, "shape": image.shape, "stored": stored}


def _write(memory: int, start: int, image: npt.NDArray[np.float32]) -> None:
    data = np.ascontiguousarray(image).reshape(-1).view(np.uint8).data
    while len(data):
        count = os.pwrite(memory, data, start)
        data, start = data[count:], start + count


def _answer(descriptor: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _limit_memory(how: Preparation) -> None:
    """No more than the largest picture needs: its pixels as the decoder has them, as RGB, and as float32, each perhaps twice."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is news, its memory is not
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        most = now + 512 * 2**20 + 24 * how.most_pixels
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
