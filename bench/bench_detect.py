"""Whole Mask R-CNN: npresnet's ``detect`` beside torchvision's ``maskrcnn_resnet50_fpn`` and matterport's own under TensorFlow.

    python -m bench.bench_detect                              ResNet-50 and -101 at 1024x1024, on 1 thread and on all processors
    python -m bench.bench_detect --case resnet50-1024 --threads 1 --rounds 3 [--mrcnn FOLDER]

Each engine runs in a process of its own; they take turns, picture by picture, so that a busy moment meets all. Weights are random, and
there is no least score: each finds 100 things, and makes their masks. torchvision's is another network of about the same size, so its
speed counts per GFLOP. What is not installed is left out (matterport's code: ``bench/matterport.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from bench.store import save
from npresnet.data.photograph import photograph
from npresnet.images.reading import load_picture
from npresnet.kernels.threads import available_threads
from npresnet.network.detector import CLASS_HEAD, MASK_HEAD, Detector
from npresnet.peers.machine import describe, peak_memory

CASES = {
    "resnet50-1024": ("resnet50", 1024),
    "resnet101-1024": ("resnet101", 1024),
    "resnet101-512": ("resnet101", 512),
}
CLASSES = 81
DETECTOR = Detector(pyramid=256, rpn=512, anchors=3, classes=CLASSES, pool=7, hidden=1024, masks=256)

Run = Callable[[], Mapping[str, float]]


class Timed:
    """A network, and how many seconds were spent in it."""

    def __init__(self, net: Any) -> None:
        self._net, self.seconds = net, 0.0
        self.heads = {name: Timed(head) for name, head in net.heads.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def __call__(self, images: Any, outputs: Any) -> Any:
        start = time.perf_counter()
        found = self._net(images, outputs)
        self.seconds += time.perf_counter() - start
        return found

    def spent(self) -> float:
        """In it and its heads, since this was asked the last time."""
        total, self.seconds = self.seconds + sum(head.spent() for head in self.heads.values()), 0.0
        return total


def npresnet_run(backbone: str, size: int, threads: int, mrcnn: str | None) -> tuple[Run, dict[str, Any]]:
    from npresnet.detection.config import DetectorConfig
    from npresnet.detection.detecting import detect_one
    from npresnet.model import assemble
    from npresnet.network.architecture import Architecture
    from npresnet.network.seeded import seeded
    from npresnet.version import __version__

    architecture = replace(Architecture.named(f"matterport/{backbone}"), detector=DETECTOR)
    net = Timed(assemble(seeded(architecture), threads=threads))
    config = DetectorConfig(IMAGE_MIN_DIM=size, IMAGE_MAX_DIM=size, DETECTION_MIN_CONFIDENCE=0)
    picture = load_picture(photograph())

    def run() -> dict[str, float]:
        start = time.perf_counter()
        found = detect_one(net, DETECTOR, picture, config)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "beside": seconds - net.spent(), "found": len(found.scores)}

    graph = net.graph
    ends = [name for which in ("pyramid", "rpn_class", "rpn_bbox") for name in graph.outputs[which].values()]
    flop = _flop(graph, ends, size)
    flop += 1000 * _flop(graph.heads[CLASS_HEAD], graph.heads[CLASS_HEAD].ends, 7)
    flop += 100 * _flop(graph.heads[MASK_HEAD], graph.heads[MASK_HEAD].ends, 14)
    return run, {"title": "npresnet", "version": __version__, "flop": flop}


def _flop(graph: Any, ends: Any, size: int) -> int:
    shapes = graph.shapes(size, size, ends)
    layers = [layer for layer in graph.needed_for(ends) if layer.operator.kind in ("conv", "conv transpose", "dense")]
    return sum(layer.operator.flop([shapes[name] for name in layer.inputs], shapes[layer.name]) for layer in layers)


def torchvision_run(backbone: str, size: int, threads: int, mrcnn: str | None) -> tuple[Run, dict[str, Any]]:
    import torch
    import torchvision
    from torch.utils.flop_counter import FlopCounterMode

    if backbone != "resnet50":
        raise ImportError("torchvision has maskrcnn_resnet50_fpn alone")
    torch.set_num_threads(threads)
    make = torchvision.models.detection.maskrcnn_resnet50_fpn
    torch.manual_seed(0)
    net = make(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=size, max_size=size, box_score_thresh=0.0,
        rpn_pre_nms_top_n_test=6000, rpn_post_nms_top_n_test=1000,
    ).eval()  # fmt: skip
    picture = torch.from_numpy(load_picture(photograph())).permute(2, 0, 1).float() / 255

    def run() -> dict[str, float]:
        start = time.perf_counter()
        with torch.inference_mode():
            (found,) = net([picture])
        return {"seconds": time.perf_counter() - start, "found": len(found["scores"])}

    with FlopCounterMode(display=False) as counter:
        run()
    return run, {"title": "torchvision", "version": torchvision.__version__, "flop": counter.get_total_flops()}


def matterport_run(backbone: str, size: int, threads: int, mrcnn: str | None) -> tuple[Run, dict[str, Any]]:
    import tensorflow as tf

    from bench.matterport import Matterport

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    settings = {"IMAGE_MIN_DIM": size, "IMAGE_MAX_DIM": size, "DETECTION_MIN_CONFIDENCE": 0}
    oracle = Matterport(CLASSES, backbone, mrcnn, **settings)
    oracle.randomize(7)
    picture = load_picture(photograph())

    def run() -> dict[str, float]:
        start = time.perf_counter()
        found = oracle.detect(picture)
        return {"seconds": time.perf_counter() - start, "found": len(found["scores"])}

    # the same network as npresnet's, and always 100 masks
    return run, {"title": "matterport, TensorFlow", "version": tf.__version__, "flop": None}


ENGINES = {"npresnet": npresnet_run, "torchvision": torchvision_run, "matterport": matterport_run}


def work(engine: str, arguments: argparse.Namespace) -> None:
    """A process for one engine: for each line that is read, one picture; answers are lines of JSON."""
    backbone, size = CASES[arguments.case[0]]
    try:
        run, about = ENGINES[engine](backbone, size, arguments.threads[0], arguments.mrcnn)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    run()
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        print(json.dumps({**run(), "peak": peak_memory()}), flush=True)


@contextmanager
def process(engine: str, case: str, threads: int, mrcnn: str | None) -> Iterator[Callable[[], dict[str, Any]]]:
    """An engine in a process of its own: what is yielded tells first what that is, then runs a picture at each call."""
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [
        sys.executable,
        "-m",
        "bench.bench_detect",
        "--worker",
        engine,
        "--case",
        case,
        "--threads",
        str(threads),
    ]
    command += ["--mrcnn", mrcnn] if mrcnn else []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        lines, asked = running.stdout, running.stdin
        begun = False

        def answer() -> dict[str, Any]:
            nonlocal begun
            if begun:
                asked.write("\n")
                asked.flush()
            begun = True
            line = lines.readline()
            found: dict[str, Any] = json.loads(line) if line else {"missing": "it ended"}
            return found

        try:
            yield answer
        finally:
            running.kill()


def measure(case: str, threads: int, rounds: int, mrcnn: str | None) -> dict[str, Any]:
    """All engines on one case, in turns."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        engines = {}
        for engine in ENGINES:
            answer = stack.enter_context(process(engine, case, threads, mrcnn))
            about = answer()
            if "missing" in about:
                print(f"  {engine}: not measured ({about['missing']})")
                continue
            engines[engine], found[engine] = answer, {**about, "runs": []}
        for _ in range(rounds):
            for engine, answer in engines.items():
                found[engine]["runs"].append(answer())
    for one in found.values():
        runs = one.pop("runs")
        for figure in ("seconds", "beside", "peak", "found"):
            values = [run[figure] for run in runs if figure in run]
            if values:
                one[figure] = float(np.median(values)) if figure != "peak" else max(values)
    for one in found.values():
        one["flop"] = one["flop"] or found["npresnet"]["flop"]
    backbone, size = CASES[case]
    return {"network": f"matterport/{backbone}", "batch": [1, size, size], "threads": threads, "engines": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="this one alone; may be given several times")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and all processors")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mrcnn", metavar="FOLDER", help="the folder with matterport's package mrcnn")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments)
        return
    print(describe())
    for case in arguments.case or ("resnet50-1024", "resnet101-1024"):
        for threads in arguments.threads or sorted({1, available_threads()}):
            print(f"{case}, {threads} threads")
            result = measure(case, threads, arguments.rounds, arguments.mrcnn)
            for one in result["engines"].values():
                speed = one["flop"] / one["seconds"] / 1e9
                beside = f", {one['beside'] / one['seconds']:.1%} outside of networks" if "beside" in one else ""
                print(
                    f"  {one['title']:<24}{one['seconds']:>8.2f} s{one['flop'] / 1e9:>7.0f} GFLOP{speed:>6.0f} GFLOP/s{beside}"
                )
            print(f"  saved in {save('detect', f'{case}-t{threads}', result)}")


if __name__ == "__main__":
    main()
