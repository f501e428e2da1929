"""The command line as a user meets it: what is printed, what is written, what the exit status says."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import npresnet
from npresnet import kernels
from npresnet.files.safe_write import file_hash
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file

testing = pytest.importorskip("typer.testing")
Image = pytest.importorskip("PIL.Image")

from npresnet.cli.app import app  # noqa: E402 (it needs typer)


def weight_file(path: Path, family: str = "matterport", depth: int = 50) -> Path:
    graph = build_graph(Architecture.standard(FAMILIES[family], depth, width=8))
    return write_keras_file(path, graph, random_weights(graph))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """A folder of good files: weights.h5, picture.jpg, other.png of the same size, prepared.npy."""
    folder = tmp_path_factory.mktemp("shelf")
    weight_file(folder / "weights.h5")
    random = np.random.default_rng(0)
    for name in ("picture.jpg", "other.png"):
        Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
    np.save(folder / "prepared.npy", random.normal(0, 50, (2, 30, 20, 3)).astype(np.float32))
    return folder


def cli(*arguments: object) -> tuple[int, str]:
    """(exit status, output) of a command. Nothing but an exit may come out, and no control character."""
    result = testing.CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert all(c.isprintable() or c == "\n" for c in result.output), repr(result.output)
    return result.exit_code, result.output


def process(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, as ``python -m npresnet``."""
    command = [sys.executable, "-m", "npresnet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def written(folder: Path) -> set[str]:
    """What a command has left in the working directory, hidden files included."""
    return {path.name for path in folder.iterdir() if not path.is_symlink()}


# run -----------------------------------------------------------------------------------------------------------------

RUN = ("run", "picture.jpg", "--weights", "weights.h5")


def test_run(folder):
    status, output = cli(*RUN, "--size", "60x40")
    assert status == 0
    assert output.splitlines()[:6] == [
        "output  layer      shape",
        "C1      pool1      10x15x8",
        "C2      res2c_out  10x15x32",
        "C3      res3d_out  5x8x64",
        "C4      res4f_out  3x4x128",
        "C5      res5c_out  2x2x256",
    ]
    assert re.search(r"^images        1 of 60x40 pixels in \d+\.\d\d s$", output, re.MULTILINE)
    assert output.endswith("saved         features.npz\n")
    assert written(folder) == {"features.npz"}

    net = npresnet.load("weights.h5")
    with np.load("features.npz") as found:
        assert found.files == ["about", "C1", "C2", "C3", "C4", "C5"]
        for name, expected in zip(found.files[1:], net(net.prepare("picture.jpg", "60x40")), strict=True):
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
        assert json.loads(str(found["about"])) == {
            "npresnet": npresnet.__version__,
            "weights": "weights.h5",
            "weights_sha256": file_hash("weights.h5"),
            "architecture": "matterport/resnet50, stem 8 and stages 32/64/128/256 channels wide",
            "algorithm": "auto",
            "images": ["picture.jpg"],
            "layers": {"C1": "pool1", "C2": "res2c_out", "C3": "res3d_out", "C4": "res4f_out", "C5": "res5c_out"},
        }


def test_run_gives_the_file_the_usual_permissions(folder):
    Path("usual").touch()
    cli(*RUN, "--size", "20x20")
    assert stat.S_IMODE(Path("features.npz").stat().st_mode) == stat.S_IMODE(Path("usual").stat().st_mode)


def test_run_prepared_input(folder):
    """A .npy is taken as it is, whatever --size says."""
    status, output = cli("run", "prepared.npy", "--weights", "weights.h5", "--size", "64x64", "--out", "f.npz")
    assert status == 0
    assert "C3      res3d_out  2x4x3x64" in output
    with np.load("f.npz") as found:
        np.testing.assert_allclose(
            found["C3"], npresnet.load("weights.h5")(np.load("prepared.npy")).c3, rtol=1e-4, atol=1e-5
        )


def test_run_several_pictures(folder):
    """Each gives the bits that it gives alone."""
    status, output = cli("run", "picture.jpg", "other.png", "--weights", "weights.h5", "--size", "none")
    assert status == 0
    assert "images        2 of 60x40 pixels" in output
    assert cli("run", "other.png", "--weights", "weights.h5", "--size", "none", "--out", "one.npz")[0] == 0
    with np.load("features.npz") as both, np.load("one.npz") as one:
        assert both["C4"].shape == (2, 3, 4, 128)
        assert np.array_equal(both["C4"][1:], one["C4"])
        assert json.loads(str(both["about"]))["images"] == ["picture.jpg", "other.png"]


def test_run_layers(folder):
    status, output = cli(*RUN, "--size", "20x20", "--layers", "res2a_branch2b, conv1")
    assert status == 0
    assert "res2a_branch2b  res2a_branch2b  5x5x8" in output
    with np.load("features.npz") as found:
        assert found.files == ["about", "res2a_branch2b", "conv1"]
        assert found["conv1"].shape == (1, 10, 10, 8)
        assert json.loads(str(found["about"]))["layers"] == {"res2a_branch2b": "res2a_branch2b", "conv1": "conv1"}


@pytest.mark.parametrize(
    ("size", "shape"),
    [("none", "10x15x8"), ("48x32", "8x12x8"), ("square", "256x256x8"), (None, "256x256x8"), ("pad64", "208x304x8")],
)
def test_run_size(folder, size, shape):
    """WIDTHxHEIGHT is width first, shapes are height first."""
    status, output = cli(*RUN, *(["--size", size] if size else []), "--layers", "pool1")
    assert status == 0
    assert f"pool1   pool1  {shape}" in output


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "reference"])
def test_run_trace(folder, algorithm):
    status, output = cli(*RUN, "--size", "60x40", "--trace", "--algorithm", algorithm, "--threads", 1)
    assert status == 0
    lines = output.splitlines()
    assert lines[0].split(maxsplit=5) == ["layer", "kind", "shape", "ms", "GFLOP/s", "without --trace"]
    rows = [line.split() for line in lines[1 : lines.index("")]]
    net = npresnet.load("weights.h5")
    assert [row[0] for row in rows[:-1]] == list(net.layers)
    assert rows[2][:3] == ["conv1", "conv", "20x30x8"]
    assert rows[2][5] == (algorithm if algorithm == "reference" else "im2col")
    assert rows[3][5:] == (["in", "conv1"] if algorithm in ("auto", "direct") else [rows[2][5]])
    assert re.fullmatch(r"174 layers in \d+\.\d{3} s, 0\.\d\d GFLOP, \d+\.\d GFLOP/s", " ".join(rows[-1]))
    assert written(folder) == {"features.npz"}


def test_run_replaces_an_older_result(folder):
    Path("features.npz").write_bytes(b"old")
    assert cli(*RUN, "--size", "20x20")[0] == 0
    assert "C1" in np.load("features.npz")


# What can be wrong ---------------------------------------------------------------------------------------------------


def _cut_picture() -> None:
    Path("cut.jpg").write_bytes(Path("picture.jpg").read_bytes()[:600])


def _pickled_array() -> None:
    np.save("pickled.npy", np.array([{}], dtype=object), allow_pickle=True)


def _file_not_folder() -> None:
    Path("file").touch()


def _pipe() -> None:
    os.mkfifo("pipe")


def _spoiled_weights() -> None:
    Path("spoiled.h5").write_bytes(Path("weights.h5").read_bytes()[:-100])


WRONG = {  # what to make first, the arguments, the message
    "no such weights": (None, ["picture.jpg", "--weights", "missing.h5"], "missing.h5: there is no such file"),
    "no weights": (None, ["picture.jpg", "--weights", "picture.jpg"], "picture.jpg: this is a picture; give the weight file"),
    "cut weights": (_spoiled_weights, ["picture.jpg", "--weights", "spoiled.h5"], "spoiled.h5: the file ends after"),
    "no such picture": (None, ["missing.jpg"], "missing.jpg: no such file"),
    "cut picture": (_cut_picture, ["cut.jpg"], "cut.jpg: the picture cannot be decoded"),
    "text as a picture": (lambda: Path("a.jpg").write_text("no"), ["a.jpg"], "a.jpg: not a picture in any format"),
    "weights as a picture": (None, ["weights.h5"], "weights.h5: the picture cannot be decoded"),
    "folder as a picture": (None, ["."], ".: a directory, not a file"),
    "one of several pictures": (None, ["picture.jpg", "missing.jpg"], "missing.jpg: no such file"),
    "pictures of several sizes": (
        lambda: Image.new("RGB", (9, 9)).save("small.png"),
        ["picture.jpg", "small.png", "--size", "none"],
        "small.png: 9x9 px, but the first is 60x40 px; .*--size square",
    ),
    "pickled array": (_pickled_array, ["pickled.npy"], "pickled.npy: not a readable .npy file"),
    "integer array": (lambda: np.save("a.npy", np.zeros((4, 4, 3), int)), ["a.npy"], "a.npy: holds int64"),
    "flat array": (lambda: np.save("a.npy", np.zeros(4, "f4")), ["a.npy"], r"a.npy: input of shape \[4\]"),
    "unknown layer": (None, ["picture.jpg", "--layers", "conv1,C9"], "layer 'C9': this network has none of that name"),
    "no layer": (None, ["picture.jpg", "--layers", ", ,"], "--layers: got ', ,', which names no layer"),
    "empty list of layers": (None, ["picture.jpg", "--layers", ""], "--layers: got '', which names no layer"),
    "size": (None, ["picture.jpg", "--size", "big"], "size 'big': a size is none, square, pad64, or WIDTHxHEIGHT"),
    "zero size": (None, ["picture.jpg", "--size", "0x40"], "size '0x40'"),
    "half a size": (None, ["picture.jpg", "--size", "40"], "size '40'"),
    "device": (None, ["picture.jpg", "--device", "tpu"], "device: got 'tpu'"),
    "another depth": (None, ["picture.jpg", "--architecture", "resnet101"], "but 'resnet101' was asked for"),
    "no depth": (None, ["picture.jpg", "--architecture", "vgg"], "architecture: got 'vgg'"),
    "out in no folder": (None, ["picture.jpg", "--out", "no/f.npz"], r"no/f.npz: cannot write there \(No such file"),
    "out below a file": (_file_not_folder, ["picture.jpg", "--out", "file/f.npz"], "cannot write there"),
    "out is a folder": (None, ["picture.jpg", "--out", "."], "this is no ordinary file, so it is not written over"),
    "out is a pipe": (_pipe, ["picture.jpg", "--out", "pipe"], "pipe: this is no ordinary file"),
    "out with an endless name": (None, ["picture.jpg", "--out", "x" * 300], "File name too long"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_run_refuses(folder, what):
    """One paragraph that says what is wrong, exit status 2, and nothing written or left behind."""
    make, arguments, words = WRONG[what]
    if make is _pipe and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    if make:
        make()
    before = {path: path.lstat().st_mtime_ns for path in folder.iterdir()}
    status, output = cli("run", *arguments, *([] if "--weights" in arguments else ["--weights", "weights.h5"]))
    assert status == 2
    assert output.startswith("npresnet: ")
    assert output.count("\n") == 1
    assert re.search(words, output)
    assert {path: path.lstat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--weights", "weights.h5"], "Missing argument 'IMAGE"),
        (["run", "picture.jpg"], "Missing option '--weights'"),
        ([*RUN, "--threads", "0"], "--threads"),
        ([*RUN, "--threads", "many"], "--threads"),
        ([*RUN, "--algorithm", "fast"], "--algorithm"),
        ([*RUN, "--nonsense"], "No such option"),
        (["info"], "give WEIGHTS, a Keras weight file, or --devices"),
        (["info", "weights.h5", "more"], "unexpected extra argument"),
        (["verify"], "Missing argument 'WEIGHTS'"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_wrong_use(folder, arguments, words):
    status, output = cli(*arguments)
    assert status == 2
    assert output.startswith("Usage: ")
    assert words in output
    assert written(folder) == set()


def test_nothing_is_computed_before_it_is_clear_that_it_can_be_saved(folder, monkeypatch):
    monkeypatch.setattr("npresnet.model.load", None)  # the work would fail
    assert "cannot write there" in cli(*RUN, "--out", "no/f.npz")[1]
    assert "no ordinary file" in cli("run", "x.jpg", "--weights", "x.h5", "--out", ".")[1]
    Path("file").touch()
    assert "file: this folder cannot be made (File exists)" in cli("demo", "--out", "file")[1]


@pytest.mark.parametrize("before", [None, b"an older result"])
@pytest.mark.parametrize(
    ("failure", "statuses", "words"),
    [
        (KeyboardInterrupt(), (1, 130), ""),
        (OSError(28, "No space left on device"), (2,), "features.npz: cannot be written (No space left on device)"),
        (MemoryError("94 GiB"), (2,), "out of memory (94 GiB); use smaller or fewer images"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("when", ["computing", "saving"])
def test_run_interrupted(folder, monkeypatch, when, failure, statuses, words, before):
    """Under its name stands a whole result or what stood there before, and nothing is left beside it."""
    if before:
        Path("features.npz").write_bytes(before)

    def fail(*arguments, **options):
        if when == "saving":
            arguments[0].write(b"half of it")
        raise failure

    if when == "saving":
        monkeypatch.setattr(np, "savez", fail)
    elif isinstance(failure, OSError):
        pytest.skip("computing writes nothing")
    else:
        monkeypatch.setattr(kernels, "maxpool", fail)
    status, output = cli(*RUN, "--size", "20x20", "--algorithm", "im2col")
    assert status in statuses
    assert words in output
    assert written(folder) == ({"features.npz"} if before else set())
    assert not before or Path("features.npz").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_run_interrupted_by_a_signal(folder):
    """Ctrl-C in the middle of writing."""
    code = """
import os, signal, sys
import numpy as np

def half(file, **contents):
    file.write(b"half of it")
    file.flush()
    assert any(name.endswith(".part") for name in os.listdir())
    os.kill(os.getpid(), signal.SIGINT)

np.savez = half
sys.argv = ["npresnet", "run", "picture.jpg", "--weights", "weights.h5", "--size", "20x20"]
from npresnet.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "npresnet: interrupted\n")
    assert written(folder) == set()


# info ----------------------------------------------------------------------------------------------------------------


def test_info(folder):
    status, output = cli("info", "weights.h5")
    assert status == 0
    assert (
        output
        == f"""\
file          weights.h5 ({Path("weights.h5").stat().st_size:,} bytes)
layout        legacy HDF5, weights only; Keras 2.2.4, backend tensorflow
architecture  matterport/resnet50, stem 8 and stages 32/64/128/256 channels wide
              layers 'conv1' and 'res2a_branch2a': Mask R-CNN
              (matterport/Mask_RCNN)
              convolutions with bias: matterport
              3/4/6/3 blocks in stages 2 to 5: ResNet-50
parameters    384,112 in 318 tensors
feature maps  C1 pool1, C2 res2c_out, C3 res3d_out, C4 res4f_out, C5 res5c_out
preprocessing matterport: pixels go in as RGB, 0 to 255, minus (123.7, 116.8,
              103.9)
              as is usual for networks of matterport
picture size  square, as is usual: the file fixes none
matched       106 of 106 layers with weights
missing       none
mis-shaped    none
unusable      none
unused        none
"""
    )
    assert written(folder) == set()


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "wgmma will be tried when a network first runs in tf32"),
        ("", "tf32 by wgmma, which was tried and is right"),
        ("it is wrong", "tf32 without wgmma: it is wrong"),
    ],
)
def test_devices(folder, monkeypatch, verdict, said):
    """The processor, every card, and why one cannot be used; before what is said of a file, if one is given."""
    pytest.importorskip("numba_cuda")
    from npresnet.cuda import card as cards
    from npresnet.cuda import trial

    monkeypatch.setattr(trial, "remembered", lambda index: verdict)
    found = [
        cards.Found(0, "NVIDIA H100", (9, 0), 132, 60_000_000_000, 80_000_000_000, None),
        cards.Found(1, "Tesla V100", (7, 0), 80, 0, 0, "its compute capability is 7.0; CUDA 13 needs 7.5"),
    ]
    monkeypatch.setattr(cards, "find_cards", lambda: found)
    monkeypatch.setattr(cards, "why_no_cuda", lambda: None)
    status, output = cli("info", "--devices")
    assert status == 0
    assert re.match(r"cpu           .+ \d+ threads\n", output)
    assert (
        f"""\
cuda:0        NVIDIA H100, compute capability 9.0, 60.0 of 80.0 GB free
              usable
              {said}
cuda:1        Tesla V100, compute capability 7.0
              not usable: its compute capability is 7.0; CUDA 13 needs 7.5
packages      """
        in output
    )
    monkeypatch.setattr(cards, "find_cards", list)
    monkeypatch.setattr(cards, "why_no_cuda", lambda: "no NVIDIA driver answers")
    status, output = cli("info", "--devices", "weights.h5")
    assert status == 0
    assert "cuda          not usable: no NVIDIA driver answers\n" in output
    assert "architecture  matterport/resnet50" in output


@pytest.mark.parametrize("command", ["run", "verify", "tune"])
def test_a_device_that_is_not_there(folder, monkeypatch, command):
    from npresnet.cuda import card as cards

    monkeypatch.setattr(cards, "why_no_cuda", lambda: "no NVIDIA driver answers")
    arguments = RUN if command == "run" else [command, "weights.h5"]
    status, output = cli(*arguments, "--device", "cuda")
    assert status == 2
    assert "device 'cuda': no NVIDIA driver answers; the same network runs with device='cpu'" in output
    assert written(folder) == set()


def test_tune(folder, monkeypatch):
    """What was measured, and what it brings; the measuring itself is tested in ``cuda/test_networks.py``."""
    tuning = importlib.import_module("npresnet.cli.tune")
    from npresnet import model
    from npresnet.cuda.measured import Measured

    asked = []

    def measured(self, batch, outputs=None, seen=None):
        asked.append(batch)
        if batch[0] == 8:
            return []
        seen(row := Measured("fp32 1x56x56x64 3x3/1x1 56x56x64", "64x32", 2e-5, "F(4x4,3x3) 64x32", 1.25e-5))
        return [row]

    monkeypatch.setattr(model.ResNet, "tune", measured)
    monkeypatch.setattr(tuning, "load_network", lambda weights, *_: npresnet.load(weights))  # there is no card here
    status, output = cli("tune", "weights.h5", "--device", "cuda", "--sizes", "224,40x30", "--batches", "1,8")
    assert (status, asked) == (0, [(1, 224, 224), (8, 224, 224), (1, 30, 40), (8, 30, 40)])
    assert output.startswith("convolution                       us as expected    us  kernel\n")
    assert output.count("fp32 1x56x56x64 3x3/1x1 56x56x64            20.0  12.5  F(4x4,3x3) 64x32\n") == 2
    assert output.endswith("measured      2 convolutions: 0.025 ms; as expected to be best 0.040 ms\n")
    assert cli("tune", "weights.h5", "--device", "cuda", "--batches", "8") == (0, "all of it was measured already\n")


def test_tune_on_the_processor(folder, monkeypatch):
    """Without a card it is the processor that is measured; how, is tested in ``peers/test_tuning.py``."""
    from npresnet.cuda import card as cards
    from npresnet.kernels.processor import usual
    from npresnet.peers import tuning

    asked, other = [], usual()._replace(block_bytes=98304)

    def measured(weights, case, seen):
        asked.append(case)
        trials = (tuning.Trial(usual(), 1.0), tuning.Trial(other, 0.9))
        seen(trials[1])
        return tuning.Tuned(other, trials, None)

    monkeypatch.setattr(cards, "why_no_cuda", lambda: "no NVIDIA driver answers")
    monkeypatch.setattr(tuning, "tune_processor", measured)
    status, output = cli("tune", "weights.h5", "--sizes", "40x30", "--batches", "2", "--threads", "1")
    assert (status, [(case.network, case.batch, case.threads) for case in asked]) == (
        0,
        [("matterport/resnet50", (2, 30, 40), 1)],
    )
    assert re.search(r"  96 +\d+ +0\.900\n", output)
    assert f"best          {other} instead of {usual()}\n" in output
    assert "kept          nowhere: no directory is writable\n" in output
    status, output = cli("tune", "weights.h5", "--device", "cpu", "--batches", "1,8")
    assert status == 2
    assert "give one size and one batch" in output
    assert len(asked) == 1


def test_precision_goes_with_a_card(folder):
    status, output = cli(*RUN, "--precision", "tf32")
    assert status == 2
    assert "'tf32' with device='cpu'" in output
    assert written(folder) == set()


def test_info_of_an_incomplete_file(folder):
    """Everything that is wrong is listed, with names and shapes, and the status is 1: it was read, and it failed."""
    Path("incomplete.h5").write_bytes(Path("weights.h5").read_bytes())
    with h5py.File("incomplete.h5", "r+") as file:
        del file["res4c_branch2a/res4c_branch2a/bias:0"]
        del file["res4d_branch2a/res4d_branch2a/bias:0"]
        file["res4d_branch2a/res4d_branch2a/bias:0"] = np.zeros(5, np.float32)
        file["bn4e_branch2a/bn4e_branch2a/gamma:0"][2] = np.nan
        file["head/kernel:0"] = np.zeros(3, np.float32)
        file.attrs["layer_names"] = np.append(file.attrs["layer_names"], b"head")
    status, output = cli("info", "incomplete.h5")
    assert status == 1
    assert (
        """\
matched       104 of 106 layers with weights
missing       1 tensor
              res4c_branch2a/bias (32,)
mis-shaped    1 tensor
              res4d_branch2a/bias: (5,) in the file, (32,) needed
unusable      1 tensor
              bn4e_branch2a/gamma: 1 of 32 numbers are NaN or infinite
unused        1 layers with 1 tensors, not part of the backbone
              head (1)
npresnet: incomplete.h5: these weights cannot be run; see above
"""
        in output
    )


def test_info_layers(folder):
    status, output = cli("info", "weights.h5", "--layers")
    assert status == 0
    rows = [line.split(maxsplit=2) for line in output.split("\n\n")[1].splitlines()]
    assert rows[0] == ["layer", "kind", "weights"]
    assert [row[0] for row in rows[1:]] == list(npresnet.load("weights.h5").layers)
    assert ["res2a_branch1", "conv", "1x1x8x32 32"] in rows
    assert ["bn2a_branch1", "batchnorm", "32 32 32 32"] in rows
    assert ["pool1", "maxpool"] in rows


@pytest.mark.parametrize("path", ["missing.h5", "picture.jpg", "."])
def test_info_refuses(folder, path):
    status, output = cli("info", path)
    assert status == 2
    assert output.startswith(f"npresnet: {path}: ")
    assert output.count("\n") == 1


# verify: test_verify.py has the rest ---------------------------------------------------------------------------------


def test_verify(folder):
    status, output = cli("verify", "weights.h5", "picture.jpg", "--against", "reference", "--size", "30x20")
    assert status == 0
    lines = output.splitlines()
    assert lines[0].split() == ["layer", "kind", "shape", "relative", "worst"]
    assert len(lines[1 : lines.index("")]) == 173
    assert all(line.endswith("  ok") for line in lines[1 : lines.index("")])
    assert "result        173 of 173 layers agree with reference" in lines
    assert written(folder) == set()


@pytest.mark.parametrize(
    "arguments", [["missing.h5"], ["picture.jpg"], ["weights.h5", "missing.jpg"], ["weights.h5", "--size", "x"]]
)
def test_verify_refuses(folder, arguments):
    status, output = cli("verify", *arguments, "--against", "reference")
    assert status == 2
    assert output.startswith("npresnet: ")
    assert output.count("\n") == 1


# demo ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_demo(folder, monkeypatch):
    """The demo on a thin network and a small picture."""
    monkeypatch.setattr("npresnet.cli.demo.demo_weights", lambda: (Path("weights.h5"), False))
    monkeypatch.setattr("npresnet.data.photograph.photograph", lambda: Path("picture.jpg"))


def test_demo(folder, small_demo):
    for _ in range(2):  # the second replaces what the first has written
        status, output = cli("demo", "--out", "some/where")
        assert status == 0
        for row in ("pool1        C1   256x256x8", "res5c_out    C5   32x32x256"):
            assert f"\n{row} " in output
        assert "\nsaved         some/where/features.npz (C1 to C5 as float32 arrays)\n" in output
        assert written(Path("some/where")) == {"features.npz", "features.png"}
    with np.load("some/where/features.npz") as found:
        assert found.files == ["about", "C1", "C2", "C3", "C4", "C5"]
        assert found["C4"].shape == (1, 64, 64, 128)
    with Image.open("some/where/features.png") as picture:
        assert picture.mode == "RGB"
        assert len(picture.getcolors(maxcolors=2**24)) > 100  # something is drawn


def test_demo_interrupted(folder, small_demo, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("npresnet.results.drawing.save_feature_picture", fail)
    assert cli("demo", "--out", "out")[0] in (1, 130)
    assert written(Path("out")) == {"features.npz"}


@pytest.mark.parametrize("out", ["weights.h5", "weights.h5/below"])
def test_demo_refuses(folder, small_demo, out):
    status, output = cli("demo", "--out", out)
    assert status == 2
    assert f"{out}: this folder cannot be made" in output


def test_demo_weights_are_written_once(tmp_path, monkeypatch):
    from npresnet.cli.demo import demo_weights

    monkeypatch.setattr("npresnet.kernels.cache.cache_directory", lambda: tmp_path)
    thin = build_graph(Architecture.standard(FAMILIES["matterport"], 50, width=4))
    monkeypatch.setattr("npresnet.network.building.build_graph", lambda architecture: thin)
    path, fresh = demo_weights()
    assert fresh
    assert demo_weights() == (path, False)
    assert npresnet.load(path).architecture.name == "matterport/resnet50"
    assert written(tmp_path / "demo") == {path.name}


def test_whole_demo(tmp_path):
    """As in the README: nothing needed, nothing asked, a picture at the end."""
    done = process("demo", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in ("pool1        C1   256x256x64", "res4f_out    C4   64x64x1024", "res5c_out    C5   32x32x2048"):
        assert f"\n{row} " in done.stdout
    with np.load(tmp_path / "out" / "features.npz") as found:
        assert found["C5"].shape == (1, 32, 32, 2048)
        assert np.isfinite(found["C5"]).all()
    (tmp_path / "out" / "features.npz").unlink()  # 140 MB
    assert "\x1b" not in done.stdout + done.stderr


# What it looks like --------------------------------------------------------------------------------------------------

HELP = ["", "demo", "info", "run", "detect", "extract", "convert", "verify", "warmup", "tune", "bench", "study"]


@pytest.mark.parametrize("command", HELP)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_fits_a_terminal(command, option):
    status, output = cli(*command.split(), option)
    assert status == 0
    assert output.startswith("Usage: ")
    assert max(map(len, output.splitlines())) <= 80
    assert "..." not in re.sub(r"(\[ARGS\]|\[INPUT\]|IMAGE\}?)\.\.\.", "", output)  # no sentence is cut


def test_help_names_every_command():
    assert re.findall(r"^  (\w+)  ", cli("--help")[1].split("Commands:")[1], re.MULTILINE) == HELP[1:]
    assert cli()[1] == cli("--help")[1]


@pytest.mark.parametrize(
    ("family", "depth"), [("matterport", 101), ("keras.applications", 50), ("keras-resnet", 50), ("keras-resnet", 34)]
)
def test_output_fits_a_terminal(folder, family, depth):
    """At 80 characters, also where numbers are as long as they get."""
    weight_file(Path("w.h5"), family, depth)
    commands = {
        "info": ["w.h5", "--layers"],
        "run": ["picture.jpg", "--weights", "w.h5", "--size", "30x20", "--trace"],
        "verify": ["w.h5", "picture.jpg", "--size", "30x20", "--against", "reference", "--record", "r.npz"],
    }
    for command, arguments in commands.items():
        status, output = cli(command, *arguments)
        assert status == 0
        assert [line for line in output.splitlines() if len(line) > 80] == []


def test_version():
    assert cli("--version") == (0, f"npresnet {npresnet.__version__}\n")
    assert importlib.metadata.version("npresnet") == npresnet.__version__


def test_as_a_module(folder):
    done = process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"npresnet {npresnet.__version__}\n", "")
    done = process("info", "missing.h5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "npresnet: missing.h5: there is no such file; check the path\n"


def test_plain_text_in_a_pipe(folder):
    """Colours, bars and cursor movements are for terminals; results go to one stream, progress to the other."""
    process(*RUN, "--size", "60x40", "--trace")  # the very first run may say that it compiles
    done = process(*RUN, "--size", "60x40", "--trace")
    assert done.returncode == 0
    assert all(c.isprintable() or c == "\n" for c in done.stdout + done.stderr)
    assert done.stderr == ""


def test_names_in_a_terminal_of_another_alphabet(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = process("info", "\u56fe\u7247 \x1b[31m.h5", env=environment)
    assert done.returncode == 2
    assert done.stderr == "npresnet: \\u56fe\\u7247 \\x1b[31m.h5: there is no such file; check the path\n"


# Extras that are not installed ---------------------------------------------------------------------------------------

WITHOUT = """
import sys

missing = sys.argv.pop(1)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

assert missing not in sys.modules
sys.meta_path.insert(0, Finder())
from npresnet.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "arguments", "words"),
    [
        ("typer", ["--version"], 'needs typer, which is not installed: pip install "npresnet[cli]"'),
        ("rich", ["--version"], 'needs rich, which is not installed: pip install "npresnet[cli]"'),
        ("PIL", RUN, 'picture.jpg: reading picture files needs Pillow; pip install "npresnet[cli]"'),
        (
            "tensorflow",
            ["verify", "weights.h5", "picture.jpg"],
            'TensorFlow needs it installed: pip install "npresnet[test]"',
        ),
    ],
)
def test_missing_extra(folder, missing, arguments, words):
    """One line that says what to install."""
    done = subprocess.run([sys.executable, "-c", WITHOUT, missing, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert written(folder) == set()


NO_MEMORY = "npresnet: out of memory at the start: a limit is set too low (ulimit -v), or the machine has none left\n"


def test_no_memory_to_start():
    code = WITHOUT.replace('ModuleNotFoundError(f"No module named {name!r}", name=name)', "MemoryError")
    assert "raise MemoryError\n" in code
    done = subprocess.run([sys.executable, "-c", code, "typer", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == NO_MEMORY


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not kept")
@pytest.mark.parametrize("megabytes", [64, 150, 200])
def test_limit_on_memory_below_what_the_start_takes(megabytes):
    """NumPy's BLAS would print something of its own, and end the process or interrupt it."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes} * 2**20,) * 2)\n"
    code += "from npresnet.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == NO_MEMORY


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("PIL", ["run", "prepared.npy", "--weights", "weights.h5"]),
        ("tensorflow", ["verify", "weights.h5", "prepared.npy", "--against", "reference"]),
    ],
)
def test_extra_that_is_not_needed(folder, missing, arguments):
    done = subprocess.run([sys.executable, "-c", WITHOUT, missing, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# bench ---------------------------------------------------------------------------------------------------------------

BENCH = ("bench", "--weights", "weights.h5", "--sizes", "32", "--threads", "1", "--rounds", 2)


def test_bench(folder):
    status, output = cli(*BENCH, "--engines", "npresnet", "--sizes", "32x32,48x32", "--out", "results.json")
    assert status == 0
    assert "matterport/resnet50, 48x32 pixels, batch 1, 1 thread" in output
    assert len(re.findall(r"npresnet +\d+\.\d +\d+\.\d +\d+\.\d-\d+\.\d +1\.00 +\d+", output)) == 2
    kept = json.loads((folder / "results.json").read_text())
    assert [case["batch"] for case in kept["cases"]] == [[1, 32, 32], [1, 32, 48]]
    assert [len(turn) > 0 for turn in kept["cases"][0]["engines"]["npresnet"]["samples"]] == [True, True]
    assert kept["machine"]


def test_bench_without_an_engine(folder, monkeypatch):
    """One that is not installed is a line; one that was asked for by name is missed."""
    monkeypatch.setattr("npresnet.peers.measure.missing", lambda name: f"not installed: pip install {name}")
    status, output = cli(*BENCH)
    assert status == 0
    assert "not installed: pip install ncnn" in output
    status, output = cli(*BENCH, "--engines", "ncnn")
    assert status == 1
    assert "1 of the measurements failed (ncnn)" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engines", "caffe"], "it must be one of npresnet, onnxruntime"),
        (["--engines", ","], "--engines"),
        (["--sizes", "12y"], "--sizes: got '12y'"),
        (["--sizes", "1x2x3"], "--sizes: got '1x2x3'"),
        (["--sizes", "x"], "--sizes: got 'x'"),
        (["--sizes", "0x32"], "--sizes: got '0x32'"),
        (["--batches", "0"], "--batches: got '0'"),
        (["--threads", "-1"], "--threads: got '-1'"),
        (["--networks", "resnet51"], "resnet51"),
        (["--networks", "resnet50", "--weights", "weights.h5"], "give one of them"),
        (["--weights", "missing.h5"], "missing.h5"),
        (["--out", "none/results.json"], "none/results.json"),
    ],
)
def test_bench_used_wrongly(folder, options, message):
    status, output = cli("bench", *options)
    assert status == 2
    assert message in " ".join(output.split())
    assert written(folder) == set()
