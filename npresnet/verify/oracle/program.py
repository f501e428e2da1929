"""A model as a list of steps, whoever describes it: a Keras model's own graph, or a file (``described.py``)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Program", "Step", "program_of"]


class Step(NamedTuple):
    """One layer, at one of the places where it is used.

    name    what it is called: the layer's name, where no other step has it
    call    computes it, of the values of its inputs
    inputs  the tensors that it reads, by any keys
    output  the one that it makes
    """

    name: str
    call: Callable[[Sequence[Any]], Any]
    inputs: tuple[Hashable, ...]
    output: Hashable


@dataclass(frozen=True)
class Program:
    """A model's inputs {key of the tensor: (layer's name, shape with the batch)} and its steps, in an order in which they can run."""

    name: str
    inputs: Mapping[Hashable, tuple[str, tuple[int | None, ...]]]
    steps: Sequence[Step]


def program_of(model: Any) -> Program:
    """The layers of a Keras 3 model in the order in which Keras runs them; of models inside it their layers."""
    graph = _graph(model)
    inputs: dict[Hashable, tuple[str, tuple[int | None, ...]]] = {
        id(x): (x._keras_history.operation.name, tuple(x.shape)) for x in graph.inputs
    }
    return Program(model.name, inputs, _steps(graph, {}))


def _graph(model: Any) -> Any:
    return getattr(model, "_functional", None) or model  # a Sequential keeps its graph there


def _steps(graph: Any, alias: dict[int, int]) -> list[Step]:
    """``alias`` has the ids of the inputs and outputs of models inside others, in the model around."""
    from keras.src.ops.function import make_node_key

    steps: list[Step] = []
    for layer in graph.operations:
        nodes = enumerate(layer._inbound_nodes)
        node = next(node for i, node in nodes if make_node_key(layer, i) in graph._nodes)
        if node.is_input:
            continue
        inputs = tuple(alias.get(id(x), id(x)) for x in node.input_tensors)
        if hasattr(layer, "layers"):
            inner = _graph(layer)
            alias.update(zip(map(id, inner.inputs), inputs, strict=True))
            steps += _steps(inner, alias)
            alias.update((id(x), alias.get(id(y), id(y))) for x, y in zip(node.outputs, inner.outputs, strict=True))
            continue
        given = node.arguments
        # what keras.ops.pad fills in
        options = {name: value for name, value in given.kwargs.items() if isinstance(value, float)}
        if getattr(layer, "_call_has_training_arg", False):
            options["training"] = False  # layers that augment images assume that they are being trained
        call = _call(layer, isinstance(given.args[0], list), options)
        steps.append(Step(layer.name, call, inputs, id(node.outputs[0])))
    return steps


def _call(layer: Any, listed: bool, options: Mapping[str, Any]) -> Callable[[Sequence[Any]], Any]:
    """``listed``: it takes its inputs as a list."""
    return lambda values: layer(list(values) if listed else values[0], **options)
