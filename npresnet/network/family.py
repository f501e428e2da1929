"""What is to be said of a family of ResNet weight files: the fields of a row of ``families.py``.

All families share one plan (He et al., "Deep residual learning for image recognition", 2015, table 1): a 7x7 stem, a
pool, four stages of residual blocks, and perhaps a classifier. They differ in details that shift feature maps by a
pixel or change every number a little: where the stride sits, how borders are padded, the batch-norm epsilon, biases,
and above all the names of layers, by which weights are found. Those details are the fields of ``Family``.

Stages are numbered 2 to 5, as in the paper, so that stage s makes feature map C<s>; the pool's output is C1. Which
layers C2 to C5 are is plain where activation follows the sum: the outputs of the stages. In pre-activation networks
("Identity mappings in deep residual networks", 2016) ``Family.features`` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .operators import Rescale

__all__ = [
    "BLOCKS",
    "Blocks",
    "Border",
    "Family",
    "Names",
    "PoolBorder",
    "block_kind",
    "caffe",
    "from_zero",
    "letters",
    "numbers",
]


Blocks = tuple[int, int, int, int]

BLOCKS: Mapping[int, Blocks] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Residual blocks in stages 2 to 5, by depth."""

Block = Literal["basic", "bottleneck"]
Border = Literal["explicit", "same"]  # a padding layer and a "valid" window, or TensorFlow's "same"
PoolBorder = Literal["explicit", "same", "valid", "infinity"]  # infinity: one pixel that never wins


def block_kind(depth: int) -> Block:
    """Depths 18 and 34 are made of two 3x3 convolutions per block, the others of 1x1, 3x3, 1x1."""
    return "basic" if depth in (18, 34) else "bottleneck"


@dataclass(frozen=True)
class Names:
    """Templates of a family's layer names. ``{stage}`` is 2 to 5, ``{stage0}`` 0 to 3, ``{stage1}`` 1 to 4, ``{block}``
    the family's label of the block, ``{branch}`` which of the block's convolutions, ``{i}`` which of the stem's.

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
    bn_branches: tuple[str, str, str] | None = None  # where the batch-norms after them count differently
    softmax: str = ""  # where it is a layer of its own
    shortcut_pool: str = ""
    pre_bn: str = ""
    pre_relu: str = ""
    final_bn: str = ""
    final_relu: str = ""
    input_bn: str = ""
    stem_scale: str = ""
    scale: str = ""
    squeeze: str = ""  # {part} of squeeze-and-excitation: pool, reduce, relu, expand, sigmoid, multiply


Label = Callable[[int, int, int], str]
"""(depth, stage, index from 0) to the {block} in a layer's name."""


def letters(depth: int, stage: int, index: int) -> str:
    """a, b, c, ...: the matterport way, which simply counts characters on, past z too."""
    return chr(ord("a") + index)


def numbers(depth: int, stage: int, index: int) -> str:
    """1, 2, 3, ..."""
    return str(index + 1)


def from_zero(depth: int, stage: int, index: int) -> str:
    """0, 1, 2, ..."""
    return str(index)


def caffe(depth: int, stage: int, index: int) -> str:
    """keras-resnet, after the Caffe files: a, b1, b2, ... in every stage of 18 and 34 and in the long stages (3 and 4)
    of 101 and deeper; plain letters elsewhere."""
    if depth == 50 or (depth > 50 and stage in (2, 5)):
        return letters(depth, stage, index)
    return "a" if index == 0 else f"b{index}"


@dataclass(frozen=True)
class Family:
    """How one family of Keras ResNets differs from the others. The defaults are the first paper's network.

    name           the package that makes the files, and which of its networks where there are several
    model          what ``load(architecture=)`` calls its networks, after the package and a slash
    blocks         residual blocks in stages 2 to 5, by depth
    bias           which convolutions have one: all, none, or "ends": the stem, projections and each bottleneck's last
    epsilon        of every batch normalisation
    stem           border of the 7x7 convolution (3 pixels where explicit)
    deep_stem      three 3x3 convolutions instead of the 7x7, the last of them twice as wide
    pool           border of the 3x3 max-pool (1 pixel of zeros where explicit)
    block_border   border of the 3x3 convolutions; "strided": explicit where there is a stride, else same
    order          ReLU after the sum ("post"), or batch-norm and ReLU before the convolutions ("pre")
    stem_norm      whether batch-norm and ReLU follow the stem
    stride         which convolution of a bottleneck has the stride of its block, from 0; and of a basic block
    strided_block  which block of a stage has it: the first, or the last (then of stages 2 to 4)
    projection     in the first block of every stage, or only where the number of channels or the size changes
    average        a strided shortcut is an average-pool before a 1x1 convolution without stride
    projection_pad an empty border before strided projections, which does nothing but is there
    shortcut_first in which order the sum reads its inputs, which decides how Keras orders layers
    inner          channels of stage 2's 3x3 convolution in a standard network, and how many times as many leave a bottleneck
    expansion      see inner
    groups         of the 3x3 convolutions, stored as a depthwise kernel (keras-applications' ResNeXt)
    squeeze        reduction of squeeze-and-excitation, 0 without
    probabilities  the classifier's softmax is part of its layer, a layer of its own, or missing (then we add it)
    features       what C2 to C5 are: outputs of the stages' last blocks; "activated": those after the next batch-norm
                   and ReLU; "largest depth": the last block before the size changes again, and at the end after ReLU
    preprocessing  convention of ``images/conventions.py`` that its training used
    classifier     whether its networks come with one
    classes        how many its own classifier tells apart

    What files of the family may differ in, beside depth and widths:

    stems, pools   borders of the stem's convolution and of the pool, each with who wrote such files, the usual one first;
                   empty where there is but one
    inside         layers that scale pixels, which some files have in front; then pictures go in as they are
    inside_setting the setting of the package's own class of networks that puts them there
    optional_stage5  whether files without stage 5 are known
    detector       whether files may hold a feature pyramid and what stands behind it, see ``detector.py``

    signs          by which a file is told from one of another family whose layers with weights have the same names:
                   regular expressions for names of layers, the surest first
    """

    name: str
    title: str
    blocks: Mapping[int, Blocks] = field(hash=False)
    names: Names
    label: Label
    bias: Literal["all", "none", "ends"]
    epsilon: float
    stem: Border
    pool: PoolBorder
    block_border: Literal["explicit", "same", "strided"]
    preprocessing: str
    model: str = "resnet{depth}"
    deep_stem: bool = False
    order: Literal["post", "pre"] = "post"
    stem_norm: bool = True
    stride: tuple[int, int] = (0, 0)
    strided_block: Literal["first", "last"] = "first"
    projection: Literal["always", "changed"] = "always"
    average: bool = False
    projection_pad: bool = False
    shortcut_first: bool = False
    inner: int = 64
    expansion: int = 4
    groups: int = 1
    squeeze: int = 0
    probabilities: Literal["fused", "layer", "missing"] = "fused"
    features: Literal["blocks", "activated", "largest depth"] = "blocks"
    classifier: bool = True
    classes: int = 1000
    stems: Mapping[Border, str] = field(default_factory=dict, hash=False)
    pools: Mapping[PoolBorder, str] = field(default_factory=dict, hash=False)
    inside: tuple[tuple[str, Rescale], ...] = ()
    inside_setting: str = ""
    optional_stage5: bool = False
    detector: bool = False
    signs: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The first half of its networks' names in ``load(architecture=)``."""
        return self.name.split()[0]

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(self.blocks)

    @property
    def options(self) -> dict[str, tuple[Any, ...]]:
        """{field of ``Architecture``: its values, the usual one first; none where it may be any number} of what files of the
        family may differ in."""
        found: dict[str, tuple[Any, ...]] = {}
        if self.optional_stage5:
            found["stage5"] = (True, False)
        if self.stems:
            found["stem"] = (*self.stems,)
        if self.pools:
            found["pool"] = (*self.pools,)
        if self.inside:
            found["inside"] = (False, True)
        if self.groups > 1:
            found["groups"] = ()
        return found

    def place(self, depth: int, stage: int, index: int) -> dict[str, Any]:
        """What templates of names may use in block ``index`` (from 0) of ``stage``, but for ``{branch}``."""
        return {"stage": stage, "stage0": stage - 2, "stage1": stage - 1, "block": self.label(depth, stage, index)}

    def main_conv(self, depth: int, stage: int, index: int, branch: int = 0) -> str:
        """Name of the convolution number ``branch``, from 0, on a block's main path."""
        return self.names.conv.format(**self.place(depth, stage, index), branch=self.names.branches[branch])
