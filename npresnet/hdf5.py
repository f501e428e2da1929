"""Reading an HDF5 weight file with suspicion: the only module that touches one.

A weight file is untrusted input. Every group and dataset is reached through ``_entries``, which follows nothing that
leads out of the file or asks for other code or storage: links, virtual and external datasets, object references are
refused by name, and declared sizes are compared with the file's own before anything is allocated.
"""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from .errors import WeightsError

__all__ = ["Group", "StoredTensor", "open_file"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_ENTRIES = 100_000  # groups and datasets; the largest known detector has about 3,000
_DEEPEST = 16  # groups within groups; Keras nests models, rarely more than three deep
_MOST_EXPANSION = 1000  # unpacked bytes of a dataset per byte of the file

# what else people hand over under the name of a weight file: the first bytes and what to say
_IMPOSTORS: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a Python pickle (a PyTorch checkpoint?), which is never opened "
     "because it can run code; give the Keras `.h5` file"),
    (b"\x93NUMPY", "a NumPy array, not HDF5; give the Keras `.h5` file"),
    (b"<", "a web page or XML, probably an error page saved under the file's name; download the file again"),
    (b"{", "JSON text, probably an error message saved under the file's name; download the file again"),
)  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """One dataset of the file: where it is, what it claims to be; ``read`` gets the numbers while the file is open."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _dataset: Any

    def read(self) -> npt.NDArray[np.float32]:
        """The numbers as float32. Raises WeightsError where they cannot be read."""
        try:
            if self.dtype.kind == "V":  # bfloat16: the upper half of a float32
                halves = np.asarray(self._dataset[()]).view(np.uint16)
                return (halves.astype(np.uint32) << 16).view(np.float32)
            with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which weights.py reports
                return np.asarray(self._dataset[()], dtype=np.float32)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise WeightsError(
                f"{self.path!r}: the numbers cannot be read ({error}); the file is damaged: download or save it again"
            ) from None


class Group:
    """A group of an open weight file.

    kind    "h5", or "keras" for an archive
    config  the model's description of its own layers; of the root only, None where the file has none
    """

    kind = "h5"
    config: dict[str, Any] | None = None

    def __init__(self, group: Any, path: str, size: int, budget: list[int], depth: int = 0) -> None:
        self._group, self.path, self._size, self._budget, self._depth = group, path, size, budget, depth

    def attribute(self, name: str) -> Any:
        """An attribute as Python data (str, list of str, number), or None where there is none.

        Lists that Keras has split over ``name0``, ``name1``, ... for their length are put together.
        """
        attributes = self._group.attrs
        if name in attributes:
            return _plain(attributes[name])
        parts: list[Any] = []
        while f"{name}{len(parts)}" in attributes:
            parts.append(_plain(attributes[f"{name}{len(parts)}"]))
        return [item for part in parts for item in part] if parts else None

    def _entries(self) -> Iterator[tuple[str, Any]]:
        """The group's members, each checked to lie inside this file."""
        for name in self._group:
            self._budget[0] -= 1
            if self._budget[0] < 0:
                raise WeightsError(f"the file holds more than {_MOST_ENTRIES} groups and datasets; no Keras model does")
            path = f"{self.path}{name}"
            link = self._group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                kind = "an external link to another file" if isinstance(link, h5py.ExternalLink) else "a soft link"
                raise WeightsError(f"{path!r} is {kind}; Keras writes none, and following it is not safe: save it anew")
            yield path, self._group[name]

    def groups(self) -> dict[str, Group]:
        """{name: group} of the groups right below this one."""
        return {
            path[len(self.path) :]: self._below(path, entry)
            for path, entry in self._entries()
            if isinstance(entry, h5py.Group)
        }

    def _below(self, path: str, entry: Any) -> Group:
        if self._depth >= _DEEPEST:
            raise WeightsError(f"{path!r}: groups are nested more than {_DEEPEST} deep; no Keras model is")
        return Group(entry, path + "/", self._size, self._budget, self._depth + 1)

    def tensors(self) -> Iterator[StoredTensor]:
        """Every dataset in this group and below. Raises WeightsError for one that no Keras file holds."""
        for path, entry in self._entries():
            if isinstance(entry, h5py.Dataset):
                yield self._tensor(path, entry)
            elif isinstance(entry, h5py.Group):
                yield from self._below(path, entry).tensors()

    def _tensor(self, path: str, dataset: Any) -> StoredTensor:
        if dataset.is_virtual or dataset.external:
            raise WeightsError(f"{path!r} keeps its numbers in another file; Keras writes none such: save it anew")
        if dataset.shape is None or (dataset.dtype.kind not in "fiu" and dataset.dtype != np.dtype("V2")):
            raise WeightsError(
                f"{path!r} holds {dataset.dtype} values; weights must be floating-point numbers (float16, 32 or 64)"
            )
        if dataset.nbytes > _MOST_EXPANSION * self._size:
            raise WeightsError(
                f"{path!r} claims {dataset.nbytes} bytes (shape {dataset.shape}) in a file of {self._size}; the file is "
                "damaged or made to exhaust memory"
            )
        return StoredTensor(path, tuple(dataset.shape), dataset.dtype, dataset)


def _plain(value: Any) -> Any:
    """An attribute's value without the string types of h5py 2 and 3 and NumPy."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.ravel()]
    return value.item() if isinstance(value, np.generic) else value


def _refuse_impostor(path: Path) -> None:
    """Raise WeightsError for anything that is not a whole HDF5 file, saying what it is instead."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its writer
            what = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            raise WeightsError(f"{path}: this is {what}; give the weight file itself (`.h5`)")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file; check the path") from None
    except PermissionError as error:
        raise WeightsError(f"{path}: the file cannot be read ({error.strerror}); check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise WeightsError(f"{path}: the file cannot be read ({error}); check the path") from None
    size = found.st_size
    if size == 0:
        raise WeightsError(f"{path}: the file is empty; download or save it again")
    if head.startswith(b"PK\x03\x04"):
        return
    if head.startswith(_SIGNATURE):
        # superblock 0, which Keras's writer uses: the file's end is noted at byte 40
        end = int.from_bytes(head[40:48], "little") if len(head) >= 48 and head[8] == 0 else size
        if end > size:
            raise WeightsError(
                f"{path}: the file ends after {size} of {end} bytes, so its download or copy was cut short; fetch it again"
            )
        return
    stripped = head.lstrip()
    for start, what in _IMPOSTORS:
        if stripped.startswith(start):
            raise WeightsError(f"{path}: this is {what}")
    raise WeightsError(
        f"{path}: this is not an HDF5 file (it starts with {head[:8]!r}); weights must be a Keras `.h5` file"
    )


def _config(text: str | bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _archive(location: Path) -> tuple[io.BytesIO, dict[str, Any] | None]:
    """The HDF5 part of a ``.keras`` archive, and its config."""
    try:
        with zipfile.ZipFile(location) as archive:
            if "model.weights.h5" not in archive.namelist():
                raise WeightsError(
                    f"{location}: this is a zip archive without a `model.weights.h5`, so not a `.keras` file"
                )
            return io.BytesIO(archive.read("model.weights.h5")), _config(archive.read("config.json"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WeightsError(f"{location}: the archive is damaged ({error}); download or save it again") from None


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[Group]:
    """The root group of the HDF5 file at ``path``, for as long as the context lasts. Raises WeightsError."""
    location = Path(path)
    _refuse_impostor(location)
    config: dict[str, Any] | None = None
    archive = zipfile.is_zipfile(location)
    try:
        source: Any = location
        if archive:
            source, config = _archive(location)
        file = h5py.File(source, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{location}: the HDF5 file is damaged ({error}); download or save it again") from None
    with file:
        try:
            root = Group(file, "", location.stat().st_size, [_MOST_ENTRIES])
            root.kind = "keras" if archive else "h5"
            root.config = config if archive else _config(root.attribute("model_config"))
            yield root
        except WeightsError as error:
            raise WeightsError(f"{location}: {error}") from None
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises on damaged bytes
            raise WeightsError(f"{location}: the HDF5 file is damaged ({error}); download or save it again") from None
