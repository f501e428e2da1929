"""How long until the first features: importing, loading, compiling; beside ONNX Runtime with a model already converted.

    python -m bench.bench_startup [--repeats 5]

Every figure is of a new process, from its start to its end. Python's byte code of all that is imported is there, as pip leaves it.
The cold kernel cache is an empty folder; the warm one is what the run before left in it. ONNX Runtime gets a finished ``.onnx`` file, which somebody has to make from the Keras
file with other tools first; npresnet gets the Keras file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.store import save
from npresnet.kernels.threads import available_threads
from npresnet.network.weights import load_weights
from npresnet.peers.case import full_name, seeded_file
from npresnet.peers.engines import missing
from npresnet.peers.machine import describe
from npresnet.peers.onnx import onnx_model

_OURS = """
import json, sys, time
start = time.perf_counter()
import npresnet
imported = time.perf_counter()
net = npresnet.load(sys.argv[1], threads=int(sys.argv[3]))
loaded = time.perf_counter()
import numpy as np
net(np.ones((1, int(sys.argv[2]), int(sys.argv[2]), 3), np.float32))
"""

_ONNX = """
import json, sys, time
start = time.perf_counter()
import onnxruntime
imported = time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
import numpy as np
session.run(None, {"input": np.ones((1, 3, int(sys.argv[2]), int(sys.argv[2])), np.float32)})
"""

_END = """
print(json.dumps({"import": imported - start, "load": loaded - imported, "first": time.perf_counter() - loaded}))
"""


def run(code: str, file: Path, size: int, threads: int, cache: Path) -> dict[str, float]:
    """Seconds of one new process: import, load, first (the first features), and whole, which includes Python itself. Byte code is kept
    beside ``file``."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"NPRESNET_CACHE_DIR": str(cache), "PYTHONPYCACHEPREFIX": str(file.parent / "bytecode")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + _END, str(file), str(size), str(threads)],
        env=environment,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {**json.loads(done.stdout), "whole": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="matterport/resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    network, size, threads = full_name(arguments.network), arguments.size, arguments.threads
    print(f"{describe()}\n{network}, {size}x{size} pixels, {threads} threads")
    ways: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as name:
        folder = Path(name)
        keras = seeded_file(network, folder)
        run(_OURS, keras, size, threads, folder / "cache")  # which leaves byte code
        for index in range(arguments.repeats):
            cache = folder / f"cache-{index}"
            for way in ("npresnet, cold kernel cache", "npresnet, warm kernel cache"):
                ways.setdefault(way, []).append(run(_OURS, keras, size, threads, cache))
        lacking = missing("onnxruntime")
        if lacking:
            print(f"ONNX Runtime: {lacking}")
        else:
            found, onnx = load_weights(keras), folder / "network.onnx"
            onnx.write_bytes(onnx_model(found.graph, found.weights, (1, size, size)))
            every = [run(_ONNX, onnx, size, threads, folder) for _ in range(arguments.repeats + 1)]
            ways["ONNX Runtime, converted model"] = every[1:]
    print(f"{'seconds':<32}{'import':>8}{'load':>8}{'first':>8}{'whole':>8}")
    medians = {}
    for way, runs in ways.items():
        medians[way] = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        print(f"{way:<32}" + "".join(f"{seconds:>8.2f}" for seconds in medians[way].values()))
    result = {"network": network, "size": size, "threads": threads, "medians": medians, "samples": ways}
    path = save("startup", f"{network.replace('/', '-')}-{size}-t{threads}", result, arguments.results)
    print(f"saved in {path}")


if __name__ == "__main__":
    main()
