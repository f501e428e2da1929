"""ResNet architectures as data: one row per family of weight files, from which every graph is built.

All families share one plan (He et al., "Deep residual learning for image recognition", 2015, table 1): a 7x7 stem, a
pool, four stages of residual blocks, and perhaps a classifier. They differ in details that shift feature maps by a
pixel or change every number a little: where the stride sits, how borders are padded, the batch-norm epsilon, biases,
and above all the names of layers, by which weights are found. Those details are the fields of ``Family``.

Stages are numbered 2 to 5, as in the paper, so that stage s makes feature map C<s>; the pool's output is C1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from .errors import UsageError
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
    Operator,
    Pad,
    ReLU,
)

__all__ = ["BLOCKS", "FAMILIES", "Architecture", "Family", "Names", "build_graph", "parse_architecture"]

BLOCKS: Mapping[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Residual blocks in stages 2 to 5, by depth."""

Block = Literal["basic", "bottleneck"]
Border = Literal["explicit", "same"]  # a padding layer and a "valid" window, or TensorFlow's "same"


def block_kind(depth: int) -> Block:
    """Depths up to 34 are made of two 3x3 convolutions per block, deeper ones of 1x1, 3x3, 1x1."""
    return "basic" if depth <= 34 else "bottleneck"


@dataclass(frozen=True)
class Names:
    """Templates of a family's layer names. ``{stage}`` is 2 to 5, ``{block}`` the family's label of the block.

    Layers that Keras names by a counter in the original code (``activation_7``) have names here that fit the family's
    own style; they hold no weights, so nothing is looked up by them.
    """

    stem_pad: str
    stem_conv: str
    stem_bn: str
    stem_relu: str
    pool_pad: str
    pool: str
    pad: str
    conv: str
    bn: str
    relu: str
    add: str
    out: str
    branches: tuple[str, str, str]  # {branch} of a block's convolutions, in order
    projection: str  # {branch} of the shortcut's convolution
    global_pool: str
    classifiers: tuple[str, ...]  # the classifier's name; files of different age may use different ones


Label = Callable[[int, int, int], str]
"""(depth, stage, index from 0) to the {block} in a layer's name."""


def letters(depth: int, stage: int, index: int) -> str:
    """a, b, c, ...: the matterport way, which simply counts characters on, past z too."""
    return chr(ord("a") + index)


def numbers(depth: int, stage: int, index: int) -> str:
    """1, 2, 3, ..."""
    return str(index + 1)


def caffe(depth: int, stage: int, index: int) -> str:
    """keras-resnet, after the Caffe files: a, b1, b2, ... in every stage of 18 and 34 and in the long stages (3 and 4)
    of 101 and 152; plain letters elsewhere."""
    if depth == 50 or (depth > 50 and stage in (2, 5)):
        return letters(depth, stage, index)
    return "a" if index == 0 else f"b{index}"


@dataclass(frozen=True)
class Family:
    """How one family of Keras ResNets differs from the others.

    depths         which of ``BLOCKS`` it comes in
    bias           whether convolutions have one
    epsilon        of every batch normalisation
    stem           border of the 7x7 convolution (3 pixels where explicit)
    pool           border of the 3x3 max-pool (1 pixel of zeros where explicit)
    block_border   border of the 3x3 convolutions
    preprocessing  convention of ``images.py`` that its training used
    optional_stage5  whether files without stage 5 are known
    """

    name: str
    title: str
    depths: tuple[int, ...]
    names: Names
    label: Label
    bias: bool
    epsilon: float
    stem: Border
    pool: Border
    block_border: Border
    preprocessing: str
    optional_stage5: bool = False


_CAFFE_NAMES = Names(
    stem_pad="conv1_pad",
    stem_conv="conv1",
    stem_bn="bn_conv1",
    stem_relu="conv1_relu",
    pool_pad="pool1_pad",
    pool="pool1",
    pad="padding{stage}{block}_branch{branch}",
    conv="res{stage}{block}_branch{branch}",
    bn="bn{stage}{block}_branch{branch}",
    relu="res{stage}{block}_branch{branch}_relu",
    add="res{stage}{block}_add",
    out="res{stage}{block}_out",
    branches=("2a", "2b", "2c"),
    projection="1",
    global_pool="avg_pool",
    classifiers=("fc1000",),
)

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="matterport",
            title="Mask R-CNN (matterport/Mask_RCNN)",
            depths=(50, 101, 152),
            names=_CAFFE_NAMES,
            label=letters,
            bias=True,
            epsilon=1e-3,
            stem="explicit",
            pool="same",
            block_border="same",
            preprocessing="matterport",
            optional_stage5=True,
        ),
        Family(
            name="keras.applications",
            title="Keras applications, ResNet v1",
            depths=(50, 101, 152),
            names=Names(
                stem_pad="conv1_pad",
                stem_conv="conv1_conv",
                stem_bn="conv1_bn",
                stem_relu="conv1_relu",
                pool_pad="pool1_pad",
                pool="pool1_pool",
                pad="conv{stage}_block{block}_{branch}_pad",
                conv="conv{stage}_block{block}_{branch}_conv",
                bn="conv{stage}_block{block}_{branch}_bn",
                relu="conv{stage}_block{block}_{branch}_relu",
                add="conv{stage}_block{block}_add",
                out="conv{stage}_block{block}_out",
                branches=("1", "2", "3"),
                projection="0",
                global_pool="avg_pool",
                classifiers=("predictions", "probs", "fc1000"),
            ),
            label=numbers,
            bias=True,
            epsilon=1.001e-5,
            stem="explicit",
            pool="explicit",
            block_border="same",
            preprocessing="caffe",
        ),
        Family(
            name="keras-resnet",
            title="keras-resnet (broadinstitute, keras-retinanet)",
            depths=(18, 34, 50, 101, 152),
            names=replace(
                _CAFFE_NAMES,
                stem_pad="padding_conv1",
                add="res{stage}{block}",
                out="res{stage}{block}_relu",
                global_pool="pool5",
            ),
            label=caffe,
            bias=False,
            epsilon=1e-5,
            # version 0.1.0 and the published weights; 0.2.0 turned to "same", which the file's list of layers tells
            stem="explicit",
            pool="same",
            block_border="explicit",
            preprocessing="caffe",
        ),
    )
}


@dataclass(frozen=True)
class Architecture:
    """One network: a family, a depth, and what may differ from file to file.

    stage5      whether the network goes on to C5
    stem_width  channels of the stem
    widths      (inner, outer) channels of the blocks in each stage that exists; equal for basic blocks
    stem        border of the stem, where files of one family differ in it
    classes     how many the classifier tells apart, None without a classifier
    classifier  its layer's name
    """

    family: Family
    depth: int
    stage5: bool = True
    stem_width: int = 64
    widths: tuple[tuple[int, int], ...] = ()
    stem: Border = "explicit"
    classes: int | None = None
    classifier: str = ""

    @classmethod
    def standard(
        cls, family: Family, depth: int, *, stage5: bool = True, width: int = 64, classes: int | None = None
    ) -> Architecture:
        """The network of the paper's table: 64 to 512 channels in the blocks, four times that out of bottlenecks.

        ``width`` is the stem's; all others are in proportion.
        """
        expansion = 1 if block_kind(depth) == "basic" else 4
        widths = tuple((width << i, (width << i) * expansion) for i in range(4 if stage5 else 3))
        return cls(family, depth, stage5, width, widths, family.stem, classes, family.names.classifiers[0])

    @property
    def name(self) -> str:
        """Family and depth, as ``load`` takes them: ``matterport/resnet101``."""
        return f"{self.family.name}/resnet{self.depth}"

    @property
    def stages(self) -> range:
        """The stages that exist: 2 to 5, or 2 to 4."""
        return range(2, 6 if self.stage5 else 5)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks in each stage that exists."""
        return BLOCKS[self.depth][: len(self.stages)]

    def __str__(self) -> str:
        text = self.name
        if not self.stage5:
            text += " without stage 5"
        standard = Architecture.standard(self.family, self.depth, stage5=self.stage5)
        if (self.stem_width, self.widths) != (standard.stem_width, standard.widths):
            text += (
                f", stem {self.stem_width} and stages {'/'.join(str(outer) for _, outer in self.widths)} channels wide"
            )
        if self.stem != self.family.stem:
            text += f", stem padded {self.stem!r}"
        if self.classes is not None:
            text += f", {self.classes} classes"
        return text


def parse_architecture(text: str) -> tuple[str | None, int]:
    """``"resnet101"`` to (None, 101), ``"matterport/resnet101"`` to ("matterport", 101). Raises UsageError."""
    found = re.fullmatch(r"(?:(?P<family>.+)/)?resnet(?P<depth>\d+)", str(text).lower())
    known = ", ".join(f"{family.name}/resnet{depth}" for family in FAMILIES.values() for depth in family.depths)
    if found is None or (found["family"] and found["family"] not in FAMILIES):
        raise UsageError(
            f"architecture: got {text!r}; it must be a depth such as 'resnet101' or family and depth, one of: {known}"
        )
    family, depth = found["family"], int(found["depth"])
    depths = FAMILIES[family].depths if family else tuple(BLOCKS)
    if depth not in depths:
        raise UsageError(
            f"architecture: got {text!r}; {family or 'ResNet'} comes in depths {', '.join(map(str, depths))}; known: {known}"
        )
    return family, depth


class _Builder:
    """Collects layers; each method adds one and returns its name."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def add(self, name: str, operator: Operator, *inputs: str) -> str:
        self.layers.append(Layer(name, operator, inputs))
        return name


def build_graph(architecture: Architecture) -> Graph:
    """The graph of ``architecture``: every layer by its Keras name, in an order in which they can run."""
    family, names = architecture.family, architecture.family.names
    builder = _Builder()
    add, relu = builder.add, ReLU()

    x = add("input", Input())
    if architecture.stem == "explicit":
        x = add(names.stem_pad, Pad((3, 3, 3, 3)), x)
    stem_padding: Literal["same", "valid"] = "valid" if architecture.stem == "explicit" else "same"
    width = architecture.stem_width
    x = add(names.stem_conv, Conv2D(3, width, (7, 7), (2, 2), stem_padding, family.bias), x)
    x = add(names.stem_bn, BatchNorm(width, family.epsilon), x)
    x = add(names.stem_relu, relu, x)
    if family.pool == "explicit":
        x = add(names.pool_pad, Pad((1, 1, 1, 1)), x)
    x = add(names.pool, MaxPool((3, 3), (2, 2), "valid" if family.pool == "explicit" else "same"), x)
    features = {"C1": x}

    for stage, blocks, (inner, outer) in zip(
        architecture.stages, architecture.blocks, architecture.widths, strict=True
    ):
        for index in range(blocks):
            label = family.label(architecture.depth, stage, index)
            strides = (2, 2) if stage > 2 and index == 0 else (1, 1)
            x = _post_activation_block(builder, architecture, stage, label, index == 0, x, width, inner, outer, strides)
            width = outer
        features[f"C{stage}"] = x

    if architecture.classes is not None:
        x = add(names.global_pool, GlobalAveragePool(), x)
        add(architecture.classifier, Dense(width, architecture.classes, softmax=True), x)
        return Graph(tuple(builder.layers), features, architecture.classifier)
    return Graph(tuple(builder.layers), features)


def _post_activation_block(
    builder: _Builder,
    architecture: Architecture,
    stage: int,
    label: str,
    first: bool,
    entry: str,
    width: int,
    inner: int,
    outer: int,
    strides: tuple[int, int],
) -> str:
    """One residual block in the order of the first ResNet paper: ReLU(branch(x) + shortcut(x)).

    The first convolution of the block carries the stride; the first block of every stage has a projection, a strided
    1x1 convolution with batch-norm, for its shortcut. Returns the name of the block's output.
    """
    family, names, add = architecture.family, architecture.family.names, builder.add

    def name(template: str, branch: str = "") -> str:
        return template.format(stage=stage, block=label, branch=branch)

    if block_kind(architecture.depth) == "basic":
        plan = [(3, inner, strides), (3, outer, (1, 1))]
    else:
        plan = [(1, inner, strides), (3, inner, (1, 1)), (1, outer, (1, 1))]

    x, channels = entry, width
    for position, (kernel, out, stride) in enumerate(plan):
        branch = names.branches[position]
        padding: Literal["same", "valid"] = "valid"
        if kernel == 3 and family.block_border == "explicit":
            x = add(name(names.pad, branch), Pad((1, 1, 1, 1)), x)
        elif kernel == 3:
            padding = "same"
        conv = Conv2D(channels, out, (kernel, kernel), stride, padding, family.bias)
        x = add(name(names.conv, branch), conv, x)
        x = add(name(names.bn, branch), BatchNorm(out, family.epsilon), x)
        if position < len(plan) - 1:
            x = add(name(names.relu, branch), ReLU(), x)
        channels = out

    shortcut = entry
    if first:
        conv = Conv2D(width, outer, (1, 1), strides, "valid", family.bias)
        shortcut = add(name(names.conv, names.projection), conv, entry)
        shortcut = add(name(names.bn, names.projection), BatchNorm(outer, family.epsilon), shortcut)
    x = add(name(names.add), Add(), x, shortcut)
    return add(name(names.out), ReLU(), x)
