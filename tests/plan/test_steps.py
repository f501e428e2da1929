"""What people see of a plan's steps."""

from __future__ import annotations

from npresnet.network.operators import ReLU
from npresnet.plan.fusion import Node
from npresnet.plan.steps import PlanStep, algorithms, step_times

from .test_fusion import CHAIN, nodes_of


def _step(node: Node, algorithm: str) -> PlanStep:
    return PlanStep.of(node, algorithm, CHAIN.shapes(9, 8))


def test_a_step_of_a_node():
    (node,) = nodes_of(CHAIN)
    step = _step(node, "im2col")
    flop = 2 * (9 * 8 * 4) * (3 * 3 * 4)
    assert step == PlanStep(node.layers, "im2col", ("input", "input"), (9, 8, 4), "conv", flop, ReLU())
    assert " ".join(str(step).split()) == "relu 9x8x4 im2col of input + input, ReLU"


def test_how_each_layer_is_computed():
    border, rest = nodes_of(CHAIN, "pad", "relu")
    own = PlanStep(("pad/columns",), "columns", ("pad",), (11, 10, 4))
    steps = [_step(border, "pad"), own, _step(rest, "F(4x4,3x3)")]
    assert algorithms(steps, CHAIN.by_name) == {
        "pad": "pad", "conv": "F(4x4,3x3)", "bn": "in conv", "add": "in conv", "relu": "in conv"
    }  # fmt: skip


def test_times():
    (node,) = nodes_of(CHAIN)
    (row,) = step_times([_step(node, "im2col")], 3, [0.5])
    assert row == ("relu", "im2col", (3, 9, 8, 4), 0.5, 3 * node.flop(CHAIN.shapes(9, 8)))
