"""What is studied: one convolution of a network, with its own weights and with what it reads of one's own picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..kernels.conv2d import conv2d_reference
from ..kernels.geometry import Window, resolve_padding, window_geometry
from ..model import ResNet, assemble
from ..network.graph import Graph, Layer
from ..network.operators import Conv2D, Pad, Pads, Shape

__all__ = ["StudiedLayer", "by_definition", "chosen_layer", "convolutions", "padded_input", "subject_at", "subject_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StudiedLayer:
    """A convolution and its arguments.

    layer   its name
    x       float32[1, h, w, ci], what it reads; a layer of zeros before it counts as its own padding
    w       float32[kh, kw, ci, co]
    bias    float32[co], or None
    pads    (top, bottom, left, right), in pixels
    """

    layer: str
    x: Array
    w: Array
    bias: Array | None
    stride: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def window(self) -> Window:
        """All that loops need to know."""
        _, ho, wo = window_geometry(self.size, self.taps, self.stride, self.pads, self.dilation)
        return Window(*self.taps, *self.stride, *self.dilation, self.pads[0], self.pads[2], ho, wo)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of what it reads."""
        return self.x.shape[1], self.x.shape[2]

    @property
    def taps(self) -> tuple[int, int]:
        """(kh, kw)."""
        return self.w.shape[0], self.w.shape[1]

    @property
    def shape_out(self) -> tuple[int, int, int, int]:
        """[n, ho, wo, co] of its output."""
        window = self.window
        return self.x.shape[0], window.ho, window.wo, self.w.shape[3]

    @property
    def flop(self) -> int:
        """By the definition of the sum; a multiply-add counts as two."""
        return 2 * math.prod(self.shape_out) * math.prod(self.w.shape[:3])

    @property
    def winograd(self) -> bool:
        """Whether it is a 3x3 convolution with stride 1 and a border of one pixel."""
        return (self.taps, self.stride, self.dilation, self.pads) == ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))

    def truth(self) -> Array:
        """float64[n, ho, wo, co]: the result by the definition."""
        wide = [None if array is None else array.astype(np.float64) for array in (self.x, self.w, self.bias)]
        return conv2d_reference(*wide, **self.options())  # type: ignore[arg-type]

    def options(self) -> dict[str, Any]:
        """What the kernels are called with besides arrays."""
        return {"stride": self.stride, "padding": self.pads, "dilation": self.dilation}

    def shortened(self, flop: float) -> StudiedLayer:
        """The same on the first rows of the map, as many as take at most ``flop``, or one row of outputs: they are taken as a
        map of their own, with the same padding all around."""
        window = self.window
        rows = max(1, int(min(window.ho, window.ho * flop / self.flop)))
        if rows == window.ho:
            return self
        needed = (rows - 1) * window.sh + (window.kh - 1) * window.dh + 1 - self.pads[0] - self.pads[1]
        return replace(self, x=np.ascontiguousarray(self.x[:, : max(needed, 1)]))


def convolutions(graph: Graph) -> list[Layer]:
    """The convolutions without groups: what is studied."""
    return [layer for layer in graph.layers if isinstance(layer.operator, Conv2D) and layer.operator.groups == 1]


def chosen_layer(graph: Graph, shapes: dict[str, Shape], name: str | None) -> Layer:
    """The convolution of that name; None: the 3x3 that costs the most, the first of equals, or else any that does.

    Raises UsageError for a layer that is not here or is no convolution.
    """
    found = convolutions(graph)
    if name is not None:
        layer = graph.by_name[graph.resolved(name)]
        if layer not in found:
            some = ", ".join(other.name for other in found[:3])
            raise UsageError(
                f"layer {name!r}: it is of the kind {layer.operator.kind!r}; what can be studied are convolutions without "
                f"groups, such as {some}; `npresnet study layers` lists them"
            )
        return layer
    found = [layer for layer in found if layer.name in shapes]  # images of this size may not reach all of them
    if not found:
        raise UsageError("this network has no convolution without groups; give another file")
    square = [layer for layer in found if isinstance(layer.operator, Conv2D) and layer.operator.kernel == (3, 3)]
    return max(
        square or found,
        key=lambda layer: layer.operator.flop([shapes[name] for name in layer.inputs], shapes[layer.name]),
    )


def padded_input(graph: Graph, layer: Layer) -> tuple[str, Pads | None]:
    """(what a convolution reads, the border of zeros that it is given there by a layer of its own, or None)."""
    before = graph.by_name[layer.inputs[0]]
    operator = layer.operator
    if isinstance(before.operator, Pad) and isinstance(operator, Conv2D) and operator.padding == "valid":
        return before.inputs[0], before.operator.pads
    return layer.inputs[0], None


def subject_of(net: ResNet, images: Array, name: str | None = None) -> StudiedLayer:
    """A convolution of ``net`` with what it reads when the network is called with the first of ``images``.

    name  of the layer; None as for ``chosen_layer``, which also says what is refused
    """
    image = images[:1]
    height, width = image.shape[1:3]
    layer = chosen_layer(net.graph, net.graph.shapes(height, width, net.graph.ends_for(height, width)), name)
    source, _ = padded_input(net.graph, layer)
    return subject_at(net, layer, net(image, outputs=[source])[source])


def subject_at(net: ResNet, layer: Layer, x: Array) -> StudiedLayer:
    """A convolution of ``net`` that reads ``x``, float32[1, h, w, ci]: what ``padded_input`` names."""
    operator = layer.operator
    assert isinstance(operator, Conv2D)
    _, pads = padded_input(net.graph, layer)
    if pads is None:
        pads = resolve_padding(operator.padding, x.shape[1:3], operator.kernel, operator.stride, operator.dilation)
    weights = net.weights[layer.name]
    return StudiedLayer(layer.name, x, weights["kernel"], weights.get("bias"), operator.stride, pads, operator.dilation)


def by_definition(net: ResNet) -> ResNet:
    """The same network by the readable NumPy versions: in float64, the truth."""
    return assemble(net._inspection, algorithm="reference", threads=net.threads)
