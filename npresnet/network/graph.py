"""A network as data: named layers in an order in which they can run, and what each one needs and makes.

A ``Graph`` is what the rest of the package agrees on. The families' table (``building.py``) or a file's own description
(``described.py``) makes one, weights are matched to it by name and shape, the engines run it, and verification compares it
layer by layer.

Shapes are NHWC without the batch inside a graph: (h, w, c), or (c,) after global pooling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..errors import UsageError
from .operators import Input, Operator, Shape

__all__ = ["Graph", "Layer"]


@dataclass(frozen=True)
class Layer:
    """One step of a network: its Keras name, what it does, and the names of the layers that feed it.

    stored  the layer of the weight file that holds its tensors, where that is not the layer of its own name
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...] = ()
    stored: str = ""

    @property
    def source(self) -> str:
        """The name under which its tensors are in the weight file."""
        return self.stored or self.name


@dataclass(frozen=True)
class Graph:
    """The layers of a network, each after those that feed it; the first is the input.

    outputs     sets of feature maps by their common names: {"C": {"C1": layer name, "C2": ...}} are the backbone's own
    classifier  the layer whose output is the class probabilities, or None
    """

    layers: tuple[Layer, ...]
    outputs: Mapping[str, Mapping[str, str]]
    classifier: str | None = None

    @property
    def features(self) -> Mapping[str, str]:
        """{"C1": layer name, ...}: the set C."""
        return self.outputs.get("C", {})

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
    def by_name(self) -> dict[str, Layer]:
        """{layer name: layer}."""
        return {layer.name: layer for layer in self.layers}

    def needed_for(self, outputs: Iterable[str]) -> list[Layer]:
        """The layers that must run to get ``outputs``, in order. Raises UsageError for a name that is not here."""
        wanted = set()
        for name in outputs:
            if name not in self.by_name:
                raise UsageError(
                    f"layer {name!r}: this network has none of that name; `npresnet info WEIGHTS --layers` and "
                    f"`net.layers` list them, from {self.layers[0].name!r} to {self.layers[-1].name!r}"
                )
            wanted.add(name)
        for layer in reversed(self.layers):
            if layer.name in wanted:
                wanted.update(layer.inputs)
        return [layer for layer in self.layers if layer.name in wanted]

    def shapes(self, height: int, width: int, outputs: Iterable[str] | None = None) -> dict[str, Shape]:
        """{layer name: output shape without the batch} for images of ``height`` x ``width`` pixels.

        outputs  only the layers that these need; None for all

        Raises UsageError, with the layer's name, where the network does not take images of that size.
        """
        found: dict[str, Shape] = {}
        for layer in self.layers if outputs is None else self.needed_for(outputs):
            if isinstance(layer.operator, Input):
                found[layer.name] = (height, width, layer.operator.channels)
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
