"""A network from the description of itself that Keras stores beside its weights: ``model_config``, ``config.json``.

The description is read as data: names, numbers, which layer feeds which. Nothing in it is executed; a layer that is
code (Lambda, a class of the user's own), or simply not known here, is left out together with what depends on it, and
named in ``OwnNetwork.unsupported``.

Which layer feeds which, through models inside models, ``wiring.py`` says; what a layer of one of Keras's classes computes,
``dialects/``. Here the two become a graph. Layers that do nothing when a network is run (dropout, noise, random flips) are left
out of it; their names stand for what they read (``Graph.aliases``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .dialects import LayerConfig, Shape, Unsupported, one_channel, operators_of, settings, stacked_channels
from .features import feature_maps
from .graph import Graph, Layer
from .operators import Channels, Conv2D, Dense, Input, Operator
from .structure import leaves, mapped
from .wiring import Node, NotDescribed, Wiring, flattened

__all__ = ["NotDescribed", "OwnNetwork", "network_from_config"]


@dataclass(frozen=True)
class OwnNetwork:
    """What a description says.

    graph        of all layers that can be run; features are found by the sizes of feature maps
    outputs      the model's own outputs, those that can be run
    unsupported  {layer: why it is not run} of the layers that are not, except those that only depend on such
    lacking      the model's own outputs that cannot be run, by the layers that would make them
    name         the model's
    """

    graph: Graph
    outputs: tuple[str, ...]
    unsupported: Mapping[str, str]
    lacking: tuple[str, ...]
    name: str


def network_from_config(config: Any, custom: Mapping[str, str] | None = None) -> OwnNetwork:
    """The network that a model's config describes. Raises NotDescribed where it describes no layers that can be run.

    custom  {class, layer or name in ``activation=``: activation in the table of functions} of the user's own
    """
    wiring = flattened(config)
    inner = config["config"]
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return _Building(wiring, custom or {}).network(str(name or "model"))


# Sizes that a file leaves open are tried with these two, in pixels: what comes out different depends on the image.
_HEIGHTS, _WIDTHS = (768, 896), (1024, 640)

_Sizes = tuple[tuple[int, ...], tuple[int, ...]]
"""A shape for each of the two."""


def _shape(sizes: _Sizes) -> Shape:
    return tuple(a if a == b else None for a, b in zip(*sizes, strict=True))


@dataclass
class _Building:
    """The graph of a description while it is built."""

    wiring: Wiring
    custom: Mapping[str, str]
    layers: list[Layer] = field(default_factory=list)
    sizes: dict[str, _Sizes] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)  # a node: the layer that makes its output
    picked: dict[str, int] = field(default_factory=dict)  # a node that is a single channel of a layer: which
    unsupported: dict[str, str] = field(default_factory=dict)

    def network(self, name: str) -> OwnNetwork:
        first = any(
            "channels_first" in str(node.config.get("data_format")) or node.config.get("dim_ordering") == "th"
            for node in self.wiring.nodes
        )
        for node in self.wiring.nodes:
            try:
                if node.trouble:
                    raise Unsupported(node.trouble)
                if node.kind == "InputLayer":
                    self.entry(node, first)
                elif all(source in self.same for source in node.inputs):
                    self.add(node, first)
            except (Unsupported, ValueError) as error:
                self.unsupported[node.name] = f"{node.kind}: {error}"
            except (KeyError, TypeError, IndexError, AttributeError, OverflowError, ZeroDivisionError) as error:
                self.unsupported[node.name] = f"{node.kind}: its description is not understood ({error!r})"[:300]
        return self.finished(name)

    def entry(self, node: Node, first: bool) -> None:
        """Something that the network is fed."""
        given = node.config.get("batch_shape") or node.config.get("batch_input_shape")
        given = given or [None, *(node.config.get("shape") or ())]
        if len(given) == 4:
            h, w, c = (*given[2:], given[1]) if first else given[1:]
            if c is None:
                raise Unsupported("the file does not say how many channels images have")
            height, width = (n if n is None else settings.whole("a size", n, 1, 2**20) for n in (h, w))
            size = (height, width) if height is not None and width is not None else None
            operator = Input(settings.whole("the number of channels", c), size)
            tried = [(height or _HEIGHTS[i], width or _WIDTHS[i], operator.channels) for i in (0, 1)]
            self.sizes[node.name] = tried[0], tried[1]
        elif len(given) == 2 and given[1] is not None:
            operator = Input(settings.whole("how many numbers it takes", given[1]), maps=False)
            self.sizes[node.name] = (operator.channels,), (operator.channels,)
        else:
            raise Unsupported(
                f"it takes arrays of shape {tuple(given)}; images, [n, h, w, c], and rows, [n, c], are run"
            )
        self.layers.append(Layer(node.name, operator))
        self.same[node.name] = node.name

    def add(self, node: Node, first: bool) -> None:
        """The layers of one node."""
        inputs = [self.same[source] for source in node.inputs]
        shapes = [_shape(self.sizes[source]) for source in inputs]
        config = LayerConfig(
            node.kind, node.config, shapes, first, node.module, self.wiring.keras, node.arguments, self.custom
        )
        channels = [self.picked[source] for source in node.inputs if source in self.picked]
        if channels:
            if len(channels) < len(node.inputs) or len(set(inputs)) > 1:
                raise Unsupported("it puts single channels of several maps together")
            steps: list[Operator] = [Channels(tuple(stacked_channels(config, channels)))]
            inputs = inputs[:1]
        else:
            channel = one_channel(config)
            if channel is not None:
                self.same[node.name], self.picked[node.name] = inputs[0], channel
                return
            steps = operators_of(config, node.layer)
        made: list[Layer] = []
        tensors = [len(operator.tensors()) for operator in steps]
        sizes = dict[str, _Sizes]()
        for position, operator in enumerate(steps):
            # the last takes the layer's name: what comes out of it is what comes out of Keras's layer
            label = node.name if position == len(steps) - 1 else f"{node.name}:{position}"
            stored = self.stored(node) if operator.tensors() and self.stored(node) != label else ""
            sources = inputs if position == 0 else [made[-1].name]
            if operator.commutative:  # a sum or product of all inputs, one more at a time
                sources = [made[-1].name if made else inputs[0], inputs[position + 1]]
            found = [(sizes.get(source) or self.sizes[source]) for source in sources]
            sizes[label] = (
                operator.output_shape(*(pair[0] for pair in found)),
                operator.output_shape(*(pair[1] for pair in found)),
            )
            several = tensors[position] < sum(tensors) and tensors[position] > 0
            share = (sum(tensors[:position]), sum(tensors)) if several else None
            made.append(Layer(label, operator, tuple(sources), stored, share))
        self.layers += made
        self.sizes.update(sizes)
        self.same[node.name] = node.name if steps else inputs[0]

    def stored(self, node: Node) -> str:
        """The layer of the weight file that holds a node's tensors: by its path where several layers have its name."""
        return "/".join(node.path) if len(self.paths[node.layer]) > 1 else node.layer

    @cached_property
    def paths(self) -> dict[str, set[tuple[str, ...]]]:
        """{a layer's name: all places where there is one}."""
        found: dict[str, set[tuple[str, ...]]] = {}
        for node in self.wiring.nodes:
            found.setdefault(node.layer, set()).add(node.path)
        return found

    def finished(self, name: str) -> OwnNetwork:
        wired = self.wiring.inputs
        entries = tuple(entry for entry in wired if entry in self.same)
        pictures = [entry for entry in entries if len(self.sizes[entry][0]) == 3]
        if not pictures:
            raise NotDescribed("it has no input for images" + _first_reason(self.unsupported))
        layers = sorted(
            self.layers, key=lambda layer: (not isinstance(layer.operator, Input), layer.name != pictures[0])
        )
        listed = {layer.name for layer in layers}
        aliases = {
            alias: layer for alias, layer in self.same.items() if alias not in listed and alias not in self.picked
        }
        outputs = [*leaves(self.wiring.outputs)]
        for output in outputs:
            if output in self.picked:
                self.unsupported[output] = (
                    "one channel without an axis of its own, [n, h, w], is run where it is stacked with others"
                )
        found = tuple(self.same[output] for output in outputs if output in self.same and output not in self.picked)
        lacking = tuple(str(output) for output in outputs if output not in self.same or output in self.picked)
        result = None if lacking else mapped(self.wiring.outputs, self.same)
        graph = Graph(tuple(layers), {}, None, entries, result, aliases)
        by_name = graph.by_name
        classifier = next((output for output in found if _classifies(by_name, output, self.sizes)), None)
        graph = Graph(graph.layers, {"C": feature_maps(graph)}, classifier, entries, result, aliases)
        return OwnNetwork(graph, found, self.unsupported, lacking, name)


def _first_reason(unsupported: Mapping[str, str]) -> str:
    return next((f" ({name!r}: {why})" for name, why in unsupported.items()), "")


def _classifies(layers: Mapping[str, Layer], output: str, sizes: Mapping[str, _Sizes]) -> bool:
    """Whether an output has one number per class: a dense layer made it, or a convolution of a single pixel; but no pool, of
    features."""
    layer = layers[output]
    while (
        layer.operator.pointwise
        or layer.operator.per_channel
        or layer.operator.reshapes
        or layer.operator.kind == "softmax"
    ):
        layer = layers[layer.inputs[0]]
    pixels = sizes[layer.name][0][:-1]
    return len(sizes[output][0]) == 1 and (
        isinstance(layer.operator, Dense) or (isinstance(layer.operator, Conv2D) and pixels == (1, 1))
    )
