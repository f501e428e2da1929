"""Fusion: layers become the few nodes that are worth a pass over memory, whatever the device.

What multiplies each channel by a number and adds one (a batch-norm, say), an addition and an activation become part of the
convolution before them, where nobody else reads what lies in between; so do an addition and an activation of two maps that are
joined (squeeze-and-excitation's gate). Zero padding becomes part of the window that reads it. Nothing changes but rounding.

A node is one of eight frozen records, a class for each kind of work. A device's plan makes its steps of them, and how a step
computes a node is that device's own business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..kernels.geometry import resolve_padding
from ..network.graph import Layer
from ..network.operators import (
    Activation,
    Add,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Divide,
    GlobalAveragePool,
    Input,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Operator,
    Pad,
    Pads,
    Shape,
    Softmax,
    Subtract,
)

__all__ = [
    "Alone",
    "FusedAffine",
    "FusedConv",
    "FusedDense",
    "FusedEpilogue",
    "FusedJoin",
    "FusedTransposed",
    "Mean",
    "Node",
    "Pool",
    "fuse",
]


Join = Add | Subtract | Multiply | Divide | Maximum | Minimum


@dataclass(frozen=True)
class FusedEpilogue:
    """What is done to a node's result before it is stored: activation(result + residual).

    residual    name of what is added, or None
    activation  what then follows, or None
    """

    residual: str | None
    activation: Operator | None


NOTHING = FusedEpilogue(None, None)


@dataclass(frozen=True, kw_only=True)
class _Node:
    """What all nodes have in common.

    layers  names of the graph's layers that it computes, in order; the last is the name of its output
    leader  the one of them that the others come before or after
    x       name of the data that it reads, before padding
    """

    layers: tuple[str, ...]
    leader: str
    x: str

    @property
    def output(self) -> str:
        """The layer whose output it makes."""
        return self.layers[-1]

    @property
    def border(self) -> str | None:
        """The layer of zeros around its data that is part of it, if there is one."""
        return self.layers[0] if self.layers[0] != self.leader else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all that it reads."""
        return (self.x,)

    @property
    def activation(self) -> Operator | None:
        """What its result goes through before it is stored, if anything."""
        return None

    def flop(self, shapes: Mapping[str, Shape]) -> int:
        """Multiplications and additions of one image, by definition; only those of convolutions and dense layers count."""
        return 0


@dataclass(frozen=True, kw_only=True)
class _Fused(_Node):
    """A node with room for an epilogue."""

    epilogue: FusedEpilogue

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.x, self.epilogue.residual) if self.epilogue.residual else (self.x,)

    @property
    def activation(self) -> Operator | None:
        return self.epilogue.activation


@dataclass(frozen=True, kw_only=True)
class FusedConv(_Fused):
    """activation(norms(convolution(x)) + residual).

    pads   of zeros around the data, by the border or by the convolution itself
    norms  names of the layers that multiply each channel by a number and add one, in order
    """

    operator: Conv2D
    pads: Pads
    norms: tuple[str, ...]

    def flop(self, shapes: Mapping[str, Shape]) -> int:
        return self.operator.flop([shapes[self.x]], shapes[self.leader])


@dataclass(frozen=True, kw_only=True)
class FusedTransposed(_Fused):
    """activation(norms(transposed convolution(x)) + residual).

    norms  names of the layers that multiply each channel by a number and add one, in order
    """

    operator: Conv2DTranspose
    norms: tuple[str, ...]

    def flop(self, shapes: Mapping[str, Shape]) -> int:
        return self.operator.flop([shapes[self.x]], shapes[self.leader])


@dataclass(frozen=True, kw_only=True)
class FusedJoin(_Fused):
    """activation(operator(x, other) + residual): two maps joined number by number.

    other  name of the second; either may have fewer rows, columns or channels, of which each goes with all of the other's
    """

    operator: Join
    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        x, *residual = super().inputs
        return (x, self.other, *residual)


@dataclass(frozen=True, kw_only=True)
class FusedAffine(_Fused):
    """activation(norms(x) + residual): what has no convolution before it to become part of.

    norms  names of the layers that multiply each channel by a number and add one, in order; perhaps none
    """

    norms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FusedDense(_Fused):
    """activation(x @ kernel + bias). The activation may be the layer's own softmax; there is no residual."""

    operator: Dense

    def flop(self, shapes: Mapping[str, Shape]) -> int:
        return self.operator.flop([shapes[self.x]], shapes[self.leader])


@dataclass(frozen=True, kw_only=True)
class Pool(_Node):
    """The largest value in each window.

    pads   around the data, by the border or by the pool itself
    zeros  whether they are a border's, whose zeros may win; a pool's own padding never does
    """

    operator: MaxPool
    pads: Pads
    zeros: bool


@dataclass(frozen=True, kw_only=True)
class Mean(_Node):
    """The mean over all pixels."""


@dataclass(frozen=True, kw_only=True)
class Alone(_Node):
    """A layer that nothing is fused with, by its own kernel."""

    layer: Layer

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.layer.inputs


Node = FusedConv | FusedTransposed | FusedJoin | FusedAffine | FusedDense | Pool | Mean | Alone


def fuse(
    layers: Sequence[Layer],
    outputs: Sequence[str],
    shapes: Mapping[str, Shape],
    alone: Callable[[Layer], bool] = lambda layer: False,
) -> list[Node]:
    """The nodes that compute ``layers``, in an order in which they can run; each of ``outputs`` is the output of one.

    shapes  {layer: shape of its output, without the batch}
    alone   which layers a device can compute by their own kernels only; nothing is fused with those
    """
    readers = Counter(name for layer in layers for name in layer.inputs)
    readers.update(outputs)
    borders = _borders([layer for layer in layers if not alone(layer)], outputs, shapes, readers)
    fused_away = {border.name for border in borders.values()}
    nodes: list[Node] = []
    ending: dict[str, int] = {}  # a node's output -> its index
    for layer in layers:
        if isinstance(layer.operator, Input) or layer.name in fused_away:
            continue
        if alone(layer):
            node: Node = _alone(layer)
        else:
            inputs = _ordered(layer, shapes, ending)
            plain = all(shapes[name] == shapes[layer.name] for name in inputs)
            before = ending.get(inputs[0])
            if before is not None and readers[inputs[0]] == 1:
                extended = _extended(nodes[before], layer, inputs[1:], plain)
                if extended is not None:
                    nodes[before] = extended
                    ending[layer.name] = ending.pop(inputs[0])
                    continue
            node = _begun(layer, inputs, shapes, borders.get(layer.name), plain)
        ending[layer.name] = len(nodes)
        nodes.append(node)
    return nodes


def _borders(
    layers: Sequence[Layer], outputs: Sequence[str], shapes: Mapping[str, Shape], readers: Mapping[str, int]
) -> dict[str, Layer]:
    """{name of a window: the layer of zeros before it that becomes part of it}: of a window that brings no padding itself,
    and is the only reader."""
    by_name = {layer.name: layer for layer in layers}
    found = {}
    for layer in layers:
        if isinstance(layer.operator, Conv2D | MaxPool):
            before = by_name.get(layer.inputs[0])
            if before is None or not isinstance(before.operator, Pad):
                continue
            if readers[before.name] == 1 and before.name not in outputs and not any(_own_pads(layer, shapes)):
                found[layer.name] = before
    return found


def _own_pads(layer: Layer, shapes: Mapping[str, Shape]) -> Pads:
    """The padding that a window brings itself."""
    operator, (height, width, _) = layer.operator, shapes[layer.inputs[0]]
    if isinstance(operator, Conv2D):
        return resolve_padding(operator.padding, (height, width), operator.kernel, operator.stride, operator.dilation)
    assert isinstance(operator, MaxPool)
    return resolve_padding(operator.padding, (height, width), operator.window, operator.stride, (1, 1))


def _ordered(layer: Layer, shapes: Mapping[str, Shape], ending: Mapping[str, int]) -> tuple[str, ...]:
    """A layer's inputs, first the one whose node it may become part of: one of the result's shape, not a gate, and of a sum's
    the one that is made last, because the other is there by then."""

    def suits(name: str) -> tuple[bool, int]:
        return shapes[name] == shapes[layer.name], ending.get(name, -1) if isinstance(layer.operator, Add) else 0

    return tuple(sorted(layer.inputs, key=suits, reverse=True)) if layer.operator.commutative else layer.inputs


def _extended(node: Node, layer: Layer, others: Sequence[str], plain: bool) -> Node | None:
    """``node`` with one more layer at its end, or None where there is no room; ``others`` is what else that layer reads, and
    ``plain`` whether all that it reads has the shape of its output."""
    layers, operator = (*node.layers, layer.name), layer.operator
    match node:
        case FusedConv() | FusedTransposed() | FusedAffine() if operator.per_channel:
            epilogue = node.epilogue
            return replace(node, layers=layers, norms=(*node.norms, layer.name)) if epilogue == NOTHING else None
        case FusedConv() | FusedTransposed() | FusedJoin() if isinstance(operator, Add):
            if plain and node.epilogue == NOTHING:
                return replace(node, layers=layers, epilogue=FusedEpilogue(others[0], None))
        case FusedConv() | FusedTransposed() | FusedJoin() | FusedAffine() | FusedDense() if operator.epilogue:
            if node.activation is None:
                return replace(node, layers=layers, epilogue=FusedEpilogue(node.epilogue.residual, operator))
    return None


def _begun(layer: Layer, inputs: Sequence[str], shapes: Mapping[str, Shape], border: Layer | None, plain: bool) -> Node:
    """The node of a layer that does not become part of one that is there, and of the border before it if that has one."""
    name, operator, x = layer.name, layer.operator, inputs[0]
    layers: tuple[str, ...] = (name,)
    match operator:
        case Conv2D() | MaxPool():
            pads = _own_pads(layer, shapes)
            if border is not None:
                assert isinstance(border.operator, Pad)
                layers, x, pads = (border.name, name), border.inputs[0], border.operator.pads
            if isinstance(operator, MaxPool):
                return Pool(layers=layers, leader=name, x=x, operator=operator, pads=pads, zeros=border is not None)
            return FusedConv(layers=layers, leader=name, x=x, operator=operator, pads=pads, norms=(), epilogue=NOTHING)
        case Conv2DTranspose():
            return FusedTransposed(layers=layers, leader=name, x=x, operator=operator, norms=(), epilogue=NOTHING)
        case Dense(softmax=softmax):
            epilogue = FusedEpilogue(None, Softmax() if softmax else None)
            return FusedDense(layers=layers, leader=name, x=x, operator=operator, epilogue=epilogue)
        case GlobalAveragePool():
            return Mean(layers=layers, leader=name, x=x)
        case Add() if plain:
            return FusedAffine(layers=layers, leader=name, x=x, norms=(), epilogue=FusedEpilogue(inputs[1], None))
        case Add() | Subtract() | Multiply() | Divide() | Maximum() | Minimum():
            return FusedJoin(layers=layers, leader=name, x=x, operator=operator, other=inputs[1], epilogue=NOTHING)
    if operator.per_channel:
        return FusedAffine(layers=layers, leader=name, x=x, norms=(name,), epilogue=NOTHING)
    if operator.epilogue and not isinstance(operator, Activation):
        return FusedAffine(layers=layers, leader=name, x=x, norms=(), epilogue=FusedEpilogue(None, operator))
    return _alone(layer)


def _alone(layer: Layer) -> Alone:
    return Alone(layers=(layer.name,), leader=layer.name, x=layer.inputs[0], layer=layer)
