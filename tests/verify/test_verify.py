"""``verify``: it agrees with a good network, and cannot be made to agree with a wrong one."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import npresnet
from npresnet import kernels
from npresnet.errors import UsageError, WeightsError
from npresnet.files.safe_write import file_hash
from npresnet.model import ResNet, assemble
from npresnet.network import families as architecture
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.verify.recording import Recording
from npresnet.verify.rows import against_recording, against_reference, against_tensorflow

from ..support.networks import Network, saved, thin

NETWORKS = [thin("matterport", 50), thin("keras-resnet", 18, classes=7, stem="same")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return saved(tmp_path_factory, NETWORKS[0])


@pytest.fixture(scope="module")
def net(weights) -> ResNet:
    return npresnet.load(weights)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).uniform(-124, 132, (1, 64, 150, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, net, weights, images) -> Path:
    """A recording of our own float64 reference, so that these tests need no TensorFlow beyond the weight file."""
    recording = Recording(weights, images, "reference")
    assert all(row.agrees for row in against_reference(net, images, recording))
    path = tmp_path_factory.mktemp("recorded") / "recording.npz"
    recording.save(path)
    return path


@pytest.fixture
def verify(weights):
    """The command, on the thin network and a small picture: (exit status, output)."""
    testing = pytest.importorskip("typer.testing")
    from npresnet.cli.app import app

    def run(*arguments: str | Path, path: Path = weights) -> tuple[int, str]:
        result = testing.CliRunner().invoke(app, ["verify", str(path), *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


def failing(rows) -> list[str]:
    return [row.name for row in rows if not row.agrees]


# Agreement -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.family)
def test_agrees_with_tensorflow(tf, tmp_path_factory, tmp_path, network, images):
    """Every layer but the input has a row; and a recording of it agrees, too."""
    path = saved(tmp_path_factory, network)
    net = npresnet.load(path)
    recording = Recording(path, images, "tensorflow")
    rows = list(against_tensorflow(net, path, images, recording))
    assert failing(rows) == []
    assert {row.name for row in rows} == set(net.layers[1:])
    assert max(row.difference.relative for row in rows) > 0  # two programs, not one compared with itself
    recording.save(tmp_path / "recording.npz")
    again = list(against_recording(net, path, Recording.open(tmp_path / "recording.npz")))
    assert failing(again) == []
    assert [row.name for row in again] == list(net.layers[1:])


def test_pools_that_keras_counts(tf, tmp_path):
    """V2's source gives the pools of its shortcuts no names: they are compared all the same, and recorded by ours."""
    graph = build_graph(Architecture.standard(FAMILIES["keras.applications V2"], 50, width=16, classes=5))
    path = write_keras_file(tmp_path / "v2.h5", graph, random_weights(graph))
    net = npresnet.load(path)
    images = np.random.default_rng(3).normal(size=(1, 40, 33, 3)).astype(np.float32)
    recording = Recording(path, images, "tensorflow")
    rows = list(against_tensorflow(net, path, images, recording))
    assert failing(rows) == []
    assert {row.name for row in rows} == recording.layers.keys() == set(net.layers[1:])
    assert sum(name.endswith("_0_pool") for name in recording.layers) == 3


def test_agrees_with_the_reference(net, images):
    rows = list(against_reference(net, images))
    assert failing(rows) == []
    assert [row.name for row in rows] == list(net.layers[1:])


def test_recording_keeps_what_it_was_given(weights, images, net, recorded):
    found = Recording.open(recorded)
    assert found.images.tobytes() == images.tobytes()
    assert (found.weights_name, found.weights_hash) == (weights.name, file_hash(weights))
    assert found.oracle == "reference"
    assert found.layers.keys() == set(net.layers[1:])
    for step in net.trace(images):
        if step.kind == "input":
            continue
        shape, values = found.layers[step.name]
        assert shape == step.shape
        assert values.size == step.array.size if step.array.size <= 4096 else 4096 <= values.size <= 4096 + 4 * shape[3]


def test_recording_is_the_same_on_every_run(tmp_path, weights, images, net, recorded):
    recording = Recording(weights, images, "reference")
    list(against_reference(net, images, recording))
    recording.save(tmp_path / "again.npz")
    one, other = np.load(recorded), np.load(tmp_path / "again.npz")
    assert one.files == other.files
    assert all(np.array_equal(one[key], other[key]) for key in one.files)


# Disagreement --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wrong_epsilon(monkeypatch):
    """One number of the table of architectures wrong: the results still look plausible."""
    right = architecture.FAMILIES["matterport"]
    families = {**architecture.FAMILIES, "matterport": replace(right, epsilon=1.001e-5)}
    monkeypatch.setattr("npresnet.network.by_names.FAMILIES", families)


def test_wrong_epsilon(tf, verify, wrong_epsilon, weights, images, recorded):
    """The first batch-norm's variances are about 10,000, which hides it there; all other variances are about 1."""
    wrong = npresnet.load(weights)
    assert failing(against_tensorflow(wrong, weights, images))[0] == "bn2a_branch2a"
    assert failing(against_recording(wrong, weights, Recording.open(recorded)))[0] == "bn2a_branch2a"
    for options in (["--size", "48x40"], ["--against", recorded]):
        status, output = verify(*options)
        assert status == 1
        assert "layers disagree, first 'bn2a_branch2a'" in output
        assert any(line.startswith("bn2a_branch2a ") and line.endswith("  FAILS") for line in output.splitlines())
        assert any(line.startswith("res2a_branch2a ") and line.endswith("  ok") for line in output.splitlines())


def test_one_wrong_weight(weights, images, recorded):
    """A hundredth more in one of 144 numbers of one kernel."""
    right = npresnet.load(weights)
    tensors = dict(right.weights)
    kernel = np.array(tensors["res2b_branch2b"]["kernel"])
    kernel.flat[np.abs(kernel).argmax()] *= 1.01
    tensors["res2b_branch2b"] = {**tensors["res2b_branch2b"], "kernel": kernel}
    net = assemble(replace(right._inspection, weights=tensors))
    assert failing(against_recording(net, weights, Recording.open(recorded)))[0] == "res2b_branch2b"
    assert failing(against_reference(npresnet.load(weights), images)) == []


def _one_corner(array: np.ndarray) -> np.ndarray:
    array[0, -1, -1, -1] += 0.1
    return array


def _all_zero(array: np.ndarray) -> np.ndarray:
    return np.zeros_like(array)


def _nan(array: np.ndarray) -> np.ndarray:
    array[0, 0, 0, 0] = np.nan
    return array


def _swapped(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[:, :, ::-1])


@pytest.mark.parametrize("spoil", [_one_corner, _all_zero, _nan, _swapped])
def test_wrong_kernel(monkeypatch, verify, net, weights, images, recorded, spoil):
    """Whatever is wrong with what one kernel makes, all three checks see it, and the command ends with 1."""
    right = kernels.maxpool
    monkeypatch.setattr(kernels, "maxpool", lambda *args, **kwargs: spoil(right(*args, **kwargs)))
    assert failing(against_recording(net, weights, Recording.open(recorded)))[0] == "pool1"
    assert failing(against_reference(net, images))[0] == "pool1"
    status, output = verify("--against", recorded)
    assert status == 1
    assert "first 'pool1'" in output


def _change(recording: Recording, name: str) -> None:
    shape, values = recording.layers["res3b_branch2b"]
    rows = {
        "value": (shape, np.where(np.arange(values.size) == values.size - 1, values + values.std(), values)),
        "not a number": (shape, np.full_like(values, np.nan)),
        "shape": ((*shape[:2], shape[2] + 1, shape[3]), values),
        "fewer values": (shape, values[:-1]),
        "no values": (shape, values[:0]),
    }
    if name == "missing layer":
        del recording.layers["res3b_branch2b"]
    elif name == "unknown layer":
        recording.layers["res6a_branch2b"] = recording.layers["res3b_branch2b"]
    else:
        recording.layers["res3b_branch2b"] = rows[name]


@pytest.mark.parametrize(
    "name", ["value", "not a number", "shape", "fewer values", "no values", "missing layer", "unknown layer"]
)
def test_changed_recording(tmp_path, verify, net, weights, recorded, name):
    recording = Recording.open(recorded)
    _change(recording, name)
    recording.save(tmp_path / "changed.npz")
    wrong = "res6a_branch2b" if name == "unknown layer" else "res3b_branch2b"
    assert failing(against_recording(net, weights, Recording.open(tmp_path / "changed.npz"))) == [wrong]
    status, output = verify("--against", tmp_path / "changed.npz")
    assert status == 1
    assert f"1 of {len(net.layers) - (name != 'unknown layer')} layers disagree, first '{wrong}'" in output


def test_empty_recording(tmp_path, net, weights, recorded):
    """Nothing recorded is nothing agreed."""
    recording = Recording.open(recorded)
    recording.layers.clear()
    recording.save(tmp_path / "empty.npz")
    assert failing(against_recording(net, weights, Recording.open(tmp_path / "empty.npz"))) == list(net.layers[1:])


# Recordings that do not belong here ----------------------------------------------------------------------------------


def test_recording_of_another_file(tmp_path_factory, verify, recorded, weights):
    other = saved(tmp_path_factory, Network(**{**vars(NETWORKS[0]), "seed": 2}))
    words = rf"its SHA-256 is {file_hash(other)[:16]}\.\.\., but the recording was made from {weights.name} with {file_hash(weights)[:16]}"
    with pytest.raises(WeightsError, match=words):
        list(against_recording(npresnet.load(other), other, Recording.open(recorded)))
    status, output = verify("--against", recorded, path=other)
    assert status == 2
    assert "give that file, or record this one" in output


def test_recording_of_a_copy(tmp_path, verify, weights, recorded):
    """The bytes count, not the name."""
    shutil.copy(weights, tmp_path / "renamed.h5")
    assert verify("--against", recorded, path=tmp_path / "renamed.h5")[0] == 0


def _pickled(path: Path, recorded: Path) -> None:
    np.savez(path.open("wb"), about=np.array([{}, []], dtype=object))


def _cut(share: float):
    return lambda path, recorded: path.write_bytes(recorded.read_bytes()[: int(share * recorded.stat().st_size)])


def _spoiled(path: Path, recorded: Path) -> None:
    """Wrong bytes within the compressed images."""
    data = bytearray(recorded.read_bytes())
    start = data.index(b"images.npy") + 2000
    data[start : start + 500] = bytes(500)
    path.write_bytes(data)


def _format(path: Path, recorded: Path) -> None:
    contents = dict(np.load(recorded))
    contents["about"][0] = "9"
    np.savez(path.open("wb"), **contents)


def _without(*keys: str):
    def make(path: Path, recorded: Path) -> None:
        np.savez(path.open("wb"), **{key: value for key, value in np.load(recorded).items() if key not in keys})

    return make


FOREIGN = {
    "missing": (lambda path, _: None, r"no such file; `npresnet verify WEIGHTS --record .*` makes one"),
    "directory": (lambda path, _: path.mkdir(), "is no recording"),
    "empty": (lambda path, _: path.touch(), "is no recording"),
    "text": (lambda path, _: path.write_text("a,b\n"), "is no recording"),
    "one array": (lambda path, _: np.save(path.open("wb"), np.zeros(3)), "is no recording"),
    "other arrays": (lambda path, _: np.savez(path.open("wb"), a=np.zeros(3)), "is no recording"),
    "a single number": (lambda path, _: np.savez(path.open("wb"), about=np.array(1)), "is no recording"),
    "pickled": (_pickled, "is no recording"),
    "a quarter of it": (_cut(0.25), "is no recording"),
    "all but the end": (_cut(0.99), "is no recording"),
    "damaged": (_spoiled, "is no recording"),
    "no images": (_without("images"), "is no recording"),
    "no shapes": (_without("shapes"), "is no recording"),
    "of a later version": (_format, "has format 9, this version reads 2; record it anew"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_recording(tmp_path, verify, recorded, kind):
    make, words = FOREIGN[kind]
    path = tmp_path / "recording.npz"
    make(path, recorded)
    with pytest.raises(UsageError, match=words):
        Recording.open(path)
    status, output = verify("--against", path)
    assert status == 2
    assert output.startswith(f"npresnet: {path}: ")


# The command ---------------------------------------------------------------------------------------------------------


def test_command_records_and_checks(tf, tmp_path, verify, weights):
    path = tmp_path / "recording.npz"
    status, output = verify("--size", "48x40", "--record", path)
    assert status == 0
    assert "layers agree with tensorflow" in output
    assert f"({path.stat().st_size:,} bytes)" in output
    status, output = verify("--against", path)
    assert status == 0
    assert Recording.open(path).oracle == "tensorflow"
    assert os.listdir(tmp_path) == ["recording.npz"]


def test_command_with_a_picture_of_its_own(tmp_path, verify):
    np.save(tmp_path / "prepared.npy", np.zeros((2, 20, 30, 3), np.float32))
    status, output = verify(tmp_path / "prepared.npy", "--against", "reference")
    assert status == 0
    assert "on an input of 2x20x30x3" in output


@pytest.mark.parametrize("options", [["picture.jpg"], ["--record", "new.npz"]])
def test_command_with_a_recording_and_more(verify, recorded, options):
    status, output = verify("--against", recorded, *options)
    assert status == 2
    assert "leave out IMAGE and --record" in output
    assert not Path("new.npz").exists()


def _interrupt(file, **contents) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


def _disk_full(file, **contents) -> None:
    file.write(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("before", [None, b"an older recording"])
@pytest.mark.parametrize(("failure", "status"), [(_interrupt, (1, 130)), (_disk_full, (2,))])
def test_command_interrupted_while_it_records(tmp_path, monkeypatch, verify, failure, status, before):
    """The name stands for a whole recording, or for what it was before; nothing else is left."""
    path = tmp_path / "recording.npz"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(np, "savez_compressed", failure)
    found, output = verify("--size", "16x16", "--against", "reference", "--record", path)
    assert found in status  # of an interruption, typer made 1 and makes 130
    if failure is _disk_full:
        assert f"{path}: cannot be written (No space left on device)" in output
    assert os.listdir(tmp_path) == ([path.name] if before else [])
    if before is not None:
        assert path.read_bytes() == before


def test_command_says_before_the_work_that_it_cannot_record(tmp_path, monkeypatch, verify):
    monkeypatch.setattr("npresnet.model.load", None)  # the work would fail
    status, output = verify("--record", tmp_path / "missing" / "recording.npz")
    assert status == 2
    assert "cannot write there (No such file or directory)" in output
