"""The script for a card, without one: a dry run in Numba's simulator, and what it does when something goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import card_sections, on_card, report
from npresnet.verify.compare import Difference
from npresnet.verify.rows import Row

ROOT = Path(__file__).parents[2]

SANITIZER = """#!{python}
import subprocess, sys
mistake = sys.argv[-1] == "mistake"
status = 0 if mistake else subprocess.run(sys.argv[sys.argv.index(sys.executable):]).returncode
print("========= ERROR SUMMARY: 1 error" if mistake else "========= ERROR SUMMARY: 0 errors")
sys.exit(77 if mistake else status)
"""


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


needs_numba_cuda = pytest.mark.skipif(not has("numba_cuda"), reason="numba-cuda is not installed")


def dry_run(out: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Exit status and output of the script in the simulator."""
    command = [sys.executable, "-m", "bench.on_card", "--simulate", "--out", str(out), *options]
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", **environment}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=400)
    return done.returncode, done.stdout + done.stderr


def cases_in(folder: Path) -> dict:
    (path,) = folder.glob("card-*.json")
    return json.loads(path.read_text())["cases"]


@needs_numba_cuda
def test_dry_run(tmp_path):
    """Every section, with a stand-in for the memory checker."""
    sanitizer = tmp_path / "compute-sanitizer"
    sanitizer.write_text(SANITIZER.format(python=sys.executable))
    sanitizer.chmod(0o755)
    status, output = dry_run(tmp_path / "out", "--sanitizer", str(sanitizer))
    assert status == 0, output
    cases = cases_in(tmp_path / "out")
    assert {key.split("/")[0] for key in cases} == set(card_sections.SECTIONS)
    assert [key for key, case in cases.items() if case["status"] == "failed"] == []
    assert cases["agreement/keras-resnet-18-4, by layer, fp32"]["layers"] == 5
    assert cases["agreement/keras-resnet-18-4, by plan, fp32"]["layers"] == 2
    assert cases["memory/networks"]["text"] == "no errors"
    assert cases["tests/test_kernels"]["counts"]["passed"] > 5
    engines = cases["benchmark/tiny"]["engines"]
    assert set(engines) == {"npresnet fp32", *(["PyTorch fp32"] if has("torch") else [])}
    assert all(engine["median"] > 0 and engine["error"] < 1e-5 for engine in engines.values())
    text = report.block("card", tmp_path / "out", ROOT / "README.md")
    assert "keras-resnet/resnet18, 8x9, batch 1" in text
    assert "7 layers' outputs beside TensorFlow's" in text
    assert "| maxpool | 1 |" in report.block("card_steps", tmp_path / "out", ROOT / "README.md")
    if has("matplotlib"):
        (picture,) = (tmp_path / "out").glob("*.png")
        assert picture.stat().st_size > 5000


@needs_numba_cuda
def test_what_is_not_installed_is_left_out(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('torch', 'h5py', 'pytest', 'matplotlib'): sys.modules[name] = None\n"
    )
    skipped = [f"--skip-{name}" for name in ("agreement", "repeatability", "memory", "profile", "host")]
    status, output = dry_run(tmp_path / "out", *skipped, PYTHONPATH=str(tmp_path))
    assert status == 0, output
    for words in (
        "not installed: torch, h5py, pytest, matplotlib",
        "left out: environment/ceilings: PyTorch is not installed",
        "left out: benchmark/PyTorch: PyTorch is not installed; npresnet is timed alone",
        "left out: tests: pytest is not installed",
        "left out: processors/threads: h5py is not installed",
        "left out: the picture: matplotlib is not installed",
    ):
        assert words in output
    assert list(cases_in(tmp_path / "out")["benchmark/tiny"]["engines"]) == ["npresnet fp32"]


def test_without_a_card(tmp_path, capfd, monkeypatch):
    """It says what is missing, and ends with 1."""
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    skipped = [f"--skip-{name}" for name in card_sections.SECTIONS if name != "environment"]
    assert on_card.main(["--out", str(tmp_path), *skipped]) == 1
    output = capfd.readouterr().out
    assert "FAILED: environment: " in output
    assert "driver" in output or "numba-cuda is not installed" in output


@pytest.mark.parametrize(
    ("simulator", "options", "words"),
    [
        ("0", ["--simulate", "--out", "there"], "go together"),
        ("1", [], "go together"),
        ("1", ["--simulate"], "give a folder of its own"),
        ("1", ["--simulate", "--out", "bench/results"], "give a folder of its own"),
    ],
)
def test_wrong_use(monkeypatch, capsys, simulator, options, words):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", simulator)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        on_card.main(options)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


# Sections that fail ---------------------------------------------------------------------------------------------------

WRITE = "import json, sys; open(sys.argv[1], 'a').write(json.dumps({'case': %r, 'result': {'status': %r, 'reason': ''}}) + '\\n');"
CODE = {
    "good": WRITE % ("good/one", "ok"),
    "dies": WRITE % ("dies/one", "ok") + "import os; os._exit(3)",
    "hangs": WRITE % ("hangs/one", "ok") + "import time; time.sleep(60)",
    "silent": "",
    "fails": WRITE % ("fails/one", "failed"),
    "environment": WRITE % ("environment", "failed"),
}


@pytest.fixture
def sections(monkeypatch):
    """Sections that are a few words of Python."""
    monkeypatch.setattr(
        on_card, "_command", lambda name, orders, results: [sys.executable, "-c", CODE[name], str(results)]
    )
    monkeypatch.setattr(on_card, "_GRACE", 0.5)
    monkeypatch.setattr(on_card, "_draw", lambda path: None)

    def run(folder, *names, budget=300.0):
        outcome = on_card.Outcome(folder)
        limits = {name: 5.0 if name == "hangs" else 60.0 for name in names}
        on_card.run_sections(names, limits, {}, outcome, budget)
        return outcome

    return run


def test_a_section_that_fails_stops_no_other(tmp_path, sections, capsys):
    start = time.monotonic()
    outcome = sections(tmp_path, "dies", "hangs", "silent", "fails", "good")
    assert time.monotonic() - start < 30
    assert outcome.failed() == ["dies", "hangs", "silent", "fails/one"]
    reasons = [outcome.cases[name]["reason"] for name in ("dies", "hangs", "silent")]
    assert reasons == [
        "its process ended with status 3",
        "its process was stopped after 5 s",
        "its process reported nothing",
    ]
    assert [key for key, case in outcome.cases.items() if case["status"] == "ok"] == [
        "dies/one",
        "hangs/one",
        "good/one",
    ]
    assert on_card.finish(outcome, 1) == 1
    assert "FAILED: hangs: its process was stopped" in capsys.readouterr().out
    assert set(cases_in(tmp_path)) == set(outcome.cases)


def test_where_no_kernel_runs_nothing_else_is_tried(tmp_path, sections, monkeypatch, capsys):
    outcome = sections(tmp_path, "environment", "good", "dies")
    assert (outcome.failed(), outcome.left_out()) == (["environment"], ["good", "dies"])
    assert "good: left out: no kernel runs" in capsys.readouterr().out
    assert on_card.finish(outcome, 1) == 1
    for code, left_out in (("import os; os._exit(3)", ["good"]), (WRITE % ("environment", "ok") + CODE["dies"], [])):
        monkeypatch.setitem(CODE, "environment", code)  # killed before it has said anything, and after kernels had run
        assert sections(tmp_path, "environment", "good").left_out() == left_out
    assert set(cases_in(tmp_path)) == {"environment", "dies/one", "environment/process", "good/one"}


def test_limits_of_sections(tmp_path, monkeypatch, capsys):
    given = []
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "0")
    monkeypatch.setattr(on_card, "run_sections", lambda names, limits, *more: given.append(limits))
    on_card.main(["--out", str(tmp_path), "--limit", "tuning=90", "--limit", "benchmark=12.5"])
    usual = {name: section.seconds for name, section in card_sections.SECTIONS.items()}
    assert given == [{**usual, "tuning": 90.0, "benchmark": 12.5}]
    for wrong in ("tuning", "tuning=", "tuning=-1", "turning=5"):
        with pytest.raises(SystemExit):
            on_card.main(["--out", str(tmp_path), "--limit", wrong])
        assert f"got {wrong!r}; it must be SECTION=SECONDS" in capsys.readouterr().err


def test_all_is_well(tmp_path, sections):
    assert on_card.finish(sections(tmp_path, "good"), 1) == 0


def test_no_time_left(tmp_path, sections, capsys):
    """What is left out is said; and nothing done is nothing passed."""
    outcome = sections(tmp_path, "good", "fails", budget=1.0)
    assert outcome.left_out() == ["good", "fails"]
    assert on_card.finish(outcome, 1) == 1
    assert "left out: good: no time: the budget of 1 s is spent" in capsys.readouterr().out


def test_a_run_replaces_the_one_before(tmp_path, sections):
    sections(tmp_path, "fails")
    sections(tmp_path, "good")
    assert list(cases_in(tmp_path)) == ["good/one"]


# Checks that can fail -------------------------------------------------------------------------------------------------


def row(relative, worst=0.0, problem=None):
    return Row("layer", "conv", (1,), Difference(relative, worst, problem))


@pytest.mark.parametrize(
    ("precision", "rows"),
    [
        ("fp32", []),
        ("fp32", [row(1e-6), row(1.1e-5)]),
        ("fp32", [row(1e-6, worst=2e-3)]),
        ("3xtf32", [row(1.1e-5)]),
        ("tf32", [row(2.1e-3)]),
        ("tf32", [row(np.nan)]),
        ("fp32", [row(0.0, problem="another shape")]),
    ],
)
def test_wrong_layers_are_judged_so(precision, rows):
    with pytest.raises(card_sections.Failed):
        card_sections.judged(rows, precision)


def test_right_layers_are_judged_so():
    found = card_sections.judged([row(1e-6), row(1.5e-3)], "tf32")
    assert (found["layers"], found["worst"]) == (2, 1.5e-3)


class Engine:
    """Something that computes 2 x, or one of its wrong brothers."""

    def __init__(self, batches, wrong=""):
        self.batches, self.wrong, self.memory = batches, wrong, None

    def run(self, index):
        if self.memory is None or self.wrong != "does nothing again":
            self.memory = self.batches[0 if self.wrong == "first batch always" else index] * np.float32(2)
        if self.wrong == "leaves a place out":
            self.memory[-1, -1] = np.nan
        return self.memory

    def poison(self, results):
        results[:] = np.nan

    def picked(self, results, images):
        return {"C1": results[list(images)].copy()}


@pytest.mark.parametrize("wrong", ["", "first batch always", "does nothing again", "leaves a place out"])
def test_features_are_verified_in_poisoned_memory(wrong):
    batches = [np.random.default_rng(seed).random((4, 3), np.float32) for seed in range(2)]
    expected = [{"C1": 2 * batch[[0, 3]]} for batch in batches]
    if not wrong:
        assert card_sections._verified(Engine(batches), expected, [0, 3], 1e-6) < 1e-7
        return
    with pytest.raises(card_sections.Failed):
        card_sections._verified(Engine(batches, wrong), expected, [0, 3], 1e-6)


class Unsteady:
    """A network whose bits change at its ``last`` call."""

    def __init__(self, last):
        self.calls, self.last = 0, last

    def __call__(self, images, outputs):
        self.calls += 1
        return {name: np.ones(3, np.float32) + (np.float32(1e-7) * (self.calls >= self.last)) for name in outputs}


@needs_numba_cuda
def test_a_first_kernel_that_is_wrong_is_noticed(monkeypatch):
    from npresnet.kernels import cuda

    for name in ("relu_cuda", "gemm_cuda"):
        monkeypatch.setattr(cuda, "relu_cuda", lambda x: np.maximum(x, 0))
        monkeypatch.setattr(cuda, "gemm_cuda", np.matmul)
        card_sections.try_kernels()
        monkeypatch.setattr(
            cuda, name, lambda *arrays: np.zeros((20, 36) if len(arrays) == 2 else (1, 5, 6, 4), np.float32)
        )
        with pytest.raises(card_sections.Failed, match=f"the first kernel, {name[:4]}, is wrong"):
            card_sections.try_kernels()


def test_other_bits_are_noticed():
    assert "the same bits" in card_sections._repeated(Unsteady(100), None, ["C1"])
    for last in (2, 7):
        with pytest.raises(card_sections.Failed, match="other bits"):
            card_sections._repeated(Unsteady(last), None, ["C1"])


def test_pytest_that_fails_or_runs_nothing_is_noticed(tmp_path):
    file = tmp_path / "test_some.py"
    file.write_text("def test_good(): pass\ndef test_bad(): assert False\n")
    assert card_sections._pytest([str(file)], 60)[1] == 1
    assert card_sections._pytest([str(file), "-k", "good"], 60)[1] == 0
    assert card_sections._pytest([str(file), "-k", "neither"], 60)[1] == 5
    file.write_text("import time\ndef test_slow(): time.sleep(60)\n")
    assert card_sections._pytest([str(file)], 3)[1] is None


# PyTorch --------------------------------------------------------------------------------------------------------------


def test_fused_convolutions_compute_the_same(monkeypatch):
    """cuDNN's fused convolutions, by their definition: what goes into them is right."""
    torch = pytest.importorskip("torch")
    from bench.card_torch import TorchOnCard
    from npresnet.peers.network import outputs_of

    conv2d, relu = torch.nn.functional.conv2d, torch.nn.functional.relu
    calls = []

    def conv_relu(x, w, bias, *geometry):
        calls.append("relu")
        return relu(conv2d(x, w, bias, *geometry))

    def conv_add_relu(x, w, z, alpha, bias, *geometry):
        calls.append("add")
        return relu(conv2d(x, w, bias, *geometry) + alpha * z)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)
    for subject, layout in zip(card_sections.THIN[:2], ("NHWC", "NCHW"), strict=True):
        found = subject.found()
        images = [card_sections.pictures((2, 40, 52), seed) for seed in range(2)]
        outputs = outputs_of(found.graph)
        peer = TorchOnCard(found.graph, found.weights, images, list(outputs), "fp32", "cpu")
        expected = card_sections._on_the_processor(found, images, outputs)
        calls.clear()
        peer._prepare(f"eager, fused, {layout}")
        assert card_sections._verified(peer, expected, [0, 1], 1e-5) > 0
        blocks = sum(found.architecture.blocks)
        assert calls.count("add") % blocks == 0  # each block's sum, in each run
        assert calls.count("relu") > calls.count("add") > 0


def test_pytorch_is_raced_in_both_layouts(monkeypatch):
    """Each with what it reads in that order of memory, and the faster is kept; operators one by one where no graph is recorded."""
    torch = pytest.importorskip("torch")
    from bench import card_torch
    from npresnet.peers.network import outputs_of

    forms = (torch.channels_last, torch.contiguous_format)
    found = card_sections.THIN[0].found()
    images = card_sections.pictures((2, 40, 52), 0)
    seen = {}

    def seconds(self, way):
        if way.startswith("graph"):
            return "no graphs on this device"
        self._prepare(way)
        tensors = [*self._inputs, *(weights for weights, _ in self._weights.values() if weights is not None)]
        large = [t for t in tensors if t.ndim == 4 and min(t.shape[1:]) > 1]  # of others both orders are the same
        seen[way] = [all(t.is_contiguous(memory_format=form) for t in large) for form in forms]
        return 1.0 if way.endswith("NCHW") else 2.0

    monkeypatch.setattr(card_torch.TorchOnCard, "_seconds", seconds)
    monkeypatch.setattr(card_torch.TorchOnCard, "_fused_forward", card_torch.TorchOnCard._forward)  # which takes cuDNN
    peer = card_torch.TorchOnCard(found.graph, found.weights, [images], list(outputs_of(found.graph)), "fp32", "cpu")
    assert seen == {way: [way.endswith("NHWC"), way.endswith("NCHW")] for way in card_torch.WAYS["eager"]}
    assert peer.way == "eager, fused, NCHW"


# Tables --------------------------------------------------------------------------------------------------------------


def engine(title, precision, median, **more):
    return {"title": title, "precision": precision, "status": "ok", "median": median, "error": 1e-6, **more}


CASES = {
    "environment": {"status": "ok"},
    "environment/ceilings": {"status": "ok", "bandwidth": 1e12, "fp32": 1e13, "tf32": 3e13},
    "agreement/one, by plan, fp32": {"status": "ok", "precision": "fp32", "layers": 100, "worst": 1e-6},
    "agreement/two, by plan, fp32": {"status": "ok", "precision": "fp32", "layers": 50, "worst": 3e-6},
    "agreement/one, by plan, tf32": {"status": "failed", "reason": "7 of 100 layers disagree"},
    "memory": {"status": "left out", "reason": "it is not there"},
    "benchmark/one": {
        "status": "failed",
        "reason": "PyTorch tf32: out of memory",
        "network": "matterport/resnet50",
        "batch": [2, 64, 32],
        "work": [[2e10, 1e9], [1e10, 4e9]],  # 2 and 4 ms in fp32, the second for its bytes
        "engines": {
            "npresnet fp32": engine("npresnet", "fp32", 0.012),
            "npresnet 3xtf32": engine("npresnet", "3xtf32", 0.008),
            "npresnet tf32": engine("npresnet", "tf32", 0.010),
            "PyTorch fp32": engine("PyTorch", "fp32", 0.024, queued=0.018, chosen="graph"),
            "PyTorch tf32": {"title": "PyTorch", "precision": "tf32", "status": "failed", "reason": "out of memory"},
        },
    },
}


def test_tables():
    text = report.card(CASES)
    row = "| matterport/resnet50, 32x64, batch 2 |"
    assert f"{row} 12.0 | 8.00 | 10.0 | 24.0 | 2.00 | 3.00 | - |" in text
    assert f"{row} 2.5 (50%) | 3.8 (75%) | 3.0 (50%) | 1.2 (25%) |" in text
    for words in (
        "in 75% to 75% of these times",
        "- fp32: 150 layers' outputs beside TensorFlow's, largest relative error 3.0e-06",
        "- **Failed**: agreement/one, by plan, tf32",
        "- **Failed**: benchmark/one",
        "- Left out: memory",
    ):
        assert words in text


def test_tables_of_next_to_nothing():
    """Without PyTorch, or when nothing went well."""
    assert "**Failed**: environment" in report.card({"environment": {"status": "failed", "reason": "no driver"}})
    alone = {"benchmark/one": {**CASES["benchmark/one"], "engines": {"npresnet fp32": engine("npresnet", "fp32", 1.0)}}}
    assert "batch 2 | 1000 | - | - | - |" in report.card(alone)
    assert "ceiling" not in report.card(alone)
    assert report.card_steps(alone) == ""


def test_the_documents_say_that_nothing_has_run_on_a_card(tmp_path):
    """Until something has; a dry run does not count."""
    if not list(report.store.RESULTS.glob("card-*.json")):
        assert report.NOTHING_YET["card"] in (ROOT / "README.md").read_text()
    assert report.block("card", tmp_path, ROOT / "README.md") == report.NOTHING_YET["card"]
    assert not list(report.store.RESULTS.glob("card-*simulator*"))
