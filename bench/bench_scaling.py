"""How time and memory grow with the image and with the batch: 64 to 2048 pixels square, 1 to 32 images of 224.

    python -m bench.bench_scaling [--network matterport/resnet50] [--threads 2]

Every point is measured in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.store import save
from npresnet.kernels.threads import available_threads
from npresnet.peers.case import Case, full_name, seeded_file
from npresnet.peers.machine import describe
from npresnet.peers.measure import summary
from npresnet.peers.process import Process

SIZES = (64, 128, 256, 384, 512, 768, 1024, 1536, 2048)
BATCHES = (1, 2, 4, 8, 16, 32)


def measure(case: Case, weights: Path, seconds: float) -> dict:
    """Time one point for about so many seconds, at least three runs, in a new process."""
    worker = Process("npresnet", weights, case)
    try:
        once = min(worker.time(1, 1))
        samples = worker.time(max(3, min(100, round(seconds / once))), 1)
        return {"batch": case.batch, **worker.ready, **summary([samples]), "samples": samples}
    finally:
        worker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="matterport/resnet50")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="spent on each point")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    network = full_name(arguments.network)
    points = {"size": [(1, size, size) for size in arguments.sizes]}
    points["batch"] = [(n, 224, 224) for n in arguments.batches]
    print(f"{describe()}\n{network}, {arguments.threads} threads")
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder:
        weights = seeded_file(network, Path(folder))
        for kind, batches in points.items():
            print(f"\n{'images':<16}{'ms':>10}{'Mpixel/s':>10}{'peak MB':>9}")
            measured = []
            for batch in batches:
                point = measure(Case(network, batch, arguments.threads), weights, arguments.seconds)
                measured.append(point)
                n, h, w = batch
                pixels = n * h * w / point["median"]
                print(
                    f"{f'{n} x {h}x{w}':<16}{point['median'] * 1e3:>10.1f}{pixels / 1e6:>10.2f}"
                    f"{point['peak_bytes'] / 1e6:>9.0f}",
                    flush=True,
                )
            if measured:
                case = f"{kind}-{network.replace('/', '-')}-t{arguments.threads}"
                result = {"network": network, "threads": arguments.threads, "points": measured}
                path = save("scaling", case, result, arguments.results)
    print(f"saved in {path}")


if __name__ == "__main__":
    main()
