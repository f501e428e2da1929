"""A network from the description of itself that Keras stores beside its weights: ``model_config``, ``config.json``.

The description is read as data: names, numbers, which layer feeds which. Nothing in it is executed; a layer that is
code (Lambda, a class of the user's own), or simply not known here, is left out together with what depends on it, and
named in ``OwnNetwork.unsupported``.

Here is which layer feeds which, through models inside models, and what becomes of that as a graph. What a layer of one of
Keras's classes computes ``dialects/`` says.

Layers that do nothing when a network is run (dropout, noise, random flips) are left out of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .dialects import LayerConfig, Shape, Unsupported, operators_of
from .features import feature_maps
from .graph import Graph, Layer
from .open_sizes import shape_after
from .operators import GlobalAveragePool, GlobalMaxPool, Input

__all__ = ["OwnNetwork", "network_from_config"]


_Config = Mapping[str, Any]

_MODELS = ("Functional", "Model", "Sequential")


@dataclass(frozen=True)
class OwnNetwork:
    """What a description says.

    graph        of all layers that can be run; features are found by the sizes of feature maps
    outputs      the model's own outputs, those that can be run
    unsupported  {layer: why it is not run} of the layers that are not, except those that only depend on such
    name         the model's
    """

    graph: Graph
    outputs: tuple[str, ...]
    unsupported: Mapping[str, str]
    name: str


@dataclass
class _Node:
    """One layer of the flattened description. ``stored`` is its name in the weight file."""

    name: str
    stored: str
    kind: str
    config: _Config
    inputs: list[str] = field(default_factory=list)
    trouble: str | None = None


def network_from_config(config: _Config) -> OwnNetwork | None:
    """The network that a model's config describes, or None where it describes no layers or is damaged.

    A damaged config is treated as none at all: it is additional to the weights.
    """
    try:
        nodes: dict[str, _Node] = {}
        outputs = _flatten(config, "", None, nodes)
        return _build(nodes, outputs, str(_inner(config).get("name", "model")))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        return None


def _inner(model: _Config) -> _Config:
    inner = model["config"]
    return {"layers": inner} if isinstance(inner, list) else inner  # Keras 1 and early 2: a Sequential's bare list


# ---------------------------------------------------------------------------------------------------------------------
# Which layers, and which feeds which


def _flatten(model: _Config, outer: str, feeds: Sequence[str] | None, nodes: dict[str, _Node]) -> list[str]:
    """Add a model's layers to ``nodes``, those of models inside it too. Returns the names of its outputs.

    feeds  what the model reads, by the names of ``nodes``; None for the outermost
    """
    inner = _inner(model)
    alias: dict[str, str] = {}  # a layer's name in this model: the node that makes its output
    pending: dict[str, tuple[_Config, list[str]]] = {}
    chain = model.get("class_name") == "Sequential"
    previous: list[str] = []
    for layer in inner["layers"]:
        settings = layer.get("config", {})
        name = layer.get("name") or (settings.get("name") if isinstance(settings, dict) else None)
        if not isinstance(name, str):
            raise ValueError(layer)
        pending[name] = (layer, list(previous) if chain else _sources(layer))
        previous = [name]
    given = {} if feeds is None else dict(zip(_ends(inner.get("input_layers", [])), feeds, strict=False))

    if chain:
        first = next(iter(pending))
        if pending[first][0]["class_name"] == "InputLayer":
            given = {first: feeds[0]} if feeds else {}
        elif feeds:
            pending[first] = (pending[first][0], ["*"])
            alias["*"] = feeds[0]
        else:  # the first layer says what it reads
            shape = pending[first][0]["config"].get("batch_input_shape") or _inner(model).get("build_input_shape")
            entry = _Node("input", "input", "InputLayer", {"batch_shape": shape})
            nodes["input"] = entry
            alias["*"] = "input"
            pending[first] = (pending[first][0], ["*"])

    while pending:
        ready = [name for name, (_, sources) in pending.items() if all(source in alias for source in sources)]
        if not ready:
            raise ValueError(f"a circle, or a layer that is missing: {list(pending)[:3]}")
        for name in ready:
            layer, sources = pending.pop(name)
            inputs = [alias[source] for source in sources]
            kind = str(layer["class_name"])
            if kind == "InputLayer" and name in given:
                alias[name] = given[name]
            elif kind in _MODELS and inputs:
                (alias[name],) = _flatten(layer, name, inputs, nodes)
            else:
                unique = name if name not in nodes else f"{outer}/{name}"
                if unique in nodes:
                    raise ValueError(f"two layers are called {unique}")
                config = layer.get("config", {})
                trouble = _trouble(layer)
                nodes[unique] = _Node(unique, unique, kind, config, inputs, trouble)
                alias[name] = unique
    ends = previous if chain else _ends(inner["output_layers"])
    return [alias[name] for name in ends]


def _ends(layers: Any) -> list[str]:
    """Names from ``input_layers`` or ``output_layers``: [name, 0, 0], or a list or dict of such."""
    if isinstance(layers, dict):
        return [name for one in layers.values() for name in _ends(one)]
    if layers and isinstance(layers[0], str):
        return [layers[0]]
    return [name for one in layers for name in _ends(one)]


def _sources(layer: _Config) -> list[str]:
    """The layers that feed a layer."""
    nodes = layer.get("inbound_nodes") or []
    if not nodes:
        return []
    node = nodes[0]
    if isinstance(node, dict):  # Keras 3
        return list(_tensors(node.get("args", [])))
    return [str(entry[0]) for entry in node]


def _tensors(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield str(value["config"]["keras_history"][0])
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)


def _trouble(layer: _Config) -> str | None:
    """Why the way in which a layer is used is not supported."""
    nodes = layer.get("inbound_nodes") or []
    if len(nodes) > 1:
        return f"it is used {len(nodes)} times in one network"
    return None


# ---------------------------------------------------------------------------------------------------------------------
# The graph


def _build(nodes: Mapping[str, _Node], outputs: Sequence[str], name: str) -> OwnNetwork:
    first = any(
        "channels_first" in str(node.config.get("data_format")) or node.config.get("dim_ordering") == "th"
        for node in nodes.values()
    )
    layers: list[Layer] = []
    shapes: dict[str, Shape] = {}
    same: dict[str, str] = {}  # a node: the layer that makes its output
    unsupported: dict[str, str] = {}
    for node in nodes.values():
        if node.kind == "InputLayer":
            shape = _input_shape(node.config, first)
            if not layers and shape is not None:
                h, w, channels = shape
                layers.append(Layer(node.name, Input(channels, (h, w) if h is not None and w is not None else None)))
                shapes[node.name], same[node.name] = shape, node.name
            continue
        if not node.inputs or any(source not in same for source in node.inputs):
            continue
        inputs = [same[source] for source in node.inputs]
        try:
            if node.trouble:
                raise Unsupported(node.trouble)
            steps = operators_of(LayerConfig(node.kind, node.config, [shapes[source] for source in inputs], first))
            made: list[Layer] = []
            for position, operator in enumerate(steps):
                # the last takes the layer's name: what comes out of it is what comes out of Keras's layer
                label = node.name if operator is steps[-1] else f"{node.name}:{position}"
                stored = node.stored if operator.tensors() and label != node.stored else ""
                sources = inputs if position == 0 else [made[-1].name]
                if operator.commutative:  # a sum or product of all inputs, one more at a time
                    sources = [made[-1].name if made else inputs[0], inputs[position + 1]]
                shapes[label] = shape_after(operator, [shapes[source] for source in sources])
                made.append(Layer(label, operator, tuple(sources), stored))
            layers += made
            same[node.name] = node.name if steps else inputs[0]
        except Unsupported as error:
            unsupported[node.name] = f"{node.kind}: {error}"
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            unsupported[node.name] = f"{node.kind}: its description is not understood ({error})"
    if not layers:
        raise ValueError("no input")
    graph = Graph(tuple(layers), {})
    found = tuple(same[output] for output in outputs if output in same)
    classifier = next((output for output in found if _classifies(graph.by_name[output], shapes[output])), None)
    return OwnNetwork(Graph(graph.layers, {"C": feature_maps(graph)}, classifier), found, unsupported, name)


def _classifies(layer: Layer, shape: Shape) -> bool:
    """Whether an output has one number per class; a pool's has one per channel, which is a feature."""
    return len(shape) == 1 and not isinstance(layer.operator, GlobalAveragePool | GlobalMaxPool)


def _input_shape(config: _Config, first: bool) -> tuple[int | None, int | None, int] | None:
    """(height, width, channels) of an input, or None where it is no batch of images."""
    shape = config.get("batch_shape") or config.get("batch_input_shape") or [None, *(config.get("shape") or ())]
    if len(shape) != 4:
        return None
    h, w, c = (*shape[2:], shape[1]) if first else shape[1:]
    return (h, w, int(c)) if c is not None else None
