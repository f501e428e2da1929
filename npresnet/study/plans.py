"""The plan by which a network is run, for what wants to look into it."""

from __future__ import annotations

import re

from ..cpu.by_plan import Plan
from ..errors import UsageError
from ..model import ResNet
from ..plan.steps import PlanStep

__all__ = ["ALONG_ROWS", "kernel_numbers", "plan_of", "winograd_tile"]

ALONG_ROWS = "F(4,3)"
"""The algorithm of a grouped convolution by Winograd's along rows."""


def plan_of(net: ResNet, batch: tuple[int, int, int]) -> Plan:
    """The plan for images of ``batch`` = (n, h, w), and for the outputs that users ask for. Raises UsageError for a network that
    is not run by plan on the CPU, or takes no images of that size."""
    outputs = net._usual()
    plan = net._by_plan(lambda plans: plans.plan(batch, outputs, net.algorithm == "auto"))
    if plan is None:
        raise UsageError(
            f"study: the network is on device {net.device!r} with algorithm {net.algorithm!r}; what is studied is how a CPU "
            "runs it by plan: load it with device='cpu' and algorithm='auto' or 'direct'"
        )
    return plan


def winograd_tile(step: PlanStep) -> int:
    """m of the F(m x m, 3x3) by which a step computes its layer; 0 for other algorithms, and for a step that only transforms patches."""
    found = re.fullmatch(r"F\((\d)x\d,3x3\)", step.algorithm)
    return int(found[1]) if found else 0


def kernel_numbers(step: PlanStep) -> int:
    """How many numbers a 3x3 kernel has once a step's algorithm has transformed it: 36, 18, 16; 0 for other algorithms."""
    m = winograd_tile(step)
    return (m + 2) ** 2 if m else 18 if step.algorithm == ALONG_ROWS else 0
