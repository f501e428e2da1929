"""Drawing layers together into the few operations that are worth a pass over memory.

A batch-norm (or whatever else multiplies each channel by a number and adds one), an addition and a ReLU become part of
the convolution before them, where nobody else reads what lies in between; so do an addition and a ReLU of a product
(squeeze-and-excitation's gate). Zero padding becomes part of the window that reads it. Nothing changes but rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..kernels.geometry import resolve_padding
from ..network.graph import Graph, Layer
from ..network.operators import (
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Normalization,
    Pad,
    ReLU,
    Rescale,
    Scale,
    Shape,
)

__all__ = ["Node", "before_maxpool", "draw_together", "ends"]


@dataclass
class Node:
    """A step while layers are still being added to it.

    border     the layer that pads the input, if there is one
    layers     the layers that it computes, the one with the operator first
    operator   None: something element by element
    x          name of the input, before padding
    factor     name of what the input is multiplied by, for a product: of its shape, or one number per channel
    pads       (top, bottom, left, right) of zeros, by the border and by the operator itself
    padded     whether a layer of zeros takes part: in a max-pool they may win
    norms      those of the layers that multiply each channel by a number and add one, in order: batch-norms, scales
    alone      a layer that nothing is drawn together with, run by its own kernel; then ``operator`` is None
    residual   name of what is added to the result
    relu       whether a ReLU follows
    """

    layers: list[str]
    operator: Conv2D | MaxPool | Dense | GlobalAveragePool | Multiply | None
    x: str
    factor: str | None = None
    border: str | None = None
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    padded: bool = False
    norms: tuple[str, ...] = ()
    residual: str | None = None
    relu: bool = False
    alone: Layer | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all that it reads."""
        if self.alone is not None:
            return self.alone.inputs
        return tuple(name for name in (self.x, self.factor, self.residual) if name)


def draw_together(
    layers: Sequence[Layer], outputs: Sequence[str], shapes: Mapping[str, Shape], alone: bool = False
) -> list[Node]:
    """The nodes of the plan, in order; each of ``outputs`` is the last layer of one.

    alone  whether only plain convolutions, pools and dense layers may be drawn together with others: grouped and dilated
           convolutions, products, and what has no pixels, or keeps one, then stand alone, too
    """
    readers = Counter(name for layer in layers for name in layer.inputs)
    for name in outputs:
        readers[name] += 1
    nodes: list[Node] = []
    ending: dict[str, Node] = {}  # layer name -> the node that it is the last layer of
    border: dict[str, tuple[str, tuple[int, int, int, int]]] = {}  # pad layer -> what it pads, and how

    def grow(name: str, layer: str) -> Node | None:
        """The node that ends at ``name``, if ``layer`` is its only reader; from now on it ends at ``layer``."""
        node = ending.get(name)
        if node is None or readers[name] != 1 or node.relu or node.alone is not None:
            return None
        if isinstance(node.operator, MaxPool | GlobalAveragePool) or _scores(node.operator):
            return None
        del ending[name]
        node.layers.append(layer)
        ending[layer] = node
        return node

    def new(node: Node) -> None:
        nodes.append(node)
        ending[node.layers[0]] = node

    def by_itself(layer: Layer) -> None:
        new(Node([layer.name], None, layer.inputs[0], alone=layer))

    def inner(layer: Layer) -> tuple[int, ...]:
        """The border that a window brings itself."""
        operator, size = layer.operator, shapes[layer.inputs[0]]
        if isinstance(operator, Conv2D):
            kernel, dilation = operator.kernel, operator.dilation
        else:
            assert isinstance(operator, MaxPool)
            kernel, dilation = operator.window, (1, 1)
        return resolve_padding(operator.padding, (size[0], size[1]), kernel, operator.stride, dilation)

    windows = {  # what may be a border: of a window that brings none itself
        layer.inputs[0]
        for layer in layers
        if isinstance(layer.operator, Conv2D | MaxPool)
        and not (alone and _odd(layer, shapes))
        and not any(inner(layer))
    }
    for layer in layers:
        operator, source = layer.operator, layer.inputs[0] if layer.inputs else ""
        if alone and _odd(layer, shapes):
            by_itself(layer)
            continue
        match operator:
            case Input():
                pass
            case Pad(pads):
                if readers[layer.name] != 1 or layer.name in outputs or layer.name not in windows:
                    by_itself(layer)
                else:
                    border[layer.name] = (source, pads)
            case Conv2D() | MaxPool():
                x, pads = border.get(source, (source, (0, 0, 0, 0)))
                total = tuple(a + b for a, b in zip(pads, inner(layer), strict=True))
                around = source if any(pads) else None
                new(Node([layer.name], operator, x, border=around, pads=total, padded=any(pads)))  # type: ignore[arg-type]
            case BatchNorm() | Scale() | Rescale() | Normalization():
                node = ending.get(source)
                fits = node is not None and not isinstance(node.operator, Dense | Multiply) and not node.residual
                grown = grow(source, layer.name) if fits else None
                if grown is None:
                    new(Node([layer.name], None, source, norms=(layer.name,)))
                else:
                    grown.norms += (layer.name,)
            case Add():
                order = {id(node): i for i, node in enumerate(nodes)}
                late, early = sorted(layer.inputs, key=lambda n: order.get(id(ending.get(n)), -1), reverse=True)
                node = ending.get(late)
                fits = node is not None and isinstance(node.operator, Conv2D | Multiply) and not node.residual
                grown = grow(late, layer.name) if fits and late != early else None
                if grown is None:
                    new(Node([layer.name], None, late, residual=early))
                else:
                    grown.residual = early
            case ReLU():
                grown = grow(source, layer.name)
                if grown is None:
                    new(Node([layer.name], None, source, relu=True))
                else:
                    grown.relu = True
            case Multiply():
                large, small = sorted(layer.inputs, key=lambda name: math.prod(shapes[name]), reverse=True)
                new(Node([layer.name], operator, large, small))
            case Dense() | GlobalAveragePool():
                new(Node([layer.name], operator, source))
            case _:
                by_itself(layer)
    return nodes


def _scores(operator: object) -> bool:
    """Whether a softmax is part of it, behind which there is room for nothing."""
    return isinstance(operator, Dense) and operator.softmax


def _odd(layer: Layer, shapes: Mapping[str, Shape]) -> bool:
    """Whether it is one of those that stand alone unless there are kernels to draw them together."""
    match layer.operator:
        case Conv2D(groups=groups, dilation=dilation) if groups > 1 or dilation != (1, 1):
            return True
        case Multiply() | Dense(bias=False) | GlobalAveragePool(keep_dims=True):
            return True
        case Dense() | GlobalAveragePool():
            return len(shapes[layer.name]) != 1
        case _:
            return len(shapes[layer.name]) == 1


def before_maxpool(nodes: Sequence[Node]) -> set[str]:
    """What max-pools read, directly or not. NaN never wins there: Winograd's must not come that way."""
    found: set[str] = set()
    for node in reversed(nodes):
        if isinstance(node.operator, MaxPool) or node.layers[-1] in found:
            found.update(node.inputs)
    return found


def ends(graph: Graph, outputs: Sequence[str]) -> tuple[str, ...]:
    """Those of ``outputs`` that no other one is computed from."""
    behind = {name: {layer.name for layer in graph.needed_for([name])} for name in outputs}
    return tuple(name for name in outputs if not any(name in behind[other] for other in outputs if other != name))
