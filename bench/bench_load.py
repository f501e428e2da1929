"""What a weight file costs before the first image: reading it, beside h5py, and packing its weights; time and memory.

    python -m bench.bench_load [--network keras.applications/resnet50] [--rounds 9]

Reading is getting every attribute and every number, as float32; our reader and h5py take turns within one process, with
the file in the system's cache. What else ``load`` does, and packing, which the first call of a network does, are timed in
new processes, as is memory: the most that is in use beyond what was before, with all kernels compiled and loaded.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.store import save
from npresnet.files.opening import open_weights
from npresnet.kernels.threads import available_threads
from npresnet.peers.case import full_name, seeded_file
from npresnet.peers.machine import describe

_IMPORT = """
import json, sys, time
import numpy
start = time.perf_counter()
__import__(sys.argv[1])
print(json.dumps({"seconds": time.perf_counter() - start}))
"""

_LOAD = """
import json, sys, time
import npresnet
from npresnet.peers.machine import peak_memory, restart_peak_memory
from npresnet.cpu.runner import Planner
from npresnet.cpu.warmup import warmup
warmup()

restart_peak_memory()
before = peak_memory()
start = time.perf_counter()
net = npresnet.load(sys.argv[1], threads=int(sys.argv[3]))
load, load_peak = time.perf_counter() - start, peak_memory() - before
size = int(sys.argv[2])
plan = Planner(net.graph, net.weights, net.threads).plan((1, size, size), tuple(net.graph.features.values()), True)
start = time.perf_counter()
packed = plan.weights_bytes
print(json.dumps({"load": load, "pack": time.perf_counter() - start, "load_peak": load_peak,
                  "peak": peak_memory() - before, "packed": packed}))
"""


def ours(path: Path) -> dict[str, np.ndarray]:
    """All numbers of a file, by our reader."""
    with open_weights(path) as file:
        return {tensor.path: tensor.read() for tensor in file.tensors()}


def theirs(path: Path) -> dict[str, np.ndarray]:
    """The same, and all attributes, by h5py."""
    import h5py

    found = {}
    with h5py.File(path) as file:
        for entry in (file, *(file[name] for name in file)):
            dict(entry.attrs)

        def visit(name: str, entry: Any) -> None:
            if isinstance(entry, h5py.Dataset):
                found[name] = np.asarray(entry[()], np.float32)

        file.visititems(visit)
    return found


def alternating(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round; they take turns, and the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: seconds[1:] for name, seconds in times.items()}


def _processes(code: str, *arguments: object, rounds: int, cache: Path) -> list[dict[str, float]]:
    """What a program prints in each round, the first not counted: it compiles, to Python's byte code and ours."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(cache)
    printed = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        for _ in range(rounds + 1)
    ]
    return [json.loads(text.splitlines()[-1]) for text in printed[1:]]


def measure(path: Path, size: int, threads: int, rounds: int) -> dict[str, Any]:
    """Medians of everything about one file, in whose folder there is room for byte code. Raises AssertionError where the
    two readers differ."""
    one, other = ours(path), theirs(path)
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    del one, other
    times = alternating({"npresnet": lambda: ours(path), "h5py": lambda: theirs(path)}, rounds)
    imports = {
        name: statistics.median(run["seconds"] for run in _processes(_IMPORT, module, rounds=rounds, cache=path.parent))
        for name, module in (("npresnet", "npresnet.files.opening"), ("h5py", "h5py"))
    }
    loads = _processes(_LOAD, path, size, threads, rounds=rounds, cache=path.parent)
    return {
        "bytes": path.stat().st_size,
        "size": size,
        "threads": threads,
        "rounds": rounds,
        "read": {name: statistics.median(seconds) for name, seconds in times.items()},
        "ratio": statistics.median(b / a for a, b in zip(times["npresnet"], times["h5py"], strict=True)),
        "import": imports,
        **{part: statistics.median(load[part] for load in loads) for part in loads[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="keras.applications/resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    network = full_name(arguments.network)
    print(f"{describe()}\n{network}, {arguments.size}x{arguments.size} pixels, {arguments.threads} threads")
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as name:
        path = seeded_file(network, Path(name))
        found = {"network": network, **measure(path, arguments.size, arguments.threads, arguments.rounds)}
    for reader, seconds in found["read"].items():
        print(f"{reader:<10} import {found['import'][reader] * 1e3:6.1f} ms, read {seconds * 1e3:6.1f} ms")
    print(f"h5py / npresnet: {found['ratio']:.2f}")
    print(f"load {found['load']:.3f} s, then packing {found['pack']:.3f} s")
    print(
        f"memory: {found['load_peak'] / 1e6:.0f} MB while loading; at most {found['peak'] / 1e6:.0f} MB, of which packed "
        f"weights {found['packed'] / 1e6:.0f} MB; the file has {found['bytes'] / 1e6:.0f} MB"
    )
    print(f"saved in {save('load', f'{network}-t{arguments.threads}'.replace('/', '-'), found, arguments.results)}")


if __name__ == "__main__":
    main()
