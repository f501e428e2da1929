"""ResNet architectures as data: one row per family of weight files, from which every graph is built.

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
from dataclasses import dataclass, field, replace
from typing import Literal

from .operators import Rescale

__all__ = ["BLOCKS", "FAMILIES", "FCHOLLET", "Family", "Names"]


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
    preprocessing  convention of ``images.py`` that its training used
    inside         layers that scale pixels, which some files of the family have in front; then pictures go in as they are
    optional_stage5  whether files without stage 5 are known
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
    inside: tuple[tuple[str, Rescale], ...] = ()
    optional_stage5: bool = False

    @property
    def package(self) -> str:
        """The first half of its networks' names in ``load(architecture=)``."""
        return self.name.split()[0]

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(self.blocks)


def _depths(*depths: int) -> dict[int, Blocks]:
    return {depth: BLOCKS[depth] for depth in depths}


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

_APPLICATIONS_NAMES = Names(
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
    shortcut_pool="conv{stage}_block{block}_0_pool",
    pre_bn="conv{stage}_block{block}_preact_bn",
    pre_relu="conv{stage}_block{block}_preact_relu",
    final_bn="post_bn",
    final_relu="post_relu",
)

_HUB_NAMES = replace(
    _APPLICATIONS_NAMES,
    stem_conv="conv{i}_conv",
    stem_bn="conv{i}_bn",
    stem_relu="conv{i}_relu",
    pad="stack{stage0}_block{block}_{branch}_pad",
    conv="stack{stage0}_block{block}_{branch}_conv",
    bn="stack{stage0}_block{block}_{branch}_bn",
    relu="stack{stage0}_block{block}_{branch}_relu",
    add="stack{stage0}_block{block}_add",
    out="stack{stage0}_block{block}_out",
    global_pool="pooler",
    classifiers=("predictions",),
    softmax="predictions_softmax",
    shortcut_pool="stack{stage0}_block{block}_0_pool",
    pre_bn="stack{stage0}_block{block}_pre_activation_bn",
    pre_relu="stack{stage0}_block{block}_pre_activation_relu",
)

_CV_NAMES = replace(
    _APPLICATIONS_NAMES,
    pad="v2_stack_{stage0}_block{block}_{branch}_pad",
    conv="v2_stack_{stage0}_block{block}_{branch}_conv",
    bn="v2_stack_{stage0}_block{block}_{branch}_bn",
    relu="v2_stack_{stage0}_block{block}_{branch}_relu",
    add="v2_stack_{stage0}_block{block}_add",
    out="v2_stack_{stage0}_block{block}_out",
    classifiers=("predictions",),
    shortcut_pool="v2_stack_{stage0}_block{block}_0_max_pooling",
    pre_bn="v2_stack_{stage0}_block{block}_use_preactivation_bn",
    pre_relu="v2_stack_{stage0}_block{block}_use_preactivation_relu",
)

_HUB = Family(
    name="keras-hub",
    title="keras-hub ResNetBackbone",
    blocks=_depths(18, 34, 50, 101, 152) | {26: (2, 2, 2, 2)},
    names=_HUB_NAMES,
    label=from_zero,
    bias="none",
    epsilon=1e-5,
    stem="explicit",
    pool="explicit",
    block_border="strided",
    preprocessing="torch",
    stride=(1, 0),
    projection="changed",
    shortcut_first=True,
    probabilities="missing",
)

_CLASSIFIERS = Family(
    name="image-classifiers",
    title="image-classifiers (qubvel/classification_models)",
    blocks=_depths(18, 34, 50, 101, 152),
    names=Names(
        stem_pad="conv0_pad",
        stem_conv="conv0",
        stem_bn="bn0",
        stem_relu="relu0",
        pool_pad="pooling0_pad",
        pool="pooling0",
        pad="stage{stage1}_unit{block}_{branch}_pad",
        conv="stage{stage1}_unit{block}_{branch}",
        bn="stage{stage1}_unit{block}_bn{branch}",
        relu="stage{stage1}_unit{block}_relu{branch}",
        add="stage{stage1}_unit{block}_add",
        out="stage{stage1}_unit{block}_add",
        branches=("conv1", "conv2", "conv3"),
        bn_branches=("2", "3", ""),
        projection="sc",
        global_pool="pool1",
        classifiers=("fc1",),
        softmax="softmax",
        pre_bn="stage{stage1}_unit{block}_bn1",
        pre_relu="stage{stage1}_unit{block}_relu1",
        final_bn="bn1",
        final_relu="relu1",
        input_bn="bn_data",
        squeeze="stage{stage1}_unit{block}_se_{part}",
    ),
    label=numbers,
    bias="none",
    epsilon=2e-5,
    stem="explicit",
    pool="explicit",
    block_border="explicit",
    preprocessing="none",
    order="pre",
    stride=(1, 0),
    probabilities="layer",
    features="activated",
)

_KERAS_CV = Family(
    name="keras-cv",
    title="KerasCV ResNetBackbone",
    blocks=_depths(18, 34, 50, 101, 152),
    names=_CV_NAMES,
    label=numbers,
    bias="none",
    epsilon=1.001e-5,
    stem="same",
    pool="same",
    block_border="same",
    preprocessing="unit",
    projection="changed",
    shortcut_first=True,
    inside=(("rescaling", Rescale((1 / 255,), (0.0,))),),
)

FCHOLLET = Family(
    name="fchollet",
    title="the original Keras ResNet50 (Keras 1 and early Keras 2)",
    blocks=_depths(50),
    names=replace(_CAFFE_NAMES, out="res{stage}{block}_relu"),
    label=letters,
    bias="all",
    epsilon=1e-3,
    stem="explicit",
    # one pixel of zeros since keras-applications 1.0.6; pool=valid is the older, unpadded network, with C1 of 55x55
    pool="explicit",
    block_border="same",
    preprocessing="caffe",
)

_APPLICATIONS = Family(
    name="keras.applications",
    title="Keras applications, ResNet v1",
    blocks=_depths(50, 101, 152),
    names=_APPLICATIONS_NAMES,
    label=numbers,
    bias="all",
    epsilon=1.001e-5,
    stem="explicit",
    pool="explicit",
    block_border="same",
    preprocessing="caffe",
    shortcut_first=True,
)

_KERAS_RESNET = Family(
    name="keras-resnet",
    title="keras-resnet (broadinstitute, keras-retinanet)",
    blocks=_depths(18, 34, 50, 101, 152) | {200: (3, 24, 36, 3)},
    names=replace(
        _CAFFE_NAMES,
        stem_pad="padding_conv1",
        add="res{stage}{block}",
        out="res{stage}{block}_relu",
        global_pool="pool5",
    ),
    label=caffe,
    bias="none",
    epsilon=1e-5,
    # version 0.1.0 and the published weights; 0.2.0 turned to "same", which the file's list of layers tells
    stem="explicit",
    pool="same",
    block_border="explicit",
    preprocessing="caffe",
)

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        replace(
            FCHOLLET,
            name="matterport",
            title="Mask R-CNN (matterport/Mask_RCNN)",
            blocks=_depths(50, 101, 152),
            names=_CAFFE_NAMES,
            pool="same",
            preprocessing="matterport",
            optional_stage5=True,
        ),
        FCHOLLET,
        _APPLICATIONS,
        replace(
            _APPLICATIONS,
            name="keras.applications V2",
            title="Keras applications, ResNet V2",
            model="resnet{depth}v2",
            names=replace(_APPLICATIONS_NAMES, add=_APPLICATIONS_NAMES.out),
            bias="ends",
            block_border="explicit",
            preprocessing="tf",
            order="pre",
            stem_norm=False,
            stride=(1, 0),
            strided_block="last",
            features="largest depth",
        ),
        replace(
            _APPLICATIONS,
            name="keras.applications ResNeXt",
            title="keras-applications, ResNeXt",
            model="resnext{depth}",
            blocks=_depths(50, 101),
            bias="none",
            block_border="explicit",
            preprocessing="torch",
            stride=(1, 0),
            inner=128,
            expansion=2,
            groups=32,
        ),
        _KERAS_RESNET,
        replace(
            _KERAS_RESNET,
            name="flyyufelix",
            title="flyyufelix (cnn_finetune) with separate Scale layers",
            blocks=_depths(101, 152),
            names=replace(
                _KERAS_RESNET.names,
                stem_scale="scale_conv1",
                scale="scale{stage}{block}_branch{branch}",
                global_pool="avg_pool",
            ),
            epsilon=1.1e-5,
            pool="valid",
        ),
        _HUB,
        replace(
            _HUB,
            name="keras-hub V2",
            title="keras-hub ResNetBackbone with pre-activation",
            model="resnet{depth}v2",
            names=replace(_HUB_NAMES, add=_HUB_NAMES.out),
            order="pre",
            stem_norm=False,
            pool="infinity",
        ),
        replace(
            _HUB,
            name="keras-hub vd",
            title="keras-hub ResNetBackbone of the kind vd",
            model="resnet{depth}vd",
            blocks=_depths(18, 34, 50, 101, 152) | {200: (3, 12, 48, 3)},
            deep_stem=True,
            average=True,
            projection="always",
        ),
        _KERAS_CV,
        replace(
            _KERAS_CV,
            name="keras-cv V2",
            title="KerasCV ResNetV2Backbone",
            model="resnet{depth}v2",
            names=replace(_CV_NAMES, add=_CV_NAMES.out),
            bias="ends",
            order="pre",
            stem_norm=False,
            stride=(1, 1),
            strided_block="last",
            features="largest depth",
        ),
        replace(
            _HUB,
            name="kimm",
            title="kimm (keras-image-models, after timm)",
            blocks=_depths(18, 34, 50, 101, 152),
            names=Names(
                stem_pad="conv_stem_pad",
                stem_conv="conv_stem_conv2d",
                stem_bn="conv_stem_bn",
                stem_relu="conv_stem",
                pool_pad="pool_pad",
                pool="pool",
                pad="layer{stage1}_{block}_{branch}_pad",
                conv="layer{stage1}_{block}_{branch}_conv2d",
                bn="layer{stage1}_{block}_{branch}_bn",
                relu="layer{stage1}_{block}_{branch}",
                add="layer{stage1}_{block}_add",
                out="layer{stage1}_{block}",
                branches=("conv1", "conv2", "conv3"),
                projection="downsample",
                global_pool="avg_pool",
                classifiers=("classifier",),
            ),
            projection_pad=True,
            shortcut_first=False,
            probabilities="fused",
            inside=(
                ("rescaling", Rescale((1 / 255,), (0.0,))),
                # kimm gives Keras the deviations where it takes variances, so what divides is their square root
                (
                    "normalization",
                    Rescale(
                        tuple(v**-0.5 for v in (0.229, 0.224, 0.225)),
                        tuple(-m * v**-0.5 for m, v in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)),
                    ),
                ),
            ),
        ),
        _CLASSIFIERS,
        replace(
            _CLASSIFIERS,
            name="image-classifiers SE",
            title="image-classifiers, SE-ResNet",
            model="seresnet{depth}",
            blocks=_depths(18, 34),
            squeeze=16,
        ),
        replace(
            FCHOLLET,
            name="opennsfw2",
            title="opennsfw2 (Yahoo open_nsfw, thin ResNet-50)",
            names=replace(
                _CAFFE_NAMES,
                stem_conv="conv_1",
                stem_bn="bn_1",
                stem_relu="activation_1",
                conv="conv_stage{stage0}_block{block}_{branch}",
                bn="bn_stage{stage0}_block{block}_{branch}",
                relu="activation_stage{stage0}_block{block}_{branch}",
                add="add_stage{stage0}_block{block}",
                out="activation_stage{stage0}_block{block}",
                branches=("branch2a", "branch2b", "branch2c"),
                projection="proj_shortcut",
                global_pool="global_average_pooling2d",
                classifiers=("fc_nsfw",),
                softmax="predictions",
            ),
            label=from_zero,
            epsilon=1e-5,
            pool="same",
            inner=32,
            probabilities="layer",
            preprocessing="nsfw",
        ),
    )
}
