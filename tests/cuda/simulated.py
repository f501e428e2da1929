"""Which cases the simulator can afford: it runs every thread in Python. A card runs them all.

A case's cost is the time, roughly, that a processor's core takes for the threads that its kernels start: for starting them,
for the numbers that they add up, and for waiting for each other at barriers. A case runs if that is at most
``AFFORDABLE``; that enough of them do, for every version, ``test_kernels.py`` asserts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

from npresnet.kernels.cuda.launch import SIMULATED, Kernel

from ..support import cases

START, NUMBER, WAIT = 6e-6, 1e-6, 3e-6  # seconds for each thread

AFFORDABLE = 0.5  # seconds

SUMS = {"gemm_tiled": 16, "gemm_vectorized": 64}
"""By kernel: how many sums each thread computes, where it is not one."""

BARRIERS = {
    "gemm_shared": lambda k: 2 * math.ceil(k / 16),
    "gemm_tiled": lambda k: 2 * math.ceil(k / 16),
    "gemm_vectorized": lambda k: math.ceil(k / 8) + 1,
    "softmax": lambda k: 16,
    "global_avgpool": lambda k: 1,
    "global_maxpool": lambda k: 1,
}
"""By kernel: how often the threads of a block wait for each other, for sums of k numbers; where they do at all."""


def numbers_in_a_sum(case: cases.Case) -> int:
    """How many numbers go into one result of a case."""
    match case:
        case cases.Gemm():
            return case.k
        case cases.Im2col():
            return 1
        case cases.GroupedConv2d():
            return math.prod(case.taps) * case.shape[3] // case.groups
        case cases.Conv2d():
            return math.prod(case.taps) * case.shape[3]
        case cases.Pool():
            return math.prod(case.window)
        case cases.GlobalAvgpool() | cases.GlobalMaxpool():
            return math.ceil(case.shape[1] * case.shape[2] / 8)
        case cases.Softmax():
            return math.ceil(case.columns / 128)
    return 1


def cost(version: Callable[..., Any], case: cases.Case) -> float:
    """What a case costs in seconds. Nothing is computed."""
    k = numbers_in_a_sum(case)
    costs = [0.0]

    def launch(self: Kernel, blocks: Any, stream: Any, *arguments: Any) -> None:
        threads = math.prod(blocks if isinstance(blocks, tuple) else (blocks,)) * math.prod(self.threads)
        added = 1 if self.name.startswith("im2col") else SUMS.get(self.name, 1) * k
        waits = BARRIERS[self.name](k) if self.name in BARRIERS else 0
        costs.append(threads * (START + NUMBER * added + WAIT * waits))

    with mock.patch.object(Kernel, "launch", launch):
        case.run(version)
    return sum(costs)


def affordable(version: Callable[..., Any]) -> Callable[[cases.Case], bool]:
    """Whether this version can run a case here."""
    return lambda case: not SIMULATED or cost(version, case) <= AFFORDABLE
