"""``.keras`` archives: zip files from strangers."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from npresnet.errors import WeightsError
from npresnet.files.hdf5.source import MEMORY
from npresnet.files.opening import open_weights

from .. import fuzz_hdf5

WEIGHTS = fuzz_hdf5.seeds()["objects"]
CONFIG = json.dumps({"class_name": "Functional", "config": {"layers": []}})
METADATA = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-11-24"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


def archive(members=(), *, weights=WEIGHTS, config=CONFIG, metadata=METADATA, method=zipfile.ZIP_STORED) -> bytes:
    """The bytes of an archive; None leaves a member out, ``members`` are more of them."""
    usual = (("metadata.json", metadata), ("config.json", config), ("model.weights.h5", weights))
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in (*((n, d) for n, d in usual if d is not None), *members):
            made.writestr(name, data)
    return held.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_archive(path, method):
    path.write_bytes(archive([("assets/vocabulary.txt", "a")], method=method))
    expected = fuzz_hdf5.ours(WEIGHTS).tensors
    with open_weights(path) as file:
        assert file.kind == "keras"
        assert file.config == json.loads(CONFIG)
        assert file.metadata == json.loads(METADATA)
        assert {t.path: (t.shape, t.read().tobytes()) for t in file.tensors()} == expected


def test_weights_beyond_the_subset(path):
    """Left to h5py, from within the archive."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.create_dataset("n", data=np.arange(5.0), compression="lzf")
    path.write_bytes(archive(weights=held.getvalue()))
    with open_weights(path) as file:
        assert [tensor.read().tolist() for tensor in file.tensors()] == [[0, 1, 2, 3, 4]]


def changed(old: bytes, new: bytes, data: bytes | None = None) -> bytes:
    data = archive() if data is None else data
    assert old in data
    return data.replace(old, new)


def encrypted() -> bytes:
    data = bytearray(archive())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(signature, at + 1)
    return bytes(data)


def end_record(**fields: int) -> bytes:
    data = archive()
    at = data.rindex(b"PK\5\6")
    names = ("disk", "first", "here", "count", "size", "at", "comment")
    values = dict(zip(names, struct.unpack("<4H2IH", data[at + 4 :]), strict=True)) | fields
    return data[: at + 4] + struct.pack("<4H2IH", *values.values())


# of the local header and of the entry in the directory: (signature, where its name begins, {field: (format, offset)})
LOCAL = (b"PK\3\4", 30, {"flags": ("<H", 6), "method": ("<H", 8)})
ENTRY = (b"PK\1\2", 46, {"flags": ("<H", 8), "method": ("<H", 10), "packed": ("<I", 20), "size": ("<I", 24)})


def header(
    kind: tuple[bytes, int, dict[str, tuple[str, int]]], name: str, data: bytes | None = None, **fields: int
) -> bytes:
    """An archive with other fields in one header of a member."""
    changing = bytearray(archive() if data is None else data)
    signature, names_at, places = kind
    at = next(
        a for a in fuzz_hdf5._find(bytes(changing), signature) if changing.startswith(name.encode(), a + names_at)
    )
    for field, value in fields.items():
        struct.pack_into(places[field][0], changing, at + places[field][1], value)
    return bytes(changing)


def unpacking_to(size: int) -> bytes:
    """A deflated member of another size than the directory says."""
    data = archive(weights=WEIGHTS + bytes(10**6), method=zipfile.ZIP_DEFLATED)
    return header(ENTRY, "model.weights.h5", data, size=size)


def deflated_badly() -> bytes:
    data = bytearray(archive(method=zipfile.ZIP_DEFLATED))
    data[data.index(b"config.json") + len("config.json")] = 0xFF
    return bytes(data)


BAD = {
    "no weights": (lambda: archive(weights=None), "a zip archive, but no `.keras` file: it lacks"),
    "no config": (lambda: archive(config=None), "with 'model.weights.h5' inside; unpack it and give that file"),
    "weights in NumPy's format": (
        lambda: archive([("model.weights.npz", b"")], weights=None),
        "weights in NumPy's format",
    ),
    "a PyTorch checkpoint": (
        lambda: archive([("archive/data.pkl", b"")], weights=None, config=None),
        "a PyTorch checkpoint, .* never opened",
    ),
    "a packed .h5": (lambda: archive([("resnet.h5", WEIGHTS)], weights=None), "with 'resnet.h5' inside; unpack it"),
    "a name twice": (lambda: archive([("model.weights.h5", WEIGHTS)]), "two members 'model.weights.h5'"),
    "a name that leads out": (lambda: archive([("../../evil", "")]), "member '../../evil', whose name leads out"),
    "an absolute name": (lambda: archive([("/etc/passwd", "")]), "whose name leads out"),
    "a name for Windows": (lambda: archive([("a..b", ""), ("a\\b", "")]), r"member 'a\\\\b', whose name leads out"),
    "a drive of Windows": (lambda: archive([("C:evil", "")]), "whose name leads out"),
    "a name with a null": (lambda: changed(b"a_b", b"a\0b", archive([("a_b", "")])), "whose name leads out"),
    "encrypted": (encrypted, "'config.json' is encrypted"),
    "another method": (lambda: archive(method=zipfile.ZIP_BZIP2), "packed by method 12; store or deflate it"),
    "weights that are no HDF5": (lambda: archive(weights=b"PK\3\4 again"), "'model.weights.h5' is not an HDF5 file"),
    "no weights at all": (lambda: archive(weights=b""), "'model.weights.h5' is not an HDF5 file"),
    "weights cut short": (lambda: archive(weights=WEIGHTS[:-100]), "the file ends after .* bytes"),
    "cut short": (lambda: archive()[:-30], "has no directory, so its download or copy was cut short"),
    "something behind": (lambda: archive() + b"x", "end of the zip archive contradicts itself"),
    "something in front": (lambda: archive()[:50] + archive(), "contradicts itself"),
    "many members": (lambda: archive([(f"assets/{i}", "") for i in range(1100)]), "has 1103 members"),
    "more than 4 GB": (lambda: end_record(at=2**32 - 1), "of more than 4 GB"),
    "more than 65,534 members": (lambda: end_record(count=0xFFFF, here=0xFFFF), "of more than 4 GB"),
    "too many counted": (lambda: end_record(count=4, here=4), "within a field|begins with"),
    "too few counted": (lambda: end_record(count=2, here=2), "longer than its members need"),
    "two disks": (lambda: end_record(disk=1), "contradicts itself"),
    "begun on another disk": (lambda: end_record(first=1), "contradicts itself"),
    "two counts": (lambda: end_record(here=2), "contradicts itself"),
    "stored, but of two sizes": (
        lambda: changed(struct.pack("<II", len(CONFIG), len(CONFIG)), struct.pack("<II", len(CONFIG) - 1, len(CONFIG))),
        "has two sizes",
    ),
    "a header of another name": (lambda: changed(b"config.json", b"confiG.json", archive())[:-200] + archive()[-200:], "contradicts the directory"),
    "a header of another method": (lambda: header(LOCAL, "config.json", method=8), "contradicts the directory"),
    "a header with a password": (lambda: header(LOCAL, "config.json", flags=1), "contradicts the directory"),
    "weights behind the end": (
        lambda: header(ENTRY, "model.weights.h5", packed=10**6, size=10**6),
        "'model.weights.h5' would end after the file",
    ),
    "a stream that is none": (deflated_badly, "'config.json' cannot be unpacked"),
    "larger than said": (lambda: unpacking_to(len(WEIGHTS)), "does not unpack to what the directory says"),
    "smaller than said": (lambda: unpacking_to(len(WEIGHTS) + 10**6 + 1), "does not unpack to what the directory says"),
    "a checksum that does not fit": (lambda: changed(b"Functional", b"functional"), "does not unpack to what"),
    "metadata that is no JSON": (lambda: archive(metadata="{"), "metadata is no JSON text"),
    "metadata that is a list": (lambda: archive(metadata="[]"), "metadata is no JSON object"),
    "a bomb": (
        lambda: archive(weights=WEIGHTS + bytes(150 * 2**20), method=zipfile.ZIP_DEFLATED),
        "claims .* bytes where .* are allowed .* made to exhaust memory",
    ),
    "a config of megabytes": (lambda: archive(config=" " * 2**23), "'config.json' claims"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive(path, kind):
    make, words = BAD[kind]
    path.write_bytes(make())
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=words), open_weights(path):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size + MEMORY
    assert list(path.parent.iterdir()) == [path]


CONFIGS = {
    "cut short": ('{"a": [', "no JSON text"),
    "not UTF-8": (b'{"a": "\xff"}', "no JSON text"),
    "a list": ("[]", "no JSON object"),
    "deep": ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested more than 64 deep"),
    "very deep": ('{"a": ' + "[" * 10**6 + "]" * 10**6 + "}", "no JSON text|nested"),
    "a number of many digits": ('{"a": ' + "9" * 10**5 + "}", "no JSON text"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_bad_config(path, kind):
    """Who does not ask for it is not bothered."""
    text, words = CONFIGS[kind]
    path.write_bytes(archive(config=text))
    with open_weights(path) as file:
        assert len(list(file.tensors())) == 4
        with pytest.raises(WeightsError, match=words):
            _ = file.config


@pytest.mark.parametrize(
    ("value", "words"),
    [("x" * 7 * 2**20, "no Keras file has more than"), (3, "something other than text"), ("[]", "no JSON object")],
    ids=["megabytes", "a number", "a list"],
)
def test_a_bad_config_in_a_whole_model(tmp_path, value, words):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = value
    with open_weights(tmp_path / "model.h5") as file, pytest.raises(WeightsError, match=words):
        _ = file.config


def test_every_truncation(path):
    """And each believed by the archive itself is caught by its members' checks."""
    data = archive(weights=WEIGHTS[:2000])
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(WeightsError), open_weights(path):
            pass


def test_two_thousand_mutants(path):
    """Structure-aware damage to headers and directory: refused, or the tensors are those of the archive."""
    data = archive(method=zipfile.ZIP_DEFLATED)
    places = [i for s in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for i in fuzz_hdf5._find(data, s)]
    expected = fuzz_hdf5.ours(WEIGHTS).tensors
    random = np.random.default_rng(0)
    read = 0
    for _ in range(2000):
        mutant = bytearray(data)
        at = int(random.choice(places)) + int(random.integers(60))
        value = int(random.choice([0, 1, 2, 8, 0x7F, 0xFF, int(random.integers(256))]))
        for i in range(at, min(len(data), at + int(random.choice([1, 1, 2, 4])))):
            mutant[i] = value
        path.write_bytes(mutant)
        try:
            with open_weights(path) as file:
                assert {t.path: (t.shape, t.read().tobytes()) for t in file.tensors()} == expected
                read += 1
        except WeightsError:
            pass
    assert 100 < read < 1900
