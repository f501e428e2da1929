"""Files that are no usable weight file: each is refused with a WeightsError that says what it is and what to do.

Damage at random, and files made to do harm, are in ``test_hdf5.py`` and ``test_archive.py``.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.files.hdf5 import source
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.network.weights import inspect

KERNEL = "conv1/conv1/kernel:0"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    """The bytes of a thin network's weight file, which loads."""
    graph = build_graph(Architecture.standard(FAMILIES["matterport"], 50, width=4))
    path = write_keras_file(tmp_path_factory.mktemp("good") / "weights.h5", graph, random_weights(graph))
    npresnet.load(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.h5"


def check(path: Path, words: str) -> None:
    """The file is refused, by name, in words that match the pattern. Any other exception is a failure by itself."""
    for read in (npresnet.load, inspect):
        with pytest.raises(WeightsError) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert re.search(words, text[len(str(path)) :], re.DOTALL), text


# Other things under the name of a weight file ------------------------------------------------------------------------


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")


def _zip_of(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("resnet.h5"))


def _directory(path: Path, name: str) -> None:
    path.mkdir()
    (path / name).touch()


def _numpy(save):
    def make(path: Path) -> None:
        with path.open("wb") as file:
            save(file, np.zeros(3))

    return make


def _pickle(protocol: int):
    return lambda path: path.write_bytes(pickle.dumps({"state_dict": {}}, protocol))


def _bytes(start: bytes):
    return lambda path: path.write_bytes(start + np.random.default_rng(0).bytes(5000))


IMPOSTORS = {
    "missing": (lambda path: None, "no such file; check the path"),
    "directory": (Path.mkdir, "a directory; give the weight file itself"),
    "empty": (Path.touch, "empty; download or save it again"),
    "git-lfs pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 257557808\n"),
        "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`",
    ),
    "HTML": (
        lambda path: path.write_text("\n <!DOCTYPE html><title>Quota exceeded</title>"),
        "a web page .*error page.*; download the file again",
    ),
    "JSON": (
        lambda path: path.write_text(json.dumps({"message": "Not Found"})),
        "JSON text.* error message .*; download the file again",
    ),
    "zip": (_zip, r"a zip archive, but no `\.keras` file: it lacks .*; .* `model\.save\('name\.keras'\)`"),
    "npz": (_numpy(np.savez), r"a NumPy `\.npz` archive"),
    "PyTorch": (lambda path: _zip_of(path, "resnet/data.pkl"), "a PyTorch checkpoint, .* never opened"),
    "old PyTorch": (_bytes(bytes.fromhex("80028a0a6cfc9c46f9206aa85019")), "a PyTorch checkpoint, .* never opened"),
    "packed": (lambda path: _zip_of(path, "a/resnet.h5"), "a zip archive with 'a/resnet.h5' inside; unpack it"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"weights")), "a compressed file; unpack it"),
    "tar": (_tar, "a tar archive; unpack it"),
    "safetensors": (
        lambda path: path.write_bytes((64).to_bytes(8, "little") + b'{"conv1.weight":{"dtype":"F32"}}'),
        "a safetensors file, which holds no Keras layer names; load the model .* `model.save",
    ),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x032.0"), "an ONNX model, .*; load the model"),
    "SavedModel": (_bytes(b"\x08\x01\x12\x9c\xa3"), "a TensorFlow SavedModel; load the model"),
    "SavedModel's directory": (lambda path: _directory(path, "saved_model.pb"), "a TensorFlow SavedModel; load"),
    "directory of checkpoints": (lambda path: _directory(path, "checkpoint"), "a directory of TensorFlow checkpoints"),
    "index of a checkpoint": (
        lambda path: path.write_bytes(b"\0\0\x0a\x08" + bytes(90) + bytes.fromhex("57fb808b247547db")),
        "a part of a TensorFlow checkpoint",
    ),
    "TensorFlow Lite": (_bytes(b"\x1c\0\0\0TFL3"), "a TensorFlow Lite model"),
    "picture": (_bytes(b"\x89PNG\r\n\x1a\n"), "a picture; give the weight file"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "nothing but zeros .*; download the file again"),
    "npy": (_numpy(np.save), "a NumPy array, not HDF5; give the Keras `.h5` file"),
    **{f"pickle {p}": (_pickle(p), "a Python pickle .* never opened .*can run code; give") for p in (2, 3, 4, 5)},
    "text": (
        lambda path: path.write_text("conv1,0.25\n"),
        "not an HDF5 file .*b'conv1,0.'.*; weights must be a Keras `.h5` or `.keras` file",
    ),
    "random bytes": (_bytes(b"\x07"), "not an HDF5 file .*; weights must be a Keras `.h5` or `.keras` file"),
    "signature, then random bytes": (_bytes(b"\x89HDF\r\n\x1a\n\x09"), "damaged .*; download or save it again"),
}


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_something_else(path, kind):
    make, words = IMPOSTORS[kind]
    make(path)
    check(path, words)


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_the_command_line_refuses_in_one_line(path, kind, monkeypatch):
    """Exit status 2, one line, no traceback, and nothing written."""
    testing = pytest.importorskip("typer.testing")
    from npresnet.cli.app import app

    IMPOSTORS[kind][0](path)
    monkeypatch.chdir(path.parent)
    before = sorted(path.parent.rglob("*"))
    np.save("image.npy", np.zeros((1, 32, 32, 3), np.float32))
    for arguments in (["info", str(path)], ["run", "image.npy", "--weights", str(path)]):
        done = testing.CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert done.output.startswith(f"npresnet: {path}: ")
        assert done.output.count("\n") == 1
    assert sorted(path.parent.rglob("*")) == sorted([*before, path.parent / "image.npy"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    check(path, "a pipe or a device; give the weight file itself")


@pytest.mark.parametrize("name", ["x" * 5000, "null\0character"], ids=["too long", "null"])
def test_impossible_name(name):
    check(Path(name), "cannot be read .*; check the path")


def test_permission_denied(good, path):
    path.write_bytes(good)
    path.chmod(0)
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no permission bits")
    root = os.geteuid() == 0
    try:
        if root:  # to whom nothing is forbidden: be somebody else for a moment
            os.seteuid(65534)
        check(path, "cannot be read .*; check its permissions")
    finally:
        if root:
            os.seteuid(0)


# Files cut short -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 4, 7])
def test_cut_within_the_signature(good, path, kept):
    path.write_bytes(good[:kept])
    check(path, "not an HDF5 file .*; weights must be a Keras `.h5` or `.keras` file")


@pytest.mark.parametrize("kept", [8, 9, 40, 47])
def test_cut_within_the_superblock(good, path, kept):
    path.write_bytes(good[:kept])
    check(path, "damaged .*; download or save it again")


@pytest.mark.parametrize("kept", [48, 95, 96, 500, 3000, 0.5, -1000, -1])
def test_cut_later(good, path, kept):
    """From where the file's own length can be read, it is compared."""
    size = int(kept * len(good)) if isinstance(kept, float) else kept
    path.write_bytes(good[:size])
    check(path, f"ends after {size % len(good)} of {len(good)} bytes, so its download .* was cut short; fetch it again")


@pytest.mark.parametrize("kept", [20, 47, 60, 0.5, -1])
def test_cut_with_another_superblock(good, path, kept):
    """Version 3, which h5py writes when asked for the latest features."""
    with h5py.File(path, "w", libver="latest") as file:
        file["numbers"] = np.zeros(1000)
    whole = path.read_bytes()
    assert whole[8] == 3
    part = whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    path.write_bytes(part)
    if len(part) < 48:
        check(path, "damaged .*; download or save it again")
    else:
        check(path, f"ends after {len(part)} of {len(whole)} bytes, so its download or copy was cut short")


# HDF5 files with something in them that no Keras file has --------------------------------------------------------------


def _instead_of_kernel(put):
    """Replace the first kernel."""

    def change(file: h5py.File, folder: Path) -> None:
        shape = file[KERNEL].shape
        del file[KERNEL]
        put(file, shape, folder)

    return change


def _virtual(file: h5py.File, shape: tuple[int, ...], folder: Path) -> None:
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(folder / "other.h5", "numbers", shape)
    file.create_virtual_dataset(KERNEL, layout)


def _outside(file: h5py.File, shape: tuple[int, ...], folder: Path) -> None:
    file.create_dataset(KERNEL, shape, "f4", external=[(str(folder / "raw.bin"), 0, h5py.h5f.UNLIMITED)])


def _link(target):
    return _instead_of_kernel(lambda file, shape, folder: file.__setitem__(KERNEL, target(folder)))


def _dataset(value):
    """A dataset of another type instead of the kernel."""
    return _instead_of_kernel(lambda file, shape, folder: file.__setitem__(KERNEL, value(file)))


def _huge(*shape: int):
    return _instead_of_kernel(
        lambda file, _, folder: file.create_dataset(KERNEL, shape, "f4", chunks=(1,) * len(shape))
    )


def _group_link(file: h5py.File, folder: Path) -> None:
    del file["conv1"]
    file["conv1"] = h5py.SoftLink("/bn_conv1")


def _nested(file: h5py.File, folder: Path) -> None:
    file.create_group("conv1" + "/deeper" * 2000)


def _cycle(links: int):
    def change(file: h5py.File, folder: Path) -> None:
        for number in range(links):
            file[f"conv1/again{number}"] = file["conv1"]

    return change


def _mutual_cycle(file: h5py.File, folder: Path) -> None:
    file["conv1/to"], file["bn_conv1/back"] = file["bn_conv1"], file["conv1"]


DEVIANT = {
    "soft link to a group": (_group_link, "'conv1' is a soft link; .* not safe: save it anew"),
    "soft link to a dataset": (_link(lambda _: h5py.SoftLink("/bn_conv1")), "'conv1/.*kernel:0' is a soft link"),
    "dangling soft link": (_link(lambda _: h5py.SoftLink("/nowhere")), "is a soft link"),
    "external link": (
        _link(lambda folder: h5py.ExternalLink(str(folder / "o.h5"), "/x")),
        "an external link to another",
    ),
    "virtual dataset": (_instead_of_kernel(_virtual), "keeps its numbers in another file; .*: save it anew"),
    "external storage": (_instead_of_kernel(_outside), "keeps its numbers in another file; .*: save it anew"),
    "object references": (_dataset(lambda f: np.array([f["bn_conv1"].ref], h5py.ref_dtype)), "must be floating-point"),
    "region references": (
        _dataset(lambda f: np.array([f["conv1/conv1/bias:0"].regionref[:2]], h5py.regionref_dtype)),
        "must be floating-point",
    ),
    "text": (_dataset(lambda _: "0.25"), "must be floating-point"),
    "bytes": (_dataset(lambda _: np.array([b"0.25"])), "must be floating-point"),
    "records": (_dataset(lambda _: np.zeros(3, [("a", "f4"), ("b", "i4")])), "must be floating-point"),
    "complex numbers": (_dataset(lambda _: np.zeros(3, "c8")), "must be floating-point"),
    "opaque bytes that are no bfloat16": (_dataset(lambda _: np.zeros(3, "V4")), "must be floating-point"),
    "lists of changing length": (
        _instead_of_kernel(lambda f, *_: f.create_dataset(KERNEL, (2,), h5py.vlen_dtype(np.float32))),
        "must be floating-point",
    ),
    "nothing": (_dataset(lambda _: h5py.Empty("f4")), "must be floating-point"),
    "terabytes": (_huge(2**40), f"claims {2**42} bytes .*damaged or made to exhaust memory"),
    "more bytes than numbers can count": (_huge(2**40, 2**20), f"claims {2**62} bytes"),
    "deep nesting": (_nested, "nested more than 16 deep"),
    "group inside itself": (_cycle(1), "'conv1/again0' is the same group or dataset as 'conv1/'; Keras never"),
    "groups inside each other": (_mutual_cycle, "is the same group or dataset as"),
}


@pytest.mark.parametrize("kind", DEVIANT)
def test_what_keras_never_writes(good, path, kind):
    change, words = DEVIANT[kind]
    path.write_bytes(good)
    with h5py.File(path, "r+") as file:
        change(file, path.parent)
    check(path, words)


def test_wide_file_ends_by_the_budget(good, path, monkeypatch):
    monkeypatch.setattr(source, "_STEPS", 500)
    path.write_bytes(good)
    check(path, "more than 500 structures; no Keras model does")


def test_damaged_numbers(good, path):
    """A compressed dataset whose bytes are wrong fails only when it is read."""
    path.write_bytes(good)
    with h5py.File(path, "r+") as file:
        kernel = file[KERNEL][()]
        del file[KERNEL]
        chunk = file.create_dataset(KERNEL, data=kernel, compression="gzip").id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\0" * chunk.size)
    check(path, "damaged .*kernel:0' cannot be unpacked.*; download or save it again")


# Attributes ----------------------------------------------------------------------------------------------------------


def _names(value):
    return lambda file: file.attrs.__setitem__("layer_names", value)


ATTRIBUTES = {
    "a layer without a group": (_names([b"conv1", b"fc1000"]), "lists a layer 'fc1000' but holds no group"),
    "a layer with a slash and no group": (_names([b"conv1", b"conv1/x/y"]), "'conv1/x/y' but holds no group"),
    "one text, not a list": (_names("conv1"), "something other than a list of text; the file is damaged"),
    "a number": (_names(5), "something other than a list of text; the file is damaged"),
    "numbers": (_names([1, 2]), "something other than a list of text; the file is damaged"),
    "nothing": (_names(h5py.Empty("f4")), "'layer_names' holds nothing; the file is damaged"),
    "no list at all": (
        lambda file: file.attrs.pop("layer_names"),
        r"not written by Keras.*`model\.save\('name\.h5'\)`",
    ),
    "an empty list": (_names(np.zeros(0)), "no ResNet is recognised among the 0 layers"),
    "not UTF-8": (_names([b"\xff\xfe"]), "holds no group of that name"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_list_of_layers(good, path, kind):
    change, words = ATTRIBUTES[kind]
    path.write_bytes(good)
    with h5py.File(path, "r+") as file:
        change(file)
    check(path, words)


def test_empty_hdf5(path):
    h5py.File(path, "w").close()
    check(
        path, "not written by Keras: it has no 'layer_names', no 'model_weights' and no layers; load the model in Keras"
    )


# Names are data ------------------------------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x1b[2J\r\nmissing       none \u202etxt\x7f\x9b"


def test_names_do_not_steer_the_terminal(good, path):
    """A layer's name is shown with its control characters written out, in results and in errors."""
    testing = pytest.importorskip("typer.testing")
    from npresnet.cli.app import app

    path.write_bytes(good)
    with h5py.File(path, "r+") as file:
        file[f"{EVIL}/{EVIL}/kernel:0"] = np.zeros(3, np.float32)
        names = [*file.attrs["layer_names"], EVIL.encode()]
        file.attrs["layer_names"] = np.array(names)
    assert EVIL in inspect(path).unused  # the library hands it over as it is

    shown = testing.CliRunner().invoke(app, ["info", str(path)])
    assert shown.exit_code == 0
    assert r"\x1b]0;owned\x07\x1b[2J\r\nmissing       none \u202etxt\x7f\x9b" in shown.stdout
    _assert_plain(shown.output)

    with h5py.File(path, "r+") as file:
        del file[EVIL]
    refused = testing.CliRunner().invoke(app, ["info", str(path)])
    assert refused.exit_code == 2
    assert r"\x1b]0;owned\x07" in refused.output
    _assert_plain(refused.output)


def _assert_plain(text: str) -> None:
    assert all(character.isprintable() or character == "\n" for character in text), repr(text)
