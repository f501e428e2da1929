"""npresnet beside every engine of ``npresnet/peers/engines.py``, on whole networks.

    python -m bench.bench_engines                          all cases, on 1 thread and on all processors
    python -m bench.bench_engines --case resnet50-b8 --threads 1 --rounds 3

How it is measured, and what is compared before, is in ``npresnet/peers/measure.py``. Each case is saved as soon as it is
done; a case measured again takes the place of its former self.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.store import save
from npresnet.kernels.threads import available_threads
from npresnet.peers.case import Case, seeded_file
from npresnet.peers.machine import describe
from npresnet.peers.measure import ENGINES, measure

CASES = {
    "resnet50-b1": ("keras.applications/resnet50", (1, 224, 224)),
    "resnet50-b8": ("keras.applications/resnet50", (8, 224, 224)),
    "resnet18-b1": ("keras-resnet/resnet18", (1, 224, 224)),
    "resnext50-b1": ("keras.applications/resnext50", (1, 224, 224)),
    "seresnet34-b1": ("image-classifiers/seresnet34", (1, 224, 224)),
    "maskrcnn50-1024": ("matterport/resnet50", (1, 1024, 1024)),
    "maskrcnn101-1024": ("matterport/resnet101", (1, 1024, 1024)),
}

_CLEAR = "\r\033[K" if sys.stdout.isatty() else ""


class _Printed:
    """What is worth keeping on lines of their own; on a terminal, what goes on now on the one below them."""

    def note(self, text: str) -> None:
        print(f"{_CLEAR}  {text}", flush=True)

    def doing(self, text: str) -> None:
        if _CLEAR:
            print(f"{_CLEAR}  ... {text}", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="this one alone; may be given several times")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and all processors")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder:
        for key in arguments.case or CASES:
            network, batch = CASES[key]
            weights = seeded_file(network, Path(folder))
            for threads in arguments.threads or sorted({1, available_threads()}):
                case = Case(network, batch, threads)
                print(case)
                result = measure(case, weights, arguments.engines, rounds=arguments.rounds, watcher=_Printed())
                path = save("engines", f"{key}-t{threads}", result, arguments.results)
                ours = result["engines"]["npresnet"].get("median", float("nan"))
                for found in result["engines"].values():
                    if found["status"] == "ok":
                        median = found["median"]
                        print(f"  {found['title']:<14}{median * 1e3:>9.1f} ms{median / ours:>7.2f} times npresnet's")
                print(f"  saved in {path}")


if __name__ == "__main__":
    main()
