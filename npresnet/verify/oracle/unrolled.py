"""A model as a list of layers, without models inside it, whoever describes it: a Keras model's own graph, or a file (``described.py``)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["LayerUse", "Unrolled", "unrolled"]


class LayerUse(NamedTuple):
    """One layer, at one of the places where it is used.

    name    what it is called: the layer's name, where no other has it
    call    computes it, of the values of its inputs
    inputs  the tensors that it reads, by any keys
    output  the one that it makes
    """

    name: str
    call: Callable[[Sequence[Any]], Any]
    inputs: tuple[Hashable, ...]
    output: Hashable


@dataclass(frozen=True)
class Unrolled:
    """A model's inputs {key of the tensor: (layer's name, shape with the batch)} and its
    layers, in an order in which they can run."""

    name: str
    inputs: Mapping[Hashable, tuple[str, tuple[int | None, ...]]]
    layers: Sequence[LayerUse]


def unrolled(model: Any) -> Unrolled:
    """The layers of a Keras 3 model in the order in which Keras runs them; of models inside it their layers."""
    graph = _graph(model)
    inputs: dict[Hashable, tuple[str, tuple[int | None, ...]]] = {
        id(x): (x._keras_history.operation.name, tuple(x.shape)) for x in graph.inputs
    }
    return Unrolled(model.name, inputs, _layers(graph, {}))


def _graph(model: Any) -> Any:
    return getattr(model, "_functional", None) or model  # a Sequential keeps its graph there


def _layers(graph: Any, alias: dict[int, int]) -> list[LayerUse]:
    """``alias`` has the ids of the inputs and outputs of models inside others, in the model around."""
    from keras.src.ops.function import make_node_key

    found: list[LayerUse] = []
    for layer in graph.operations:
        nodes = enumerate(layer._inbound_nodes)
        node = next(node for i, node in nodes if make_node_key(layer, i) in graph._nodes)
        if node.is_input:
            continue
        inputs = tuple(alias.get(id(x), id(x)) for x in node.input_tensors)
        if hasattr(layer, "layers"):
            inner = _graph(layer)
            alias.update(zip(map(id, inner.inputs), inputs, strict=True))
            found += _layers(inner, alias)
            alias.update((id(x), alias.get(id(y), id(y))) for x, y in zip(node.outputs, inner.outputs, strict=True))
            continue
        given = node.arguments
        # what keras.ops.pad fills in
        options = {name: value for name, value in given.kwargs.items() if isinstance(value, float)}
        if getattr(layer, "_call_has_training_arg", False):
            options["training"] = False  # layers that augment images assume that they are being trained
        call = _call(layer, isinstance(given.args[0], list), options)
        found.append(LayerUse(layer.name, call, inputs, id(node.outputs[0])))
    return found


def _call(layer: Any, listed: bool, options: Mapping[str, Any]) -> Callable[[Sequence[Any]], Any]:
    """``listed``: it takes its inputs as a list."""
    return lambda values: layer(list(values) if listed else values[0], **options)
