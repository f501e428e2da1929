"""The child of ``contained.py``: reads one HDF5 file from standard input with h5py, and answers what it holds.

Run as a script, by path, so that nothing of npresnet is imported where the bytes are not trusted. The protocol is
described in ``contained.py``.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

SLOWEST = 20 * 2**20  # bytes of the file for which there is one more second


class Refusal(Exception):
    """The file holds what no Keras file does; the text is for the user."""


def limit(size: int, memory: int) -> None:
    """Limit this process, where the system can: memory, seconds of work, and no more files, not even to read."""
    try:
        import resource
    except ImportError:  # Windows: the parent's deadline must do
        return

    def at_most(kind: int, most: int) -> None:
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))

    used = resource.getrusage(resource.RUSAGE_SELF)
    at_most(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 3 + size // SLOWEST)
    with suppress(OSError), open("/proc/self/statm") as statm:  # which Linux has
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
        at_most(resource.RLIMIT_AS, mapped + memory)
    at_most(resource.RLIMIT_CORE, 0)
    at_most(resource.RLIMIT_FSIZE, 0)
    at_most(resource.RLIMIT_NOFILE, 0)  # what is open stays open


class Walk:
    """The tree of an open file as plain data; ``datasets`` are those that hold numbers, in the order of their numbers."""

    def __init__(self, h5py: Any, np: Any, settings: dict[str, Any]) -> None:
        self.h5py, self.np, self.settings = h5py, np, settings
        self.datasets: list[Any] = []
        self.entries = 0

    def group(self, group: Any, path: str, depth: int) -> dict[str, Any]:
        if depth > self.settings["deepest"]:
            raise Refusal(
                f"{path[:200]!r}: groups are nested more than {self.settings['deepest']} deep; no Keras model is"
            )
        members = {}
        for name in group:
            self.entries += 1
            if self.entries > self.settings["entries"]:
                raise Refusal(
                    f"the file holds more than {self.settings['entries']} groups and datasets; no Keras model does"
                )
            link = group.get(name, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                kind = "an external link to another file" if isinstance(link, self.h5py.ExternalLink) else "a soft link"
                raise Refusal(
                    f"{path + name!r} is {kind}; Keras writes none, and following it is not safe: save it anew"
                )
            members[text(name)] = self.entry(group[name], path + name, depth)
        return {"members": members, "attributes": self.attributes(group)}

    def entry(self, entry: Any, path: str, depth: int) -> dict[str, Any]:
        if isinstance(entry, self.h5py.Group):
            return self.group(entry, path + "/", depth + 1)
        if not isinstance(entry, self.h5py.Dataset):
            return {"refused": f"{path!r} is neither a group nor a dataset"}
        if entry.is_virtual or entry.external:
            raise Refusal(f"{path!r} keeps its numbers in another file; Keras writes none such: save it anew")
        dtype = entry.dtype
        half = dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and dtype.subdtype is None
        plain = dtype.kind in "fiu" and dtype.itemsize <= 8 and self.h5py.check_enum_dtype(dtype) is None
        if entry.shape is None or not (plain or half):
            return {
                "refused": f"{path!r} holds {dtype} values; weights must be floating-point numbers (float16, 32 or 64, or "
                "bfloat16)"
            }
        self.datasets.append(entry)
        return {
            "number": len(self.datasets) - 1,
            "shape": list(entry.shape),
            "dtype": "float32" if half else dtype.newbyteorder("=").name,
            "attributes": self.attributes(entry),
        }

    def attributes(self, of: Any) -> dict[str, Any]:
        return {text(name): self.value(of.attrs[name]) for name in of.attrs}

    def value(self, value: Any) -> Any:
        if isinstance(value, bytes | str):
            return text(value)
        if isinstance(value, self.np.ndarray):
            items = [self.value(item) for item in value.ravel()]
            odd = [item for item in items if isinstance(item, dict)]
            return odd[0] if odd else items
        if isinstance(value, self.np.bool_ | self.np.integer | self.np.floating):
            return value.item()
        return {"unreadable": "neither text nor numbers"}

    def numbers(self, number: int) -> Any:
        """The values of a dataset as contiguous little-endian float32."""
        array = self.datasets[number][()]
        if array.dtype.kind == "V":  # bfloat16: the upper half of a float32
            array = (array.view("<u2").astype("<u4") << 16).view("<f4")
        with self.np.errstate(over="ignore", invalid="ignore"):
            return self.np.ascontiguousarray(array, "<f4")


def rehearse(h5py: Any, np: Any, settings: dict[str, Any]) -> None:
    """Read a file of every kind of thing, so that Python's late imports happen while files may still be opened."""
    with h5py.File("rehearsal", "w", driver="core", backing_store=False) as file:
        file["group/numbers"] = np.zeros(3, np.float16)
        file.attrs["text"], file.attrs["texts"] = "a", ["a", "b"]
        file.attrs["bytes"], file.attrs["numbers"] = np.array([b"a"]), np.zeros(2)
        walk = Walk(h5py, np, settings)
        json.dumps(walk.group(file, "", 0)).encode()
        walk.numbers(0)


def text(value: str | bytes) -> str:
    """Text that can be written as UTF-8, whatever bytes it came from."""
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "replace")


def main() -> None:
    settings = json.loads(sys.argv[1])
    sys.path[:] = settings["path"]
    source, out = sys.stdin.buffer, sys.stdout.buffer
    size = int.from_bytes(source.read(8), "little")
    data = source.read(size)
    import h5py
    import numpy as np

    rehearse(h5py, np, settings)
    limit(size, 3 * size + settings["memory"])
    out.write(b"R")  # from here on, time is short
    out.flush()
    try:
        walk = Walk(h5py, np, settings)
        file = h5py.File(h5py.h5f.open_file_image(data))
        answer: Any = json.dumps(walk.group(file, "", 0)).encode()
        while True:
            out.write(b"A" + memoryview(answer).nbytes.to_bytes(8, "little"))
            out.write(answer)
            out.flush()
            request = source.read(8)
            if len(request) < 8:
                return
            answer = walk.numbers(int.from_bytes(request, "little"))
    except Refusal as refusal:
        message = str(refusal)
    except Exception as error:  # h5py raises nearly all kinds
        message = f"the file is damaged ({type(error).__name__}: {error}); download or save it again"
    data = text(message.encode("utf-8", "replace")).encode()[:1000]
    out.write(b"E" + len(data).to_bytes(8, "little") + data)
    out.flush()


if __name__ == "__main__":
    main()
