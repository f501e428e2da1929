"""Which layers of a described network are C1 to C5: those of its backbone, whatever stands behind it."""

from __future__ import annotations

import pytest

from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.features import feature_maps, stage_ends
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import (
    Activation,
    Add,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Operator,
    Pad,
    ReLU,
)


class Network:
    """Layers one by one; each method returns the new layer's name."""

    def __init__(self) -> None:
        self.layers = [Layer("input", Input())]

    def add(self, name: str, operator: Operator, *inputs: str) -> str:
        self.layers.append(Layer(name, operator, inputs))
        return name

    def conv(self, name: str, x: str, stride: int = 1, channels: int = 8) -> str:
        before = 3 if x == "input" else 8
        return self.add(name, Conv2D(before, channels, (3, 3), (stride, stride), "same"), x)

    def block(self, name: str, x: str, stride: int = 1) -> str:
        shortcut = self.conv(f"{name}_short", x, stride) if stride > 1 else x
        total = self.add(f"{name}_sum", Add(), self.conv(f"{name}_b", self.conv(f"{name}_a", x, stride)), shortcut)
        return self.add(f"{name}_out", ReLU(), total)

    def backbone(self) -> list[str]:
        """Two blocks in each stage. Returns the outputs of the stages."""
        x = self.add("pool", MaxPool((3, 3), (2, 2), "same"), self.conv("stem", "input", 2))
        found = []
        for stage in range(2, 6):
            x = self.block(f"s{stage}a", x, 1 if stage == 2 else 2)
            x = self.block(f"s{stage}b", x)
            found.append(x)
        return found

    def larger(self, name: str, x: str, size: int) -> str:
        """A map of twice the ``size`` that it has for images of 512 pixels."""
        return self.add(name, Pad((size // 2,) * 4), x)

    @property
    def features(self) -> dict[str, str]:
        return feature_maps(Graph(tuple(self.layers), {}))


BACKBONE = {"C1": "pool", "C2": "s2b_out", "C3": "s3b_out", "C4": "s4b_out", "C5": "s5b_out"}


def test_a_backbone_alone():
    network = Network()
    network.backbone()
    assert network.features == BACKBONE


def test_a_classifier_changes_nothing():
    network = Network()
    *_, x = network.backbone()
    network.add("top", Dense(8, 5, softmax=True), network.add("mean", GlobalAveragePool(), x))
    assert network.features == BACKBONE


def test_a_pyramid_that_keeps_the_size():
    """Sums of lateral convolutions at strides 4, 8 and 16, from which nothing smaller is computed."""
    network = Network()
    for stage, x in list(enumerate(network.backbone(), 2))[:3]:
        total = network.add(f"p{stage}_sum", Add(), network.conv(f"p{stage}_a", x), network.conv(f"p{stage}_b", x))
        network.conv(f"p{stage}", total)
    assert network.features == BACKBONE


def test_a_pyramid_from_the_top_down_and_up_again():
    """Maps are made larger on the way to its sums, so that those are not the backbone's, although the way up makes them smaller
    again, down to stride 64."""
    network = Network()
    c2, c3, c4, c5 = network.backbone()
    p = {5: network.conv("p5", c5)}
    for stage, lateral in ((4, c4), (3, c3), (2, c2)):
        up = network.larger(f"up{stage}", p[stage + 1], 512 >> (stage + 1))
        p[stage] = network.add(f"p{stage}_sum", Add(), up, network.conv(f"lateral{stage}", lateral))
    n = p[2]
    for stage in (3, 4, 5):
        n = network.add(f"n{stage}_sum", Add(), network.conv(f"down{stage}", n, 2), p[stage])
    network.conv("p6", n, 2)
    network.conv("p6_of_c5", c5, 2)
    assert network.features == BACKBONE


def test_gates_and_numbers_are_no_smaller_maps():
    """Squeeze-and-excitation behind a pyramid's sum: its single pixel is not a stage."""
    network = Network()
    c2, *_ = network.backbone()
    total = network.add("p2_sum", Add(), network.conv("p2_a", c2), network.conv("p2_b", c2))
    gate = network.add("squeeze", GlobalAveragePool(keep_dims=True), total)
    gate = network.add("gate", Activation("sigmoid"), network.add("excite", Conv2D(8, 8, (1, 1)), gate))
    network.add("gated", Multiply(), total, gate)
    assert network.features == BACKBONE


def test_a_sum_that_more_than_its_activation_reads_is_the_map():
    network = Network()
    c2, *_ = network.backbone()
    network.conv("also", "s3b_sum")
    assert network.features == BACKBONE | {"C3": "s3b_sum"}
    assert c2 == "s2b_out"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rows_of_the_table(family):
    """What the rule finds in the table's own networks, as if they were only described: the layers that the row names where
    these are outputs of stages, the last sums before the size changes where activation comes first."""
    row = FAMILIES[family]
    graph = build_graph(Architecture.standard(row, row.depths[0], classes=5))
    found = feature_maps(graph)
    assert found["C1"] == graph.features["C1"]
    if row.features == "activated" or (row.order == "pre" and row.features == "blocks"):
        sums = [layer.name for layer in graph.layers if isinstance(layer.operator, Add)]
        shapes = graph.shapes(256, 256)
        last = {shapes[name][0]: name for name in sums}
        assert [found[f"C{stage}"] for stage in range(2, 6)] == list(last.values())
    else:
        expected = dict(graph.features)
        if row.order == "pre":  # the sum before the last batch-norm
            expected["C5"] = graph.by_name[graph.by_name[expected["C5"]].inputs[0]].inputs[0]
        assert found == expected


def test_stages_of_other_sizes():
    """As in networks for small pictures: sizes of which none is called C1 to C5."""
    network = Network()
    x = network.conv("stem", "input")
    for stage, stride in enumerate((1, 2, 2)):
        x = network.block(f"s{stage}b", network.block(f"s{stage}a", x, stride))
    graph = Graph(tuple(network.layers), {})
    assert feature_maps(graph) == {"C2": "s2b_out"}
    assert stage_ends(graph) == {1: "s0b_out", 2: "s1b_out", 4: "s2b_out"}
