"""Which layers are fused, and which must not be: from small graphs, whatever the device."""

from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError, fields
from typing import get_args

import pytest

from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Normalization,
    Operator,
    Pad,
    ReLU,
    Rescale,
    Scale,
    Softmax,
)
from npresnet.plan.fusion import (
    Alone,
    FusedAffine,
    FusedConv,
    FusedDense,
    FusedEpilogue,
    FusedJoin,
    Mean,
    Node,
    Pool,
    fuse,
)

CONV, BN = Conv2D(4, 4, (3, 3), padding="same"), BatchNorm(4, 1e-3)
NOTHING = FusedEpilogue(None, None)


def graph_of(*layers: tuple[str, Operator, str]) -> Graph:
    """A graph of (name, operator, "names of inputs") on images of four channels."""
    made = [Layer(name, operator, tuple(inputs.split())) for name, operator, inputs in layers]
    return Graph((Layer("input", Input(4)), *made), {"C": {"C1": made[-1].name}})


def nodes_of(graph: Graph, *outputs: str, alone: tuple[str, ...] = ()) -> list[Node]:
    """The nodes for the last layer, or ``outputs``, of images of 9 x 8 pixels."""
    wanted = outputs or (graph.layers[-1].name,)
    return fuse(graph.needed_for(wanted), wanted, graph.shapes(9, 8, wanted), lambda layer: layer.name in alone)


def only(nodes: list[Node]) -> Node:
    (node,) = nodes
    return node


# Every kind of node ----------------------------------------------------------------------------------------------------


def test_convolution_with_all_that_follows():
    graph = graph_of(
        ("pad", Pad((1, 2, 3, 4)), "input"),
        ("conv", Conv2D(4, 4, (4, 8)), "pad"),
        ("bn", BN, "conv"),
        ("scale", Scale(4), "bn"),
        ("add", Add(), "input scale"),
        ("relu", ReLU(), "add"),
    )
    node = only(fuse(graph.layers, ["relu"], graph.shapes(8, 8)))
    assert node == FusedConv(
        layers=("pad", "conv", "bn", "scale", "add", "relu"),
        leader="conv",
        x="input",
        operator=Conv2D(4, 4, (4, 8)),
        pads=(1, 2, 3, 4),
        norms=("bn", "scale"),
        epilogue=FusedEpilogue("input", ReLU()),
    )
    assert (node.output, node.border, node.inputs, node.activation) == ("relu", "pad", ("input", "input"), ReLU())
    assert node.flop(graph.shapes(8, 8)) == 2 * (8 * 8 * 4) * (4 * 8 * 4)


def test_convolution_by_itself():
    """Its own padding needs no border."""
    node = only(nodes_of(graph_of(("conv", CONV, "input"))))
    assert node == FusedConv(
        layers=("conv",), leader="conv", x="input", operator=CONV, pads=(1, 1, 1, 1), norms=(), epilogue=NOTHING
    )
    assert (node.border, node.inputs, node.activation) == (None, ("input",), None)


def test_product():
    """The larger factor is the data, whichever comes first."""
    graph = graph_of(
        ("conv", CONV, "input"),
        ("squeeze", GlobalAveragePool(keep_dims=True), "conv"),
        ("gate", Activation("sigmoid"), "squeeze"),
        ("gated", Multiply(), "gate conv"),
        ("add", Add(), "gated input"),
        ("relu", ReLU(), "add"),
    )
    conv, mean, gate, product = nodes_of(graph)
    assert isinstance(conv, FusedConv)
    assert mean == Mean(layers=("squeeze",), leader="squeeze", x="conv")
    assert gate == Alone(layers=("gate",), leader="gate", x="squeeze", layer=graph.by_name["gate"])
    assert product == FusedJoin(
        layers=("gated", "add", "relu"),
        leader="gated",
        x="conv",
        operator=Multiply(),
        other="gate",
        epilogue=FusedEpilogue("input", ReLU()),
    )
    assert product.inputs == ("conv", "gate", "input")
    assert (gate.inputs, gate.flop(graph.shapes(9, 8))) == (("squeeze",), 0)


@pytest.mark.parametrize("operator", [BN, Scale(4), Rescale((2.0,), (1.0,)), Normalization(4)], ids=lambda o: o.kind)
def test_affine(operator):
    """Before any convolution: what scales channels, one after another, and a ReLU."""
    node = only(nodes_of(graph_of(("first", operator, "input"), ("bn", BN, "first"), ("relu", ReLU(), "bn"))))
    assert node == FusedAffine(
        layers=("first", "bn", "relu"),
        leader="first",
        x="input",
        norms=("first", "bn"),
        epilogue=FusedEpilogue(None, ReLU()),
    )


def test_sum_and_activation_by_themselves_are_affine():
    graph = graph_of(("add", Add(), "input input"), ("relu", ReLU(), "add"))
    node = only(nodes_of(graph))
    assert node == FusedAffine(
        layers=("add", "relu"), leader="add", x="input", norms=(), epilogue=FusedEpilogue("input", ReLU())
    )
    assert node.inputs == ("input", "input")
    lone = only(nodes_of(graph_of(("relu", ReLU(), "input"))))
    assert lone == FusedAffine(
        layers=("relu",), leader="relu", x="input", norms=(), epilogue=FusedEpilogue(None, ReLU())
    )


@pytest.mark.parametrize("zeros", [False, True])
def test_pool(zeros):
    """Zeros of a border may win, a pool's own padding never does."""
    if zeros:
        graph = graph_of(("pad", Pad((1, 0, 1, 0)), "input"), ("pool", MaxPool((3, 2), (2, 2), "valid"), "pad"))
        assert only(nodes_of(graph)) == Pool(
            layers=("pad", "pool"), leader="pool", x="input", operator=MaxPool((3, 2), (2, 2), "valid"),
            pads=(1, 0, 1, 0), zeros=True,
        )  # fmt: skip
    else:
        graph = graph_of(("pool", MaxPool((3, 3), (2, 2), "same"), "input"))
        assert only(nodes_of(graph)) == Pool(
            layers=("pool",), leader="pool", x="input", operator=MaxPool((3, 3), (2, 2), "same"),
            pads=(1, 1, 0, 1), zeros=False,
        )  # fmt: skip


@pytest.mark.parametrize("softmax", [False, True])
def test_dense(softmax):
    """Its softmax is its activation, behind which there is room for none; otherwise a ReLU may be."""
    operator = Dense(4, 3, softmax)
    graph = graph_of(("mean", GlobalAveragePool(), "input"), ("dense", operator, "mean"), ("relu", ReLU(), "dense"))
    mean, dense, *more = nodes_of(graph)
    assert mean == Mean(layers=("mean",), leader="mean", x="input")
    layers = ("dense",) if softmax else ("dense", "relu")
    epilogue = FusedEpilogue(None, Softmax() if softmax else ReLU())
    assert dense == FusedDense(layers=layers, leader="dense", x="mean", operator=operator, epilogue=epilogue)
    assert [node.layers for node in more] == ([("relu",)] if softmax else [])
    assert dense.flop(graph.shapes(9, 8)) == 2 * 4 * 3


@pytest.mark.parametrize("operator", [Softmax(), Flatten(), AveragePool((2, 2), (2, 2), "same")], ids=str)
def test_alone(operator):
    """Neither become part of the convolution before, nor takes a ReLU."""
    graph = graph_of(("conv", CONV, "input"), ("odd", operator, "conv"), ("relu", ReLU(), "odd"))
    assert [type(node) for node in nodes_of(graph)] == [FusedConv, Alone, FusedAffine]


def test_an_activation_that_is_no_line():
    """Becomes part of what has an epilogue, as ReLU does, and stands alone elsewhere."""
    silu = Activation("silu")
    graph = graph_of(
        ("conv", CONV, "input"), ("add", Add(), "conv input"), ("silu", silu, "add"), ("more", silu, "silu")
    )
    conv, alone = nodes_of(graph)
    assert isinstance(conv, FusedConv)
    assert conv.epilogue == FusedEpilogue("input", silu)
    assert alone == Alone(layers=("more",), leader="more", x="silu", layer=graph.by_name["more"])


# What must not be fused ------------------------------------------------------------------------------------------------


CHAIN = graph_of(
    ("pad", Pad((1, 1, 1, 1)), "input"),
    ("conv", Conv2D(4, 4, (3, 3)), "pad"),
    ("bn", BN, "conv"),
    ("add", Add(), "bn input"),
    ("relu", ReLU(), "add"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pad", ["pad", "conv bn add relu"]),
        ("conv", ["pad conv", "bn", "add relu"]),
        ("bn", ["pad conv bn", "add relu"]),
        ("add", ["pad conv bn add", "relu"]),
    ],
)
def test_an_output_asked_for_in_between_is_there(name, expected):
    assert [" ".join(node.layers) for node in nodes_of(CHAIN)] == ["pad conv bn add relu"]
    assert [" ".join(node.layers) for node in nodes_of(CHAIN, name, "relu")] == expected


@pytest.mark.parametrize("name", ["pad", "conv", "bn", "add"])
def test_what_two_layers_read_is_there(name):
    """What else reads it is a pool."""
    layers = (*CHAIN.layers[1:], Layer("other", MaxPool((1, 1), (1, 1), "valid"), (name,)))
    graph = Graph((CHAIN.layers[0], *layers), {"C": {"C1": "relu"}})
    nodes = nodes_of(graph, "relu", "other")
    assert name in {node.output for node in nodes}
    assert [node.x for node in nodes if node.output == "other"] == [name]


def test_a_border_of_what_brings_its_own_stands_alone():
    graph = graph_of(("pad", Pad((1, 1, 1, 1)), "input"), ("conv", CONV, "pad"))
    assert [type(node) for node in nodes_of(graph)] == [Alone, FusedConv]


@pytest.mark.parametrize("operator", [BN, ReLU(), AveragePool((2, 2), (2, 2), "same")], ids=lambda o: o.kind)
def test_a_border_of_no_window_stands_alone(operator):
    nodes = nodes_of(graph_of(("pad", Pad((1, 1, 1, 1)), "input"), ("after", operator, "pad")))
    assert [node.layers for node in nodes] == [("pad",), ("after",)]


@pytest.mark.parametrize("before", [MaxPool((2, 2), (2, 2), "same"), GlobalAveragePool(keep_dims=True)], ids=str)
@pytest.mark.parametrize("operator", [BN, ReLU()], ids=lambda o: o.kind)
def test_nothing_is_fused_behind_a_pool(before, operator):
    pool, after = nodes_of(graph_of(("pool", before, "input"), ("after", operator, "pool")))
    assert isinstance(pool, Pool | Mean)
    assert (type(after), after.layers) == (FusedAffine, ("after",))


@pytest.mark.parametrize(
    ("first", "second"), [(ReLU(), BN), (ReLU(), ReLU()), (ReLU(), Add()), (Add(), BN), (Add(), Add())]
)
def test_the_order_of_an_epilogue(first, second):
    """A convolution, its norms, one sum, one activation: what would be out of turn begins a node."""
    graph = graph_of(
        ("conv", CONV, "input"),
        ("first", first, "conv input" if isinstance(first, Add) else "conv"),
        ("second", second, "first input" if isinstance(second, Add) else "first"),
    )
    assert [node.layers for node in nodes_of(graph)] == [("conv", "first"), ("second",)]


@pytest.mark.parametrize("operator", [BN, Add()], ids=lambda o: o.kind)
def test_neither_norm_nor_sum_joins_a_dense_layer(operator):
    graph = graph_of(
        ("dense", Dense(4, 4, False), "input"), ("after", operator, "dense input" if operator == Add() else "dense")
    )
    assert [node.layers for node in nodes_of(graph)] == [("dense",), ("after",)]


def test_a_sum_joins_what_is_made_last():
    """By then the other one is there; where that is no convolution, it is a node of its own."""
    graph = graph_of(("a", CONV, "input"), ("b", CONV, "input"), ("add", Add(), "a b"))
    first, second = nodes_of(graph)
    assert (first.layers, second.layers, second.inputs) == (("a",), ("b", "add"), ("input", "a"))
    graph = graph_of(("a", CONV, "input"), ("b", BN, "input"), ("add", Add(), "a b"))
    assert [node.layers for node in nodes_of(graph)] == [("a",), ("b",), ("add",)]


def test_a_sum_of_a_map_with_itself():
    conv, twice = nodes_of(graph_of(("conv", CONV, "input"), ("add", Add(), "conv conv")))
    assert (conv.layers, twice.inputs) == (("conv",), ("conv", "conv"))


@pytest.mark.parametrize("name", ["pad", "conv", "bn", "add", "relu"])
def test_what_a_device_has_no_fused_kernel_for(name):
    """It stands alone, and what comes behind joins nothing of it."""
    nodes = nodes_of(CHAIN, alone=(name,))
    (lone,) = (node for node in nodes if isinstance(node, Alone) and node.layer.name == name)
    assert (lone.layers, lone.inputs) == ((name,), CHAIN.by_name[name].inputs)
    assert [layer for node in nodes for layer in node.layers] == ["pad", "conv", "bn", "add", "relu"]


# All nodes -------------------------------------------------------------------------------------------------------------


KINDS = get_args(Node)


def test_nodes_are_frozen():
    node = only(nodes_of(CHAIN))
    with pytest.raises(FrozenInstanceError):
        node.x = "other"  # type: ignore[misc]
    assert hash(node) == hash(only(nodes_of(CHAIN)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nodes_are_complete(kind):
    """No field has a default that could stand in for one that was forgotten."""
    names = [field.name for field in fields(kind)]
    assert {"layers", "leader", "x"} <= {*names}
    for name in names:
        with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{name}'"):
            kind(**dict.fromkeys(set(names) - {name}))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_in_one_node(family):
    """Of every family: each layer once, in an order in which the nodes can run, and every input made before."""
    depth = next(iter(FAMILIES[family].depths))
    graph = build_graph(Architecture.standard(FAMILIES[family], depth, classes=5))
    outputs = [*graph.features.values(), graph.classifier]
    nodes = fuse(graph.layers, outputs, graph.shapes(64, 64))
    assert Counter(name for node in nodes for name in node.layers) == Counter(layer.name for layer in graph.layers[1:])
    there = {graph.layers[0].name}
    for node in nodes:
        assert there.issuperset(node.inputs), node
        assert node.leader in node.layers
        there.add(node.output)
    assert there.issuperset(outputs)
    assert len(nodes) < 0.6 * len(graph.layers)
