"""Every step of a plan: its time, its speed as if it had been computed directly, and the machine's FMA peak above it.

    python -m bench.bench_layers [--case maskrcnn101-1024] [--threads 2]

Winograd needs fewer multiplications than the FLOP counted here, so its steps may lie above the peak. Uses
``net.profile``, which times the steps where they are, one after the other in a whole run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import npresnet
from bench.bench_engines import CASES
from bench.store import save
from npresnet.kernels.threads import available_threads
from npresnet.peers.case import noise_images, seeded_file
from npresnet.peers.machine import describe
from npresnet.study.roofline import fma_peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="default: resnet50-b1 and maskrcnn50-1024")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and all processors")
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder:
        for key in arguments.case or ("resnet50-b1", "maskrcnn50-1024"):
            network, batch = CASES[key]
            weights = seeded_file(network, Path(folder))
            for threads in arguments.threads or sorted({1, available_threads()}):
                peak = fma_peak(threads)
                net: Any = npresnet.load(weights, threads=threads)
                steps = [
                    {
                        "name": step.name,
                        "algorithm": step.algorithm,
                        "shape": list(step.shape),
                        "seconds": step.seconds,
                        "flop": step.flop,
                    }
                    for step in net.profile(noise_images(batch))
                ]
                seconds, flop = sum(step["seconds"] for step in steps), sum(step["flop"] for step in steps)
                print(f"\n{network} {batch}, {threads} threads; FMA peak {peak / 1e9:.0f} GFLOP/s")
                print(f"{'step':<28}{'algorithm':<16}{'shape':<16}{'ms':>9}{'GFLOP/s':>9}{'of peak':>9}")
                for step in steps:
                    speed, shape = step["flop"] / step["seconds"], "x".join(map(str, step["shape"]))
                    print(
                        f"{step['name']:<28}{step['algorithm']:<16}{shape:<16}"
                        f"{step['seconds'] * 1e3:>9.3f}{speed / 1e9:>9.0f}{speed / peak:>9.0%}"
                    )
                print(f"{'all':<60}{seconds * 1e3:>9.3f}{flop / seconds / 1e9:>9.0f}{flop / seconds / peak:>9.0%}")
                result = {"network": network, "batch": batch, "threads": threads, "peak": peak, "steps": steps}
                print(f"saved in {save('layers', f'{key}-t{threads}', result, arguments.results)}")


if __name__ == "__main__":
    main()
