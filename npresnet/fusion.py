"""Drawing layers together into the few operations that are worth a pass over memory.

A batch-norm (or whatever else multiplies each channel by a number and adds one), an addition and a ReLU become part of the convolution before them, where nobody else reads what lies in
between; zero padding becomes part of the window that reads it. Nothing changes but rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .graph import (
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Graph,
    Input,
    Layer,
    MaxPool,
    Normalization,
    Pad,
    ReLU,
    Rescale,
    Scale,
    Shape,
)
from .kernels.geometry import resolve_padding

__all__ = ["Node", "Unplannable", "before_maxpool", "draw_together", "ends"]


class Unplannable(Exception):
    """This graph, or these outputs, must be run layer by layer."""


@dataclass
class Node:
    """A step while layers are still being added to it.

    border     the layer that pads the input, if there is one
    layers     the layers that it computes, the one with the operator first
    operator   None: something element by element
    x          name of the input, before padding
    pads       (top, bottom, left, right) of zeros, by the border and by the operator itself
    padded     whether a layer of zeros takes part: in a max-pool they may win
    norms      those of the layers that multiply each channel by a number and add one, in order: batch-norms, scales
    alone      a layer that nothing is drawn together with, run by its own kernel; then ``operator`` is that of ``layers``
    residual   name of what is added to the result
    relu       whether a ReLU follows
    """

    layers: list[str]
    operator: Conv2D | MaxPool | Dense | GlobalAveragePool | None
    x: str
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
            return tuple(self.alone.inputs)
        return (self.x, self.residual) if self.residual else (self.x,)


def draw_together(
    layers: Sequence[Layer], outputs: Sequence[str], shapes: Mapping[str, Shape], alone: bool = False
) -> list[Node]:
    """The nodes of the plan, in order.

    alone  whether there are kernels for layers that nothing is drawn together with; if not, such a layer is Unplannable

    Raises Unplannable where an output would be swallowed.
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
        if isinstance(node.operator, MaxPool | GlobalAveragePool):
            return None
        del ending[name]
        node.layers.append(layer)
        ending[layer] = node
        return node

    def new(node: Node) -> None:
        nodes.append(node)
        ending[node.layers[0]] = node

    def by_itself(layer: Layer) -> None:
        if not alone:
            raise Unplannable
        new(Node([layer.name], None, layer.inputs[0], alone=layer))

    windows = {
        layer.inputs[0]
        for layer in layers
        if isinstance(layer.operator, MaxPool)
        or (isinstance(layer.operator, Conv2D) and layer.operator.groups == 1 and layer.operator.dilation == (1, 1))
    }
    for layer in layers:
        operator, source = layer.operator, layer.inputs[0] if layer.inputs else ""
        if (len(shapes[layer.name]) == 1) != isinstance(operator, Dense | GlobalAveragePool):
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
            case Conv2D(groups=1, dilation=(1, 1)) | MaxPool():
                x, pads = border.get(source, (source, (0, 0, 0, 0)))
                window = operator.kernel if isinstance(operator, Conv2D) else operator.window
                size = shapes[source][:2]
                inner = resolve_padding(operator.padding, (size[0], size[1]), window, operator.stride, (1, 1))
                if any(inner) and any(pads):
                    raise Unplannable  # TensorFlow pads what is padded already: no network does
                total = tuple(a + b for a, b in zip(pads, inner, strict=True))
                new(Node([layer.name], operator, x, source if any(pads) else None, total, any(pads)))  # type: ignore[arg-type]
            case BatchNorm() | Scale() | Rescale() | Normalization():
                node = ending.get(source)
                fits = node is not None and not isinstance(node.operator, Dense) and not node.residual
                grown = grow(source, layer.name) if fits else None
                if grown is None:
                    new(Node([layer.name], None, source, norms=(layer.name,)))
                else:
                    grown.norms += (layer.name,)
            case Add():
                order = {id(node): i for i, node in enumerate(nodes)}
                late, early = sorted(layer.inputs, key=lambda n: order.get(id(ending.get(n)), -1), reverse=True)
                node = ending.get(late)
                fits = late != early and node is not None and isinstance(node.operator, Conv2D) and not node.residual
                grown = grow(late, layer.name) if fits else None
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
            case Dense(bias=True) | GlobalAveragePool(keep_dims=False):
                new(Node([layer.name], operator, source))
            case _:
                by_itself(layer)
    if any(name not in ending and not isinstance(layers[0].operator, Input) for name in outputs):
        raise Unplannable
    made = {node.layers[-1] for node in nodes} | {layers[0].name}
    if any(name not in made for name in outputs):
        raise Unplannable
    return nodes


def before_maxpool(nodes: Sequence[Node]) -> set[str]:
    """What max-pools read, directly or not. NaN never wins there: Winograd's must not come that way."""
    found: set[str] = set()
    for node in reversed(nodes):
        if isinstance(node.operator, MaxPool) or node.layers[-1] in found:
            found |= set(node.inputs)
    return found


def ends(graph: Graph, outputs: Sequence[str]) -> tuple[str, ...]:
    """Those of ``outputs`` that no other one is computed from."""
    behind = {name: {layer.name for layer in graph.needed_for([name])} for name in outputs}
    return tuple(name for name in outputs if not any(name in behind[other] for other in outputs if other != name))
