"""What ``npresnet study`` says of a network at full size, held against the clock and the process's memory: not among the tests,
because it takes minutes and a quiet machine.

    python -m tests.full_study [WEIGHTS] [--size 224] [--threads 2]

Its small versions, without a clock, are in ``tests/study``. Exit status 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import npresnet
from npresnet import study
from npresnet.cli.demo import demo_weights
from npresnet.data.photograph import photograph

MEMORY = """
import sys, numpy as np, npresnet
from npresnet import study
from npresnet.peers.machine import peak_memory, restart_peak_memory
size = int(sys.argv[2])
other = npresnet.load(sys.argv[1])
other(np.zeros((1, 64, 64, 3), np.float32))  # imports, and the kernels' code
del other
net = npresnet.load(sys.argv[1])
images = np.zeros((1, size, size, 3), np.float32)
restart_peak_memory()
before = peak_memory()
net(images)
print(peak_memory() - before, study.memory(net, (1, size, size)).total_bytes)
"""


def checks(weights: Path, size: int, threads: int) -> list[tuple[str, bool, str]]:
    """(what, whether it is so, in numbers) of everything that takes a clock."""
    found = []
    net = npresnet.load(weights, threads=threads)
    images = net.prepare(str(photograph()), (size, size))
    table = study.layers(net, images, repeats=40)
    assert table.run is not None
    assert table.steps_seconds is not None
    ratio = table.steps_seconds / table.run.seconds
    found.append(("steps add up to the run, within 10 %", abs(ratio - 1) < 0.1, f"{ratio:.3f}"))
    over = [(row.name, row.peak_share) for row in table.rows if row.peak_share and row.peak_share > 1.05]
    found.append(("nothing executes more than 5 % above the roof", not over, str(over)))

    found.append(_engine_beside_layers(weights, size))
    grown, stated = _memory(weights, size)
    found.append(("memory grows as stated, within 15 %", abs(grown / stated - 1) < 0.15, f"{grown:,} of {stated:,}"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "page.html")
        command = [
            sys.executable,
            "-m",
            "npresnet",
            "study",
            "page",
            str(weights),
            str(photograph()),
            "--size",
            str(size),
            "--out",
            str(out),
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        megabytes = out.stat().st_size / 1e6
    found.append(("the page takes less than a minute", seconds < 60, f"{seconds:.1f} s"))
    found.append(("the page is smaller than 3 MB", megabytes < 3, f"{megabytes:.2f} MB"))
    return found


def _engine_beside_layers(weights: Path, size: int) -> tuple[str, bool, str]:
    """The ladder's last rung and the same layer in the table, on one thread."""
    net = npresnet.load(weights, threads=1)
    images = net.prepare(str(photograph()), (size, size))
    ladder = study.ladder(net, images, rungs=["engine"], repeats=25)
    table = study.layers(net, images, repeats=40)
    rung = next(row for row in ladder.rows if row.name == "engine")
    layer = next(row for row in table.rows if row.name == ladder.layer)
    assert rung.timing is not None
    assert layer.timing is not None
    ratio = rung.timing.seconds / layer.timing.seconds
    return "the engine's rung takes as long as its layer, within 10 %", abs(ratio - 1) < 0.1, f"{ratio:.3f}"


def _memory(weights: Path, size: int) -> tuple[int, int]:
    """(bytes by which a process grows in its first run, bytes that are stated)."""
    command = [sys.executable, "-c", MEMORY, str(weights), str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown, stated = map(int, done.stdout.split())
    return grown, stated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="?", type=Path, help="default: the demo's")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    np.seterr(all="ignore")
    found = checks(given.weights or demo_weights()[0], given.size, given.threads)
    for what, right, numbers in found:
        print(f"{'ok   ' if right else 'WRONG'}  {what}: {numbers}")
    return int(not all(right for _, right, _ in found))


if __name__ == "__main__":
    sys.exit(main())
