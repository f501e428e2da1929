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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
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


def together(weights: Path, size: int, callers: int, threads: int, seconds: float) -> float:
    """Images per second that so many callers get done at ``size`` x ``size``, one image in each call."""
    net: Any = npresnet.load(weights, threads=threads)
    images = noise_images((1, size, size))
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


def points(
    network: str,
    size: int,
    counts: Sequence[int],
    batches: Sequence[int],
    engines: list[str],
    rounds: int,
    seconds: float,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, result) of each point as it comes, with {engine: median seconds} or the callers' images per second.

    seconds  nothing new is begun after that
    """
    began, processors = time.perf_counter(), available_threads()
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder:
        weights = seeded_file(network, Path(folder))
        for threads, batch in product(counts, batches):
            if time.perf_counter() - began < seconds:
                medians = race(weights, Case(network, (batch, size, size), threads), engines, rounds)
                yield f"threads {threads}, batch {batch}", {"threads": threads, "batch": batch, "medians": medians}
        for count in CALLERS:
            if time.perf_counter() - began < seconds:
                rate = together(weights, size, count, processors, min(3.0, seconds / 10))
                yield f"callers {count}", {"callers": count, "threads": processors, "images_per_second": rate}


def told(result: Mapping[str, Any]) -> str:
    """A point in a line."""
    if "callers" in result:
        return f"{result['callers']:3} callers of {result['threads']} threads each: {result['images_per_second']:.1f} images/s"
    times = ", ".join(f"{engine} {seconds * 1e3:.1f} ms" for engine, seconds in result["medians"].items())
    return f"{result['threads']:3} threads, batch {result['batch']}: {times}"


def usual_counts() -> list[int]:
    """1, 2, 4, ... as far as there are processors."""
    return [1 << power for power in range(available_threads().bit_length())]


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
    network, found = full_name(arguments.network), []
    print(f"{describe()}\n{network}, 224x224")
    for _, result in points(
        network, 224, arguments.threads or usual_counts(), arguments.batches, arguments.engines, arguments.rounds,
        arguments.seconds,
    ):  # fmt: skip
        found.append(result)
        print(told(result), flush=True)
    result = {
        "network": network,
        "processors": available_threads(),
        "points": [point for point in found if "medians" in point],
        "callers": [point for point in found if "callers" in point],
    }
    print(f"saved in {save('threads', network.replace('/', '-'), result, arguments.results)}")


if __name__ == "__main__":
    main()
