"""From an architecture to its graph: every layer by its Keras name."""

from __future__ import annotations

from typing import Any, Literal

from .architecture import Architecture
from .detector import with_detector
from .family import block_kind
from .graph import Graph, Layer
from .operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Operator,
    Pad,
    ReLU,
    Scale,
    Softmax,
)

__all__ = ["build_graph"]


class _Builder:
    """Collects the layers of one network; each method adds one or a few and returns the name of the last.

    ``place`` holds what the templates of names may use: stage, block, ...
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture, self.family, self.names = architecture, architecture.family, architecture.family.names
        self.epsilon = self.family.epsilon if architecture.epsilon is None else architecture.epsilon
        self.layers: list[Layer] = []
        self.place: dict[str, Any] = {}

    def name(self, template: str, **further: Any) -> str:
        return template.format(**self.place, **further)

    def add(self, name: str, operator: Operator, *inputs: str, stored: str = "") -> str:
        self.layers.append(Layer(name, operator, inputs, stored))
        return name

    def norm(self, template: str, x: str, channels: int, branch: str = "", **options: bool) -> str:
        return self.add(self.name(template, branch=branch), BatchNorm(channels, self.epsilon, **options), x)

    def relu(self, template: str, x: str, branch: str = "") -> str:
        return self.add(self.name(template, branch=branch), ReLU(), x)

    def at(self, stage: int, index: int) -> None:
        """From now on names are those of block ``index`` (from 0) of ``stage``."""
        self.place = self.family.place(self.architecture.depth, stage, index)


def build_graph(architecture: Architecture) -> Graph:
    """The graph of ``architecture``: every layer by its Keras name, in an order in which they can run."""
    family, names = architecture.family, architecture.family.names
    builder = _Builder(architecture)
    x = _stem(builder)
    features = {"C1": x}
    width = architecture.stem_width
    for stage, blocks, (inner, outer) in zip(
        architecture.stages, architecture.blocks, architecture.widths, strict=True
    ):
        for index in range(blocks):
            builder.at(stage, index)
            if family.strided_block == "last":
                strided = index == blocks - 1 and stage < 5
            else:
                strided = index == 0 and stage > 2
            if strided and family.features == "largest depth":
                features[f"C{stage}"] = x  # this block is the first that is half the size
            block = _post_activation_block if family.order == "post" else _pre_activation_block
            entry = x
            x = block(builder, stage, index == 0, entry, width, inner, outer, (2, 2) if strided else (1, 1))
            if family.features == "activated" and index == 0 and stage > 2:
                features[f"C{stage - 1}"] = builder.name(names.pre_relu)
            width = outer
        if family.features == "blocks":
            features[f"C{stage}"] = x

    if architecture.cut:
        if family.features == "activated":  # what the next stage would read
            builder.at(architecture.cut + 1, 0)
            x = builder.relu(names.pre_relu, builder.norm(names.pre_bn, x, width))
            features[f"C{architecture.cut}"] = x
    elif family.order == "pre":
        x = builder.relu(names.final_relu, builder.norm(names.final_bn, x, width))
        if family.features != "blocks":
            features[f"C{architecture.stages[-1]}"] = x
    classifier = None
    if architecture.classes is not None:
        x = builder.add(names.global_pool, GlobalAveragePool(), x)
        dense = Dense(width, architecture.classes, softmax=family.probabilities == "fused")
        classifier = builder.add(architecture.classifier, dense, x)
        if not dense.softmax:
            classifier = builder.add(names.softmax, Softmax(), classifier)
    graph = Graph(tuple(builder.layers), {"C": features}, classifier)
    return graph if architecture.detector is None else with_detector(graph, architecture.detector)


def _stem(builder: _Builder) -> str:
    """From the images to the pool's output."""
    architecture, family, names = builder.architecture, builder.family, builder.names
    x = builder.add("input", Input(architecture.channels))
    for name, rescale in family.inside if architecture.inside else ():
        x = builder.add(name, rescale, x)
    if names.input_bn:
        x = builder.norm(names.input_bn, x, architecture.channels, scale=False)
    explicit = architecture.stem == "explicit"
    width = architecture.stem_width
    size = 3 if family.deep_stem else 7
    if explicit:
        x = builder.add(names.stem_pad, Pad((size // 2,) * 4), x)
    biased = family.bias != "none"
    channels = architecture.channels
    for i, out in enumerate((width // 2, width // 2, width) if family.deep_stem else (width,), 1):
        builder.place = {"i": i}
        first = i == 1
        padding: Literal["same", "valid"] = "valid" if explicit and first else "same"
        conv = Conv2D(channels, out, (size, size), (2, 2) if first else (1, 1), padding, biased)
        x = builder.add(builder.name(names.stem_conv), conv, x)
        channels = out
        if family.stem_norm or out != width:
            x = builder.norm(names.stem_bn, x, out)
            if names.stem_scale:
                x = builder.add(names.stem_scale, Scale(out), x)
            x = builder.relu(names.stem_relu, x)
    pool = architecture.pool or family.pool
    if pool == "explicit":
        x = builder.add(names.pool_pad, Pad((1, 1, 1, 1)), x)
    border: Any = {"explicit": "valid", "infinity": (1, 1, 1, 1)}.get(pool, pool)
    return builder.add(names.pool, MaxPool((3, 3), (2, 2), border), x)


def _convolutions(
    builder: _Builder, inner: int, outer: int, strides: tuple[int, int]
) -> list[tuple[int, int, tuple[int, int], bool]]:
    """(kernel, channels, stride, bias) of the convolutions on a block's main path."""
    family = builder.family
    basic = block_kind(builder.architecture.depth) == "basic"
    shape = [(3, inner), (3, outer)] if basic else [(1, inner), (3, inner), (1, outer)]
    at = family.stride[basic]
    return [
        (kernel, out, strides if i == at else (1, 1), family.bias == "all" or (family.bias == "ends" and i == 2))
        for i, (kernel, out) in enumerate(shape)
    ]


def _convolution(
    builder: _Builder, x: str, branch: str, channels: int, kernel: int, out: int, stride: tuple[int, int], bias: bool
) -> str:
    """One convolution of a block's main path, with its border."""
    family, names = builder.family, builder.names
    padding: Literal["same", "valid"] = "valid"
    if kernel == 3:
        if family.block_border == "explicit" or (family.block_border == "strided" and stride != (1, 1)):
            x = builder.add(builder.name(names.pad, branch=branch), Pad((1, 1, 1, 1)), x)
        else:
            padding = "same"
    name, stored = builder.name(names.conv, branch=branch), ""
    groups = builder.architecture.groups if kernel == 3 else 1
    if groups > 1:  # stored as the depthwise half of it; upstream's second half, a sum in groups, has this name
        name, stored = name.replace("_conv", "_gconv"), name
    return builder.add(
        name, Conv2D(channels, out, (kernel, kernel), stride, padding, bias, groups), x, stored=stored
    )  # fmt: skip


def _projects(builder: _Builder, stage: int, first: bool) -> bool:
    """Whether a block's shortcut is a convolution."""
    basic = block_kind(builder.architecture.depth) == "basic"
    return first and not (builder.family.projection == "changed" and basic and stage == 2)


def _post_activation_block(
    builder: _Builder,
    stage: int,
    first: bool,
    entry: str,
    width: int,
    inner: int,
    outer: int,
    strides: tuple[int, int],
) -> str:
    """One residual block in the order of the first ResNet paper: ReLU(branch(x) + shortcut(x)).

    Returns the name of the block's output.
    """
    family, names, add = builder.family, builder.names, builder.add
    x, channels = entry, width
    plan = _convolutions(builder, inner, outer, strides)
    for branch, (kernel, out, stride, bias) in zip(names.branches, plan, strict=False):
        x = _convolution(builder, x, branch, channels, kernel, out, stride, bias)
        x = builder.norm(names.bn, x, out, branch)
        if names.scale:
            x = add(builder.name(names.scale, branch=branch), Scale(out), x)
        if branch != names.branches[len(plan) - 1]:
            x = builder.relu(names.relu, x, branch)
        channels = out

    shortcut = entry
    if _projects(builder, stage, first):
        if family.average and strides != (1, 1):
            shortcut = add(builder.name(names.shortcut_pool), AveragePool((2, 2), strides, "same"), shortcut)
        if family.projection_pad and strides != (1, 1):
            shortcut = add(builder.name(names.pad, branch=names.projection), Pad((0, 0, 0, 0)), shortcut)
        conv = Conv2D(width, outer, (1, 1), (1, 1) if family.average else strides, "valid", family.bias != "none")
        shortcut = add(builder.name(names.conv, branch=names.projection), conv, shortcut)
        shortcut = builder.norm(names.bn, shortcut, outer, names.projection)
        if names.scale:
            shortcut = add(builder.name(names.scale, branch=names.projection), Scale(outer), shortcut)
    summands = (shortcut, x) if family.shortcut_first else (x, shortcut)
    return builder.relu(names.out, add(builder.name(names.add), Add(), *summands))


def _pre_activation_block(
    builder: _Builder,
    stage: int,
    first: bool,
    entry: str,
    width: int,
    inner: int,
    outer: int,
    strides: tuple[int, int],
) -> str:
    """One residual block in the order of the second paper: branch(ReLU(norm(x))) + shortcut.

    A projection reads the activated input, too; a strided block without one takes every other pixel of the raw input.
    Returns the name of the block's output.
    """
    family, names, add = builder.family, builder.names, builder.add
    active = builder.relu(names.pre_relu, builder.norm(names.pre_bn, entry, width))
    plan = _convolutions(builder, inner, outer, strides)
    norms = names.bn_branches or names.branches
    x, channels = active, width
    for i, (kernel, out, stride, bias) in enumerate(plan):
        x = _convolution(builder, x, names.branches[i], channels, kernel, out, stride, bias)
        if i < len(plan) - 1:
            x = builder.relu(names.relu, builder.norm(names.bn, x, out, norms[i]), norms[i])
        channels = out
    if family.squeeze:
        x = _squeeze_and_excite(builder, x, outer)

    shortcut = entry
    if _projects(builder, stage, first):
        conv = Conv2D(width, outer, (1, 1), strides, "valid", family.bias != "none")
        shortcut = add(builder.name(names.conv, branch=names.projection), conv, active)
    elif strides != (1, 1):
        shortcut = add(builder.name(names.shortcut_pool), MaxPool((1, 1), strides, "valid"), entry)
    summands = (shortcut, x) if family.shortcut_first else (x, shortcut)
    return add(builder.name(names.add), Add(), *summands)


def _squeeze_and_excite(builder: _Builder, x: str, channels: int) -> str:
    """x times a gate per channel, made from the means of all channels (Hu et al., 2017)."""

    def part(what: str, operator: Operator, *inputs: str) -> str:
        return builder.add(builder.name(builder.names.squeeze, part=what), operator, *inputs)

    few = max(1, channels // builder.family.squeeze)
    gate = part("pool", GlobalAveragePool(keep_dims=True), x)
    gate = part("relu", ReLU(), part("reduce", Conv2D(channels, few, (1, 1)), gate))
    gate = part("sigmoid", Activation("sigmoid"), part("expand", Conv2D(few, channels, (1, 1)), gate))
    return part("multiply", Multiply(), x, gate)
