"""A network as data: named layers in an order in which they can run, and what each one needs and makes.

A ``Graph`` is what the rest of the package agrees on. The families' table (``building.py``) or a file's own description
(``described.py``) makes one, weights are matched to it by name and shape, the engines run it, and verification compares it
layer by layer.

Shapes are NHWC without the batch inside a graph: (h, w, c), or (c,) after global pooling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import UsageError
from .operators import Activation, Dense, Input, Operator, Shape, Softmax

__all__ = ["Graph", "Layer"]


@dataclass(frozen=True)
class Layer:
    """One step of a network: its Keras name, what it does, and the names of the layers that feed it.

    stored  the layer of the weight file that holds its tensors, where that is not the layer of its own name: a name, or
            OUTER/MODEL/NAME, the names from the outermost model's layer inwards, where several layers have that name
    share   (first, all): where one of Keras's layers has become several with tensors, as a separable convolution does, its own
            are those from number ``first`` on of ``all`` that the file holds of it, in Keras's order; None for all of them
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...] = ()
    stored: str = ""
    share: tuple[int, int] | None = None

    @property
    def source(self) -> str:
        """The name under which its tensors are in the weight file."""
        return self.stored or self.name


@dataclass(frozen=True)
class Graph:
    """The layers of a network, each after those that feed it; the first is the input.

    outputs     sets of feature maps by their common names: {"C": {"C1": layer name, "C2": ...}} are the backbone's own
    classifier  the layer whose output has a number for each class, or None
    entries     the layers that are fed, in the order in which the model takes them; () for the first layer alone
    result      what the model itself returns, by the names of layers: one, a list, or {key: ...}; None where that is not known, or
                cannot be run
    aliases     {layer of Keras that does nothing: the layer whose output is also its}
    heads       further networks of the file, whose images are regions of this one's maps: a detector's
    """

    layers: tuple[Layer, ...]
    outputs: Mapping[str, Mapping[str, str]]
    classifier: str | None = None
    entries: tuple[str, ...] = ()
    result: Any = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, Graph] = field(default_factory=dict)

    @property
    def features(self) -> Mapping[str, str]:
        """{"C1": layer name, ...}: the set C."""
        return self.outputs.get("C", {})

    @property
    def inputs(self) -> tuple[str, ...]:
        """The layers that are fed, in the order in which the model takes them."""
        return self.entries or (self.layers[0].name,)

    @property
    def probable(self) -> bool:
        """Whether the classifier's numbers are probabilities, from 0 to 1, and not scores of any size."""
        last = self.by_name[self.classifier].operator if self.classifier else None
        return isinstance(last, Softmax) or last == Activation("sigmoid") or (isinstance(last, Dense) and last.softmax)

    @property
    def channels(self) -> int:
        """How many the images must have."""
        entry = self.layers[0].operator
        return entry.channels if isinstance(entry, Input) else 0

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the images, where the file fixes them."""
        entry = self.layers[0].operator
        return entry.size if isinstance(entry, Input) else None

    @cached_property
    def twins(self) -> dict[str, str]:
        """{layer with tensors: the first that is the same operator with the same tensors of the file}; itself, where it is not
        used again."""
        first: dict[Any, str] = {}
        return {
            layer.name: first.setdefault((layer.operator, layer.source, layer.share), layer.name)
            for layer in self.weighted.values()
        }

    @cached_property
    def weighted(self) -> dict[str, Layer]:
        """{layer name: layer} of all that have tensors, those of the heads, too."""
        every = (layer for graph in (self, *self.heads.values()) for layer in graph.layers)
        return {layer.name: layer for layer in every if layer.operator.tensors()}

    @property
    def ends(self) -> tuple[str, ...]:
        """The layers that no other reads: whoever runs them runs all."""
        read = {source for layer in self.layers for source in layer.inputs}
        return tuple(layer.name for layer in self.layers if layer.name not in read)

    def ends_for(self, height: int, width: int) -> tuple[str, ...]:
        """The ``ends`` for images of this size; the feature maps alone where what is behind them takes no such images: a pyramid,
        say, whose maps must halve."""
        if self.features:
            try:
                self.shapes(height, width)
            except UsageError:
                return tuple(self.features.values())
        return self.ends

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        """{layer name: layer}."""
        return {layer.name: layer for layer in self.layers}

    def resolved(self, name: str) -> str:
        """The layer whose output has this name. Raises UsageError for a name that is not here."""
        found = self.aliases.get(name, name)
        if found not in self.by_name:
            raise UsageError(
                f"layer {name!r}: this network has none of that name; `npresnet info WEIGHTS --layers` and "
                f"`net.layers` list them, from {self.layers[0].name!r} to {self.layers[-1].name!r}"
            )
        return found

    def needed_for(self, outputs: Iterable[str]) -> list[Layer]:
        """The layers that must run to get ``outputs``, in order. Raises UsageError for a name that is not here."""
        wanted = {self.resolved(name) for name in outputs}
        for layer in reversed(self.layers):
            if layer.name in wanted:
                wanted.update(layer.inputs)
        return [layer for layer in self.layers if layer.name in wanted]

    def shapes(
        self, height: int, width: int, outputs: Iterable[str] | None = None, further: Mapping[str, Shape] | None = None
    ) -> dict[str, Shape]:
        """{layer name: output shape without the batch} for images of ``height`` x ``width`` pixels.

        outputs  only the layers that these need; None for all
        further  {input: shape} of those beside the first, where they are not what the file says, or as the first

        Raises UsageError, with the layer's name, where the network does not take images of that size.
        """
        found: dict[str, Shape] = {}
        for layer in self.layers if outputs is None else self.needed_for(outputs):
            if isinstance(layer.operator, Input):
                first = layer is self.layers[0]
                size = (height, width) if first or layer.operator.size is None else layer.operator.size
                shape = (*size, layer.operator.channels) if layer.operator.maps else (layer.operator.channels,)
                found[layer.name] = shape if first or not further else further.get(layer.name, shape)
                continue
            try:
                found[layer.name] = layer.operator.output_shape(*(found[name] for name in layer.inputs))
            except ValueError as error:
                raise UsageError(
                    f"layer {layer.name!r}, for images of {height}x{width} pixels: {error}{self._instead(height, width)}"
                ) from None
        return found

    def _instead(self, height: int, width: int) -> str:
        """Which size to give, where the file fixes one."""
        if self.size in (None, (height, width)):
            return ""
        right = f"{self.size[1]}x{self.size[0]}"
        return (
            f"; the file says that its images are {right} (width x height): leave the size out, or give --size {right} or "
            f"size={self.size[::-1]}"
        )
