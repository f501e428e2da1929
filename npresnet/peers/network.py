"""A network as other engines want it: few, simple nodes, batch-norms folded into convolutions, sizes known.

None of npresnet's own fusion is used here: the engines have theirs, and a mistake in it would not be noticed if they all
were given its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..network.graph import Graph
from ..network.operators import (
    Activation,
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Pad,
    ReLU,
    Softmax,
)
from ..network.weights import Weights

__all__ = ["NO_PADS", "PeerNode", "outputs_of", "same_pads", "simplify"]

Array = npt.NDArray[Any]

Kind = Literal["input", "pad", "conv", "maxpool", "scale", "relu", "sigmoid", "add", "multiply", "mean", "dense"]
"""``multiply`` takes maps and a number for each of their channels, [n, 1, 1, c]."""

NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class PeerNode:
    """One operation that every engine has.

    name      the layer whose output it computes: the last of those that were fused
    kind      what it computes
    inputs    names of the nodes that feed it
    weights   conv: float32[kh, kw, ci / groups, co]; dense: float32[ci, co]; scale: float32[c]
    bias      conv, dense, scale: float32[co]
    window, stride  (vertical, horizontal) in pixels; conv and maxpool
    pads      (top, bottom, left, right) in pixels, of zeros; in a maxpool padding never wins
    groups    conv: how many parts the channels are split into, each convolved on its own
    keep_dims  mean: whether the pixels' axes stay, [n, 1, 1, c], for convolutions to read; else [n, c]
    relu      whether max(x, 0) follows
    softmax   whether softmax follows; dense only
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...] = ()
    weights: Array | None = None
    bias: Array | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = NO_PADS
    groups: int = 1
    keep_dims: bool = False
    relu: bool = False
    softmax: bool = False


def outputs_of(graph: Graph) -> dict[str, str]:
    """{"C1": layer, ..., "probabilities": layer}: what every engine has to hand out; the last only with a classifier."""
    classifier = {"probabilities": graph.classifier} if graph.classifier else {}
    return {**graph.features, **classifier}


def simplify(graph: Graph, weights: Weights, height: int, width: int) -> list[PeerNode]:
    """The nodes that compute all features (and the classifier) of images of ``height`` x ``width`` pixels, in order."""
    wanted = set(outputs_of(graph).values())
    layers = graph.needed_for(wanted)
    readers = Counter(name for layer in layers for name in layer.inputs)
    nodes: dict[str, PeerNode] = {}
    sizes: dict[str, tuple[int, int]] = {}

    def absorbed(source: str, kinds: Iterable[str]) -> PeerNode | None:
        """The node ``source``, taken out, if it is of one of ``kinds`` and nobody else wants what it computes."""
        node = nodes[source]
        if node.kind in kinds and not node.relu and readers[source] == 1 and source not in wanted:
            return nodes.pop(source)
        return None

    for layer in layers:
        name, inputs, operator = layer.name, layer.inputs, layer.operator
        w = weights.get(name, {})
        source = inputs[0] if inputs else ""
        h, w_ = sizes.get(source, (height, width))
        match operator:
            case Input():
                nodes[name] = PeerNode(name, "input")
            case Pad(pads):
                nodes[name] = PeerNode(name, "pad", inputs, pads=pads)
                h, w_ = h + pads[0] + pads[1], w_ + pads[2] + pads[3]
            case Conv2D() | MaxPool():
                window = operator.kernel if isinstance(operator, Conv2D) else operator.window
                pads = NO_PADS
                if operator.padding == "same":
                    pads = same_pads((h, w_), window, operator.stride)
                h, w_ = h + pads[0] + pads[1], w_ + pads[2] + pads[3]
                h, w_ = (h - window[0]) // operator.stride[0] + 1, (w_ - window[1]) // operator.stride[1] + 1
                border = nodes[source]
                # zeros change no maximum of values that are not negative
                harmless = isinstance(operator, Conv2D) or (border.kind == "pad" and nodes[border.inputs[0]].relu)
                if harmless and absorbed(source, ["pad"]):
                    pads = _sum(pads, border.pads)
                    inputs = border.inputs
                kind: Literal["conv", "maxpool"] = "conv" if isinstance(operator, Conv2D) else "maxpool"
                bias = w.get("bias", np.zeros(operator.channels, np.float32)) if isinstance(operator, Conv2D) else None
                groups = operator.groups if isinstance(operator, Conv2D) else 1
                nodes[name] = PeerNode(name, kind, inputs, w.get("kernel"), bias, window, operator.stride, pads, groups)
            case BatchNorm(epsilon=epsilon):
                scale = w.get("gamma", 1.0) / np.sqrt(w["variance"].astype(np.float64) + epsilon)
                shift = w.get("beta", 0.0) - w["mean"] * scale
                conv = absorbed(source, ["conv"])
                if conv is None:
                    conv = PeerNode(name, "scale", inputs, np.ones_like(scale), np.zeros_like(scale))
                assert conv.weights is not None
                assert conv.bias is not None
                kernel, shift = conv.weights * scale, conv.bias * scale + shift
                nodes[name] = replace(
                    conv, name=name, weights=kernel.astype(np.float32), bias=shift.astype(np.float32)
                )  # fmt: skip
            case ReLU():
                before = absorbed(source, ["conv", "scale", "add"])
                nodes[name] = (
                    PeerNode(name, "relu", inputs, relu=True)
                    if before is None
                    else replace(before, name=name, relu=True)
                )
            case Activation("sigmoid"):
                nodes[name] = PeerNode(name, "sigmoid", inputs)
            case Add():
                nodes[name] = PeerNode(name, "add", inputs)
            case Multiply():
                nodes[name] = PeerNode(name, "multiply", inputs)
            case GlobalAveragePool(keep_dims):
                nodes[name] = PeerNode(name, "mean", inputs, keep_dims=keep_dims)
                h, w_ = 1, 1
            case Dense(softmax=softmax):
                nodes[name] = PeerNode(name, "dense", inputs, w["kernel"], w["bias"], softmax=softmax)
            case Softmax() if dense := absorbed(source, ["dense"]):
                nodes[name] = replace(dense, name=name, softmax=True)
            case _:
                raise UsageError(
                    f"layer {name!r}: the other engines get no networks with {operator.kind!r} layers; measure one of the "
                    "families without them"
                )
        sizes[name] = (h, w_)
    return list(nodes.values())


def same_pads(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) as TensorFlow's "same" pads maps of ``size`` = (h, w): the odd pixel after."""
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, window, stride, strict=True)]
    vertical, horizontal = totals
    return vertical // 2, vertical - vertical // 2, horizontal // 2, horizontal - horizontal // 2


def _sum(a: Sequence[int], b: Sequence[int]) -> tuple[int, int, int, int]:
    top, bottom, left, right = (x + y for x, y in zip(a, b, strict=True))
    return top, bottom, left, right
