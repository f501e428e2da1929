"""Damage small HDF5 files of every layout in every way that comes to mind, and watch the strict reader.

    python -m tests.fuzz_hdf5 --mutants 1000000 [--processes 2] [--seed 0] [--start 0] [--seconds 150] [--file mine.h5]

A mutant is fine if it is refused with the reader's own errors, or if everything that is read from it equals what h5py
(in a process of its own, which may crash or hang) reads, or differs only where bytes of numbers were changed. It is a
finding if anything else is raised, if it takes too long or too much memory, or if other names, shapes, attributes or
numbers come out. Mutant number n of a seed is always the same, so a finding can be repeated: ``--seed s --start n --mutants 1``.
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import h5py
import numpy as np

from npresnet.errors import WeightsError
from npresnet.files.hdf5.attributes import Unreadable
from npresnet.files.hdf5.checksums import lookup3
from npresnet.files.hdf5.reader import read_tree
from npresnet.files.hdf5.source import MEMORY, Budget, OutsideSubset, Source
from npresnet.files.hdf5.tree import Group, StoredTensor

SLOWEST = 2.0  # seconds of processor time for one mutant
PATIENCE = 0.5  # seconds for h5py, which needs a thousandth; a mutant on which it takes longer has no second opinion

# Seeds ---------------------------------------------------------------------------------------------------------------


def seeds() -> dict[str, bytes]:
    """A few kilobytes of each layout that h5py writes and people make of it."""
    numbers = np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype(np.float32)
    return {
        "fixed text": _written(lambda f: _legacy(f, numbers, lambda names: np.array([n.encode() for n in names]))),
        "variable text": _written(lambda f: _legacy(f, numbers, lambda names: np.array(names, h5py.string_dtype()))),
        "split lists": _written(lambda f: _split(f, numbers)),
        "whole model": _written(lambda f: _whole_model(f, numbers)),
        "objects": _written(lambda f: _objects(f, numbers)),
        "many": _written(lambda f: [f.create_dataset(f"layer{i:03}", data=numbers[0, 0, 0] + i) for i in range(24)]),
        "gzip": _written(lambda f: _chunked(f, numbers, compression="gzip", shuffle=True, fletcher32=True)),
        "tree of chunks": _written(
            lambda f: f.create_dataset("n", data=np.arange(70, dtype="f4"), chunks=(1,), maxshape=(None,))
        ),
        "chunks": _written(lambda f: _chunked(f, numbers)),
        "types": _written(_types),
        "latest": _written(
            lambda f: _legacy(f, numbers, lambda names: np.array([n.encode() for n in names])), "latest"
        ),
    }


def _written(write: Callable[[Any], object], libver: str | None = None) -> bytes:
    held = io.BytesIO()
    with h5py.File(held, "w", libver=libver) as file:
        write(file)
    data = bytearray(held.getvalue())
    for at in _find(bytes(data), b"OHDR"):
        if data[at + 5] & 32:  # it holds four times; with them every run would have other files
            data[at + 6 : at + 22] = bytes(16)
    _seal(data)
    return bytes(data)


def _legacy(file: Any, numbers: Any, names: Callable[[list[str]], Any]) -> None:
    file.attrs["layer_names"] = names(["conv1", "bn_conv1", "relu"])
    file.attrs["keras_version"], file.attrs["backend"] = "2.2.4", b"tensorflow"
    file.create_group("relu").attrs["weight_names"] = np.zeros(0)
    conv, norm = file.create_group("conv1"), file.create_group("bn_conv1")
    conv.attrs["weight_names"] = names(["conv1/kernel:0", "conv1/bias:0"])
    conv["conv1/kernel:0"], conv["conv1/bias:0"] = numbers, numbers[0, 0, 0]
    norm.attrs["weight_names"] = names([f"bn_conv1/{role}:0" for role in ("gamma", "beta")])
    norm["bn_conv1/gamma:0"], norm["bn_conv1/beta:0"] = numbers[0, 0, 0], numbers[0, 0, 1]


def _split(file: Any, numbers: Any) -> None:
    for i in range(3):
        file.attrs[f"layer_names{i}"] = np.array([f"conv{i}{j}".encode() for j in range(4)])
    file["conv00/kernel:0"] = numbers


def _whole_model(file: Any, numbers: Any) -> None:
    _legacy(file.create_group("model_weights"), numbers, lambda names: np.array(names, h5py.string_dtype()))
    file.attrs["model_config"] = '{"class_name": "Functional", "config": {"layers": []}}' * 4
    optimizer = file.create_group("optimizer_weights")
    optimizer["adam/iterations:0"], optimizer["adam/conv1/m"] = np.int64(7), numbers


def _objects(file: Any, numbers: Any) -> None:
    for name, arrays in {"conv2d": (numbers, numbers[0, 0, 0]), "dense": (numbers[0, 0],)}.items():
        holder = file.create_group(f"layers/{name}/vars")
        holder.attrs["name"] = name
        for i, array in enumerate(arrays):
            holder[str(i)] = array
    file.create_group("optimizer/vars")["0"] = np.int64(3)


def _chunked(file: Any, numbers: Any, **options: Any) -> None:
    file.attrs["layer_names"] = np.array([b"conv1"])
    file.create_dataset("conv1/kernel:0", data=numbers, chunks=(2, 2, 2, 3), **options)
    file.create_dataset("conv1/bias:0", data=numbers[0, 0, 0], chunks=(4,), **options)


def _types(file: Any) -> None:
    values = np.arange(12).reshape(3, 4) / 8
    for dtype in ("<f2", ">f2", ">f4", "<f8", ">f8", "<i4", ">i8", "u1"):
        file.create_dataset(f"kind {dtype}", data=values.astype(dtype))
    file["bfloat16"] = (values.astype("<f4").view("<u4") >> 16).astype("<u2").view("V2")
    file["bfloat16"].attrs["dtype"] = "bfloat16"
    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, compact).write(
        h5py.h5s.ALL, h5py.h5s.ALL, values[0].astype("f4")
    )
    file.attrs["numbers"], file.attrs["number"] = values, 2.5


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass
class Contents:
    """All that was read: {path: (shape, bytes of float32)}, {path: {attribute: value}}."""

    tensors: dict[str, tuple[tuple[int, ...], bytes]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # of the bytes of a tensor
    unread: set[str] = field(default_factory=set)  # what is there, but holds other things than numbers, or is damaged


def ours(data: bytes) -> Contents:
    """Everything that the strict reader reads. Raises WeightsError, OutsideSubset."""
    source = _Watched(io.BytesIO(data), 0, len(data), Budget(len(data) + MEMORY))
    contents = Contents()
    _collect(read_tree(source), contents, source)
    return contents


class _Watched(Source):
    """A source that remembers where numbers were read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.places: list[tuple[int, int]] = []
        self._structure = False

    def get(self, at: int, n: int, what: str) -> bytes:
        self._structure = True
        try:
            return super().get(at, n, what)
        finally:
            self._structure = False

    def readinto(self, at: int, buffer: memoryview) -> None:
        if not self._structure:
            self.places.append((at, len(buffer)))
        super().readinto(at, buffer)


def _collect(group: Group, contents: Contents, source: _Watched) -> None:
    contents.attributes[group.path] = dict(group.attributes)
    for name, entry in group.members.items():
        if isinstance(entry, Group):
            _collect(entry, contents, source)
        elif isinstance(entry, StoredTensor):
            contents.attributes[entry.path] = dict(entry.attributes)
            source.places = []
            contents.tensors[entry.path] = entry.shape, entry.read().tobytes()
            contents.places[entry.path] = source.places
        else:
            contents.unread.add(group.path + name)


def theirs(data: bytes) -> Contents:
    """Everything of the same kind that h5py reads. Raises whatever it likes, or does not come back."""
    contents = Contents()
    with h5py.File(h5py.h5f.open_file_image(data)) as file:
        contents.attributes[""] = _attributes(file)

        def visit(group: Any, path: str, depth: int) -> None:
            for name in group if depth < 20 else ():
                below = path + _text(name)
                try:
                    entry = group[name]
                    if isinstance(entry, h5py.Group):
                        contents.attributes[below + "/"] = _attributes(entry)
                    else:
                        contents.tensors[below] = entry.shape, _numbers(entry)
                        contents.attributes[below] = _attributes(entry)
                except Exception:  # whatever it is, it says nothing about the others
                    contents.unread.add(below)
                else:
                    if isinstance(entry, h5py.Group):
                        visit(entry, below + "/", depth + 1)

        visit(file, "", 0)
    return contents


def _numbers(dataset: Any) -> bytes:
    """A dataset as float32. Raises TypeError where it holds no numbers, or too many."""
    dtype = dataset.dtype
    bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None
    if dataset.shape is None or math.prod(dataset.shape) > 2**22 or not (dtype.kind in "fiu" or bfloat16):
        raise TypeError
    array = np.asarray(dataset[()])
    if bfloat16:
        array = (array.view("<u2").astype("<u4") << 16).view("<f4")
    with np.errstate(all="ignore"):
        return array.astype("<f4").tobytes()


def _attributes(entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in entry.attrs:
        try:
            found[_text(name)] = _value(entry.attrs[name])
        except Exception:
            found[_text(name)] = Unreadable("")
    return found


def _value(value: Any) -> Any:
    if isinstance(value, bytes | str):
        return _text(value)
    if isinstance(value, np.ndarray):
        return [_value(item) for item in value.ravel()]
    return value.item() if isinstance(value, np.generic) else Unreadable("")


def _text(value: str | bytes) -> str:
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "replace")


# The second opinion --------------------------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    while True:
        data = pipe.recv_bytes()
        try:
            pipe.send(theirs(data))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}"[:200])


class Oracle:
    """h5py in another process: an answer, an error as text, or None where it crashed or did not come back."""

    def __init__(self) -> None:
        self._process: Any = None

    def __call__(self, data: bytes) -> Contents | str | None:
        if self._process is None:
            self._pipe, other = multiprocessing.Pipe()
            self._process = multiprocessing.get_context("fork").Process(target=_serve, args=(other,))
            self._process.start()
            other.close()
        try:
            self._pipe.send_bytes(data)
            if self._pipe.poll(PATIENCE):
                answer: Contents | str = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


# Mutants -------------------------------------------------------------------------------------------------------------

_SIGNATURES = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK")
_BOUNDARIES = (
    0, 1, 2, 3, 4, 7, 8, 15, 16, 32, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31,
    2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 2, 2**64 - 1,
)  # fmt: skip


@dataclass
class Seed:
    """A file to damage: its structures, what it holds, and the places of its numbers."""

    name: str
    data: bytes
    structures: list[int]
    pointers: list[int]
    contents: Contents | None

    @staticmethod
    def of(name: str, data: bytes) -> Seed:
        """Offsets where something begins: signatures, and whatever an 8-byte word of the file points to."""
        words = {at: struct.unpack_from("<Q", data, at)[0] for at in range(0, len(data) - 7, 4)}
        pointers = [at for at, word in words.items() if 0 < word < len(data)]
        pointed = {words[at] for at in pointers}
        signed = {at for s in _SIGNATURES for at in _find(data, s)}
        structures = sorted(pointed | signed | {0})
        try:
            contents: Contents | None = ours(data)
        except OutsideSubset:
            contents = None
        return Seed(name, data, structures, pointers, contents)


def _find(data: bytes, piece: bytes) -> Iterator[int]:
    at = data.find(piece)
    while at >= 0:
        yield at
        at = data.find(piece, at + 1)


def mutant(seed: Seed, random: random.Random) -> bytes:
    """One to four changes."""
    data = bytearray(seed.data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        random.choice(_CHANGES)(data, seed, random)
    if random.random() < 0.8:
        _seal(data)
    return bytes(data)


def _seal(data: bytearray) -> None:
    """Make the checksums of superblock and headers right again, or they would be all that is noticed."""
    if len(data) > 48 and data[8] in (2, 3):
        struct.pack_into("<I", data, 44, lookup3(bytes(data[:44])))
    for at in _find(bytes(data), b"OHDR"):
        flags = data[at + 5] if at + 6 < len(data) else 0
        width, start = 1 << (flags & 3), 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
        end = at + start + width + int.from_bytes(data[at + start : at + start + width], "little")
        if end + 4 <= len(data):
            struct.pack_into("<I", data, end, lookup3(bytes(data[at:end])))


def _near_structure(data: bytearray, seed: Seed, random: random.Random, n: int) -> int:
    """An offset in the first bytes of some structure, with room for ``n`` bytes."""
    at = random.choice(seed.structures) + random.choice((0, 0, 4, 8, 16, 24)) + random.randrange(24)
    return max(0, min(at, len(data) - n))


def _flip_bit(data: bytearray, seed: Seed, random: random.Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(data: bytearray, seed: Seed, random: random.Random) -> None:
    data[_near_structure(data, seed, random, 1)] = random.choice(
        (0, 1, 2, 3, 4, 0x10, 0x7F, 0x80, 0xFF, random.randrange(256))
    )


def _set_integer(data: bytearray, seed: Seed, random: random.Random) -> None:
    n = random.choice((1, 2, 4, 8, 8))
    at = _near_structure(data, seed, random, n)
    value = random.choice((*_BOUNDARIES, len(data), len(data) - 1, len(data) + 1, random.randrange(len(data))))
    data[at : at + n] = (value % (1 << 8 * n)).to_bytes(n, "little")


def _add(data: bytearray, seed: Seed, random: random.Random) -> None:
    n = random.choice((1, 2, 4, 8))
    at = _near_structure(data, seed, random, n)
    value = int.from_bytes(data[at : at + n], "little") + random.choice((-16, -8, -4, -2, -1, 1, 2, 4, 8, 16))
    data[at : at + n] = (value % (1 << 8 * n)).to_bytes(n, "little")


def _repoint(data: bytearray, seed: Seed, random: random.Random) -> None:
    """Let something that points into the file point to another structure: cycles, trees linked across."""
    at = min(random.choice(seed.pointers), len(data) - 8)
    struct.pack_into("<Q", data, at, random.choice(seed.structures))


def _splice(data: bytearray, seed: Seed, random: random.Random) -> None:
    n = random.choice((1, 4, 8, 16, 40, 64, 256))
    n = min(n, len(data) // 2)
    start, target = _near_structure(data, seed, random, n), _near_structure(data, seed, random, n)
    data[target : target + n] = data[start : start + n]


def _shift(data: bytearray, seed: Seed, random: random.Random) -> None:
    at, n = random.randrange(len(data)), random.choice((1, 4, 8, 16))
    if random.random() < 0.5:
        data[at:at] = bytes(n)
    elif len(data) > 200:
        del data[at : at + n]


def _cut(data: bytearray, seed: Seed, random: random.Random) -> None:
    end = random.randrange(96, max(97, len(data)))
    del data[end:]
    if random.random() < 0.8 and len(data) >= 48 and data[8] == 0:  # and say so, or that would be all that is noticed
        struct.pack_into("<Q", data, 40, len(data))


def _blank(data: bytearray, seed: Seed, random: random.Random) -> None:
    n = random.choice((1, 8, 64, 512))
    at = random.randrange(max(1, len(data) - n))
    data[at : at + n] = random.choice((b"\0", b"\xff", b"\x01")) * min(n, len(data) - at)


_CHANGES: Sequence[Callable[[bytearray, Seed, random.Random], None]] = (
    _flip_bit, _set_byte, _set_byte, _set_integer, _set_integer, _set_integer, _add, _add, _repoint, _repoint, _splice,
    _shift, _cut, _blank,
)  # fmt: skip


# Judgement -----------------------------------------------------------------------------------------------------------


def differences(found: Contents, expected: Contents, *, same_place: bool = False) -> list[str]:
    """What ``found`` has otherwise than ``expected``, in words; datasets and attributes that either could not read as
    text or numbers do not count, nor, with ``same_place``, do other numbers that come from the same bytes of the file."""
    unread = found.unread | expected.unread
    result = []
    for path in found.tensors.keys() | expected.tensors.keys():
        one, other = found.tensors.get(path), expected.tensors.get(path)
        if same_place and one and other and one[0] == other[0] and found.places[path] == expected.places[path]:
            continue
        if one != other and not _below(path, unread):
            result.append(f"tensor {path!r}")
    for path in found.attributes.keys() | expected.attributes.keys():
        mine, others = found.attributes.get(path, {}), expected.attributes.get(path, {})
        if _below(path, unread):
            continue
        if (path in found.attributes) != (path in expected.attributes):
            result.append(f"group or dataset {path!r}")
        for name in mine.keys() | others.keys():
            a, b = mine.get(name), others.get(name)
            if repr(a) != repr(b) and not isinstance(a, Unreadable) and not isinstance(b, Unreadable):
                result.append(f"attribute {name!r} of {path!r}: {a!r:.60} and {b!r:.60}")
    return result


def _below(path: str, paths: set[str]) -> bool:
    """Whether one of these paths is this one, or a group around it."""
    parts = path.split("/")
    return any("/".join(parts[:n]) in paths for n in range(1, len(parts) + 1))


def judge(seed: Seed, data: bytes, oracle: Oracle) -> tuple[str, Any]:
    """(outcome, what is wrong or nothing): reads one mutant and compares."""
    started = time.process_time()
    try:
        found = ours(data)
    except WeightsError:
        found, outcome = None, "refused"
    except OutsideSubset:
        found, outcome = None, "left to h5py"
    except Exception as error:
        return "raised", f"raises {type(error).__name__}: {error}"
    seconds = time.process_time() - started
    if seconds > SLOWEST:
        return "slow", f"takes {seconds:.1f} s"
    if found is None:
        return outcome, ""
    opinion = oracle(data)
    if isinstance(opinion, Contents):
        different = differences(found, opinion)
        if seed.contents is not None:  # what h5py does not read must be as it was
            for path in opinion.unread & found.tensors.keys() & seed.contents.tensors.keys():
                before = seed.contents
                if (found.tensors[path][0], found.places[path]) != (before.tensors[path][0], before.places[path]):
                    different.append(f"h5py refuses {path!r}, which we read as {found.tensors[path][0]}")
        return "read as h5py does", different and f"h5py reads otherwise: {different[:4]}"
    if opinion is None:
        return "read; h5py crashes or hangs", ""
    different = [] if seed.contents is None else differences(found, seed.contents, same_place=True)
    return "read as before the damage; h5py refuses", different and f"h5py refuses ({opinion}), and {different[:4]}"


@dataclass
class Report:
    """What became of some mutants: {outcome: how many}, and what should not have happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __iadd__(self, other: Report) -> Report:
        self.outcomes += other.outcomes
        self.findings += other.findings
        return self


def run(number: int, indices: Iterable[int], seconds: float = math.inf, files: Sequence[str] = ()) -> Report:
    """Judge the mutants with these indices of seed ``number``, until the time is over."""
    ready = [Seed.of(name, data) for name, data in seeds().items()]
    for name in files:
        with open(name, "rb") as file:
            ready.append(Seed.of(name, file.read()))
    report = Report()
    oracle = Oracle()
    end = time.monotonic() + seconds
    try:
        for index in indices:
            if time.monotonic() > end:
                break
            seed = ready[index % len(ready)]
            outcome, fault = judge(seed, mutant(seed, random.Random(f"{number}/{index}")), oracle)
            report.outcomes[outcome] += 1
            if fault:
                report.findings.append(f"mutant {index} of seed {number} ({seed.name}): {outcome}; {fault}")
    finally:
        oracle.close()
    return report


def run_all(
    number: int, start: int, count: int, processes: int, seconds: float = math.inf, files: Sequence[str] = ()
) -> Report:
    """As ``run``, in several processes at once."""
    parts = [(number, range(start + i, start + count, processes), seconds, files) for i in range(processes)]
    report = Report()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(run, *zip(*parts, strict=True)):
            report += part
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Damage small HDF5 files and watch the strict reader.")
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--file", action="append", default=[], help="damage this file too")
    options = parser.parse_args()
    began = time.monotonic()
    report = run_all(
        options.seed, options.start, options.mutants, options.processes, options.seconds, tuple(options.file)
    )
    tried = sum(report.outcomes.values())
    print(f"{tried} mutants of seed {options.seed} from {options.start} in {time.monotonic() - began:.0f} s")
    for outcome, count in report.outcomes.most_common():
        print(f"{count:9} {outcome}")
    for finding in report.findings[:50]:
        print(finding)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
