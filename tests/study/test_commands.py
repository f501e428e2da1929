"""``npresnet study TOPIC``: what each prints and keeps, and how each ends."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from npresnet import study
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.study.forms import plain

pytest.importorskip("typer")

from typer import testing

from npresnet.cli.app import app

from ..cli.test_cli import cli


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    graph = build_graph(Architecture.standard(FAMILIES["keras-resnet"], 18, width=32))
    write_keras_file(folder / "w.h5", graph, random_weights(graph))
    np.save(folder / "i.npy", np.random.default_rng(0).uniform(-100, 100, (1, 40, 48, 3)).astype(np.float32))
    return folder


@pytest.fixture(autouse=True)
def folder(shelf, monkeypatch):
    monkeypatch.chdir(shelf)


ON_A_NETWORK = {
    "layers": ("w.h5", "i.npy", "--no-timing"),
    "window": ("w.h5", "i.npy", "--at", "0,0,3", "--layer", "res2a_branch2a"),
    "winograd": ("w.h5", "i.npy", "--layer", "res2a_branch2a", "--points", "0,1,-1,2,-2"),
    "errors": ("w.h5", "i.npy"),
    "ladder": ("w.h5", "i.npy", "--no-timing", "--layer", "res2a_branch2a"),
    "maps": ("w.h5", "i.npy", "--layers", "C2,C3"),
    "memory": ("w.h5", "--size", "48x40"),
}
SAID = {
    "layers": "res2a_branch2a", "window": "sum of all products|of all products", "winograd": "all 72 numbers", "errors": "conv2d_winograd",
    "ladder": "gemm_blocked", "maps": "res2b1_relu|res3b1_relu|C3", "memory": "at no step are more",
    "watch": "the same bits as the kernel's", "asm": "FMA per read of memory",
}  # fmt: skip


@pytest.mark.parametrize("topic", ON_A_NETWORK)
def test_a_topic(topic, tmp_path):
    status, output = cli("study", topic, *ON_A_NETWORK[topic], "--json", tmp_path / "found.json")
    assert status == 0, output
    assert re.search(SAID[topic], output)
    assert max(map(len, output.replace(str(tmp_path), "").splitlines())) <= 80
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["study"] == topic
    assert found["data"]


def test_json_is_what_the_library_gives(tmp_path):
    import npresnet

    cli("study", "window", *ON_A_NETWORK["window"], "--json", tmp_path / "found.json")
    net = npresnet.load("w.h5")
    expected = study.window(net, np.load("i.npy"), "res2a_branch2a", (0, 0, 3))
    assert json.loads((tmp_path / "found.json").read_text())["data"] == plain(expected)


def test_json_alone_on_standard_output(tmp_path):
    """For a pipe: tables go to standard error."""
    result = testing.CliRunner().invoke(app, ["study", "window", *ON_A_NETWORK["window"], "--json", "-"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["study"] == "window"
    assert "Each tap of the kernel" in result.stderr
    assert "saved" not in result.stderr
    assert not Path("-").exists()


@pytest.mark.parametrize(("topic", "options"), [("watch", ("--kernel", "im2col")), ("asm", ("--kernel", "gemm_naive"))])
def test_a_topic_without_a_network(topic, options):
    status, output = cli("study", topic, *options)
    assert status == 0, output
    assert re.search(SAID[topic], output)


def test_a_timeline(tmp_path):
    status, _ = cli("study", "memory", "w.h5", "--size", "48x40", "--trace", tmp_path / "t.json")
    assert status == 0
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]


def test_ones_own_kernel(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from npresnet.kernels import conv2d_reference\n"
        "def good(x, w, bias, stride=1, padding='same'):\n"
        "    return conv2d_reference(x, w, bias, stride=stride, padding=padding)\n"
        "def bad(x, w, bias, stride=1, padding='same'):\n"
        "    return good(x, w, bias, stride, padding) * 0\n"
    )
    options = ("w.h5", "i.npy", "--rungs", "conv2d_im2col", "--layer", "res2a_branch2a")
    status, output = cli("study", "ladder", *options, "--mine", f"{tmp_path}/mine.py:good", "--no-timing")
    assert status == 0, output
    status, output = cli("study", "ladder", *options, "--mine", f"{tmp_path}/mine.py:bad")
    assert status == 1
    assert "refused: x 1x8x8x4" in output
    assert output.splitlines()[-1].startswith("npresnet: ladder: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("window", "w.h5", "i.npy", "--at", "1,2"), "--at: got '1,2'; it must be row, column and channel"),
        (("window", "w.h5", "i.npy", "--layer", "none"), "none of that name"),
        (("window", "nowhere.h5"), "nowhere.h5"),
        (("watch", "--kernel", "conv2d_grouped"), "`npresnet study asm` shows machine code"),
        (("ladder", "w.h5", "i.npy", "--tile", "6x7"), "tile: got '6x7'; it must be ROWSxCOLUMNS"),
        (("ladder", "w.h5", "i.npy", "--engines", "none"), "--engines: got 'none'"),
        (("errors", "w.h5", "i.npy", "--against", "recording.npz"), "a recording has an image of its own"),
        (("asm", "--ptx"), "ptx: a processor has none"),
        (("watch", "--l1", "1000"), "cache: got 1000 bytes"),
        (("asm", "--width", "mmx"), "width: got 'mmx'"),
        (("winograd", "w.h5", "i.npy", "--points", "0,1"), "3, 5 or 7"),
        (("layers", "w.h5", "i.npy", "--json", "no/where.json"), "cannot write there"),
        (("page", "w.h5", "i.npy", "--out", "."), "no ordinary file"),
        (("ladder", "w.h5", "i.npy", "--threads", "0"), "--threads: got '0'"),
    ],
)
def test_wrong_use_is_one_paragraph(arguments, words):
    status, output = cli("study", *arguments)
    assert status == 2
    message = [line for line in output.splitlines() if line.startswith("npresnet: ")]
    assert len(message) == 1
    assert words in message[0]


def test_a_run_that_ends_early_leaves_no_page(monkeypatch, tmp_path):
    module = sys.modules.get("npresnet.study.page") or __import__("importlib").import_module("npresnet.study.page")

    def stop(*arguments, **options):
        raise MemoryError("no more")

    monkeypatch.setattr(module, "gather", stop)
    status, output = cli("study", "page", "w.h5", "i.npy", "--out", tmp_path / "page.html")
    assert status == 2
    assert "out of memory" in output
    assert list(tmp_path.iterdir()) == []
