"""h5py in a process of its own, for HDF5 files beyond the strict reader's subset.

The HDF5 library can crash, loop for ever or fill the memory on bytes made for that. Here it does so alone: the child
gets the file's bytes through a pipe, lives with limits on memory, time and open files, and answers with plain data,
which this side checks as if it were hostile too.

    parent                                child (h5py_child.py)
    bytes of the file             ──>
                                  <──     JSON: the tree, each tensor with a number
    number of a tensor            ──>
                                  <──     its values as little-endian float32
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from .hdf5.attributes import Unreadable, Value
from .hdf5.source import MEMORY, Source
from .hdf5.tree import DEEPEST, Group, Refused, StoredTensor

__all__ = ["contained_tree"]

_SCRIPT = Path(__file__).with_name("h5py_child.py")
_PIECE = 2**20
_MOST_ENTRIES = 30_000  # groups and datasets
_MOST_INDEX = 24 * 2**20  # bytes of JSON
_START = 60.0  # seconds for Python and h5py to start, on a machine that is busy with other things
_EXCHANGE = 15.0  # seconds for any other answer, and one more for every 10 MB; the child's own limit is 2 s of work
_SLOWEST = 10 * 2**20
_DTYPES = frozenset({"float16", "float32", "float64"}) | {f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)}


@contextmanager
def contained_tree(source: Source, reason: str) -> Iterator[Group]:
    """The tree of an HDF5 file as h5py reads it; its tensors are read while the context lasts.

    ``reason`` says why the file is not for the strict reader. Raises WeightsError for anything that goes wrong.
    """
    child = _Child(source, reason)
    try:
        yield child.tree()
    finally:
        child.close()


class _Child:
    def __init__(self, source: Source, reason: str) -> None:
        self._source, self._reason = source, reason
        if getattr(sys, "frozen", False) or not sys.executable:
            raise self._failed("and this program cannot start a Python for h5py")
        settings = {
            "path": [os.path.abspath(path) for path in sys.path if path],
            "deepest": DEEPEST,
            "entries": _MOST_ENTRIES,
            "memory": 4 * MEMORY,  # the library and NumPy each make a copy
        }
        keep = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
        # plug-ins are code that the library loads at a file's request; more threads would only take memory
        keep |= {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=keep,
            close_fds=True,
        )

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()
        self._process.wait()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _failed(self, fact: str) -> WeightsError:
        return WeightsError(
            f"the file uses {self._reason}, which is left to h5py, {fact}; it is damaged, or save it again with Keras"
        )

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """Kill the child unless the block ends in time; reading from it then ends too."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        except OSError:  # it has gone while we were writing
            raise self._failed("and h5py crashed or did not come to an end") from None
        finally:
            timer.cancel()

    def tree(self) -> Group:
        """Send the file, and get what it holds."""
        size = self._source.size
        with self._deadline(_START + size / _SLOWEST):
            self._stdin.write(size.to_bytes(8, "little"))
            for at in range(0, size, _PIECE):
                piece = bytearray(min(_PIECE, size - at))
                self._source.readinto(at, memoryview(piece))
                self._stdin.write(piece)
            self._stdin.flush()
            self._take(1)  # it has read the file and imported h5py
        with self._deadline(_EXCHANGE + size / _SLOWEST):
            index = bytearray(self._answer(_MOST_INDEX))
            self._readinto(memoryview(index))
        try:
            return self._group("", json.loads(index))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._failed("and h5py's answer makes no sense") from None

    def _tensor(self, number: int, shape: tuple[int, ...]) -> Callable[[], npt.NDArray[np.float32]]:
        def read() -> npt.NDArray[np.float32]:
            size = 4 * math.prod(shape)
            self._source.reserve(size)
            with self._deadline(_EXCHANGE + size / _SLOWEST):
                self._stdin.write(number.to_bytes(8, "little"))
                self._stdin.flush()
                if self._answer(size) != size:
                    raise self._failed("and h5py's answer makes no sense")
                array = np.empty(math.prod(shape), "<f4")
                self._readinto(array.view(np.uint8).data)
            return array.reshape(shape).astype(np.float32, copy=False)

        return read

    def _answer(self, most: int) -> int:
        """The bytes that follow in the child's answer, at most ``most``. Raises WeightsError where it is an error."""
        kind, length = self._take(1), int.from_bytes(self._take(8), "little")
        if kind == b"E":
            text = self._take(min(length, 1000)).decode("utf-8", "replace")
            raise WeightsError(text)
        if kind != b"A" or length > most:
            raise self._failed("and h5py's answer makes no sense")
        return length

    def _take(self, n: int) -> bytes:
        data = bytearray(n)
        self._readinto(memoryview(data))
        return bytes(data)

    def _readinto(self, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            n = self._stdout.readinto(buffer[done:])  # type: ignore[attr-defined]
            if not n:
                raise self._failed("and h5py crashed or did not come to an end")
            done += n

    def _group(self, path: str, found: Any) -> Group:
        members: dict[str, Group | StoredTensor | Refused] = {}
        for name, entry in found["members"].items():
            members[name] = self._entry(path + name, entry)
        return Group(path, _attributes(found["attributes"]), members)

    def _entry(self, path: str, entry: Any) -> Group | StoredTensor | Refused:
        if "members" in entry:
            return self._group(path + "/", entry)
        if "refused" in entry:
            return Refused(str(entry["refused"]))
        shape, number = tuple(entry["shape"]), entry["number"]
        if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, number)) or entry["dtype"] not in _DTYPES:
            raise ValueError(path)
        read = self._tensor(number, shape)
        return StoredTensor(path, shape, np.dtype(entry["dtype"]), read, _attributes(entry["attributes"]))


def _attributes(found: Any) -> dict[str, Value]:
    return {str(name): _value(value) for name, value in found.items()}


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return [_scalar(item) for item in value]
    return Unreadable(str(value["unreadable"])) if isinstance(value, dict) else _scalar(value)


def _scalar(value: Any) -> str | int | float:
    if not isinstance(value, str | int | float):
        raise TypeError(value)
    return value
