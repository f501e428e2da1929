"""Which networks the oracle can build: {family: how}. It knows nothing of ``network/families.py``, and a test holds the two
to the same depths and options.

Names of the layers, in the order in which a block is computed. ``{b}`` is the stage and the block's label, such as
``2a``; what stands in brackets exists only in the first block of a stage; ``*`` marks layers whose name upstream
leaves to Keras's counters (``activation_7``, ``zero_padding2d``), which would change from one model to the next.

=====  ================================================================================================================
stem   matterport: ``conv1_pad*`` ``conv1`` ``bn_conv1`` ``conv1_relu*`` ``pool1*``
       keras-resnet: [0.1.0 only: ``padding_conv1``] ``conv1`` ``bn_conv1`` ``conv1_relu`` ``pool1``
       keras.applications: ``conv1_pad`` ``conv1_conv`` ``conv1_bn`` ``conv1_relu`` ``pool1_pad`` ``pool1_pool``
block  matterport: ``res{b}_branch2a`` ``bn{b}_branch2a`` ``res{b}_branch2a_relu*`` ``res{b}_branch2b``
       ``bn{b}_branch2b`` ``res{b}_branch2b_relu*`` ``res{b}_branch2c`` ``bn{b}_branch2c`` [``res{b}_branch1``
       ``bn{b}_branch1``] ``res{b}_add*`` ``res{b}_out``
       keras-resnet, 50 and deeper: the same but for ``padding{b}_branch2b`` before ``res{b}_branch2b``, and an end of
       ``res{b}`` (the sum) ``res{b}_relu``
       keras-resnet, 18 and 34: ``padding{b}_branch2a`` ``res{b}_branch2a`` ``bn{b}_branch2a`` ``res{b}_branch2a_relu``
       ``padding{b}_branch2b`` ``res{b}_branch2b`` ``bn{b}_branch2b`` [``res{b}_branch1`` ``bn{b}_branch1``] ``res{b}``
       ``res{b}_relu``
       keras.applications, ``{b}`` as in ``conv2_block1``: [``{b}_0_conv`` ``{b}_0_bn``] ``{b}_1_conv`` ``{b}_1_bn``
       ``{b}_1_relu`` ``{b}_2_conv`` ``{b}_2_bn`` ``{b}_2_relu`` ``{b}_3_conv`` ``{b}_3_bn`` ``{b}_add`` ``{b}_out``
top    keras-resnet: ``pool5`` ``fc1000``; keras.applications: ``avg_pool`` ``predictions``; matterport has none
=====  ================================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .caffe_names import fchollet, flyyufelix, keras_resnet, matterport, nsfw
from .keras_names import applications, hub, keras_cv, resnext
from .own_names import classifiers, kimm

__all__ = ["BUILDERS", "Builder"]

_BLOCKS = {
    18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)
}  # fmt: skip


def _depths(*depths: int) -> dict[int, tuple[int, ...]]:
    return {depth: _BLOCKS[depth] for depth in depths}


@dataclass(frozen=True)
class Builder:
    """How the networks of one family are built.

    make        takes depth, blocks, stem width, stage widths and classes, then ``given`` and ``options``
    depths      {depth: residual blocks in stages 2 to 5}
    given       further arguments, the same for all of the family
    options     {name: the values that may be asked for, the usual one first; none where any will do}
    classifier  whether the family has one
    """

    make: Callable[..., Any]
    depths: Mapping[int, tuple[int, ...]]
    given: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    classifier: bool = True


_ALL = _depths(18, 34, 50, 101, 152)
_INSIDE = {"inside": (False, True)}

BUILDERS: Mapping[str, Builder] = {
    "matterport": Builder(matterport, _depths(50, 101, 152), options={"stage5": (True, False)}, classifier=False),
    "fchollet": Builder(fchollet, _depths(50), options={"pool": ("explicit", "valid")}),
    "keras-frcnn": Builder(fchollet, _depths(50), {"pool": "valid"}, classifier=False),
    "keras.applications": Builder(applications, _depths(50, 101, 152)),
    "keras.applications V2": Builder(applications, _depths(50, 101, 152), {"version": "V2"}),
    "keras.applications ResNeXt": Builder(resnext, _depths(50, 101), options={"groups": ()}),
    "keras-resnet": Builder(keras_resnet, _ALL | {200: (3, 24, 36, 3)}, options={"stem": ("explicit", "same")}),
    "flyyufelix": Builder(flyyufelix, _depths(101, 152)),
    "keras-hub": Builder(hub, _ALL | _depths(26)),
    "keras-hub V2": Builder(hub, _ALL | _depths(26), {"kind": "v2"}),
    "keras-hub vd": Builder(hub, _ALL | {200: (3, 12, 48, 3)}, {"kind": "vd"}),
    "keras-cv": Builder(keras_cv, _ALL, options=_INSIDE),
    "keras-cv V2": Builder(keras_cv, _ALL, {"kind": "v2"}, _INSIDE),
    "kimm": Builder(kimm, _ALL, options=_INSIDE),
    "image-classifiers": Builder(classifiers, _ALL),
    "image-classifiers SE": Builder(classifiers, _depths(18, 34), {"squeeze": True}),
    "opennsfw2": Builder(nsfw, _depths(50)),
}
"""{family: builder}, by the names of ``network/families.py``."""
