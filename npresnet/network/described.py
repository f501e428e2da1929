"""A network from the description of itself that Keras stores beside its weights: ``model_config``, ``config.json``.

The description is read as data: names, numbers, which layer feeds which. Nothing in it is executed; a layer that is
code (Lambda, a class of the user's own), or simply not known here, is left out together with what depends on it, and
named in ``OwnNetwork.unsupported``. Keras 1 (``nb_filter``, ``border_mode``), 2 and 3 spell things differently; all
are understood.

Layers that do nothing when a network is run (dropout, noise, random flips) are left out of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .features import feature_maps
from .graph import Graph, Layer
from .operators import (
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Input,
    MaxPool,
    Multiply,
    Normalization,
    Operator,
    Pad,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    Sigmoid,
    Softmax,
)

__all__ = ["OwnNetwork", "network_from_config"]


_Config = Mapping[str, Any]
_Shape = tuple[int | None, ...]

_MODELS = ("Functional", "Model", "Sequential")

# what a layer does only while a network is being trained
_IDLE = frozenset(
    {
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "RandomBrightness",
        "RandomContrast",
        "RandomCrop",
        "RandomFlip",
        "RandomHeight",
        "RandomRotation",
        "RandomTranslation",
        "RandomWidth",
        "RandomZoom",
        "SpatialDropout2D",
    }
) - {"RandomCrop", "RandomHeight", "RandomWidth"}  # these change the size of what they get


class _Unsupported(Exception):
    """This layer is not run here; the text says why."""


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
# Operators


def _build(nodes: Mapping[str, _Node], outputs: Sequence[str], name: str) -> OwnNetwork:
    first = any(
        "channels_first" in str(node.config.get("data_format")) or node.config.get("dim_ordering") == "th"
        for node in nodes.values()
    )
    layers: list[Layer] = []
    shapes: dict[str, _Shape] = {}
    same: dict[str, str] = {}  # a node: the layer that makes its output
    unsupported: dict[str, str] = {}
    for node in nodes.values():
        if node.kind == "InputLayer":
            shape = _input_shape(node.config, first)
            if not layers and shape is not None:
                layers.append(Layer(node.name, Input(shape[2])))
                shapes[node.name], same[node.name] = shape, node.name
            continue
        if not node.inputs or any(source not in same for source in node.inputs):
            continue
        inputs = [same[source] for source in node.inputs]
        try:
            if node.trouble:
                raise _Unsupported(node.trouble)
            steps = _operators(node.kind, node.config, [shapes[source] for source in inputs], first)
            made: list[Layer] = []
            for position, operator in enumerate(steps):
                # the last takes the layer's name: what comes out of it is what comes out of Keras's layer
                label = node.name if operator is steps[-1] else f"{node.name}:{position}"
                stored = node.stored if operator.tensors() and label != node.stored else ""
                sources = inputs if position == 0 else [made[-1].name]
                if operator.commutative:  # a sum or product of all inputs, one more at a time
                    sources = [made[-1].name if made else inputs[0], inputs[position + 1]]
                shapes[label] = _after(operator, [shapes[source] for source in sources])
                made.append(Layer(label, operator, tuple(sources), stored))
            layers += made
            same[node.name] = node.name if steps else inputs[0]
        except _Unsupported as error:
            unsupported[node.name] = f"{node.kind}: {error}"
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            unsupported[node.name] = f"{node.kind}: its description is not understood ({error})"
    if not layers:
        raise ValueError("no input")
    graph = Graph(tuple(layers), {})
    found = tuple(same[output] for output in outputs if output in same)
    classifier = next((output for output in found if _classifies(graph.by_name[output], shapes[output])), None)
    return OwnNetwork(Graph(graph.layers, feature_maps(graph), classifier), found, unsupported, name)


def _classifies(layer: Layer, shape: _Shape) -> bool:
    """Whether an output has one number per class; a pool's has one per channel, which is a feature."""
    return len(shape) == 1 and not isinstance(layer.operator, GlobalAveragePool | GlobalMaxPool)


def _input_shape(config: _Config, first: bool) -> tuple[int | None, int | None, int] | None:
    """(height, width, channels) of an input, or None where it is no batch of images."""
    shape = config.get("batch_shape") or config.get("batch_input_shape") or [None, *(config.get("shape") or ())]
    if len(shape) != 4:
        return None
    h, w, c = (*shape[2:], shape[1]) if first else shape[1:]
    return (h, w, int(c)) if c is not None else None


def _after(operator: Operator, inputs: Sequence[_Shape]) -> _Shape:
    """The shape after an operator, where heights and widths may be unknown."""
    if all(size is not None for shape in inputs for size in shape):
        return operator.output_shape(*inputs)  # type: ignore[arg-type]
    if isinstance(operator, Flatten):
        return (None,)
    if isinstance(operator, GlobalAveragePool | GlobalMaxPool):
        channels = inputs[0][2]
        return (1, 1, channels) if operator.keep_dims else (channels,)
    if isinstance(operator, Conv2D):
        return None, None, operator.channels
    if isinstance(operator, Dense):
        return *inputs[0][:-1], operator.channels
    return max(inputs, key=len)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _channels_axis(config: _Config, first: bool) -> None:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if axis not in ((1, -3) if first else (-1, 3)):
        raise _Unsupported(f"it works along axis {axis}, not along the channels")


def _padding(config: _Config) -> Literal["same", "valid"]:
    padding = str(config.get("padding", config.get("border_mode", "valid"))).lower()
    if padding not in ("same", "valid"):
        raise _Unsupported(f"padding {padding!r}")
    return "same" if padding == "same" else "valid"


def _activation(config: _Config, key: str = "activation") -> list[Operator]:
    """The operator of an activation by name; none for linear."""
    found = config.get(key, "linear")
    if isinstance(found, dict):  # Keras 3 writes some as objects
        found = found.get("config") if isinstance(found.get("config"), str) else found.get("class_name")
    known: dict[Any, list[Operator]] = {
        "linear": [],
        None: [],
        "relu": [ReLU()],
        "sigmoid": [Sigmoid()],
        "softmax": [Softmax()],
    }
    if found not in known:
        raise _Unsupported(f"activation {found!r}")
    return known[found]


def _conv(config: _Config, channels: int, depthwise: bool) -> Conv2D:
    kernel = _pair(config.get("kernel_size") or (config["nb_row"], config["nb_col"]))
    stride = _pair(config.get("strides") or config.get("subsample") or 1)
    dilation = _pair(config.get("dilation_rate") or config.get("atrous_rate") or 1)
    bias = bool(config.get("use_bias", config.get("bias", True)))
    padding = "valid" if kernel == (1, 1) else _padding(config)  # "same" pads nothing around one pixel
    if depthwise:
        out, groups = channels * int(config.get("depth_multiplier", 1)), channels
    else:
        out, groups = int(config.get("filters") or config["nb_filter"]), int(config.get("groups") or 1)
    if channels % groups or out % groups:
        raise _Unsupported(f"{groups} groups do not divide {channels} and {out} channels")
    return Conv2D(channels, out, kernel, stride, padding, bias, groups, dilation)


def _constants(value: Any, channels: int) -> tuple[float, ...]:
    """Numbers of a description: one, or one per channel."""
    if isinstance(value, dict):  # Keras 3 may write an array as an object
        value = value["config"]["value"] if "value" in value.get("config", {}) else value["value"]
    numbers = tuple(float(number) for number in np.ravel(value))
    if len(numbers) not in (1, channels):
        raise _Unsupported(f"{len(numbers)} constants for {channels} channels")
    return numbers


def _operators(kind: str, config: _Config, shapes: Sequence[_Shape], first: bool) -> list[Operator]:
    """The operators of one layer, in order; none for a layer that does nothing. Raises _Unsupported."""
    shape = shapes[0]
    channels = shape[-1]
    if kind in _IDLE:
        return []
    if kind in ("Add", "Multiply", "Merge"):
        product = kind == "Multiply" or (kind == "Merge" and config.get("mode") == "mul")
        if kind == "Merge" and config.get("mode") not in ("sum", "mul"):
            raise _Unsupported(f"mode {config.get('mode')!r}")
        if len(shapes) < 2:
            raise _Unsupported("it has one input")
        return [Multiply() if product else Add() for _ in shapes[1:]]
    if len(shapes) != 1:
        raise _Unsupported(f"it has {len(shapes)} inputs")
    match kind:
        case "Activation" | "ReLU" | "Softmax" | "Sigmoid":
            return _named_activation(kind, config, first)
        case "Flatten":
            if first and shape[:2] != (1, 1) and len(shape) == 3:
                raise _Unsupported("it flattens channels before pixels")
            return [Flatten()] if len(shape) == 3 else []
        case "GlobalAveragePooling2D":
            return [GlobalAveragePool(bool(config.get("keepdims", False)))]
        case "GlobalMaxPooling2D":
            return [GlobalMaxPool(bool(config.get("keepdims", False)))]
    if channels is None:
        raise _Unsupported("how many numbers it gets depends on the size of the image, which the file does not fix")
    match kind:
        case "Conv2D" | "Convolution2D":
            return [_conv(config, channels, depthwise=False), *_activation(config)]
        case "DepthwiseConv2D":
            return [_conv(config, channels, depthwise=True), *_activation(config)]
        case (
            "BatchNormalization"
            | "BatchNormalizationV1"
            | "BatchNormalizationV2"
            | "BatchNorm"
            | ("SyncBatchNormalization")
        ):
            if len(shape) == 3:
                _channels_axis(config, first)
            if config.get("mode", 0) == 1:
                raise _Unsupported("it normalises each image by itself (mode 1)")
            scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
            return [BatchNorm(channels, float(config.get("epsilon", 1e-3)), scale, center)]
        case "Scale":
            return [Scale(channels)]
        case "ZeroPadding2D":
            return [Pad(_pads(config.get("padding", 1)))]
        case "MaxPooling2D" | "AveragePooling2D":
            window = _pair(config.get("pool_size") or 2)
            stride = _pair(config.get("strides") or window)
            pool = MaxPool if kind == "MaxPooling2D" else AveragePool
            return [pool(window, stride, "valid" if window == (1, 1) else _padding(config))]
        case "Dense":
            units = int(config.get("units") or config["output_dim"])
            activation = _activation(config)
            softmax = activation == [Softmax()]
            bias = bool(config.get("use_bias", config.get("bias", True)))
            return [Dense(channels, units, softmax, bias), *([] if softmax else activation)]
        case "Reshape":
            target = tuple(int(n) for n in config["target_shape"])
            target = tuple(channels if n == -1 and all(m in (1, -1) for m in target) else n for n in target)
            if min(target) < 1 or first:
                raise _Unsupported(f"target shape {tuple(config['target_shape'])}")
            return [Reshape(target)]
        case "Rescaling":
            return [
                Rescale(_constants(config.get("scale", 1), channels), _constants(config.get("offset", 0), channels))
            ]
        case "Normalization":
            if config.get("invert"):
                raise _Unsupported("it is inverted")
            if config.get("mean") is None:
                return [Normalization(channels)]
            mean, variance = (np.array(_constants(config[key], channels)) for key in ("mean", "variance"))
            factor = 1 / np.maximum(np.sqrt(variance), 1e-7)
            mean, factor = np.broadcast_arrays(mean, factor)
            return [Rescale(tuple(map(float, factor)), tuple(map(float, -mean * factor)))]
        case "Lambda" | "TFOpLambda" | "SlicingOpLambda":
            raise _Unsupported("it is code, and nothing from a file is executed")
    raise _Unsupported("npresnet has no such layer")


def _named_activation(kind: str, config: _Config, first: bool) -> list[Operator]:
    if kind == "Activation":
        return _activation(config)
    if kind == "Softmax":
        _channels_axis({"axis": config.get("axis", -1)}, False)
        return [Softmax()]
    if kind == "ReLU":
        limits = (config.get("max_value"), config.get("negative_slope"), config.get("threshold"))
        if limits[0] is not None or any(limits[1:]):
            raise _Unsupported(f"max_value, negative_slope and threshold are {limits}")
        return [ReLU()]
    return [Sigmoid()]


def _pads(padding: Any) -> tuple[int, int, int, int]:
    if isinstance(padding, dict):  # Keras 1: top_pad, bottom_pad, ...
        top, bottom, left, right = (int(padding[f"{side}_pad"]) for side in ("top", "bottom", "left", "right"))
        return top, bottom, left, right
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 4:
        return tuple(map(int, padding))  # type: ignore[return-value]
    (top, bottom), (left, right) = map(_pair, padding)
    return top, bottom, left, right
