"""Every operator has all that it needs: calls of kernels, their versions and cases, a step in plans, a layer of Keras."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest

from npresnet import kernels
from npresnet.cpu import by_layer
from npresnet.cpu.runner import Planner
from npresnet.network import operators
from npresnet.network.described import network_from_config
from npresnet.network.graph import Graph, Layer
from npresnet.network.operator_base import OperatorBase
from npresnet.network.operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    ChannelReduce,
    Channels,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Crop,
    Dense,
    Divide,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    GroupNorm,
    Input,
    LayerNorm,
    LeakyReLU,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Normalization,
    Operator,
    Pad,
    PReLU,
    ReLU,
    Rescale,
    Reshape,
    Resize,
    Scale,
    Softmax,
    Subtract,
    UnitNorm,
    UpSample,
)
from npresnet.plan.layer_calls import CALLS, DEFINITIONS, LayerCall
from npresnet.verify.compare import compare

from ..support import cases

OPERATORS = get_args(Operator)
JOINS = (Add, Subtract, Multiply, Divide, Maximum, Minimum)
COMPUTED = [kind for kind in OPERATORS if kind is not Input]

# A layer of Keras that is made into the operator: its class and what its description says. It reads 8 x 8 pixels of 4.
KERAS: dict[type[Any], tuple[str, dict[str, Any]]] = {
    Pad: ("ZeroPadding2D", {"padding": [[1, 2], [3, 0]]}),
    Channels: ("Channels", {"order": [2, 1, 0]}),
    Conv2D: ("Conv2D", {"filters": 5, "kernel_size": [3, 3], "padding": "same"}),
    Conv2DTranspose: ("Conv2DTranspose", {"filters": 5, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same"}),
    BatchNorm: ("BatchNormalization", {"epsilon": 1e-3}),
    Scale: ("Scale", {}),
    Rescale: ("Rescaling", {"scale": 0.5, "offset": -1}),
    Normalization: ("Normalization", {}),
    ReLU: ("ReLU", {}),
    LeakyReLU: ("LeakyReLU", {"negative_slope": 0.3}),
    Activation: ("Activation", {"activation": "sigmoid"}),
    PReLU: ("PReLU", {"shared_axes": [1, 2]}),
    LayerNorm: ("LayerNormalization", {"axis": [3]}),
    GroupNorm: ("GroupNormalization", {"groups": 2}),
    UnitNorm: ("UnitNormalization", {"axis": -1}),
    Softmax: ("Softmax", {}),
    Add: ("Add", {}),
    Subtract: ("Subtract", {}),
    Multiply: ("Multiply", {}),
    Divide: ("Divide", {}),
    Maximum: ("Maximum", {}),
    Minimum: ("Minimum", {}),
    Concatenate: ("Concatenate", {}),
    MaxPool: ("MaxPooling2D", {"pool_size": [3, 3], "strides": [2, 2]}),
    AveragePool: ("AveragePooling2D", {"pool_size": [3, 3], "strides": [2, 2]}),
    GlobalAveragePool: ("GlobalAveragePooling2D", {}),
    GlobalMaxPool: ("GlobalMaxPooling2D", {"keepdims": True}),
    ChannelReduce: ("ChannelReduce", {"function": "max"}),
    Crop: ("Cropping2D", {"cropping": [[1, 2], [3, 0]]}),
    UpSample: ("UpSampling2D", {"size": [2, 3], "interpolation": "bilinear"}),
    Flatten: ("Flatten", {}),
    Resize: ("Resizing", {"height": 5, "width": 9, "interpolation": "nearest"}),
    Reshape: ("Reshape", {"target_shape": [4, 4, 16]}),
    Dense: ("Dense", {"units": 3, "activation": "softmax"}),
}


def _names_on_cards() -> set[str]:
    """The names in ``npresnet.kernels.cuda``, which takes a package that not everybody has."""
    source = Path(kernels.__file__).parent / "cuda" / "__init__.py"
    (names,) = (
        node.value
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return set(ast.literal_eval(names))


ON_CARDS = _names_on_cards()


def graph_of(kind: type[Any]) -> Graph | None:
    """The images and one layer, called "layer", as Keras describes it; None where no description makes this operator."""
    if kind not in KERAS:
        return None
    name, config = KERAS[kind]
    image = ["image", 0, 0, {}]
    feeds = [image] * (2 if kind in (*JOINS, Concatenate) else 1)
    layers = [
        {"class_name": "InputLayer", "name": "image", "config": {"batch_shape": [None, 8, 8, 4]}, "inbound_nodes": []},
        {"class_name": name, "name": "layer", "config": config, "inbound_nodes": [feeds]},
    ]
    ends = {"input_layers": [["image", 0, 0]], "output_layers": [["layer", 0, 0]]}
    found = network_from_config({"class_name": "Functional", "config": {"name": "one", "layers": layers, **ends}})
    made = found.graph.by_name.get("layer") if found else None
    return found.graph if found and made and type(made.operator) is kind else None


def lacks(kind: type[Any]) -> Iterator[str]:
    """What an operator does not have yet."""
    graph = graph_of(kind)
    if graph is None:
        yield "a layer of Keras"
        graph = Graph((Layer("image", Input(4)), Layer("layer", kind(), ("image",))), {})
    operator: Any = graph.by_name["layer"].operator
    if kind not in CALLS or kind not in DEFINITIONS:
        yield "calls"
    called = {call.kernel for table in (CALLS, DEFINITIONS) for call in table.get(kind, ())}
    for name in sorted(called or ([] if operator.reshapes else [operator.kind])):
        versions = kernels.LADDER.get(name, ())
        if len(versions) < 2 or versions[0].__name__ != f"{name}_reference" or not hasattr(kernels, name):
            yield f"{name}: a reference and a faster version"
        if f"{name}_cuda" not in ON_CARDS:
            yield f"{name}: a version for cards"
        if not cases.CASES.get(name):
            yield f"{name}: cases"
    try:
        planned = Planner(graph, weights_of(graph), 1).plan((1, 8, 8), ("layer",), True).steps
    except (AssertionError, KeyError, AttributeError):
        planned = ()
    if not planned:
        yield "a step in a plan"


def weights_of(graph: Graph) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    return {
        layer.name: {role: rng.uniform(0.1, 1, shape).astype(np.float32) for role, shape in tensors.items()}
        for layer in graph.layers
        if (tensors := layer.operator.tensors())
    }


def test_all_operators_are_of_the_union():
    classes = {
        value
        for name, value in vars(operators).items()
        if inspect.isclass(value) and issubclass(value, OperatorBase) and value is not OperatorBase
    }
    assert {value for value in classes if not value.__name__.startswith("_")} == set(OPERATORS)
    assert {*CALLS} == {*DEFINITIONS} == set(OPERATORS)


@pytest.mark.parametrize("kind", COMPUTED, ids=lambda kind: kind.__name__)
def test_lacks_nothing(kind):
    assert list(lacks(kind)) == []


@pytest.mark.parametrize("kind", COMPUTED, ids=lambda kind: kind.__name__)
def test_each_way_to_compute_it(kind):
    """Layer by layer, by the reference and by plan: the same numbers, of the shape that the operator says."""
    graph = graph_of(kind)
    assert graph is not None
    weights = weights_of(graph)
    images = np.random.default_rng(1).normal(size=(3, 8, 8, 4)).astype(np.float32)

    def run(algorithm, dtype=np.float32):
        steps = by_layer.run(graph, weights, images.astype(dtype), ["layer"], algorithm=algorithm, threads=2)
        return list(steps)[-1].array

    truth = run("reference", np.float64)
    assert truth.dtype == np.float64
    assert truth.shape == (3, *graph.by_name["layer"].operator.output_shape(*[(8, 8, 4)] * 2))
    planned = Planner(graph, weights, 2).run(images, ("layer",), True)["layer"]
    for result in (run("reference"), run("im2col"), planned):
        assert result.dtype == np.float32
        assert compare(result, truth).agrees()


# The check itself ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swish(OperatorBase):
    """A new activation of which nobody has heard."""

    kind: ClassVar[str] = "swish"


def test_a_new_operator_lacks_everything():
    assert list(lacks(Swish)) == [
        "a layer of Keras",
        "calls",
        "swish: a reference and a faster version",
        "swish: a version for cards",
        "swish: cases",
        "a step in a plan",
    ]


def test_calls_of_a_kernel_that_is_not_there(monkeypatch):
    for table in (CALLS, DEFINITIONS):
        monkeypatch.setitem(table, Swish, (LayerCall("relu"), LayerCall("swish")))
    missing = list(lacks(Swish))
    assert "calls" not in missing
    assert "swish: a version for cards" in missing
    assert not [what for what in missing if what.startswith("relu")]


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        (KERAS, ReLU, "a layer of Keras"),
        (CALLS, ReLU, "calls"),
        (DEFINITIONS, ReLU, "calls"),
        (kernels.LADDER, "relu", "relu: a reference and a faster version"),
        (cases.CASES, "relu", "relu: cases"),
    ],
)
def test_what_is_taken_away_is_missed(monkeypatch, table, key, said):
    assert list(lacks(ReLU)) == []
    monkeypatch.delitem(table, key)
    assert list(lacks(ReLU)) == [said]


def test_a_version_for_cards_that_is_taken_away_is_missed(monkeypatch):
    monkeypatch.setitem(globals(), "ON_CARDS", ON_CARDS - {"relu_cuda"})
    assert list(lacks(ReLU)) == ["relu: a version for cards"]


def test_a_description_that_makes_another_operator_does_not_count(monkeypatch):
    monkeypatch.setitem(KERAS, ReLU, ("Activation", {"activation": "sigmoid"}))
    assert list(lacks(ReLU)) == ["a layer of Keras"]


# Properties ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "having"),
    [
        ("pointwise", {ReLU, LeakyReLU, PReLU, Activation}),
        ("per_channel", {BatchNorm, Scale, Rescale, Normalization}),
        ("commutative", {Add, Multiply, Maximum, Minimum}),
        ("epilogue", {ReLU, LeakyReLU, Activation}),
        ("drops_nan", {MaxPool}),
        ("divides", {Divide, LayerNorm, UnitNorm}),
        ("reshapes", {Flatten, Reshape}),
    ],
)
def test_properties(name, having):
    assert {kind for kind in OPERATORS if getattr(kind, name)} == having
