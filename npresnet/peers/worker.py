"""A process that holds one engine with one network, and runs it when told to: the far end of
``process.Process``.

One JSON object per line comes in on standard input, one per line goes out on what was standard output; whatever the
engine itself prints goes to standard error. The first line says what to build; then

    {"do": "features", "to": file}            write the features of the images as .npz
    {"do": "time", "runs": n, "warmup": n}    run, and answer the seconds of each run
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .case import noise_images
from .engines import peer_class
from .machine import peak_memory, restart_peak_memory
from .network import outputs_of
from .peer import Batch, Peer

__all__ = ["Ours", "main"]

Array = npt.NDArray[Any]


class Ours:
    """npresnet itself, to be run as the peers are."""

    chosen = ""
    convert_seconds = 0.0

    def __init__(self, weights: Path, architecture: str | None, threads: int) -> None:
        from ..model import load
        from ..version import __version__

        self._net = load(weights, architecture, threads=threads)
        self._outputs = outputs_of(self._net.graph)
        self.version = __version__
        self.settings = f"NHWC, algorithm={self._net.algorithm!r}"

    def prepare(self, images: Array) -> Array:
        return images

    def run(self, prepared: Array) -> dict[str, Array]:
        return self._net(prepared, outputs=list(self._outputs.values()))

    def features(self, results: dict[str, Array]) -> dict[str, Array]:
        return {name: results[layer] for name, layer in self._outputs.items()}


def _build(job: dict[str, Any], batch: Batch) -> tuple[Peer | Ours, float]:
    """The engine, ready to run, and the seconds until the weights were read."""
    start = time.perf_counter()
    path, architecture, threads = Path(job["weights"]), job["architecture"], job["threads"]
    if job["engine"] == "npresnet":
        ours = Ours(path, architecture, threads)
        return ours, time.perf_counter() - start
    from ..network.weights import load_weights

    found = load_weights(path, architecture)
    seconds = time.perf_counter() - start
    return peer_class(job["engine"])(found.graph, found.weights, batch, threads), seconds


def main() -> None:
    """Serve until nobody is there any more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        job = json.loads(sys.stdin.readline())
        n, height, width = job["batch"]
        start = time.perf_counter()
        engine, weights_seconds = _build(job, (n, height, width))
        built = time.perf_counter()
        load_peak = peak_memory()
        restart_peak_memory()
        begin = time.perf_counter()
        prepared = engine.prepare(noise_images((n, height, width)))
        run: Any = engine.run  # an engine and its own form of images fit together
        results = run(prepared)
        answer(
            version=engine.version,
            settings=engine.settings,
            chosen=engine.chosen,
            weights_seconds=weights_seconds,
            convert_seconds=engine.convert_seconds,
            build_seconds=built - start - weights_seconds - engine.convert_seconds,
            first_seconds=time.perf_counter() - begin,
            load_peak_bytes=load_peak,
            peak_bytes=peak_memory(),
        )
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "features":
                features: dict[str, Any] = engine.features(results)
                np.savez(order["to"], **features)
                results = features = None  # type: ignore[assignment]
                answer()
            else:
                for _ in range(order["warmup"]):
                    run(prepared)
                seconds = []
                for _ in range(order["runs"]):
                    begin = time.perf_counter()
                    run(prepared)
                    seconds.append(time.perf_counter() - begin)
                answer(seconds=seconds)
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        raise
