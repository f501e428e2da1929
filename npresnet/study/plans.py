"""The plan by which a network is run, for what wants to look into it."""

from __future__ import annotations

from ..cpu.by_plan import Plan
from ..errors import UsageError
from ..model import ResNet

__all__ = ["plan_of"]


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
