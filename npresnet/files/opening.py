"""The one way to a weight file: what it is, then the strict reader, and h5py in a process of its own for the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..errors import WeightsError
from . import archive, impostors, shards
from .archive import Archive
from .contained import contained_tree
from .hdf5 import headers
from .hdf5.reader import read_tree
from .hdf5.source import MEMORY, OutsideSubset, Source
from .hdf5.tree import Group
from .open_files import OpenFiles, regular_file

__all__ = ["WeightsFile", "open_weights"]

_MOST_JSON = 6 * 2**20  # bytes; the config of ResNet-152 has half a megabyte
_DEEPEST_JSON = 64


@dataclass
class WeightsFile(Group):
    """An open weight file: its root group, and what describes the model.

    kind      "h5", "keras" for an archive, or "shards" for an index of several HDF5 files
    size      bytes, of all its files together
    metadata  of an archive: Keras's version and the date; otherwise empty
    files     what it is made of, while that is open
    """

    kind: Literal["h5", "keras", "shards"]
    size: int
    metadata: dict[str, Any]
    files: OpenFiles
    _config: Callable[[], str | bytes | None]

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The model's config: ``model_config`` of a whole-model ``.h5`` file, ``config.json`` of an archive; None in
        files of weights alone. It is data: nothing in it has been checked. Raises WeightsError where it is no JSON."""
        text = self._config()
        return None if text is None else _json_object(text, "the model's config")


@contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[WeightsFile]:
    """The Keras weight file at ``path`` (``.h5``, ``.weights.h5``, ``.keras``, or ``.weights.json`` with its parts beside
    it), for as long as the context lasts, or ``files.keep()`` says; also an unpacked ``.keras`` archive, a folder, and the JSON text of a model with its
    weights beside it (``model.json`` and ``model.h5`` or ``model.weights.h5``).

    Names, shapes, types and attributes have been read when the context begins; the numbers are read on demand. Raises
    WeightsError, for a file that is something else, damaged, or holds what no Keras file does; so do the file's methods.
    """
    location = Path(path)
    files = OpenFiles(location)
    try:
        yield _open(location, files)
    except WeightsError as error:
        raise WeightsError(f"{location}: {error}{shards.remedy(location)}") from None
    finally:
        files.done()


def _open(path: Path, files: OpenFiles) -> WeightsFile:
    if _is_unpacked(path):
        return _unpacked(path, files)
    stream = files.stream(path)
    size = os.fstat(stream.fileno()).st_size
    if size == 0:
        raise WeightsError("the file is empty; download or save it again")
    room = size + MEMORY
    whole = Source(stream, 0, size, files.budget(room))
    head = whole.get(0, min(size, 512), "the file")
    if head.startswith(headers.SIGNATURE):
        index = shards.index_of(path)
        if index is not None and path.with_name(index).exists():
            raise WeightsError("this is one part of several")
        root = _hdf5(whole, files)
        return WeightsFile(
            root.path, root.attributes, root.members, "h5", size, {}, files,
            lambda: _config_text(root.attribute("model_config")),
        )  # fmt: skip
    if path.suffix == ".json" and head.lstrip().startswith(b"{"):
        text = whole.get(0, min(size, _MOST_JSON + 1), "the file")
        sharded = path.name.endswith(".weights.json")
        described = _json_object(text, "the index of sharded weights" if sharded else "the file")
        if "weight_map" not in described and {"class_name", "config"} <= described.keys():
            return _beside(path, text, files)
        return _sharded(path, shards.parts(described, path.name), files)
    if head.startswith(archive.SIGNATURE):
        opened = Archive(whole, stream)
        config = opened.read(archive.CONFIG, _MOST_JSON)
        metadata = opened.read(archive.METADATA, _MOST_JSON)
        data, start, length = opened.weights(size + MEMORY // 2)
        if data is not stream:  # in memory, where they have taken their share already
            room, files.lasting = length, False
        inside = Source(data, start, length, files.budget(room))
        if inside.get(0, min(8, length), "the weights") != headers.SIGNATURE:
            raise WeightsError(f"the member {archive.WEIGHTS!r} is not an HDF5 file; save the model again")
        root = _hdf5(inside, files)
        described = {} if metadata is None else _json_object(metadata, "the archive's metadata")
        return WeightsFile(root.path, root.attributes, root.members, "keras", size, described, files, lambda: config)
    what = impostors.name_of(path, head, whole.get(max(size - 8, 0), min(size, 8), "the file"))
    if what is not None:
        raise WeightsError(f"this is {what}")
    raise WeightsError(
        f"this is not an HDF5 file (it starts with {head[:8]!r}); weights must be a Keras `.h5` or `.keras` file"
    )


def _hdf5(source: Source, files: OpenFiles) -> Group:
    try:
        return read_tree(source)
    except OutsideSubset as reason:
        files.lasting = False
        return files.enter(contained_tree(source, str(reason)))


def _is_unpacked(path: Path) -> bool:
    """Whether it is a folder with the members of an archive."""
    try:
        return (path / archive.CONFIG).is_file() and (path / archive.WEIGHTS).is_file()
    except (OSError, ValueError):  # what cannot be looked into is reported when it is opened
        return False


def _unpacked(folder: Path, files: OpenFiles) -> WeightsFile:
    """The members of an archive, each a file."""
    root = _open(folder / archive.WEIGHTS, files)
    if root.kind != "h5":
        raise WeightsError(f"{archive.WEIGHTS!r} in it is not an HDF5 file; save the model again")
    config = _text(folder / archive.CONFIG)
    metadata = _text(folder / archive.METADATA) if (folder / archive.METADATA).exists() else None
    described = {} if metadata is None else _json_object(metadata, "the archive's metadata")
    size = root.size + sum(map(len, (config, metadata or b"")))
    return replace(root, kind="keras", size=size, metadata=described, _config=lambda: config)


def _beside(path: Path, config: bytes, files: OpenFiles) -> WeightsFile:
    """The weights beside a model's description, which is the JSON file at ``path``."""
    names = [f"{path.stem}{suffix}" for suffix in (".weights.h5", ".h5")]
    there = [name for name in names if path.with_name(name).exists()]
    if len(there) != 1:
        raise WeightsError(
            f"this is the description of a model, without weights; they are looked for beside it in {names[0]!r} and "
            f"{names[1]!r}, and {'both are' if there else 'neither is'} there: give its weights one of these names"
        )
    root = _open(path.with_name(there[0]), files)
    return replace(root, size=root.size + len(config), _config=lambda: config)


def _text(path: Path) -> bytes:
    """A file of JSON text. Raises WeightsError where it is more than any model has."""
    with regular_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > _MOST_JSON:
            raise WeightsError(f"{path.name!r} has {size} bytes; no Keras file has more than {_MOST_JSON}")
        return stream.read(_MOST_JSON + 1)


def _sharded(path: Path, told: dict[str, set[str]], files: OpenFiles) -> WeightsFile:
    """The parts of which an index tells, as one file."""
    streams = {}
    for part in told:
        place = path.with_name(part)
        if place.is_symlink():  # which could lead anywhere, and was not chosen by whoever gave the index
            raise WeightsError(f"its part {part!r} is a link; put the files themselves into one folder")
        if not place.exists():
            raise WeightsError(
                f"its part {part!r} is not there; all {len(told)} parts must be in the folder of the index"
            )
        streams[part] = files.stream(place)
    sizes = {part: os.fstat(stream.fileno()).st_size for part, stream in streams.items()}
    budget = files.budget(sum(sizes.values()) + MEMORY)
    roots = {}
    for part, stream in streams.items():
        try:
            roots[part] = read_tree(Source(stream, 0, sizes[part], budget))
        except OutsideSubset as reason:
            raise WeightsError(
                f"its part {part!r} uses {reason}, which Keras does not; save the weights again"
            ) from None
        except WeightsError as error:
            raise WeightsError(f"in its part {part!r}: {error}") from None
    root = shards.joined(roots, told)
    return WeightsFile(
        root.path,
        root.attributes,
        root.members,
        "shards",
        path.stat().st_size + sum(sizes.values()),
        {},
        files,
        lambda: None,
    )


def _config_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise WeightsError("the attribute 'model_config' holds something other than text; the file is damaged")
    return value


def _json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object of bounded size and depth. Raises WeightsError."""
    if len(text) > _MOST_JSON:
        raise WeightsError(f"{what} has {len(text)} bytes; no Keras file has more than {_MOST_JSON}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{what} is no JSON text ({error}); the file is damaged: download or save it again"
        ) from None
    if not isinstance(value, dict):
        raise WeightsError(f"{what} is no JSON object; the file is damaged: download or save it again")
    level: list[Any] = [value]
    for _ in range(_DEEPEST_JSON):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return value
    raise WeightsError(f"{what} is nested more than {_DEEPEST_JSON} deep; no Keras file is")
