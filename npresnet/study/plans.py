"""The plan by which a network is run, for what wants to look into it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..cpu.by_plan import Plan
from ..errors import UsageError
from ..model import ResNet
from ..plan.steps import PlanStep

__all__ = ["ALONG_ROWS", "WinogradTile", "plan_of", "winograd_tile"]

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


class WinogradTile(NamedTuple):
    """F(m x m, r x r), of an image in so many ``phases`` (``kernels/phases.py``); 1: of the image as it is."""

    m: int
    r: int
    phases: int

    @property
    def elements(self) -> int:
        """How many products a tile takes, of one channel."""
        return (self.m + self.r - 1) ** 2


def winograd_tile(step: PlanStep) -> WinogradTile | None:
    """That by which a step computes its layer; None for other algorithms, and for a step that only transforms patches."""
    found = re.fullmatch(r"F\((\d)x\d,(\d)x\d\)", step.algorithm)
    return WinogradTile(int(found[1]), int(found[2]), 4 if found[2] == "4" else 1) if found else None
