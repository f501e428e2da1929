"""One layer of a description, as the makers of operators see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..operators import Operator

__all__ = ["LayerConfig", "Maker", "Shape", "Unsupported"]

Shape = tuple[int | None, ...]
"""Of a feature map, (h, w, c), or of numbers, (c,); None where the description leaves it open."""


class Unsupported(Exception):
    """This layer is not run here; the text says why."""


@dataclass(frozen=True)
class LayerConfig:
    """One layer of a description, where it is applied.

    kind            its class in Keras
    shapes          of what it reads, in NHWC without the batch, however the images were
    channels_first  the network was made for (channels, height, width)
    module          where its class is from, as far as the file says
    keras           version of Keras that wrote the description: 2 for all before 3
    custom          {class or name in ``activation=`` or layer: activation in the table of functions} of the user's own
    arguments       what it is called with, {position or name: value}, with a ``Tensor`` for each thing that it reads
    """

    kind: str
    config: Mapping[str, Any]
    shapes: Sequence[Shape]
    channels_first: bool = False
    module: str = ""
    keras: int = 3
    arguments: Mapping[str | int, Any] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """Of the one thing that it reads."""
        return self.shapes[0]

    @property
    def channels(self) -> int:
        """Of the one thing that it reads. Raises Unsupported where the description leaves that open."""
        channels = self.shape[-1]
        if channels is None:
            raise Unsupported("how many numbers it gets depends on the size of the image, which the file does not fix")
        return channels


Maker = Callable[[LayerConfig], list[Operator]]
"""Gives the operators of a layer, in order, the last of which makes its output; none for a layer that does nothing. Raises
Unsupported."""
