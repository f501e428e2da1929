"""What one call of a recorded network costs the host: processor's time, and calls of Python.

    python -m tests.rehearsal [FILE]       FILE: weights of a network; the digits' without

No card is needed: the driver runs nothing, so that what is left is the host's, and the copies of images and maps.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .stand_in import build, environment

ROOT = Path(__file__).parents[2]
ROUNDS, CALLS = 7, 300


def measure(path: str) -> None:
    """Print both, for one image on the host and one on the card; in a process that has the stand-in for its driver."""
    import numpy as np
    from numba import cuda

    import npresnet

    net = npresnet.load(path, device="cuda")
    height, width = net.graph.size or (224, 224)
    image = np.zeros((1, height, width, net.graph.channels), np.float32)
    print(f"{net!r}, {height}x{width}")
    for place, given in {"on the host": image, "on the card": cuda.to_device(image)}.items():
        microseconds, calls = _cost(partial(net, given))
        print(f"image {place}: {microseconds:.0f} us of a processor, {calls} calls of Python")


def _cost(call: Callable[[], Any]) -> tuple[float, int]:
    """(microseconds in the fastest of some rounds, calls of Python) of a call."""
    times = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(CALLS):
            call()
        times.append((time.thread_time() - start) / CALLS)
    seen: list[str] = []
    sys.setprofile(lambda frame, event, argument: seen.append(event))
    call()
    sys.setprofile(None)
    return min(times) * 1e6, seen.count("call")


if __name__ == "__main__":
    weights = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "tests" / "data" / "digits.keras").resolve()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        code = f"from tests.rehearsal.__main__ import measure; measure({str(weights)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(Path(folder)))
    sys.exit(done.returncode)
