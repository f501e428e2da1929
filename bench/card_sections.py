"""The sections of ``bench/on_card.py``: what each of them does, in a process of its own.

A section is given a ``Job`` (how much there is to do, how long it may take) and a ``Report``, to which it hands its results
case by case: what is there when it dies stays there.
"""

from __future__ import annotations

import concurrent.futures
import gc
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npresnet.errors import DeviceError
from npresnet.kernels.threads import available_threads
from npresnet.model import ResNet, assemble
from npresnet.network.weights import Inspection
from npresnet.peers.measure import summary
from npresnet.peers.network import outputs_of
from npresnet.plan.fusion import FusedConv, FusedDense
from npresnet.verify.compare import Difference, compare
from npresnet.verify.rows import Row, layers_against_recording, plan_against_recording
from npresnet.verify.subjects import FULL, THIN, TINY, Subject

Array = npt.NDArray[Any]

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "tests" / "data" / "recordings"

BOUNDS = {"fp32": 1e-5, "3xtf32": 1e-5, "tf32": 2e-3}
"""Largest accepted relative error of a layer against TensorFlow, by precision."""

WORST = {"fp32": 1e-3, "3xtf32": 1e-3, "tf32": 1e-1}
"""Largest accepted single difference, in units of the layer's root mean square."""

PEER_BOUNDS = {"fp32": 1e-4, "tf32": 1e-2}
"""The same for PyTorch's features against npresnet's on the processor: cuDNN may use Winograd and FFT."""


# How much there is to do ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network on batches of (n, h, w) images that is timed; ``sets`` of them by turns. It takes about so many seconds."""

    subject: Subject
    batch: tuple[int, int, int]
    sets: int = 2
    seconds: float = 15.0


@dataclass(frozen=True)
class Scale:
    """What is run: all of it on a card, next to nothing in the simulator, which takes a second for what takes a card
    microseconds.

    features   that are computed of a network; None: all
    rounds, turn, most  of timing: engines take turns, each for so many seconds but at most so many runs
    ways                of computing a convolution that are tried in tuning, at most; None: as many as always
    matrix, floats      sizes for the ceilings
    tests               pytest's arguments for each of the processes that share the tests
    """

    subjects: tuple[Subject, ...]
    precisions: tuple[str, ...]
    features: tuple[str, ...] | None
    cases: dict[str, Case]
    profiled: tuple[str, ...]
    from_host: tuple[str, ...]
    repeated: Case
    rounds: int
    turn: float
    most: int
    ways: int | None
    matrix: int
    floats: int
    tests: tuple[tuple[str, ...], ...]
    checked: tuple[Subject, ...]


_RESNET50, _RESNET101 = FULL
_CASES = {
    "resnet50-b1": Case(_RESNET50, (1, 224, 224), sets=3),
    "resnet50-b64": Case(_RESNET50, (64, 224, 224)),
    "maskrcnn101-b1": Case(_RESNET101, (1, 1024, 1024)),
    "resnet50-b8": Case(_RESNET50, (8, 224, 224), sets=3),
    "resnet50-b256": Case(_RESNET50, (256, 224, 224), seconds=30.0),
    "maskrcnn101-b8": Case(_RESNET101, (8, 1024, 1024), seconds=30.0),
}
"""The most important first: what there is no time for is left out."""


def _test_files() -> tuple[tuple[str, ...], ...]:
    files = sorted((ROOT / "tests" / "cuda").glob("test_*.py"))
    return tuple((str(file.relative_to(ROOT)),) for file in files)


FULL_SCALE = Scale(
    subjects=(*FULL, *THIN),
    precisions=("fp32", "3xtf32", "tf32"),
    features=None,
    cases=_CASES,
    profiled=("resnet50-b1", "resnet50-b64"),
    from_host=("resnet50-b64", "resnet50-b256"),
    repeated=Case(_RESNET50, (8, 224, 224)),
    rounds=5,
    turn=0.3,
    most=50,
    ways=10,  # tuning has a minute for eighteen cases; those that the model expects to be the best come first
    matrix=8192,
    floats=1 << 28,
    tests=_test_files(),
    checked=(THIN[0], THIN[1]),
)

QUICK = replace(
    FULL_SCALE,
    subjects=(_RESNET50, *THIN[:2]),
    cases={key: _CASES[key] for key in ("resnet50-b1", "resnet50-b64")},
    profiled=("resnet50-b1",),
    from_host=("resnet50-b64",),
    rounds=3,
)

_TINY = Case(TINY, TINY.batch)
SIMULATED = Scale(
    subjects=(TINY,),
    precisions=("fp32",),
    features=("C1",),
    cases={"tiny": _TINY},
    profiled=("tiny",),
    from_host=("tiny",),
    repeated=_TINY,
    rounds=1,
    turn=0.0,
    most=1,
    ways=1,
    matrix=64,
    floats=1 << 12,
    tests=(("tests/cuda/test_kernels.py", "-k", "relu_cuda and not leaky"),),
    checked=(TINY,),
)


@dataclass(frozen=True)
class Job:
    """A section's orders: the scale by its name, the sanitizer if it is not to be looked for, and when to be done."""

    scale_name: str
    sanitizer: str | None
    deadline: float

    @property
    def scale(self) -> Scale:
        return {"full": FULL_SCALE, "quick": QUICK, "simulated": SIMULATED}[self.scale_name]

    @property
    def simulated(self) -> bool:
        return self.scale_name == "simulated"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of the scale that the card has."""
        from npresnet.cuda.card import open_card

        def has(precision: str) -> bool:
            try:
                open_card(0).check_precision(precision)
            except DeviceError:
                return False
            return True

        return tuple(filter(has, self.scale.precisions))

    @property
    def torch_device(self) -> str:
        return "cpu" if self.simulated else "cuda"

    def left(self) -> float:
        """Seconds that there still are."""
        return self.deadline - time.monotonic()

    def begin(self) -> None:
        """Once in each process that runs kernels: those of a dry run go as they do in the tests."""
        if self.simulated:
            from bench.simulated_blocks import quicken

            quicken()


class Failed(Exception):
    """A check that did not pass, in words."""


class Report:
    """Where a section's results go: lines of JSON in a file, and in words on standard output.

    Cases are called ``section/case``, or by the section's name alone.
    """

    def __init__(self, path: Path, job: Job, section: str) -> None:
        self._path, self._job, self._section = path, job, section

    def _write(self, key: str, result: dict[str, Any]) -> None:
        key = f"{self._section}/{key}" if key else self._section
        with self._path.open("a") as file:
            file.write(json.dumps({"case": key, "result": result}) + "\n")
        line = result.get("text") or result.get("reason") or ""
        print(f"  {key}: {result['status']}{': ' if line else ''}{line}", flush=True)

    @contextmanager
    def case(self, key: str) -> Iterator[dict[str, Any]]:
        """One case, whose result is filled in by the block; an exception there is its failure, and no more than that."""
        result: dict[str, Any] = {"status": "ok"}
        begin = time.monotonic()
        try:
            yield result
        except Failed as failure:
            result |= {"status": "failed", "reason": str(failure)}
        except Exception as error:
            traceback.print_exc()
            result |= {"status": "failed", "reason": f"{type(error).__name__}: {str(error)[:500]}"}
        self._write(key, {**result, "seconds": round(time.monotonic() - begin, 2)})

    def leave_out(self, key: str, reason: str) -> None:
        """Say that a case was not run, and why."""
        self._write(key, {"status": "left out", "reason": reason})

    def has_time(self, key: str, seconds: float) -> bool:
        """Whether a case that takes about so many seconds can be begun; if not, that is said."""
        if self._job.left() < seconds:
            self.leave_out(key, f"no time: {max(self._job.left(), 0):.0f} s are left, it takes about {seconds:.0f}")
            return False
        return True


def installed(package: str) -> str | None:
    """The version of a package, None where it cannot be imported."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _network(found: Inspection, precision: str = "fp32", algorithm: str = "auto") -> ResNet:
    return assemble(found, "cuda", algorithm, precision=precision)


# Sections -------------------------------------------------------------------------------------------------------------


def environment(job: Job, report: Report) -> None:
    """The card, versions, whether kernels run at all, and what the card can do at best."""
    from npresnet.cuda.card import find_cards, why_no_cuda

    reason = why_no_cuda()
    with report.case("") as result:
        if reason:
            raise Failed(reason)
        cards = find_cards()
        if not cards:
            raise Failed("there is no card")
        if cards[0].problem:
            raise Failed(f"{cards[0].name}: {cards[0].problem}")
        versions = {
            name: installed(name) for name in ("numpy", "numba", "numba_cuda", "torch", "h5py", "pytest", "matplotlib")
        }
        result |= {"card": cards[0].name, "capability": list(cards[0].capability), "versions": versions}
        if not job.simulated:
            result |= {"memory": cards[0].total, "driver": _smi()}
        if versions["torch"]:
            import torch

            result["versions"]["cuDNN"] = str(torch.backends.cudnn.version())
            result["versions"]["torch CUDA"] = str(torch.version.cuda)
        missing = [name for name, version in versions.items() if version is None]
        result["text"] = f"{cards[0].name}; Python {platform.python_version()}" + (
            f"; not installed: {', '.join(missing)}" if missing else ""
        )
        try_kernels()
    if result["status"] != "ok":
        return
    for precision in set(job.scale.precisions) - set(job.precisions):
        report.leave_out(precision, "this card has no tensor cores, or none with the instructions for it")
    if installed("torch") is None:
        report.leave_out("ceilings", "PyTorch is not installed")
        return
    with report.case("ceilings") as result:
        from bench.card_torch import ceilings

        result |= ceilings(job.torch_device, job.scale.matrix, job.scale.floats)
        result["text"] = (
            f"copy {result['bandwidth'] / 1e9:.0f} GB/s, matrix product fp32 {result['fp32'] / 1e12:.1f} and tf32 "
            f"{result['tf32'] / 1e12:.1f} TFLOP/s"
        )


def try_kernels() -> None:
    """Compile, run and check two kernels: where these fail nothing else need be tried. Raises Failed."""
    from npresnet.kernels.cuda import gemm_cuda, relu_cuda

    generator = np.random.default_rng(0)
    x, a, b = (generator.standard_normal(shape, np.float32) for shape in ((1, 5, 6, 4), (20, 12), (12, 36)))
    for name, found, expected in (("relu", relu_cuda(x), np.maximum(x, 0)), ("gemm", gemm_cuda(a, b), a @ b)):
        difference = compare(found, expected)
        if not difference.agrees(1e-6):
            raise Failed(f"the first kernel, {name}, is wrong: {difference.problem or difference.relative}")


def _smi() -> dict[str, str]:
    """What ``nvidia-smi`` says of the driver, clocks and power; nothing where it is not there."""
    if shutil.which("nvidia-smi") is None:
        return {}
    fields = ("driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit", "compute_mode", "ecc.mode.current")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    first = done.stdout.splitlines()[:1]
    return dict(zip(fields, first[0].split(", "), strict=False)) if first else {}


def agreement(job: Job, report: Report) -> None:
    """Every layer beside TensorFlow's recordings: layer by layer, and by plan in each precision."""
    for subject in job.scale.subjects:
        found, recording = subject.found(), subject.recording(RECORDINGS)
        outputs = None if job.scale.features is None else list(_outputs(job, found).values())
        for precision, way in [("fp32", "by layer"), *((precision, "by plan") for precision in job.precisions)]:
            key = f"{subject}, {way}, {precision}"
            if not report.has_time(key, 3):
                continue
            with report.case(key) as result:
                if way == "by layer":
                    rows = [*layers_against_recording(_network(found, algorithm="im2col"), recording, outputs)]
                else:
                    rows = plan_against_recording(_network(found, precision), recording, outputs)
                result |= judged(rows, precision)


def judged(rows: Sequence[Row], precision: str) -> dict[str, Any]:
    """The verdict over all layers: how many, the largest error and where. Raises Failed where one is out of bounds."""
    if not rows:
        raise Failed("no layers were compared")
    wrong = [
        f"{row.name}: {row.difference.problem or f'{row.difference.relative:.1e}, worst {row.difference.worst:.1e}'}"
        for row in rows
        if not row.difference.agrees(BOUNDS[precision], WORST[precision])
    ]
    if wrong:
        raise Failed(f"{len(wrong)} of {len(rows)} layers disagree: {'; '.join(wrong[:5])}")
    worst = max(rows, key=lambda row: row.difference.relative)
    return {
        "layers": len(rows),
        "worst": worst.difference.relative,
        "worst_layer": worst.name,
        "precision": precision,
        "text": f"{len(rows)} layers, largest relative error {worst.difference.relative:.1e} ({worst.name})",
    }


def warpgroups(job: Job, report: Report) -> None:
    """Products of warp groups, on cards that have them: whether they are right, and how fast they are beside those of warps."""
    from bench import card_wgmma
    from npresnet.cuda.card import open_card  # here, because it takes numba-cuda
    from npresnet.cuda.trial import remembered, warpgroups_work
    from npresnet.kernels.cuda.wgmma import CAPABILITY

    card = open_card(0)
    if job.simulated or card.capability != CAPABILITY:
        report.leave_out("", "this card has no wgmma, which is compute capability 9.0's alone")
        return
    with report.case("right") as result:
        with card.current():
            if not warpgroups_work(card):
                raise Failed(remembered(card.index) or "the process that was to try wgmma could not")
            result["tiles"] = card_wgmma.errors(card)
        result["text"] = "; ".join(
            f"{tile['tile']}: {tile['small']:.1e} beside float64, {tile['large']:.1e} beside mma, in {tile['time']:.2f} of its time"
            for tile in result["tiles"]
        )
    if result["status"] != "ok":
        return
    for key, size in card_wgmma.SIZES.items():
        if not report.has_time(key, 3):
            continue
        with report.case(key) as result, card.current(), card.lane() as lane:
            result |= card_wgmma.compared(card, lane.stream, size)


def repeatability(job: Job, report: Report) -> None:
    """The same images again, and from four threads at once: the same bits."""
    case = job.scale.repeated
    found = case.subject.found()
    images = pictures(case.batch, seed=7)
    for precision in job.precisions:
        key = precision
        if not report.has_time(key, 5):
            continue
        with report.case(key) as result:
            result["text"] = _repeated(_network(found, precision), images, list(_outputs(job, found).values()))


def _repeated(net: ResNet, images: Array, names: Sequence[str]) -> str:
    """What was found, in words. Raises Failed where runs differ in any bit."""

    def run(_: int = 0) -> dict[str, Array]:
        return net(images, outputs=names)

    first = run()
    if not all(np.isfinite(array).all() and array.any() for array in first.values()):
        raise Failed("the first run's features are not finite, or nothing")
    calls = [run(), run()]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls += pool.map(run, range(4))
    other = [number for number, call in enumerate(calls) if any(call[n].tobytes() != first[n].tobytes() for n in names)]
    if other:
        raise Failed(f"other bits in runs {other}, of which 2 to 5 are of four threads at once")
    return f"{1 + len(calls)} runs, four of them at once: the same bits"


def pictures(batch: tuple[int, int, int], seed: int) -> npt.NDArray[np.float32]:
    """float32[n, h, w, 3]: noise, as bright as pictures."""
    numbers = np.random.default_rng(seed).random((*batch, 3), np.float32)
    numbers *= 250
    numbers -= 120
    return numbers


def _outputs(job: Job, found: Inspection) -> dict[str, str]:
    every = outputs_of(found.graph)
    return every if job.scale.features is None else {name: every[name] for name in job.scale.features}


# Beside PyTorch -------------------------------------------------------------------------------------------------------


class Ours:
    """npresnet on batches that are on the card, to be run as ``TorchOnCard`` is."""

    way = ""

    def __init__(self, found: Inspection, batches: Sequence[Array], outputs: dict[str, str], precision: str) -> None:
        from numba import cuda

        self.net = _network(found, precision)
        self._outputs = outputs
        self._inputs = [cuda.to_device(images) for images in batches]
        cuda.synchronize()  # networks run on streams that do not wait for the default one

    def begin(self) -> None:
        """Nothing needs to be set before a turn."""

    def run(self, index: int) -> Any:
        return self.net(self._inputs[index], outputs=list(self._outputs.values()))

    def poison(self, results: Any) -> None:
        """Fill results with NaN; when they are freed, the next call is likely to get their memory."""
        from numba import cuda

        for array in results.values():
            array.memory.copy_to_device(np.full(array.shape, np.nan, np.float32))
        cuda.synchronize()

    def picked(self, results: Any, images: Sequence[int]) -> dict[str, Array]:
        return {
            name: np.concatenate([results[layer].memory[i : i + 1].copy_to_host() for i in images])
            for name, layer in self._outputs.items()
        }


def _farthest(found: dict[str, Array], expected: dict[str, Array]) -> Difference:
    """The difference of the feature that is the farthest off."""
    return max((compare(found[name], array) for name, array in expected.items()), key=lambda d: (d.relative, d.worst))


def _verified(engine: Any, expected: Sequence[dict[str, Array]], picks: Sequence[int], bound: float) -> float:
    """The largest relative error of an engine's features of every batch, each computed into poisoned memory.

    Raises Failed where it is above ``bound``.
    """
    largest = 0.0
    for index, features in enumerate(expected):
        engine.poison(engine.run(index))
        difference = _farthest(engine.picked(engine.run(index), picks), features)
        if not difference.agrees(bound, 1e3 * bound):
            raise Failed(f"batch {index}: {difference.problem or f'relative error {difference.relative:.1e}'}")
        largest = max(largest, difference.relative)
    return largest


def _count(scale: Scale, engine: Any) -> int:
    """How many runs make a turn."""
    start = time.perf_counter()
    engine.run(0)
    fit = scale.turn / (time.perf_counter() - start)
    return int(min(scale.most, max(3 if scale.turn else 1, fit)))


def _turn(engine: Any, sets: int, count: int) -> list[float]:
    """Seconds of each of ``count`` runs, on the batches by turns, after one that is not counted: others ran before."""
    engine.begin()
    engine.run(0)
    times = []
    for number in range(count):
        start = time.perf_counter()
        engine.run(number % sets)
        times.append(time.perf_counter() - start)
    return times


def _queued(engine: Any, sets: int, count: int, device: str) -> float:
    """Seconds for each of ``count`` runs that are queued one after the other and waited for at the end."""
    from bench.card_torch import synchronise

    engine.begin()
    start = time.perf_counter()
    for number in range(count):
        engine.queue(number % sets)
    synchronise(device)
    return (time.perf_counter() - start) / count


def _work(found: Inspection, batch: tuple[int, int, int], outputs: Sequence[str]) -> list[list[int]]:
    """[FLOP, bytes] of each step that a plan must have: the least that there is to compute, and to read and write."""
    from npresnet.cuda.by_plan import fused_nodes  # here, because it takes numba-cuda

    n, height, width = batch
    layers, shapes = found.graph.needed_for(outputs), found.graph.shapes(height, width, outputs)
    work = []
    for node in fused_nodes(layers, outputs, shapes):
        moved = sum(n * int(np.prod(shapes[each])) for each in (*node.inputs, node.output))
        if isinstance(node, FusedConv | FusedDense):
            moved += int(np.prod(node.operator.tensors()["kernel"]))
        flop = n * node.flop(shapes)
        work.append([flop, 4 * moved])
    return work


def tuning(job: Job, report: Report) -> None:
    """Which kernels are the fastest, measured and kept: what is timed afterwards goes by it, as PyTorch does by cuDNN's
    measurements. And what the model expected to be: by how much it was wrong."""
    from npresnet.cuda import measured  # here, because it takes numba-cuda

    measured.MOST = job.scale.ways or measured.MOST
    for key, case in job.scale.cases.items():
        found = case.subject.found()
        names = list(_outputs(job, found).values())
        for precision in job.precisions:
            name = f"{key}, {precision}"
            if not report.has_time(name, 8):
                continue
            with report.case(name) as result:
                rows = _network(found, precision).tune(case.batch, names)
                expected, best = (sum(getattr(row, f"{each}_seconds") for row in rows) for each in ("expected", "best"))
                if rows and not best and not job.simulated:
                    raise Failed("no convolution took any time")
                result |= {
                    "network": found.architecture.name,
                    "batch": list(case.batch),
                    "precision": precision,
                    "rows": [row._asdict() for row in rows],
                    "text": f"{len(rows)} convolutions, {best * 1e3:.3f} ms; {expected * 1e3:.3f} ms as expected to be best",
                }


def benchmark(job: Job, report: Report) -> None:
    """npresnet beside PyTorch, images and features on the card; what does not agree is not timed."""
    torch_there = installed("torch") is not None
    if not torch_there:
        report.leave_out("PyTorch", "PyTorch is not installed; npresnet is timed alone")
    for key, case in job.scale.cases.items():
        if not report.has_time(key, case.seconds):
            continue
        with report.case(key) as result:
            _benchmark_case(job, case, result, torch_there)
        _release(torch_there)


def _benchmark_case(job: Job, case: Case, result: dict[str, Any], torch_there: bool) -> None:
    found, scale = case.subject.found(), job.scale
    outputs = _outputs(job, found)
    batches = [pictures(case.batch, seed) for seed in range(case.sets)]
    n = case.batch[0]
    picks = sorted({0, n // 2, n - 1})  # enough of a large batch to see a chunk, or a batch, in the wrong place
    expected = _on_the_processor(found, [images[picks] for images in batches], outputs)
    result |= {
        "network": found.architecture.name,
        "batch": list(case.batch),
        "work": _work(found, case.batch, list(outputs.values())),
        "engines": {},
    }

    def make(title: str, precision: str) -> Any:
        if title == "npresnet":
            return Ours(found, batches, outputs, precision)
        from bench.card_torch import TorchOnCard

        return TorchOnCard(found.graph, found.weights, batches, list(outputs), precision, job.torch_device)

    wanted = [("npresnet", precision, BOUNDS[precision]) for precision in job.precisions]
    if torch_there:
        wanted += [("PyTorch", p, bound) for p, bound in PEER_BOUNDS.items() if p in job.precisions]
    engines: dict[str, Any] = {}
    for title, precision, bound in wanted:
        name = f"{title} {precision}"
        entry: dict[str, Any] = {"title": title, "precision": precision, "status": "ok", "samples": []}
        result["engines"][name] = entry
        try:
            engine = make(title, precision)
            entry |= {"error": _verified(engine, expected, picks, bound), "chosen": engine.way}
            engines[name] = engine
        except Exception as error:
            if not isinstance(error, Failed):
                traceback.print_exc()
            entry |= {"status": "failed", "reason": f"{type(error).__name__}: {str(error)[:300]}"}

    counts = {name: _count(scale, engine) for name, engine in engines.items()}
    for _ in range(scale.rounds):
        for name, engine in engines.items():
            result["engines"][name]["samples"].append(_turn(engine, case.sets, counts[name]))
    for name, engine in engines.items():
        entry = result["engines"][name]
        entry |= summary(entry["samples"])
        if entry["title"] == "PyTorch":  # what callers get who do not wait for each batch
            entry["queued"] = min(_queued(engine, case.sets, counts[name], job.torch_device) for _ in range(3))
        difference = _farthest(engine.picked(engine.run(0), picks), expected[0])
        if not difference.agrees(10 * BOUNDS[entry["precision"]], np.inf):
            entry |= {"status": "failed", "reason": f"after all runs it is {difference.relative:.1e} off"}
    wrong = {name: entry["reason"] for name, entry in result["engines"].items() if entry["status"] != "ok"}
    if wrong:
        raise Failed("; ".join(f"{name}: {reason}" for name, reason in wrong.items()))
    result["text"] = ", ".join(
        f"{name} {entry['median'] * 1e3:.3f} ms" for name, entry in result["engines"].items() if "median" in entry
    )


def _on_the_processor(found: Inspection, batches: Sequence[Array], outputs: dict[str, str]) -> list[dict[str, Array]]:
    """{feature: array} of each batch, as npresnet computes them on the CPU."""
    net = assemble(found)
    layers = [net(images, outputs=list(outputs.values())) for images in batches]
    return [{name: arrays[layer] for name, layer in outputs.items()} for arrays in layers]


def _release(torch_there: bool) -> None:
    """Give back the card's memory that nobody needs any more."""
    gc.collect()
    if torch_there:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def from_host(job: Job, report: Report) -> None:
    """Images from NumPy arrays and features back into them, copies included."""
    torch_there = installed("torch") is not None
    for key in job.scale.from_host:
        if not report.has_time(key, job.scale.cases[key].seconds):
            continue
        with report.case(key) as result:
            _from_host_case(job, job.scale.cases[key], result, torch_there)


def _from_host_case(job: Job, case: Case, result: dict[str, Any], torch_there: bool) -> None:
    found = case.subject.found()
    outputs = _outputs(job, found)
    images = pictures(case.batch, seed=3)
    net = _network(found)
    runs: dict[str, Callable[[], Any]] = {"npresnet": lambda: net(images, outputs=list(outputs.values()))}
    if torch_there:
        runs["PyTorch"] = _torch_from_host(job, found, images, list(outputs))
    result |= {"network": found.architecture.name, "batch": list(case.batch), "precision": "fp32"}
    result["engines"] = {name: {"samples": [[]]} for name in runs}
    first = {name: run() for name, run in runs.items()}
    _same_features(first["npresnet"], outputs, first.get("PyTorch"))
    for _ in range(1 if job.simulated else 5):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            result["engines"][name]["samples"][0].append(time.perf_counter() - start)
    for entry in result["engines"].values():
        entry |= summary(entry["samples"])
    result["text"] = ", ".join(
        f"{name} {case.batch[0] / entry['median']:.3g} images/s" for name, entry in result["engines"].items()
    )


def _same_features(ours: dict[str, Array], outputs: dict[str, str], theirs: Sequence[Any] | None) -> None:
    """Raises Failed where PyTorch's features on the host are not npresnet's."""
    for (name, layer), tensor in zip(outputs.items(), theirs or (), strict=theirs is not None):
        array = tensor.permute(0, 2, 3, 1).numpy() if tensor.ndim == 4 else tensor.numpy()
        difference = compare(array[-1:], ours[layer][-1:])
        if not difference.agrees(PEER_BOUNDS["fp32"], 1e3 * PEER_BOUNDS["fp32"]):
            raise Failed(f"{name}: PyTorch's is {difference.problem or f'{difference.relative:.1e} off'}")


def _torch_from_host(job: Job, found: Inspection, images: Array, outputs: Sequence[str]) -> Callable[[], Any]:
    """The same for PyTorch, eagerly: from page-locked memory and back into it."""
    import torch

    from bench.card_torch import TorchOnCard, synchronise

    device = job.torch_device
    peer = TorchOnCard(found.graph, found.weights, [images[:1]], outputs, "fp32", device)

    def page_locked(tensor: Any) -> Any:
        return tensor if device == "cpu" else tensor.pin_memory()

    given = page_locked(torch.from_numpy(images))
    kept: list[Any] = []

    def run() -> Any:
        peer.begin()
        with torch.inference_mode():
            results = peer.compute(given.to(device, non_blocking=True).permute(0, 3, 1, 2))
            if not kept:
                kept.extend(page_locked(torch.empty_like(tensor, device="cpu")) for tensor in results)
            for target, tensor in zip(kept, results, strict=True):
                target.copy_(tensor, non_blocking=True)
        synchronise(device)
        return kept

    return run


def profile(job: Job, report: Report) -> None:
    """Every step of the plan and its time on the card."""
    for key in job.scale.profiled:
        case = job.scale.cases[key]
        for precision in job.precisions:
            name = f"{key}, {precision}"
            if not report.has_time(name, 5):
                continue
            with report.case(name) as result:
                found = case.subject.found()
                steps = _network(found, precision).profile(
                    pictures(case.batch, seed=0), list(_outputs(job, found).values()), repeats=1 if job.simulated else 9
                )
                if not any(step.seconds for step in steps) and not job.simulated:
                    raise Failed("no step took any time")
                result |= {
                    "network": found.architecture.name,
                    "batch": list(case.batch),
                    "precision": precision,
                    "steps": [{**step._asdict(), "shape": list(step.shape)} for step in steps],
                    "text": f"{len(steps)} steps, {sum(step.seconds for step in steps) * 1e3:.3f} ms on the card",
                }


# Tests and the memory checker -----------------------------------------------------------------------------------------


def tests(job: Job, report: Report) -> None:
    """pytest on ``tests/cuda``, a process for each file."""
    if installed("pytest") is None:
        report.leave_out("", "pytest is not installed")
        return
    if not job.scale.tests:
        with report.case(""):
            raise Failed("tests/cuda has no tests")
    at_once = max(1, min(8, available_threads() // 2))
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        runs = {arguments: pool.submit(_pytest, arguments, job.left() - 5) for arguments in job.scale.tests}
        for arguments, run in runs.items():
            with report.case(Path(arguments[0]).stem) as result:
                counts, status, tail = run.result()
                result |= {"counts": counts}
                text = ", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing was run"
                if status is None:
                    raise Failed(f"cut short for lack of time: {text}")
                if status != 0 or not counts.get("passed"):
                    raise Failed(f"pytest ended with {status}, {text}:\n{tail}")
                result["text"] = text


def _pytest(arguments: Sequence[str], seconds: float) -> tuple[dict[str, int], int | None, str]:
    """How many tests passed, failed, ...; pytest's exit status, None where it took too long; its last lines."""
    command = [sys.executable, "-m", "pytest", "-v", "-n", "0", "--tb=short", "-p", "no:cacheprovider", *arguments]
    status, output = _run(command, seconds)
    words = re.findall(r"^tests/\S.* (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", output, re.MULTILINE)
    counts = {word.lower(): words.count(word) for word in dict.fromkeys(words)}
    return counts, status, "\n".join(output.splitlines()[-40:])


def _run(command: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Exit status, None where it took longer than ``seconds``, and what it printed."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=max(seconds, 1))
            return process.returncode, output
        except subprocess.TimeoutExpired:
            process.kill()
            return None, process.communicate()[0]


def find_sanitizer() -> str | None:
    """The path of NVIDIA's compute-sanitizer."""
    found = shutil.which("compute-sanitizer")
    places = sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer"))
    return found or (str(places[-1]) if places else None)


def memory(job: Job, report: Report) -> None:
    """Small networks under the memory checker, which first has to find a mistake that was made on purpose."""
    sanitizer = job.sanitizer or find_sanitizer()
    if sanitizer is None:
        report.leave_out("", "compute-sanitizer is not there (it comes with the CUDA toolkit)")
        return
    # cuda.core asks the driver some things by calls that may fail: those are no errors of ours
    check = [
        sanitizer, "--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "77",
        sys.executable, "-m", "bench.card_subject",
    ]  # fmt: skip
    with report.case("it finds a mistake") as result:
        status, output = _run([*check, "mistake"], min(60, job.left() - 2))
        if status == 0 or not re.search(r"ERROR SUMMARY: [1-9]\d* error", output):
            raise Failed(
                f"a kernel wrote past the end of an array, and the checker ended with {status}:\n{output[-1500:]}"
            )
        result["text"] = "a write past the end of an array was found"
    if not report.has_time("networks", 10):
        return
    with report.case("networks") as result:
        status, output = _run([*check, job.scale_name], job.left() - 2)
        if status is None:
            raise Failed(f"cut short for lack of time:\n{output[-500:]}")
        if status != 0 or not re.search(r"ERROR SUMMARY: 0 errors", output):
            raise Failed(f"the checker ended with {status}:\n{output[-3000:]}")
        result["text"] = "no errors"


# processors ---------------------------------------------------------------------------------------------------------------


def processors(job: Job, report: Report) -> None:
    """The machine's processors: how time falls with threads, beside the engines that are installed."""
    from bench import bench_threads
    from npresnet.peers.engines import missing
    from npresnet.peers.machine import describe

    cpu = Path("/proc/cpuinfo")
    with report.case("machine") as result:
        status, listed = _run(["lscpu"], 10) if shutil.which("lscpu") else (None, "")
        result |= {
            "text": describe(),
            "lscpu": listed if status == 0 else cpu.read_text()[:4000] if cpu.exists() else "",
        }
    if installed("h5py") is None:  # the engines get the network in a file
        report.leave_out("threads", "h5py is not installed")
        return
    if job.simulated:
        network, size, counts, engines, rounds, seconds = "keras-resnet/resnet18", 32, [1], [], 1, 6.0
    else:
        network, size, counts, rounds = "matterport/resnet50", 224, bench_threads.usual_counts(), 3
        seconds = job.left() - 15
        engines = [engine for engine in ("onnxruntime", "pytorch") if missing(engine) is None]
    for key, found in bench_threads.points(network, size, counts, (1, 8), engines, rounds, seconds):
        with report.case(key) as result:
            result |= {**found, "text": bench_threads.told(found).strip()}


@dataclass(frozen=True)
class Section:
    """A section: what it does, and at most how many seconds it may take."""

    run: Callable[[Job, Report], None]
    seconds: float


SECTIONS = {
    "environment": Section(environment, 60),
    "agreement": Section(agreement, 100),
    "warpgroups": Section(warpgroups, 40),
    "tuning": Section(tuning, 60),
    "benchmark": Section(benchmark, 180),
    "repeatability": Section(repeatability, 40),
    "tests": Section(tests, 150),
    "memory": Section(memory, 90),
    "profile": Section(profile, 40),
    "host": Section(from_host, 40),
    "processors": Section(processors, 90),
}
"""The most important first: what there is no time for at the end is left out."""


def run_section(name: str, job: Job, results: Path) -> None:
    """Run one section in this process; its results are lines of JSON in ``results``."""
    report = Report(results, job, name)
    try:
        job.begin()
        SECTIONS[name].run(job, report)
    except Exception as error:
        traceback.print_exc()
        with report.case(""):
            raise Failed(f"{type(error).__name__}: {error}") from error
