"""The benchmark: other engines are given the right network, the comparison cannot be fooled, turns are taken in turn.

Engines that are not installed are skipped in one place, the fixture ``peer``: extra ``test`` brings TensorFlow alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bench import bench_ops, report, store
from npresnet import kernels
from npresnet.cpu import by_layer as engine
from npresnet.errors import NpResNetError, UsageError
from npresnet.kernels import LADDER
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import (
    Activation,
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Pad,
    ReLU,
    Softmax,
)
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.peers import measure as benchmark
from npresnet.peers.case import Case, full_name
from npresnet.peers.conversion import converted
from npresnet.peers.engines import PEERS, missing, peer_class
from npresnet.peers.measure import measure, summary
from npresnet.peers.network import outputs_of, simplify
from npresnet.peers.process import EngineFailed, Process
from npresnet.study.roofline import fma_peak
from npresnet.verify.compare import compare

ROOT = Path(__file__).parents[2]


# Networks ------------------------------------------------------------------------------------------------------------


def preactivated() -> Graph:
    """What none of the known families does: batch-norms and ReLUs that follow a sum, a border that takes part in a
    max-pool of negative values, a strided pool for a shortcut."""
    conv = Conv2D(8, 8, (3, 3), padding="same")
    layers = [
        Layer("input", Input()),
        Layer("conv", Conv2D(3, 8, (3, 3), (2, 2)), ("input",)),
        Layer("pad", Pad((1, 1, 1, 1)), ("conv",)),
        Layer("pool", MaxPool((3, 3), (2, 2), "valid"), ("pad",)),
        Layer("bn", BatchNorm(8, 1e-3), ("pool",)),
        Layer("relu", ReLU(), ("bn",)),
        Layer("branch", conv, ("relu",)),
        Layer("sum", Add(), ("branch", "pool")),
        Layer("loose", ReLU(), ("sum",)),
        Layer("short", MaxPool((1, 1), (2, 2), "valid"), ("sum",)),
        Layer("last_bn", BatchNorm(8, 1e-3), ("short",)),
        Layer("last", ReLU(), ("last_bn",)),
        Layer("mean", GlobalAveragePool(), ("last",)),
    ]
    features = {"C1": "pool", "C2": "sum", "C3": "loose", "C4": "last", "C5": "mean"}
    return Graph(tuple(layers), {"C": features})


def grouped(groups: int = 4) -> Graph:
    """What ResNeXt and squeeze-and-excitation networks have beside the others: grouped convolutions, with a border or a
    batch-norm; a gate per channel; a batch-norm without gamma before the first border; a softmax of its own."""
    layers = [
        Layer("input", Input()),
        Layer("input_bn", BatchNorm(3, 1e-3, scale=False), ("input",)),
        Layer("pad", Pad((1, 1, 1, 1)), ("input_bn",)),
        Layer("conv", Conv2D(3, 8, (3, 3), (2, 2)), ("pad",)),
        Layer("relu", ReLU(), ("conv",)),
        Layer("grouped", Conv2D(8, 16, (3, 3), (2, 2), "same", bias=False, groups=groups), ("relu",)),
        Layer("bn", BatchNorm(16, 1e-3), ("grouped",)),
        Layer("grouped_relu", ReLU(), ("bn",)),
        Layer("border", Pad((1, 1, 1, 1)), ("grouped_relu",)),
        Layer("again", Conv2D(16, 16, (3, 3), groups=groups), ("border",)),
        Layer("mean", GlobalAveragePool(keep_dims=True), ("again",)),
        Layer("reduce", Conv2D(16, 2, (1, 1)), ("mean",)),
        Layer("reduce_relu", ReLU(), ("reduce",)),
        Layer("expand", Conv2D(2, 16, (1, 1)), ("reduce_relu",)),
        Layer("gate", Activation("sigmoid"), ("expand",)),
        Layer("gated", Multiply(), ("again", "gate")),
        Layer("sum", Add(), ("gated", "grouped_relu")),
        Layer("last", ReLU(), ("sum",)),
        Layer("last_mean", GlobalAveragePool(), ("last",)),
        Layer("scores", Dense(16, 5, softmax=False), ("last_mean",)),
        Layer("softmax", Softmax(), ("scores",)),
    ]
    features = {"C1": "relu", "C2": "grouped_relu", "C3": "gated", "C4": "last"}
    return Graph(tuple(layers), {"C": features}, "softmax")


def standard(family: str, depth: int, classes: int | None = None, stage5: bool = True) -> Graph:
    architecture = Architecture.standard(FAMILIES[family], depth, width=8, classes=classes, stage5=stage5)
    return build_graph(architecture)


NETWORKS = {
    "matterport-50": standard("matterport", 50),
    "matterport-50-C4": standard("matterport", 50, stage5=False),
    "keras.applications-50": standard("keras.applications", 50, classes=7),
    "keras-resnet-18": standard("keras-resnet", 18, classes=7),
    "preactivated": preactivated(),
    "grouped": grouped(),
}
SHAPE = (2, 45, 52)  # odd and even, so that "same" pads differ from side to side


@pytest.fixture(params=list(NETWORKS))
def network(request):
    """(graph, weights, images, the true outputs by their common names)."""
    graph = NETWORKS[request.param]
    weights = random_weights(graph, seed=5)
    images = np.random.default_rng(1).uniform(-120, 130, (*SHAPE, 3)).astype(np.float32)
    names = outputs_of(graph)
    steps = engine.run(
        graph, weights, images.astype(np.float64), list(names.values()), algorithm="reference", threads=1
    )  # fmt: skip
    truth = {step.name: step.array for step in steps if step.name in names.values()}
    return graph, weights, images, {output: truth[layer] for output, layer in names.items()}


def by_node(nodes, images):
    """{node: output} by the reference kernels."""
    values = {}
    for node in nodes:
        x = [values[name] for name in node.inputs]
        match node.kind:
            case "input":
                y = images
            case "conv":
                y = kernels.grouped_conv2d_reference(
                    x[0], node.weights, node.bias, groups=node.groups, stride=node.stride, padding=node.pads
                )
            case "maxpool":
                y = kernels.maxpool_reference(x[0], node.window, stride=node.stride, padding=node.pads)
            case "pad":
                y = kernels.pad_reference(x[0], node.pads)
            case "scale":
                y = x[0] * node.weights + node.bias
            case "sigmoid":
                y = 1 / (1 + np.exp(-x[0]))
            case "add":
                y = x[0] + x[1]
            case "multiply":
                y = x[0] * x[1]
            case "mean":
                y = x[0].mean((1, 2), keepdims=node.keep_dims)
            case "dense":
                y = x[0] @ node.weights + node.bias
            case "relu":
                y = x[0]
        y = np.maximum(y, 0) if node.relu else y
        values[node.name] = kernels.softmax_reference(y) if node.softmax else y
    return values


def test_nodes_compute_the_network(network):
    graph, weights, images, truth = network
    nodes = simplify(graph, weights, *SHAPE[1:])
    found = by_node(nodes, images)
    for output, layer in outputs_of(graph).items():
        assert compare(found[layer], truth[output]).agrees(), (output, compare(found[layer], truth[output]))


def test_nothing_is_left_to_fold():
    """Every known family comes down to convolutions, pools and sums: no engine gets a batch-norm or a border to do."""
    kinds = {
        name: {node.kind for node in simplify(graph, random_weights(graph), 64, 64)} for name, graph in NETWORKS.items()
    }
    assert {"scale", "pad", "relu"} <= kinds.pop("preactivated")  # on purpose
    assert {"scale", "sigmoid", "multiply"} <= kinds.pop("grouped")  # what cannot be folded
    for name, found in kinds.items():
        assert found <= {"input", "conv", "maxpool", "add", "mean", "dense"}, name


# Engines -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=list(PEERS))
def peer(request):
    """The class of one engine. THE place where engines that are not installed are skipped."""
    for module in peer_class(request.param).modules:
        pytest.importorskip(module)
    assert missing(request.param) is None
    return peer_class(request.param)


def threads_for(peer) -> int:
    """TensorFlow's number of threads is fixed once it has run: in the tests it stays what it is."""
    if peer is not peer_class("tensorflow"):
        return 2
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads()


@pytest.fixture
def lite_here(monkeypatch):
    """LiteRT's converter at work in this process, which has TensorFlow already; the processes below have their own.
    MNN's is never here: it cannot share a process with TensorFlow, for both bring a protobuf along."""
    monkeypatch.setattr("npresnet.peers.litert.converted", lambda convert, *network: (convert(*network), 0.0))


@pytest.mark.usefixtures("lite_here")
def test_engine_agrees(peer, network):
    graph, weights, images, truth = network
    found = peer(graph, weights, SHAPE, threads_for(peer))(images)
    assert set(found) == set(truth)
    for output, array in truth.items():
        assert compare(found[output], array).agrees(), (output, compare(found[output], array))


@pytest.mark.usefixtures("lite_here")
def test_wrong_number_of_groups_is_noticed(peer):
    """Half as many, with kernels of shapes that fit: no engine can refuse it, so the comparison must."""
    weights = random_weights(grouped(4), seed=5)
    kernels_of_two = {name: np.tile(weights[name]["kernel"], (1, 1, 2, 1)) for name in ("grouped", "again")}
    wrong = weights | {name: {**weights[name], "kernel": kernel} for name, kernel in kernels_of_two.items()}
    images = np.random.default_rng(1).uniform(-120, 130, (1, 12, 13, 3)).astype(np.float32)
    truth = by_node(simplify(grouped(4), weights, 12, 13), images)
    found = peer(grouped(2), wrong, (1, 12, 13), threads_for(peer))(images)
    agreeing = {output: compare(found[output], truth[layer]).agrees() for output, layer in grouped(2).features.items()}
    assert agreeing == {"C1": True, "C2": False, "C3": False, "C4": False}


def test_converter_that_fails():
    with pytest.raises(NpResNetError, match="the converter failed: TypeError: dict expected at most 1 argument, got 3"):
        converted(dict, preactivated(), {}, SHAPE)
    with pytest.raises(NpResNetError, match="the converter failed: its process ended with status 5"):
        converted(os.execl, sys.executable, "python", "-cexit(5)")  # that process becomes another, which ends so


def test_missing_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in PEERS:
        assert missing(name) == f"not installed: pip install {' '.join(peer_class(name).packages)}"


def test_engines_are_imported_when_they_are_wanted(run_python):
    """The command line knows their names from their list alone, and one of them brings in none of the others."""
    code = """
import sys
from npresnet.peers.engines import PEERS, peer_class
def loaded():
    return {name for name in ("numpy", *PEERS) if name in sys.modules or f"npresnet.peers.{name}" in sys.modules}
assert loaded() == set(), loaded()
assert peer_class("ncnn").title == "ncnn"
assert loaded() == {"numpy", "ncnn"}, loaded()
assert {peer_class(name).title for name in ("litert", "mnn")} == {"LiteRT", "MNN"}
# the engine itself comes with a network
assert not {"ncnn", "onnx", "torch", "ai_edge_litert", "tensorflow", "MNN", "_tools"} & set(sys.modules)
"""
    run_python(code)


def test_extra_has_every_engine():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    assert {package for name in PEERS for package in peer_class(name).packages} <= set(extra)


# Measuring -----------------------------------------------------------------------------------------------------------


class Fake:
    """A worker that writes down what it is told, and breaks where it is meant to."""

    def __init__(self, log, name, seconds, breaks="", error=0.0):
        self.log, self.name, self.seconds, self.breaks, self.error = log, name, seconds, breaks, error
        self.closed = 0
        self.turns = 0
        self.ready = {"version": "1", "settings": "", "chosen": "", "start_seconds": 1.0, "peak_bytes": 1000}
        self._say("start")

    def _say(self, what):
        self.log.append((self.name, what))
        if what == self.breaks:
            raise EngineFailed(f"broke at {what}")

    def features(self):
        self._say("features")
        return {"C1": np.full((1, 2, 2, 1), 1 + self.error, np.float32)}

    def time(self, runs, warmup):
        self._say("time")
        self.turns += 1
        self.asked = runs, warmup
        return [self.seconds * self.turns] * runs

    def close(self):
        self.closed += 1


class Notes:
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    def doing(self, text):
        pass


CASE = Case("matterport/resnet50", (1, 224, 224), 2)


def run_fakes(rounds=2, **fakes):
    """(result, log, workers, notes) of a measurement of fake engines, each given by its keywords."""
    log, workers, notes = [], {}, Notes()

    def start(name):
        workers[name] = Fake(log, name, **{"seconds": 0.2, **fakes[name]})
        return workers[name]

    return measure(CASE, Path("w.h5"), list(fakes), rounds=rounds, watcher=notes, start=start), log, workers, notes


def test_engines_take_turns():
    result, log, workers, _ = run_fakes(npresnet={}, a={}, b={})
    names = ["npresnet", "a", "b"]
    assert [name for name, what in log if what == "time"] == names * 3  # a warm-up and two rounds
    first_timed = next(i for i, (_, what) in enumerate(log) if what == "time")
    assert [what for _, what in log[:first_timed]] == ["start", "features"] * 3  # all compared before any is timed
    assert workers["a"].asked == (3, 1)  # half a second's worth, after one to warm up
    assert [found["status"] for found in result["engines"].values()] == ["ok"] * 3
    assert (result["threads"], result["batch"], result["precision"]) == (2, [1, 224, 224], "float32")


def test_samples_and_their_summary():
    result, _, _, _ = run_fakes(npresnet={}, a={"seconds": 0.25})
    found = result["engines"]["a"]
    assert found["samples"] == [[0.5, 0.5], [0.75, 0.75]]  # the warm-up, 0.25, is not among them
    assert (found["median"], found["min"], found["peak_bytes"]) == (0.625, 0.5, 1000)
    assert summary([[4.0, 1.0], [2.0, 3.0, 5.0]]) == {"median": 3.0, "min": 1.0, "quartiles": [2.0, 4.0]}
    assert summary([[7.0]]) == {"median": 7.0, "min": 7.0, "quartiles": [7.0, 7.0]}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("moment", ["start", "features", "time"])
def test_failing_engine_stops_nobody(moment):
    result, _, workers, notes = run_fakes(npresnet={}, a={"breaks": moment}, b={})
    assert result["engines"]["a"]["status"] == "failed"
    assert f"a: failed: broke at {moment}" in notes.lines
    assert "median" not in result["engines"]["a"]
    assert result["engines"]["b"]["status"] == "ok"
    assert moment == "start" or workers["a"].closed


def test_without_ours_nothing_is_compared():
    result, log, _, _ = run_fakes(npresnet={"breaks": "features"}, a={})
    assert [found["status"] for found in result["engines"].values()] == ["failed", "failed"]
    assert not any(name == "a" for name, _ in log)


@pytest.mark.parametrize("error", [1e-3, np.nan, np.inf])
def test_engine_that_disagrees_is_not_timed(error):
    result, log, _, notes = run_fakes(npresnet={}, a={"error": error}, b={"error": 1e-6})
    assert result["engines"]["a"]["status"] == "disagrees"
    assert "C1" in result["engines"]["a"]["reason"]
    assert ("a", "time") not in log
    assert any(line.startswith("a: disagrees: C1") for line in notes.lines)
    assert result["engines"]["b"]["status"] == "ok"
    assert result["engines"]["b"]["error"] == pytest.approx(1e-6, rel=0.1)
    json.dumps(result, allow_nan=False)


def test_missing_engine_is_a_line(monkeypatch):
    monkeypatch.setattr(benchmark, "missing", lambda name: "not installed: pip install ncnn")
    result, log, _, notes = run_fakes(npresnet={}, ncnn={})
    assert result["engines"]["ncnn"] == {
        "title": "ncnn", "status": "missing", "reason": "not installed: pip install ncnn"
    }  # fmt: skip
    assert notes.lines == ["ncnn: missing: not installed: pip install ncnn"]
    assert ("ncnn", "start") not in log


def test_workers_are_closed_when_interrupted():
    class Impatient(Notes):
        def doing(self, text):
            if "round" in text:
                raise KeyboardInterrupt

    workers = []

    def start(name):
        workers.append(Fake([], name, 0.2))
        return workers[-1]

    with pytest.raises(KeyboardInterrupt):
        measure(CASE, Path("w.h5"), ["a"], watcher=Impatient(), start=start)
    assert [worker.closed for worker in workers] == [1, 1]


def test_names():
    assert full_name("resnet101") == "matterport/resnet101"
    assert full_name("resnet18") == "keras-resnet/resnet18"
    with pytest.raises(UsageError, match="resnet51"):
        full_name("resnet51")
    assert (
        str(Case("keras-resnet/resnet18", (8, 480, 640), 1))
        == "keras-resnet/resnet18, 640x480 pixels, batch 8, 1 thread"
    )


# Processes -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    graph = standard("keras-resnet", 18, classes=7)
    return write_keras_file(tmp_path_factory.mktemp("bench") / "tiny.h5", graph, random_weights(graph))


TINY = Case("keras-resnet/resnet18", (1, 48, 40), 1)


def test_processes_of_all_engines_that_are_installed(weights):
    notes = Notes()
    result = measure(TINY, weights, rounds=1, watcher=notes)
    for name, found in result["engines"].items():
        if name in PEERS and missing(name):
            assert found["status"] == "missing"
            continue
        assert found["status"] == "ok", (name, found)
        assert set(found["differences"]) == {"C1", "C2", "C3", "C4", "C5", "probabilities"}
        assert 0 < found["min"] <= found["quartiles"][0] <= found["median"] <= found["quartiles"][1]
        assert found["start_seconds"] > found["weights_seconds"] + found["build_seconds"] + found["first_seconds"]
        assert found["build_seconds"] > 0
        assert (found["convert_seconds"] > 0) == (name in ("litert", "mnn"))
        assert found["version"]
        assert found["settings"]
        assert found["peak_bytes"] > 1e7
    json.dumps(result, allow_nan=False)


def test_process_that_cannot_read_its_weights(tmp_path):
    with pytest.raises(EngineFailed, match=r"WeightsError: .*none\.h5"):
        Process("npresnet", tmp_path / "none.h5", TINY)


def test_process_that_dies(weights):
    worker = Process("npresnet", weights, TINY)
    worker._process.kill()
    with pytest.raises(EngineFailed, match="its process ended with status -9"):
        worker.time(1, 0)
    worker.close()


def test_process_of_a_peer_holds_no_numba(run_python):
    """Our own compiler in an engine's process would count as that engine's memory and start-up."""
    run_python(
        "import sys, npresnet.peers.worker\n"
        "from npresnet.network.weights import load_weights\n"
        "assert not {'numba', 'llvmlite', 'torch', 'tensorflow'} & set(sys.modules)"
    )


# Operators -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", LADDER)
def test_every_version_of_every_operator_can_be_timed(operator):
    result = bench_ops.climb(operator, threads=1, seconds=0)
    assert list(result["versions"]) == [version.__name__ for version in LADDER[operator]]
    assert all(version["runs"] >= 3 and version["median"] > 0 for version in result["versions"].values())


def test_peak_is_a_speed():
    assert 1e8 < fma_peak(1, seconds=1e-3) < 1e13


# Results and the report ----------------------------------------------------------------------------------------------


def test_a_case_measured_again_leaves_the_others(tmp_path):
    for case, value in (("a", 1), ("b", 2), ("a", 3)):
        path = store.save("script", case, {"value": value}, tmp_path)
    assert path == tmp_path / f"script-{store.machine_name()}.json"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", store.machine_name())
    contents = store.load(path)
    assert {name: case["value"] for name, case in contents["cases"].items()} == {"a": 3, "b": 2}
    assert contents["machine"]


def _engine(title, median, **more):
    return {
        "title": title, "status": "ok", "version": "9", "settings": f"set as {title}", "chosen": "", "median": median,
        "min": median, "quartiles": [median, median], "peak_bytes": 5e8, "error": 1e-6, **more,
    }  # fmt: skip


CANNED = {
    "engines": {
        f"net-t{threads}": {
            "measured": "2026-01-02", "network": "matterport/resnet50", "batch": [2, 224, 200], "threads": threads,
            "engines": {
                "npresnet": _engine("npresnet", 0.1 / threads, error=0.0),
                "onnxruntime": _engine("ONNX Runtime", 0.15 / threads),
                "ncnn": {"title": "ncnn", "status": "missing", "reason": "not installed"},
            },
        }
        for threads in (1, 2)
    },
    "layers": {
        "net-t1": {
            "measured": "2026-01-02", "network": "matterport/resnet50", "batch": [1, 224, 224], "threads": 1,
            "peak": 1e11, "steps": [
                {"name": "a", "algorithm": "multiply", "shape": [1, 2, 3], "seconds": 0.01, "flop": 5e8},
                {"name": "b", "algorithm": "multiply", "shape": [1, 2, 3], "seconds": 0.01, "flop": 9e8},
                {"name": "c", "algorithm": "F(4x4,3x3)", "shape": [1, 2, 3], "seconds": 0.02, "flop": 4e9},
            ],
        }
    },
    "ops": {
        "gemm-t1": {
            "measured": "2026-01-02", "threads": 1, "flop": 1e8, "bytes": 1e6, "peak": 1e11,
            "versions": {"gemm_naive": {"median": 0.05}, "gemm_packed": {"median": 0.001}},
        },
        "relu-t1": {
            "measured": "2026-01-03", "threads": 1, "flop": 0, "bytes": 1e6, "peak": 1e11,
            "versions": {"relu_reference": {"median": 0.001}, "relu_cpu": {"median": 0.0001}},
        },
    },
    "load": {
        "net-t2": {
            "measured": "2026-01-02", "network": "matterport/resnet50", "bytes": 100e6, "threads": 2, "rounds": 9,
            "read": {"npresnet": 0.02, "h5py": 0.05}, "ratio": 2.5, "import": {"npresnet": 0.008, "h5py": 0.04},
            "load": 0.1, "pack": 0.25, "load_peak": 1.1e8, "peak": 3e8, "packed": 1.7e8,
        }
    },
    "scaling": {
        f"{kind}-net": {
            "measured": "2026-01-02", "network": "matterport/resnet50", "threads": 2, "points": [
                {"batch": batch, "median": 0.01, "peak_bytes": 3e8} for batch in batches
            ],
        }
        for kind, batches in {"size": [[1, 64, 64], [1, 128, 128]], "batch": [[1, 224, 224], [2, 224, 224]]}.items()
    },
    "startup": {
        "net": {
            "measured": "2026-01-02", "network": "matterport/resnet50", "size": 224, "threads": 2,
            "medians": {"npresnet, warm kernel cache": {"import": 0.25, "load": 0.5, "first": 0.75, "whole": 1.75}},
        }
    },
}  # fmt: skip


@pytest.fixture
def documented(tmp_path):
    """(a folder of canned results, a document with a place for every table)."""
    folder = tmp_path / "results"
    folder.mkdir()
    for script, cases in CANNED.items():
        (folder / f"{script}-box-2.json").write_text(json.dumps({"machine": "a box", "cases": cases}))
    document = tmp_path / "doc.md"
    document.write_text("Before.\n" + "".join(f"<!-- table: {n} -->\nold\n<!-- end -->\n" for n in report.TABLES))
    return folder, document


def test_report_writes_the_tables(documented, monkeypatch, capsys):
    folder, document = documented
    monkeypatch.setattr(report, "draw", lambda folder: [])
    assert report.main(["--check"], [document], folder) == 1
    assert "old" in document.read_text()
    assert "doc.md" in capsys.readouterr().err
    assert report.main([], [document], folder) == 0
    text = document.read_text()
    assert report.main(["--check"], [document], folder) == 0
    assert "old" not in text
    assert text.startswith("Before.\n")
    for row in (
        "| matterport/resnet50, 200x224, batch 2, 1 thread | **50.0** | 75.0 | 1.50 |",
        "| matterport/resnet50, 200x224, batch 2, 2 threads | **25.0** | 37.5 | 1.50 |",
        "| multiply | 2 | 20.0 | 50% | 70 | 70% |",
        "| all | 3 | 40.0 | 100% | 135 | 135% |",
        "| `gemm_packed` | 1.00 | 100 | 100% |  | 50 |",
        "| `relu_cpu` | 0.100 |  |  | 10.0 | 10 |",
        "| 2 x 224x224 | 10.0 | 10.0 | 300 |",
        "| npresnet's reader | 8.00 | 20.0 | 5.00 |",
        "| h5py | 40.0 | 50.0 | 2.00 |",
        "| npresnet, warm kernel cache | 0.25 | 0.50 | 0.75 | 1.75 |",
        "Measured 2026-01-02 on a box.",
        "Measured 2026-01-02 to 2026-01-03 on a box.",
        "![engines](results/engines-box-2.png)",
    ):
        assert row in text.splitlines(), row
    changed = folder / "startup-box-2.json"
    changed.write_text(changed.read_text().replace("1.75", "1.76"))
    assert report.main(["--check"], [document], folder) == 1


def test_report_without_results(tmp_path):
    document = tmp_path / "doc.md"
    document.write_text("<!-- table: startup -->\n<!-- end -->\n")
    assert "Not measured yet: `python -m bench.bench_startup`." in report.rendered(document, tmp_path)


def test_report_draws_the_pictures(documented):
    pytest.importorskip("matplotlib")  # of extra bench, not of extra test
    folder, _ = documented
    made = report.draw(folder)
    assert {path.name for path in made} == {
        f"{name}-box-2.png" for name in ("engines", "layers", "ops", "scaling")
    }  # fmt: skip
    for path in made:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_documents_are_what_the_results_say():
    assert report.main(["--check"]) == 0
    for document in report.DOCUMENTS:
        for link in re.findall(r"!\[\w+\]\((\S+)\)", document.read_text()):
            assert (document.parent / link).is_file(), f"{document}: {link}"


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234.5, "1234")]
)
def test_three_digits(value, text):
    assert report._number(value) == text
