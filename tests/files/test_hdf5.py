"""The strict HDF5 reader: what Keras writes comes out as h5py reads it, whatever else is refused, and never at a high price."""

from __future__ import annotations

import io
import itertools
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from npresnet.errors import WeightsError
from npresnet.files import opening
from npresnet.files.hdf5 import attributes, checksums, headers, heaps, source, storage
from npresnet.files.hdf5.reader import read_tree
from npresnet.files.hdf5.source import MEMORY, Budget, OutsideSubset, Source
from npresnet.files.hdf5.tree import Group
from npresnet.files.opening import open_weights

from .. import fuzz_hdf5
from ..support import networks


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.h5"


@pytest.fixture
def strict(monkeypatch):
    """Nothing is left to h5py: what the strict reader does not read is a failure."""

    def never(source, reason):
        raise AssertionError(f"left to h5py: {reason}")

    monkeypatch.setattr(opening, "contained_tree", never)


def read(path: Path) -> fuzz_hdf5.Contents:
    """Everything in a file, through the way that everybody takes."""
    contents = fuzz_hdf5.Contents()

    def collect(group: Group) -> None:
        contents.attributes[group.path] = dict(group.attributes)
        for below in group.groups().values():
            collect(below)
        for tensor in group.datasets().values():
            contents.attributes[tensor.path] = dict(tensor.attributes)
            contents.tensors[tensor.path] = tensor.shape, tensor.read().tobytes()

    with open_weights(path) as file:
        collect(file)
    return contents


def agrees(path: Path, data: bytes | None = None) -> fuzz_hdf5.Contents:
    """Read a file, and compare it with what h5py reads."""
    found = read(path)
    assert fuzz_hdf5.differences(found, fuzz_hdf5.theirs(data or path.read_bytes())) == []
    assert found.tensors
    return found


def rewritten(old: Path, new: Path, *, libver: str | None = None, **options) -> Path:
    """The same file written again, as programs that compress files do it."""
    with h5py.File(old) as a, h5py.File(new, "w", libver=libver) as b:

        def copy(name: str, entry) -> None:
            if isinstance(entry, h5py.Dataset):
                made = b.create_dataset(name, data=entry[()], **(options if entry.shape else {}))
            else:
                made = b.require_group(name)
            for attribute, value in entry.attrs.items():
                made.attrs[attribute] = value

        copy("/", a)
        a.visititems(copy)
    return new


# What Keras writes ---------------------------------------------------------------------------------------------------

NETWORK = networks.thin("keras.applications", 50)
LAYOUTS = ("weights", "model", "v3", "archive")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keras_files_are_read_as_h5py_reads_them(tf, tmp_path_factory, strict, layout):
    path = networks.saved(tmp_path_factory, NETWORK, layout)
    data = path.read_bytes()
    if layout == "archive":
        at = data.index(b"\x89HDF\r\n\x1a\n")
        data = data[at : data.index(b"PK\x01\x02")]
    found = agrees(path, data)
    assert len(found.tensors) >= 318
    with open_weights(path) as file:
        assert file.kind == ("keras" if layout == "archive" else "h5")
        has_config = layout in ("model", "archive")
        assert (file.config["class_name"] == "Functional") if has_config else file.config is None
        assert ("keras_version" in file.metadata) == (layout == "archive")


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64", "mixed_float16"])
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_types_that_keras_stores(tf, tmp_path, strict, policy, suffix):
    """With the optimizer's state, integers among it."""
    import keras

    layers = [keras.layers.Conv2D(4, 3, dtype=policy), keras.layers.BatchNormalization(dtype=policy)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.GlobalAveragePooling2D(dtype=policy)])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 8, 8, 3)), np.ones((2, 4)))
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".h5" else model.save_weights(path)
    agrees(path)
    kernel = np.asarray(layers[0].kernel).astype(np.float32)
    assert any(shape == (3, 3, 3, 4) and data == kernel.tobytes() for shape, data in read(path).tensors.values())


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": True},
        {"shuffle": True, "fletcher32": True},
    ],
    ids=str,
)
def test_files_written_again_in_chunks(tf, tmp_path_factory, path, strict, options):
    agrees(rewritten(networks.saved(tmp_path_factory, NETWORK), path, **options))


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"compression": "lzf"}, {"scaleoffset": 3}], ids=str)
def test_files_beyond_the_subset_are_left_to_h5py(tf, tmp_path_factory, path, options):
    agrees(rewritten(networks.saved(tmp_path_factory, NETWORK), path, **options))


@pytest.mark.parametrize("name", fuzz_hdf5.seeds())
def test_small_files_of_every_layout(path, name):
    path.write_bytes(fuzz_hdf5.seeds()[name])
    agrees(path)


def test_wide_groups_and_deep_trees(path, strict):
    """Thousands of members and chunks, in no order, some deleted: trees of several levels, names between free space."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        names = [f"layer{i}{'x' * int(random.integers(30))}" for i in range(1500)]
        for name in names:
            file[name] = random.standard_normal(2)
        for name in names[::3]:
            del file[name]
        chunked = file.create_dataset("chunked", (1200, 5), "f4", chunks=(1, 2), compression="gzip")
        for i in random.permutation(1200):
            chunked[i] = random.standard_normal(5)
    assert len(agrees(path).tensors) == 1001


def test_h5py_is_not_imported(run_python, tmp_path):
    """The library reads a file without it, and so starts faster and does not run a line of the HDF5 library."""
    path = tmp_path / "weights.h5"
    path.write_bytes(fuzz_hdf5.seeds()["variable text"])
    out = run_python(
        "import sys, npresnet.network.weights\nfrom npresnet.files.opening import open_weights\n"
        f"with open_weights({str(path)!r}) as file: [tensor.read() for tensor in file.tensors()]\n"
        "print('h5py' in sys.modules)"
    )
    assert out == "False\n"


def test_numbers_are_new_writable_arrays(path, strict):
    path.write_bytes(fuzz_hdf5.seeds()["types"])
    with open_weights(path) as file:
        for tensor in file.tensors():
            one, other = tensor.read(), tensor.read()
            assert one.dtype == np.float32
            assert one.flags.writeable
            assert one.flags.c_contiguous
            assert not np.shares_memory(one, other)


def test_attributes_and_split_lists(path, strict):
    path.write_bytes(fuzz_hdf5.seeds()["split lists"])
    with open_weights(path) as file:
        assert file.names("layer_names") == [f"conv{i}{j}" for i in range(3) for j in range(4)]
        assert file.attribute("nothing") is None
    path.write_bytes(fuzz_hdf5.seeds()["types"])
    with open_weights(path) as file:
        assert file.attribute("number") == 2.5
        with pytest.raises(WeightsError, match="'numbers' holds something other than a list of text"):
            file.names("numbers")
        assert file.datasets()["bfloat16"].attributes == {"dtype": "bfloat16"}


@pytest.mark.parametrize("libver", [None, "latest"])
def test_empty_text(path, libver):
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["empty"], file.attrs["some empty"] = "", ["", "a", ""]
    with open_weights(path) as file:
        assert (file.attribute("empty"), file.attribute("some empty")) == ("", ["", "a", ""])


# Checksums -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)],
)
def test_lookup3(text, value):
    """The values that its author gives."""
    assert checksums.lookup3(text) == value


@pytest.mark.parametrize("data", [b"", bytes(8), b"\xff\xff", b"\xff" * 6, bytes(range(256)) * 400, b"abc"])
def test_fletcher32(data):
    """Word by word."""
    padded = data + bytes(len(data) % 2)
    one = two = 0
    for (word,) in struct.iter_unpack(">H", padded):
        one = one + word - 65535 * (one + word > 65535)
        two = two + one - 65535 * (two + one > 65535)
    assert checksums.fletcher32(data) == two << 16 | one


# Cut short -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["variable text", "gzip", "latest"])
def test_every_truncation(name):
    """At each byte, believed by the file itself or not: refused, or read as before where nothing was lost."""
    data = fuzz_hdf5.seeds()[name]
    try:
        whole = fuzz_hdf5.ours(data)
    except OutsideSubset:
        whole = None
    for size, honest in itertools.product(range(len(data)), (False, True)):
        cut = bytearray(data[:size])
        if honest and size >= 48:
            struct.pack_into("<Q", cut, 28 if cut[8] else 40, size)
            fuzz_hdf5._seal(cut)
        try:
            found = fuzz_hdf5.ours(bytes(cut))
        except (WeightsError, OutsideSubset):
            continue
        assert honest
        assert found == whole


# One wrong field -----------------------------------------------------------------------------------------------------


def _root_is_dataset() -> bytes:
    data = bytearray(_written(lambda file: file.create_dataset("n", data=np.zeros(3))))
    node = data.index(b"SNOD")
    data[64:72] = data[node + 16 : node + 24]
    return bytes(data)


def _same_number() -> bytes:
    data = bytearray(fuzz_hdf5.seeds()["variable text"])
    first = data.index(b"GCOL") + 16
    second = first + 16 + -(-struct.unpack_from("<Q", data, first + 8)[0] // 8) * 8
    data[second : second + 2] = data[first : first + 2]
    return bytes(data)


def _one_chunk(file: h5py.File) -> None:
    file.create_dataset("n", (8,), "f4", chunks=(2,))[:2] = 1


def _numbers_at(data: bytes) -> bytes:
    """The address of the first kernel of a seed, as it is in the layout message."""
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype(np.float32).tobytes()
    return struct.pack("<Q", data.index(kernel))


def _edit(seed: str, old, new: bytes, offset: int = 0) -> bytes:
    """A seed with ``new`` written where the bytes ``old`` are first, or ``offset`` bytes behind."""
    data = bytearray(fuzz_hdf5.seeds()[seed])
    at = data.index(old(data) if callable(old) else old) + offset
    data[at : at + len(new)] = new
    fuzz_hdf5._seal(data)
    return bytes(data)


def _patch(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    """The same with other bytes at some places, and right checksums."""
    changing = bytearray(data)
    for at, new in changes:
        changing[at : at + len(new)] = new
    fuzz_hdf5._seal(changing)
    return bytes(changing)


def _uint(data: bytes, at: int) -> int:
    return struct.unpack_from("<Q", data, at)[0]


def _root(offset: int, new: bytes) -> bytes:
    data = fuzz_hdf5.seeds()["fixed text"]
    return _patch(data, (_uint(data, 64) + offset, new))


def _free(*numbers: tuple[int, int]) -> bytes:
    """A seed with other numbers in the first free block of its first heap: (offset, value)."""
    data = fuzz_hdf5.seeds()["fixed text"]
    at = data.index(b"HEAP")
    free = _uint(data, at + 16)
    place = _uint(data, at + 24) + free
    assert _uint(data, place + 8) >= 32
    return _patch(data, *((place + offset, struct.pack("<Q", value)) for offset, value in numbers))


def _circle() -> bytes:
    """Two free blocks of a heap, each behind the other."""
    data = fuzz_hdf5.seeds()["fixed text"]
    free = _uint(data, data.index(b"HEAP") + 16)
    return _free((0, free + 16), (8, 16), (16, free), (24, 16))


def _name_in_free_space() -> bytes:
    data = fuzz_hdf5.seeds()["fixed text"]
    return _patch(data, (data.index(b"SNOD") + 8, data[data.index(b"HEAP") + 16 :][:8]))


def _at_the_end(signature: bytes, size: int, behind: bytes = b"") -> bytes:
    """A seed whose first node of a kind lies once more at the end, without its unused space; it is that which counts.

    behind  what follows its address wherever that is
    """
    data = fuzz_hdf5.seeds()["fixed text"]
    old, new = data.index(signature), struct.pack("<Q", len(data))
    longer = data + data[old : old + size]
    changes = [(at, new) for at in fuzz_hdf5._find(longer, struct.pack("<Q", old) + behind)]
    assert changes
    return _patch(longer, (40, struct.pack("<Q", len(longer))), *changes)


def _other_last_name() -> bytes:
    """The right key of the first tree is the second letter of its last name."""
    data = fuzz_hdf5.seeds()["fixed text"]
    key = data.index(b"TREE") + 24 + 16
    return _patch(data, (key, struct.pack("<Q", _uint(data, key) + 1)))


def _link(name: bytes, *, kind: int = 0, version: int = 1) -> tuple[int, bytes]:
    """A link message with a kind and two bytes for the length of its name."""
    return 6, bytes([version, 8 | 1, kind]) + struct.pack("<H", len(name)) + name + struct.pack("<Q", 48)


_NO_HEAP = (2, b"\0\0" + b"\xff" * 16)


def _new_kind(*messages: tuple[int, bytes]) -> bytes:
    """A file of the new kind, whose root has these messages: (type, body)."""
    body = b"".join(struct.pack("<BHB", kind, len(data), 0) + data for kind, data in messages)
    header = b"OHDR\2\2" + struct.pack("<I", len(body)) + body + bytes(4)
    block = headers.SIGNATURE + b"\2\x08\x08\0" + struct.pack("<4Q", 0, 2**64 - 1, 48 + len(header), 48) + bytes(4)
    return _patch(block + header)


def _leaf(*changes: tuple[int, bytes], level: int | None = None) -> bytes:
    """A file with one dataset, (4,) in two chunks, or (70,) in as many, with other bytes in the node of its tree that
    has this level: 24 bytes, then keys of 24 and addresses of 8 in turn."""
    data = fuzz_hdf5.seeds()["tree of chunks"] if level is not None else _two_chunks()
    at = data.index(b"TREE\1" + bytes([level or 0]))
    return _patch(data, *((at + offset, new) for offset, new in changes))


def _two_chunks() -> bytes:
    return _written(lambda file: file.create_dataset("n", data=np.ones(4, "f4"), chunks=(2,)))


def _shuffled(size: int) -> bytes:
    """A chunk of so many bytes, shuffled."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.create_dataset("n", (4,), "f4", chunks=(4,), shuffle=True).id.write_direct_chunk((0,), bytes(size))
    return held.getvalue()


def _sealed_chunk() -> bytes:
    """Numbers with a checksum that is not theirs."""
    numbers = np.arange(1, 5, dtype="f4")
    data = _written(lambda file: file.create_dataset("n", data=numbers, chunks=(4,), fletcher32=True))
    return _patch(data, (data.index(numbers.tobytes()), b"\1"))


def _no_axes() -> bytes:
    data = _two_chunks()
    space, layout = data.index(_SPACE) + 8, data.index(struct.pack("<BBB", 3, 2, 2))
    return _patch(data, (space, b"\1\0\0"), (layout + 2, b"\1"), (layout + 11, struct.pack("<I", 4)))


# heads of messages of datasets: type, bytes, flags; and a fill value of the new kind, head and body
_SPACE, _TYPE, _FILL = (struct.pack("<HHB3x", *head) for head in ((1, 24, 0), (3, 24, 1), (5, 8, 1)))
_NEW_FILL = b"\5\2\0\1\3\x0a"
_Q = struct.Struct("<Q").pack
_COMPACT = b"\3\0\x10\0" + (np.arange(4) / 8).astype("f4").tobytes()
_CHARACTER = struct.pack("<BxxxIHH", 0x10, 1, 0, 8)  # the type within the type of a variable-length text
ONE_FIELD = {
    "two attributes of one name": (lambda: _edit("split lists", b"layer_names1", b"layer_names0"), "two attributes"),
    "an attribute's name without its end": (lambda: _edit("split lists", b"layer_names1\0", b"X", 12), "does not end"),
    "a null within a text": (lambda: _edit("fixed text", b"2.2.4", b"2\0"), "a null within a text"),
    "a text shorter than it says": (lambda: _edit("variable text", b"bn_conv1/gamma:0", b"\x05", -8), "bytes where"),
    "an attribute of another version": (lambda: _edit("split lists", b"layer_names0", b"\4", -8), "version 4 of the attr"),
    "a root that is no group": (lambda: _root_is_dataset(), "the root is no group"),
    "chunks that are missing": (lambda: _written(_one_chunk), "has 1 of its 4 chunks"),
    "chunks of the new kind": (
        lambda: fuzz_hdf5._written(lambda f: f.create_dataset("n", data=np.zeros(9), chunks=(2,)), "v110"),
        "found without a B-tree of version 1",
    ),
    "an attribute info of another version": (lambda: _edit("latest", b"\x15\x12\0\4", b"\1", 4), "attribute info message"),
    "attributes in a heap": (
        lambda: fuzz_hdf5._written(lambda f: [f.attrs.__setitem__(f"a{i}", i) for i in range(20)], "latest"),
        "attributes in a fractal heap",
    ),
    "two objects of one number": (lambda: _same_number(), "two objects of one number"),
    "a name with a slash": (lambda: _edit("objects", b"optimizer", b"opt/"), "cannot be the name"),
    "more axes than there may be": (lambda: _edit("fixed text", b"\1\4\1\0\0\0\0\0", b"\x21", 1), "has 33 axes"),
    "a datatype to come": (lambda: _edit("fixed text", b"\x11\x20\x1f\0\4", b"\x1c"), "datatype class 12"),
    "characters of a megabyte": (lambda: _edit("variable text", _CHARACTER, b"\1\0\x10", 4), "are no single bytes"),
    "characters of nine bits": (lambda: _edit("variable text", _CHARACTER, b"\x09", 10), "are no single bytes"),
    "characters that are text": (lambda: _edit("variable text", _CHARACTER, b"\x13"), "are no single bytes"),
    "characters of a version to come": (lambda: _edit("variable text", _CHARACTER, b"\x40"), "are no single bytes"),
    "a packed chunk that is longer than its numbers": (
        lambda: _bomb((1000,), (1000,), _zeros(1000) + bytes(9000)),
        "bytes for 4000",
    ),
    "no layout": (lambda: _edit("fixed text", _numbers_at, b"\0", -10), "has no layout"),
    "an unknown layout": (lambda: _edit("fixed text", _numbers_at, b"\3\7", -2), "layout of class 7"),
    "an older layout": (lambda: _edit("fixed text", _numbers_at, b"\2", -2), "version 2 of the layout"),
    "numbers that were never written": (lambda: _edit("fixed text", _numbers_at, b"\xff" * 8), "never written"),
    "numbers behind the end": (lambda: _edit("fixed text", _numbers_at, b"\0\0\0\1"), "would end at"),
    "fewer numbers than the shape": (lambda: _edit("fixed text", _numbers_at, b"\x10", 8), "claims 288 bytes"),
    "a compact size": (lambda: _edit("types", _COMPACT, b"\x0f", 2), "has 15 bytes for 16 of numbers"),
    "filters without chunks": (lambda: _edit("gzip", struct.pack("<BBB", 3, 2, 5), struct.pack("<BBQQ", 3, 1, 8, 288)), "filters but no chunks"),
    "a filter twice": (lambda: _edit("gzip", struct.pack("<HHHH", 2, 8, 1, 1), b"\1"), "filter 1 is there twice"),
    "another filter message": (lambda: _edit("gzip", struct.pack("<HHHH", 2, 8, 1, 1), b"\3", -8), "version 3 of the filter message"),
    "a shuffled chunk of 5 bytes": (lambda: _shuffled(5), "has 5 bytes, no multiple of 4"),
    "a chunk that was changed": (lambda: _sealed_chunk(), "the checksum of a chunk"),
    "another shuffle": (lambda: _edit("gzip", b"shuffle\0\4", b"\2", 8), "shuffled as if they had"),
    "an unknown filter": (lambda: _edit("gzip", struct.pack("<HHHH", 2, 8, 1, 1), b"\x09"), "filter 9"),
    "chunks of another rank": (lambda: _edit("gzip", struct.pack("<BBB", 3, 2, 5), b"\6", 2), "4 axes and its chunks 5"),
    "a heap of another version": (lambda: _edit("variable text", b"GCOL", b"\2", 4), "version 2 of the global heap"),
    "an object that a heap lacks": (lambda: _edit("variable text", b"GCOL", b"\x63", 16), "has no object 1"),
    "a heap longer than the file": (lambda: _edit("variable text", b"GCOL", b"\xff" * 4, 8), "heap would end at"),
    "a tree of another kind": (lambda: _edit("fixed text", b"TREE", b"\1", 4), "of the wrong kind or level"),
    "a tree too wide": (lambda: _edit("fixed text", b"TREE", b"\xff", 6), "is too large"),
    "a node too wide": (lambda: _edit("fixed text", b"SNOD", b"\xff", 6), "is too large"),
    "names out of order": (lambda: _edit("fixed text", b"bn_conv1\0", b"z"), "not in order"),
    "a soft link": (lambda: _edit("fixed text", b"SNOD", b"\2", 24), "is a soft link"),
    "an unknown link": (lambda: _edit("fixed text", b"SNOD", b"\3", 24), "is of kind 3"),
    "free space behind the heap": (lambda: _edit("fixed text", b"HEAP", b"\xf8\xff", 16), "a free block of a local heap ends after"),
    "another heap": (lambda: _edit("fixed text", b"HEAP", b"\1", 4), "version 1 of the local heap"),
    "no signature": (lambda: _edit("fixed text", b"HEAP", b"h"), "begins with b'hEAP'"),
    "a wrong checksum": (lambda: fuzz_hdf5.seeds()["latest"].replace(b"layer_names", b"layer_namez"), "checksum of an object header"),
    "offsets of four bytes": (lambda: _edit("fixed text", b"\x89HDF", b"\4", 13), "offsets of 4"),
    "a version to come": (lambda: _edit("fixed text", b"\x89HDF", b"\x09", 8), "version 9 of the superblock"),
    "a base address": (lambda: _edit("fixed text", b"\x89HDF", b"\1", 24), "a base address"),
    "a driver": (lambda: _edit("fixed text", b"\x89HDF", bytes(8), 48), "an extension of the superblock"),
    "not closed": (lambda: _edit("fixed text", b"\x89HDF", b"\1", 20), "did not close it"),
    "an old version in the superblock": (lambda: _edit("fixed text", b"\x89HDF", b"\1", 9), "an unusual superblock"),
    "leaves without room": (lambda: _edit("fixed text", b"\x89HDF", b"\0\0", 16), "an unusual superblock"),
    "nodes without room": (lambda: _edit("fixed text", b"\x89HDF", b"\0\0", 18), "an unusual superblock"),
    "free space of the file": (lambda: _edit("fixed text", b"\x89HDF", bytes(8), 32), "an unusual superblock"),
    "a root that is a link": (lambda: _edit("fixed text", b"\x89HDF", b"\2", 72), "an unusual superblock"),
    "a superblock that was changed": (lambda: fuzz_hdf5.seeds()["latest"].replace(b"\x08\x08\0", b"\x08\x08\1", 1), "checksum of the superblock"),
    "an early end": (lambda: _edit("fixed text", b"\x89HDF", _Q(2000), 40), "in a file of 2000 bytes"),
    "an early end, new kind": (lambda: _edit("latest", b"\x89HDF", _Q(500), 28), "in a file of 500 bytes"),
    "no object header": (lambda: _root(0, b"\2"), "should be an object header"),
    "a message less": (lambda: _root(2, b"\1"), "does not have the number of messages"),
    "two layouts": (lambda: _edit("fixed text", _FILL, b"\x08"), "2 messages of type 8"),
    "a link in a dataset": (lambda: _edit("fixed text", _FILL, b"\6"), "type 6, which does not belong there"),
    "a layout in a group": (lambda: _edit("fixed text", b"\x0c\0\x58\0\0", b"\x08"), "type 8, which does not belong there"),
    "a layout in a group of the new kind": (lambda: _new_kind(_NO_HEAP, (8, b"")), "type 8, which does not belong there"),
    "a message to come": (lambda: _edit("fixed text", _FILL, b"\x0d"), "messages of type 13"),
    "a message to come, new kind": (lambda: _edit("latest", _NEW_FILL, b"\x0d"), "messages of type 13"),
    "a shared message": (lambda: _edit("fixed text", _FILL, b"\3", 4), "messages with flags 3"),
    "a fill value to come": (lambda: _edit("fixed text", _FILL, b"\x09", 8), "another version of messages of type 5"),
    "a fill value cut off": (lambda: _edit("fixed text", _FILL, b"\1", 13), "a fill value ends after 8 bytes"),
    "a fill value cut off, new kind": (lambda: _edit("latest", _NEW_FILL, b"\x2a", 5), "a fill value ends after 2 bytes"),
    "a fill value cut off, old kind": (lambda: _edit("fixed text", _FILL, b"\4"), "a fill value ends after 8 bytes"),
    "a message of 9 bytes": (lambda: _edit("fixed text", _FILL, b"\x09", 2), "no multiple of 8"),
    "a header to come": (lambda: _edit("latest", b"OHDR", b"\3", 4), "version 3 of the object header"),
    "no type": (lambda: _edit("fixed text", _TYPE, b"\0"), "neither a group nor a dataset"),
    "no shape": (lambda: _edit("fixed text", _SPACE, b"\0"), "neither a group nor a dataset"),
    "a type of a version to come": (lambda: _edit("fixed text", _TYPE, b"\x41", 8), "version 4 of the datatype"),
    "a type without size": (lambda: _edit("fixed text", _TYPE, bytes(4), 12), "has size 0"),
    "references of 15 bytes": (lambda: _edit("variable text", b"\x19\1\1\0\x10", b"\x0f", 4), "has 15 bytes, not 16"),
    "characters of two bytes": (lambda: _edit("variable text", _CHARACTER, struct.pack("<IHH", 2, 0, 16), 4), "are no single bytes"),
    "a shape to come": (lambda: _edit("fixed text", _SPACE, b"\3", 8), "version 3 of the dataspace"),
    "permuted axes": (lambda: _edit("fixed text", _SPACE, b"\3", 10), "permuted axes"),
    "a shape without axes": (lambda: _edit("latest", b"\2\1\1\1\4", b"\0", 3), "of kind 0 has 1 axes"),
    "larger than it may be": (lambda: _edit("fixed text", _SPACE, b"\3", 24), "larger than its own maximum"),
    "shared types": (lambda: _edit("latest", b"\3\0\x0c\0\x08\0", b"\1", 1), "types that several objects share"),
    "a free block of 8 bytes": (lambda: _free((8, 8)), "free space of a local heap is not in it"),
    "a free block too long": (lambda: _free((8, 2**20)), "free space of a local heap is not in it"),
    "free blocks in a circle": (_circle, "more than 250000 structures"),
    "a name in free space": (_name_in_free_space, "a name is where its heap is free"),
    "a text longer than its heap": (lambda: _edit("variable text", b"GCOL", _Q(2**20), 24), "longer than the heap"),
    "an empty name": (lambda: _new_kind(_NO_HEAP, _link(b"")), "cannot be the name"),
    "a point as a name": (lambda: _new_kind(_NO_HEAP, _link(b".")), "cannot be the name"),
    "a null in a name": (lambda: _new_kind(_NO_HEAP, _link(b"a\0b")), "cannot be the name"),
    "a long name, new kind": (lambda: _new_kind(_NO_HEAP, _link(b"n" * 1001)), "cannot be the name"),
    "a name twice": (lambda: _new_kind(_NO_HEAP, _link(b"a"), _link(b"a")), "'a' is there twice"),
    "a link of a version to come": (lambda: _new_kind(_NO_HEAP, _link(b"a", version=2)), "version 2 of the link message"),
    "a soft link, new kind": (lambda: _new_kind(_NO_HEAP, _link(b"a", kind=1)), "'a' is a soft link"),
    "an external link": (lambda: _new_kind(_NO_HEAP, _link(b"a", kind=64)), "'a' is an external link"),
    "a link to come": (lambda: _new_kind(_NO_HEAP, _link(b"a", kind=65)), "'a' is an unknown link"),
    "links in a heap": (lambda: _new_kind((2, b"\0\0" + bytes(16))), "links in a fractal heap"),
    "links to come": (lambda: _new_kind((2, b"\1\0" + b"\xff" * 16)), "version 1 of the link info"),
    "a cut tree": (lambda: _at_the_end(b"TREE", 48, fuzz_hdf5.seeds()["fixed text"][88:96]), "a node of the tree of a group is too large"),
    "a cut node": (lambda: _at_the_end(b"SNOD", 8 + 3 * 40), "a symbol table node is too large"),
    "a node to come": (lambda: _edit("fixed text", b"SNOD", b"\2", 4), "version 2 of the symbol table node"),
    "another last name": (_other_last_name, "a symbol table node is not in order"),
    "a leaf above leaves": (lambda: _leaf((5, b"\1"), level=0), "of the wrong kind or level"),
    "chunks out of order": (lambda: _leaf((24 + 32 + 8, _Q(0)), level=0), "of the tree of chunks is not in order"),
    "a leaf elsewhere": (lambda: _leaf((24 + 32 + 8, _Q(36)), level=1), "does not fit where it is"),
    "a chunk within a number": (lambda: _leaf((24 + 16, _Q(2))), "at an impossible place"),
    "a chunk between others": (lambda: _leaf((24 + 8, _Q(1))), r"at an impossible place \(1, 0\)"),
    "a chunk beside the numbers": (lambda: _leaf((24 + 16, _Q(4))), r"at an impossible place \(0, 4\)"),
    "a chunk beside the array": (lambda: _patch(d := _two_chunks(), (d.index(_SPACE) + 16, b"\2")), r"at an impossible place \(2, 0\)"),
    "a chunk behind the end": (lambda: _leaf((24 + 24, _Q(2**40))), "would end after the file"),
    "chunks without axes": (_no_axes, "has 0 axes and its chunks 0"),
    "chunks of other numbers": (lambda: _edit("gzip", struct.pack("<BBB", 3, 2, 5), b"\x08", 27), "chunks of impossible shape"),
    "chunks never written": (lambda: _written(lambda f: f.create_dataset("n", (4,), "f4", chunks=(2,))), "never written"),
    "chunks that are not packed": (lambda: _bomb((1000,), (1000,), b"no zlib stream"), "cannot be unpacked"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ONE_FIELD)
def test_one_wrong_field(kind):
    """Each is noticed by the check that is meant for it."""
    make, words = ONE_FIELD[kind]
    with pytest.raises((WeightsError, OutsideSubset), match=words):
        fuzz_hdf5.ours(make())


def test_a_header_that_continues_in_itself():
    data = bytearray(_written(lambda f: [f.attrs.__setitem__(f"a{i}", np.arange(20)) for i in range(9)]))
    at = data.index(struct.pack("<HHB3x", 0x10, 16, 0))
    place = data[at + 8 : at + 24]
    chunk = struct.unpack_from("<Q", place)[0]
    nothing = next(i for i in range(chunk, len(data)) if data[i : i + 4] == struct.pack("<HH", 0x0C, 216))
    data[nothing : nothing + 24] = data[at : at + 24]
    data[nothing + 24 : nothing + 32] = struct.pack("<HHI", 0, 216 - 24, 0)
    with pytest.raises(WeightsError, match="continues for ever"):
        fuzz_hdf5.ours(bytes(data))


def test_a_file_that_shrinks_while_it_is_read(path):
    with h5py.File(path, "w") as file:
        file["n"] = np.ones(10**6, np.float32)
    with open_weights(path) as file:
        os.truncate(path, 5000)
        with pytest.raises(WeightsError, match="became shorter"):
            next(file.tensors()).read()


def test_nothing_is_read_outside_of_the_file():
    reader = Source(io.BytesIO(bytes(100)), 20, 50, Budget(0))
    assert reader.get(40, 10, "it") == bytes(10)
    for at, n in ((41, 10), (2**64, 1), (0, 2**64)):
        with pytest.raises(WeightsError, match="in a file of 50 bytes"):
            reader.get(at, n, "it")
    with pytest.raises(WeightsError, match="in a file of 50 bytes"):
        reader.readinto(45, memoryview(bytearray(6)))


# Made to exhaust time or memory --------------------------------------------------------------------------------------


def _bomb(shape: tuple[int, ...], chunks: tuple[int, ...], packed: bytes) -> bytes:
    """A dataset of gzip'd chunks that are all the same bytes."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        made = file.create_dataset("bomb", shape, "f4", chunks=chunks, compression="gzip")
        for start in itertools.product(*(range(0, n, step) for n, step in zip(shape, chunks, strict=True))):
            made.id.write_direct_chunk(start, packed)
    return held.getvalue()


def _zeros(numbers: int) -> bytes:
    return zlib.compress(bytes(4 * numbers), 9)


def _patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) >= 1
    return data.replace(old, new)


def _written(write) -> bytes:
    return fuzz_hdf5._written(write)


def _claiming(shape: tuple[int, ...], chunks: bool | None = None) -> bytes:
    data = _written(lambda file: file.create_dataset("n", data=np.ones((3, 5, 7, 11), "f4"), chunks=chunks))
    return _patched(data, struct.pack("<4Q", 3, 5, 7, 11), struct.pack("<4Q", *shape))


def _shared_text() -> bytes:
    """An attribute of 4,000 texts, all of them the same megabyte."""
    data = bytearray(_written(lambda file: file.attrs.__setitem__("t", ["a" * 2**20] + ["b"] * 3999)))
    heaps = [struct.pack("<IQ", 2**20, at) for at in fuzz_hdf5._find(bytes(data), b"GCOL")]
    reference = next(data.index(start) for start in heaps if start in data)
    data[reference : reference + 16 * 4000] = data[reference : reference + 16] * 4000
    return bytes(data)


def _nested(depth: int) -> bytes:
    return _written(lambda file: file.create_group("/".join("g" * depth)))


HOSTILE = {
    "a shape of 2^62 numbers": (lambda: _claiming((2**31, 2**31, 1, 1)), "claims"),
    "a shape that overflows": (lambda: _claiming((2**63, 2**63, 2, 2)), "claims"),
    "a shape of 2^94 numbers and none": (lambda: _claiming((0, 2**31, 2**31, 2**32), chunks=True), "impossible shape"),
    "unpacks a thousandfold": (lambda: _bomb((2**28,), (2**26,), _zeros(2**26)), "made to exhaust memory"),
    "a chunk longer than it says": (lambda: _bomb((1000,), (1000,), _zeros(2**19)), "do not end where they should"),
    "a chunk shorter than it says": (lambda: _bomb((1000,), (1000,), _zeros(999)), "unpacks to 3996 bytes"),
    "chunks larger than the array": (
        lambda: _written(lambda f: f.create_dataset("n", (1,), "f4", chunks=(2**28,), maxshape=(None,))),
        "never written|exhaust memory|its 1 chunks",
    ),
    "a name of a megabyte": (lambda: _written(lambda file: file.create_group("n" * 2**20)), "more than 1000 bytes"),
    "one text for thousands": (_shared_text, "more than 24 MB beside its numbers"),
    "groups 2,000 deep": (lambda: _nested(2000), "nested more than 16 deep"),
    "zero chunks": (
        lambda: _patched(_written(lambda f: f.create_dataset("n", (9,), "f4", chunks=(9,))), struct.pack("<II", 9, 4), bytes(4) + b"\4\0\0\0"),
        "impossible shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_cost_little(path, kind):
    make, words = HOSTILE[kind]
    path.write_bytes(make())
    costs_little(path, words)


def test_a_million_groups_cost_little(path, monkeypatch):
    """Some thousands, for a fifth of what the reader allows: each costs what the one before has cost."""
    monkeypatch.setattr(source, "_STEPS", source._STEPS // 5)
    path.write_bytes(_written(lambda file: [file.create_group(str(i)) for i in range(6_000)]))
    costs_little(path, "more than 50000 structures", MEMORY // 5)


def costs_little(path: Path, words: str, memory: int = MEMORY) -> None:
    """It is refused in these words, and takes no more memory than its size and ``memory`` bytes on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=words):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size + memory


def test_all_bombs_together_are_bounded(path):
    """Each tensor alone would be allowed."""
    with h5py.File(path, "w") as file:
        for i in range(8):
            made = file.create_dataset(f"bomb{i}", (2**24,), "f4", chunks=(2**24,), compression="gzip")
            made.id.write_direct_chunk((0,), _zeros(2**24))
    with open_weights(path) as file:
        tensors = list(file.tensors())
        assert [tensor.read().shape for tensor in tensors[:3]] == [(2**24,)] * 3
        with pytest.raises(WeightsError, match="made to exhaust memory"):
            tensors[3].read()


def test_numbers_are_charged_however_often_their_bytes_are_used():
    """Many tensors may be the same bytes of the file: what counts is what is handed out."""
    data = _written(lambda file: [file.create_dataset(str(i), data=np.zeros(1000, "f4")) for i in range(3)])
    tensors = list(read_tree(Source(io.BytesIO(data), 0, len(data), Budget(8000))).tensors())
    tensors[0].read()
    tensors[0].read()
    with pytest.raises(WeightsError, match=r"need 4000 bytes more where 0 are left; .* made to exhaust memory"):
        tensors[1].read()


def _spent(data: bytes, limit: str = "_steps") -> int:
    """The steps, or with "_metadata" the bytes, that reading the tree of a file takes from its budget."""
    budget, whole = Budget(0), Budget(0)
    read_tree(Source(io.BytesIO(data), 0, len(data), budget))
    return getattr(whole, limit) - getattr(budget, limit)


WORK = {
    "messages": (lambda n: _written(lambda f: [f.attrs.__setitem__(f"a{i}", 1) for i in range(n)]), 2),  # and values
    "messages of the new kind": (lambda n: _new_kind(_NO_HEAP, *[(0, b"")] * n), 1),
    "elements of an attribute": (lambda n: _written(lambda f: f.attrs.__setitem__("a", np.zeros(n, "u1"))), 1),
    "bytes under a checksum, by 64": (lambda n: _new_kind(_NO_HEAP, (0, bytes(64 * n))), 1),
    "groups": (
        lambda n: _written(lambda f: [f.create_group(f"g{i}") for i in range(n)]),
        4,
    ),  # header, tree, heap twice
}


@pytest.mark.parametrize("kind", WORK)
def test_all_work_is_charged(kind):
    make, each = WORK[kind]
    assert each * 900 <= _spent(make(1000)) - _spent(make(100)) <= 4 * each * 900


def test_chunks_are_charged():
    data = _written(lambda file: file.create_dataset("n", data=np.zeros(1000, "u1"), chunks=(1,)))
    budget = Budget(10**6)
    (tensor,) = read_tree(Source(io.BytesIO(data), 0, len(data), budget)).tensors()
    before = budget._steps
    tensor.read()
    assert before - budget._steps >= 1000


def test_names_and_paths_are_charged():
    """However often the same bytes are used: a name may be the end of another, a path repeats those of all groups above."""
    data = _written(lambda file: file.create_group("n" * 900))
    budget = Budget(0)
    heap = heaps.LocalHeap(Source(io.BytesIO(data), 0, len(data), budget), data.index(b"HEAP"))
    before = budget._metadata
    assert [len(heap.name(8 + i)) for i in range(100)] == [900 - i for i in range(100)]
    assert before - budget._metadata >= 80_000
    deep, flat = ("/".join(["g" * size] * 8) for size in (900, 1))
    many, one = (
        [_written(lambda f, n=n, path=path: [f.create_group(f"{path}/{i}") for i in range(n)]) for path in (deep, flat)]
        for n in (100, 1)
    )
    more = [_spent(data, "_metadata") - _spent(less, "_metadata") for data, less in zip(many, one, strict=True)]
    assert more[0] - more[1] >= 99 * 8 * 800


def test_compact_numbers_are_charged():
    data = fuzz_hdf5.seeds()["types"]
    tree = read_tree(Source(io.BytesIO(data), 0, len(data), Budget(16)))
    tensor = tree.datasets()["compact"]
    assert tensor.read().shape == (4,)
    with pytest.raises(WeightsError, match="need 16 bytes more where 0 are left"):
        tensor.read()


def test_a_disk_that_fails():
    class Broken(io.BytesIO):
        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    with pytest.raises(WeightsError, match=r"cannot be read .*Input/output error.*check the disk"):
        Source(Broken(bytes(100)), 0, 100, Budget(0)).get(0, 10, "it")


@pytest.mark.parametrize(
    ("value", "words"),
    [(h5py.Empty("f4"), "nothing"), (np.complex64(1j), "compound"), (np.void(b"ab"), "bytes"), (True, "enumerated")],
)
def test_attributes_that_no_keras_file_has(path, strict, value, words):
    """Whoever does not ask for them is not bothered."""
    with h5py.File(path, "w") as file:
        file.attrs["odd"], file.attrs["good"] = value, "text"
    with open_weights(path) as file:
        assert file.attribute("good") == "text"
        with pytest.raises(WeightsError, match=f"'odd' holds {words}"):
            file.attribute("odd")


# Damage at random ----------------------------------------------------------------------------------------------------


def test_five_thousand_mutants():
    report = fuzz_hdf5.run(7, range(5_000))
    assert report.findings == []
    assert sum(report.outcomes.values()) == 5_000
    assert report.outcomes["refused"] > 2000  # neither all
    assert report.outcomes["read as h5py does"] > 500  # nor none


def _unpack(self, layout):
    return struct.unpack_from(layout, self._data, self._at)  # which raises an error of its own, and does not go on


BROKEN = {
    "fields may end after their structure": lambda m: m.setattr(source.Fields, "unpack", _unpack),
    "text is cut at the first null": lambda m: m.setattr(attributes, "_text", lambda d: d.split(b"\0")[0].decode()[:7]),
    "checksums are not compared": lambda m: m.setattr(storage, "fletcher32", lambda data: 0),
    "the least bit of each number is lost": lambda m: m.setattr(
        storage, "_float32", lambda array, bfloat16: (array.astype("f4").view("u4") & 0xFFFFFFFE).view("f4")
    ),
    "big-endian is not noticed": lambda m: m.setattr(
        storage, "_float32", lambda array, bfloat16: array.view(array.dtype.newbyteorder("<")).astype("f4")
    ),
    "chunks come out in the wrong place": lambda m: m.setattr(
        storage, "slice", lambda a, b: slice(0, b - a), raising=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_the_fuzzer_notices_a_broken_reader(monkeypatch, kind):
    BROKEN[kind](monkeypatch)
    try:
        findings = fuzz_hdf5.run(7, range(900)).findings
    except Exception as error:  # it does not even read the undamaged files
        findings = [str(error)]
    assert findings
