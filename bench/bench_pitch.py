"""1x1 convolutions whose pixels lie 64 bytes further apart than their channels take, beside the same without a gap.

    python -m bench.bench_pitch [--rounds 9]

Rows of A a power of two apart fall into few sets of L1, the more of them the more channels there are; a gap
of a cache line spreads them. Each row of the table is a layer of ResNet-50 at 224x224, one thread, medians of alternating
rounds; the outputs are compared bit by bit first. Saved as ``bench/results/pitch-*.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from bench.store import save
from npresnet.cpu import choice
from npresnet.kernels.simd import LANES
from npresnet.kernels.steps.epilogue import RELU, Epilogue
from npresnet.kernels.steps.loop import SYNC, start
from npresnet.kernels.steps.records import Map, Table
from npresnet.kernels.tile import NR
from npresnet.plan.memory import aligned

GAP = 64  # bytes: one cache line
LAYERS = ((64, 64, 56), (64, 256, 56), (256, 64, 56), (128, 512, 28), (512, 128, 28), (256, 1024, 14), (1024, 256, 14),
          (512, 2048, 7), (2048, 512, 7))  # fmt: skip
"""Channels in, channels out, pixels along a side."""


class Layer:
    """A 1x1 convolution whose input has ``gap`` bytes between its pixels."""

    def __init__(self, channels: int, columns: int, side: int, gap: int) -> None:
        rows, random = side * side, np.random.default_rng(channels)
        wide = aligned((rows, channels + gap // 4))
        wide[:, :channels] = random.standard_normal((rows, channels), np.float32)
        panels = aligned((-(-columns // NR), channels, NR))
        panels[:] = random.standard_normal(panels.shape, np.float32)
        self.out, zeros = aligned((rows, columns)), np.zeros(columns + NR, np.float32)
        epilogue = Epilogue(zeros.ctypes.data, Map(zeros.ctypes.data, 0, columns), RELU, zeros.ctypes.data)
        times = choice.product(panels.ctypes.data, channels, Map.of(self.out), epilogue)
        step = choice.pointwise(Map(wide.ctypes.data, 4 * channels + gap, channels), times, rows, 1)
        table = Table([step])
        self._arrays = wide, panels, zeros
        self._records, self._schedule = table.linked(), table.schedule()
        self.flop = 2 * rows * channels * columns

    def run(self) -> float:
        """Seconds that it took."""
        sync = np.zeros(SYNC + 1, np.int64)
        before = time.perf_counter()
        start(self._schedule, self._records, sync, [0], None)
        return time.perf_counter() - before


def measure(channels: int, columns: int, side: int, rounds: int) -> dict[str, Any]:
    """Both ways by turns."""
    plain, padded = Layer(channels, columns, side, 0), Layer(channels, columns, side, GAP)
    plain.run(), padded.run()
    assert np.array_equal(plain.out, padded.out)
    repeats = max(1, int(2e9 / plain.flop))  # some 20 ms a turn
    times: dict[str, list[float]] = {"plain": [], "padded": []}
    for _ in range(rounds):
        for name, layer in (("plain", plain), ("padded", padded)):
            times[name].append(min(layer.run() for _ in range(repeats)))
    speeds = {name: plain.flop / statistics.median(taken) / 1e9 for name, taken in times.items()}
    ratio = statistics.median(a / b for a, b in zip(times["plain"], times["padded"], strict=True))
    return {"channels": channels, "columns": columns, "side": side, "gflop_per_second": speeds, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description="1x1 convolutions with and without a gap between pixels.")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{LANES} lanes, one thread; GFLOP/s")
    print("    K     N  pixels   plain  padded   plain / padded in time")
    for channels, columns, side in LAYERS:
        row = measure(channels, columns, side, rounds)
        speeds = row["gflop_per_second"]
        print(
            f"{channels:5} {columns:5} {side:3}x{side:<3} {speeds['plain']:7.1f} {speeds['padded']:7.1f}   {row['ratio']:.3f}"
        )
        save("pitch", f"{channels}-{columns}-{side}", {"lanes": LANES, "gap": GAP, **row})


if __name__ == "__main__":
    main()
