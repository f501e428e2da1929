"""The textbook path beside the same im2col through NumPy's OpenBLAS, on whole backbones, in one run.

    python -m bench.bench_im2col [--repeats 5]

For each case a fresh process (the number of BLAS threads is fixed at its start) runs both in turn and compares their
results first. Prints and saves medians, spread, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

CASES = [("resnet50", 224, 1), ("resnet50", 224, 2), ("resnet101", 1024, 1), ("resnet101", 1024, 2)]


def measure(depth: str, size: int, threads: int, repeats: int, which: str) -> dict:
    """Run both paths in this process (or ours alone, for its peak memory) and return times in seconds."""
    import numpy as np

    import npresnet
    from npresnet import kernels
    from npresnet.cpu import by_layer as engine
    from npresnet.network.architecture import Architecture
    from npresnet.network.building import build_graph
    from npresnet.network.operators import Conv2D
    from npresnet.network.seeded import random_weights
    from npresnet.peers.machine import peak_memory
    from npresnet.verify.compare import compare

    graph = build_graph(Architecture.named(f"matterport/{depth}"))
    weights = random_weights(graph)
    images = np.random.default_rng(0).uniform(-120, 130, (1, size, size, 3)).astype(np.float32)
    last = [graph.features["C5"]]
    ours = engine._kernels("im2col", threads)

    def blas(operator, inputs, w):
        if not isinstance(operator, Conv2D):
            return ours(operator, inputs, w)
        x, kernel = inputs[0], w["kernel"]
        flat = kernel.reshape(-1, operator.channels)
        if operator.kernel == (1, 1) and operator.stride == (1, 1):
            y = x.reshape(-1, x.shape[3]) @ flat
            shape = (*x.shape[:3], operator.channels)
        else:
            cols = kernels.im2col(
                x, operator.kernel, stride=operator.stride, padding=operator.padding, threads=threads
            )  # fmt: skip
            y = cols @ flat
            shape = (1, *operator.output_shape(x.shape[1:]))
        y += w["bias"]
        return y.reshape(shape)

    def run(kernel):
        original, engine._kernels = engine._kernels, lambda algorithm, threads: kernel
        try:
            start = time.perf_counter()
            for step in engine.run(graph, weights, images, last, algorithm="im2col", threads=threads):
                result = step.array
            return time.perf_counter() - start, result
        finally:
            engine._kernels = original

    if which == "ours":
        run(ours)
        return {"peak_bytes": peak_memory(), "version": npresnet.__version__}
    first, second = run(ours)[1], run(blas)[1]
    difference = compare(first, second)
    assert difference.agrees(), difference
    times: dict[str, list[float]] = {"npresnet": [], "openblas": []}
    for _ in range(repeats):
        times["npresnet"].append(run(ours)[0])
        times["openblas"].append(run(blas)[0])
    return {"times": times, "relative_difference": difference.relative}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        depth, size, threads, which = arguments.case
        print(json.dumps(measure(depth, int(size), int(threads), arguments.repeats, which)))
        return
    from bench.store import save
    from npresnet.peers.machine import describe

    print(describe())
    print(
        f"{'network':<10} {'size':>5} {'threads':>7} {'npresnet s':>11} {'openblas s':>11} {'ratio':>6} {'peak MB':>8}"
    )
    for depth, size, threads in CASES:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}

        def child(which, depth=depth, size=size, threads=threads, environment=environment):
            command = [sys.executable, "-m", "bench.bench_im2col", "--repeats", str(arguments.repeats), "--case"]
            command += [depth, str(size), str(threads), which]
            out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            return json.loads(out.splitlines()[-1])

        times = child("both")["times"]
        peak = child("ours")["peak_bytes"]
        ours, blas = (statistics.median(times[name]) for name in ("npresnet", "openblas"))
        result = {"network": depth, "size": size, "threads": threads, "times": times, "peak_bytes": peak}
        path = save("im2col", f"{depth}-{size}-t{threads}", result)
        print(f"{depth:<10} {size:>5} {threads:>7} {ours:>11.3f} {blas:>11.3f} {ours / blas:>6.2f} {peak / 1e6:>8.0f}")
    print(f"saved in {path}; ratio below 1: npresnet is faster")


if __name__ == "__main__":
    main()
