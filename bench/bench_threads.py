"""How time falls with the number of threads, beside other engines, and what many callers at once cost each other.

    python -m bench.bench_threads [--threads 1 2 4 8 16] [--engines onnxruntime pytorch] [--seconds 90]

Engines take turns on each point. Callers are Python threads that share one network, each call on all of its threads: they
want more processors than there are, and should together finish as many images in a second as one of them alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import npresnet
from bench.store import save
from npresnet.kernels.threads import available_threads
from npresnet.peers.case import Case, full_name, noise_images, seeded_file
from npresnet.peers.engines import PEERS
from npresnet.peers.machine import describe
from npresnet.peers.process import EngineFailed, Process

CALLERS = (1, 2, 4, 8)


def race(weights: Path, case: Case, engines: list[str], rounds: int) -> dict[str, float]:
    """{engine: median seconds}, npresnet first; an engine that fails is left out."""
    workers: dict[str, Process] = {}
    try:
        for engine in ("npresnet", *engines):
            with suppress(EngineFailed):
                workers[engine] = Process(engine, weights, case)
        samples: dict[str, list[float]] = {engine: [] for engine in workers}
        for number in range(rounds):
            for engine in reversed(workers) if number % 2 else workers:
                samples[engine] += workers[engine].time(2, 1)
    finally:
        for worker in workers.values():
            worker.close()
    return {engine: statistics.median(times) for engine, times in samples.items()}


def together(weights: Path, callers: int, threads: int, seconds: float) -> float:
    """Images per second that so many callers get done at 224x224, one image in each call."""
    net: Any = npresnet.load(weights, threads=threads)
    images = noise_images((1, 224, 224))
    net(images)
    end = time.perf_counter() + seconds

    def call(_: int) -> int:
        count = 0
        while time.perf_counter() < end:
            net(images)
            count += 1
        return count

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        done = sum(pool.map(call, range(callers)))
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="matterport/resnet50")
    parser.add_argument("--threads", type=int, nargs="*", help="default: 1, 2, 4 ... up to all processors")
    parser.add_argument("--batches", type=int, nargs="*", default=(1, 8))
    parser.add_argument("--engines", nargs="*", default=["onnxruntime", "pytorch"], choices=[*PEERS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=90.0, help="begin nothing new after that")
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    processors, network, began = available_threads(), full_name(arguments.network), time.perf_counter()
    counts = arguments.threads or [count for count in (1, 2, 4, 8, 16, 32, 64) if count <= processors]
    print(f"{describe()}\n{network}, 224x224")
    points, callers = [], []
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder:
        weights = seeded_file(network, Path(folder))
        for threads in counts:
            for batch in arguments.batches:
                if time.perf_counter() - began < arguments.seconds:
                    medians = race(
                        weights, Case(network, (batch, 224, 224), threads), arguments.engines, arguments.rounds
                    )
                    points.append({"threads": threads, "batch": batch, "medians": medians})
                    told = ", ".join(f"{engine} {seconds * 1e3:.1f} ms" for engine, seconds in medians.items())
                    print(f"{threads:3} threads, batch {batch}: {told}", flush=True)
        for count in CALLERS:
            if time.perf_counter() - began < arguments.seconds:
                rate = together(weights, count, processors, 3.0)
                callers.append({"callers": count, "images_per_second": rate})
                print(f"{count:3} callers of {processors} threads each: {rate:.1f} images/s", flush=True)
    result = {"network": network, "processors": processors, "points": points, "callers": callers}
    print(f"saved in {save('threads', network.replace('/', '-'), result, arguments.results)}")


if __name__ == "__main__":
    main()
