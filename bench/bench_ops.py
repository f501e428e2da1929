"""The ladder: every version of every operator on one shape of ResNet-50, so that one sees what each idea bought.

    python -m bench.bench_ops [--threads 1]

All versions of an operator get the same arguments, and their results are compared before they are timed. What is bound
by arithmetic is given in GFLOP/s beside the FMA peak, the rest in GB/s of data that must be read and written once. The
references are NumPy, whose BLAS gets as many threads as the others.
"""

from __future__ import annotations

import argparse
import inspect
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.store import save
from npresnet.kernels import LADDER
from npresnet.peers.machine import describe
from npresnet.study.roofline import fma_peak
from npresnet.verify.compare import compare

_SECONDS = 0.5  # spent on one version, at least three runs


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def operands() -> dict[str, tuple[tuple, dict[str, Any], float]]:
    """{operator: (arguments, keywords, FLOP)}; 0 FLOP where moving the data is the work.

    The shapes are of ResNet-50's third stage (28 x 28 pixels) and, for the pool, of its stem.
    """
    x, stem, pixels = _random(1, 28, 28, 128), _random(1, 112, 112, 64), 28 * 28
    wide = _random(1, 28, 28, 512)
    channels = [np.abs(_random(512)) + 0.5 for _ in range(4)]
    boxes = np.sort(np.random.default_rng(0).random((1, 100, 2, 2), np.float32), axis=2).reshape(1, 100, 4)
    return {
        "pad": ((stem, 3), {}, 0),
        "channels": ((_random(1, 224, 224, 3), np.array([2, 1, 0], np.float32)), {}, 0),
        "im2col": ((x, 3), {"padding": "same"}, 0),
        "gemm": ((_random(pixels, 512), _random(512, 128), _random(128)), {}, 2 * pixels * 512 * 128),
        # eight images, so that packing and transforming the kernels, which networks do once, is no large part
        "conv2d": (
            (np.repeat(x, 8, axis=0), _random(3, 3, 128, 128), _random(128)),
            {"padding": "same"},
            2 * 8 * pixels * 9 * 128 * 128,
        ),
        "conv2d_transpose": ((x, _random(4, 4, 64, 128)), {"stride": 2, "padding": "same"}, 2 * pixels * 16 * 64 * 128),
        # as in ResNeXt-50
        "grouped_conv2d": (
            (_random(1, 28, 28, 256), _random(3, 3, 8, 256), _random(256)),
            {"groups": 32, "padding": "same"},
            2 * pixels * 9 * 8 * 256,
        ),
        "batchnorm": ((wide, *channels, 1e-3), {}, 0),
        "scale": ((wide, *channels[:2]), {}, 0),
        "relu": ((wide,), {}, 0),
        "crop": ((stem, 3), {}, 0),
        "concatenate": ((wide, wide), {}, 0),
        "resize": ((_random(1, 480, 640, 3), (224, 224)), {}, 0),
        "upsample": ((x, 2), {"interpolation": "bilinear"}, 0),
        "leaky_relu": ((wide,), {"slope": 0.3}, 0),
        "activation": ((wide,), {"function": "silu"}, 0),
        "add": ((wide, wide[:, ::-1].copy()), {}, 0),
        "combine": ((wide, _random(1, 1, 1, 512)), {"function": "multiply"}, 0),
        "maxpool": ((stem, 3), {"stride": 2, "padding": "same"}, 0),
        "avgpool": ((_random(1, 7, 7, 2048), 7), {}, 0),
        "global_avgpool": ((_random(1, 7, 7, 2048),), {}, 0),
        "global_maxpool": ((_random(1, 7, 7, 2048),), {}, 0),
        "channel_reduce": ((wide,), {"function": "mean"}, 0),
        "dense": ((_random(1, 2048), _random(2048, 1000), _random(1000)), {}, 0),
        "softmax": ((_random(8, 1000),), {}, 0),
        "groupnorm": ((wide, None, None), {"groups": 32, "epsilon": 1e-3}, 0),
        "unitnorm": ((_random(8, 1000),), {"least": 1e-6}, 0),
        "crop_and_resize": ((_random(1, 64, 64, 256), boxes), {"size": 7}, 0),
    }


def timed(call: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of runs, for about as long as given and at least three of them; the first run, which compiles, is not
    among them."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def climb(operator: str, threads: int, seconds: float = _SECONDS) -> dict[str, Any]:
    """Time every version of one operator. Raises AssertionError where one computes something else than the first."""
    arguments, keywords, flop = operands()[operator]
    ladder: Any = LADDER[operator]
    first = ladder[0](*arguments, **keywords)
    read = sum(array.nbytes for array in arguments if isinstance(array, np.ndarray))
    versions = {}
    for version in ladder:
        extra = {"threads": threads} if "threads" in inspect.signature(version).parameters else {}
        call = partial(version, *arguments, **keywords, **extra)
        difference = compare(call(), first)
        assert difference.agrees(), (version.__name__, difference)
        times = timed(call, seconds)
        versions[version.__name__] = {"median": statistics.median(times), "min": min(times), "runs": len(times)}
    return {"threads": threads, "flop": flop, "bytes": read + first.nbytes, "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--case", action="append", choices=LADDER, help="this operator alone; may be given several times"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != str(arguments.threads):  # NumPy reads it while it is being imported
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(arguments.threads)}
        raise SystemExit(subprocess.call([sys.executable, "-m", "bench.bench_ops", *sys.argv[1:]], env=environment))
    peak = fma_peak(arguments.threads)
    print(f"{describe()}\n{arguments.threads} threads, FMA peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'version':<24}{'ms':>10}{'GFLOP/s':>10}{'GB/s':>8}{'times the one before':>22}")
    for operator in arguments.case or LADDER:
        result = climb(operator, arguments.threads)
        before = None
        for name, version in result["versions"].items():
            median = version["median"]
            flop, moved = result["flop"] / median / 1e9, result["bytes"] / median / 1e9
            speed = f"{flop:>10.1f}{'':>8}" if flop else f"{'':>10}{moved:>8.1f}"
            gain = f"{before / median:>22.2g}" if before else ""
            print(f"{name:<24}{median * 1e3:>10.3f}{speed}{gain}")
            before = median
        path = save("ops", f"{operator}-t{arguments.threads}", {**result, "peak": peak}, arguments.results)
    print(f"saved in {path}")


if __name__ == "__main__":
    main()
