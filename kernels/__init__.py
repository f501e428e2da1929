"""The kernels: one file per operator, and in each file a ladder from the readable reference to the fast version.

Import it as ``npresnet.kernels``. Every public function can be called on its own:

    from npresnet.kernels import conv2d, conv2d_reference
    y = conv2d(x, w, bias, stride=2, padding="same")         # x float32[n, h, w, ci], w float32[kh, kw, ci, co]

``LADDER`` lists the versions of each operator, slowest and most readable first; all versions of one operator take the
same arguments. ``CHOOSING`` is the same for those whose result is a choice: of boxes, of pixels, of whole numbers. ``README.md`` beside this file suggests an order of reading. Nothing is compiled before its first call,
and nothing imported before it is asked for: not a module, and not Numba.

``npresnet.kernels.cuda`` holds the same operators for NVIDIA's cards.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if __name__ != "npresnet.kernels":
    raise ImportError(
        f"this folder was imported as {__name__!r}; it must be imported as 'npresnet.kernels', or every kernel would "
        "be loaded and compiled twice; use `from npresnet import kernels`"
    )

if TYPE_CHECKING:
    from collections.abc import Callable

    from .activation import activation, activation_cpu, activation_reference
    from .add import add, add_cpu, add_reference
    from .avgpool import avgpool, avgpool_cpu, avgpool_reference, global_avgpool, global_avgpool_reference
    from .batchnorm import batchnorm, batchnorm_cpu, batchnorm_reference
    from .channel_reduce import channel_reduce, channel_reduce_cpu, channel_reduce_reference
    from .channels import channels, channels_cpu, channels_reference
    from .combine import combine, combine_cpu, combine_reference
    from .concatenate import concatenate, concatenate_cpu, concatenate_reference
    from .conv2d import conv2d, conv2d_direct, conv2d_im2col, conv2d_reference, conv2d_winograd
    from .conv2d_transpose import conv2d_transpose, conv2d_transpose_cpu, conv2d_transpose_reference
    from .crop import crop, crop_cpu, crop_reference
    from .crop_and_resize import crop_and_resize, crop_and_resize_cpu, crop_and_resize_reference
    from .dense import dense, dense_cpu, dense_reference
    from .gemm import gemm, gemm_blocked, gemm_naive, gemm_packed, gemm_reference
    from .globalmaxpool import global_maxpool, global_maxpool_cpu, global_maxpool_reference
    from .grouped import (
        depthwise_kernel,
        grouped_conv2d,
        grouped_conv2d_cpu,
        grouped_conv2d_lanes,
        grouped_conv2d_reference,
        grouped_conv2d_tiled,
        grouped_conv2d_winograd,
        summed_depthwise_kernel,
    )
    from .groupnorm import groupnorm, groupnorm_cpu, groupnorm_reference
    from .im2col import im2col, im2col_cpu, im2col_reference
    from .leaky_relu import leaky_relu, leaky_relu_cpu, leaky_relu_reference
    from .maxpool import maxpool, maxpool_cpu, maxpool_reference
    from .mold import mold_picture, mold_picture_cpu, mold_picture_reference
    from .nms import nms, nms_cpu, nms_reference
    from .pad import pad, pad_cpu, pad_reference
    from .paste_masks import paste_masks, paste_masks_cpu, paste_masks_reference
    from .relu import relu, relu_cpu, relu_reference
    from .resize import resize, resize_cpu, resize_reference
    from .scale import scale, scale_cpu, scale_reference
    from .softmax import softmax, softmax_cpu, softmax_reference
    from .unitnorm import unitnorm, unitnorm_cpu, unitnorm_reference
    from .upsample import upsample, upsample_cpu, upsample_reference

    LADDER: dict[str, tuple[Callable[..., Any], ...]]
    CHOOSING: dict[str, tuple[Callable[..., Any], ...]]

__all__ = [
    "CHOOSING",
    "LADDER",
    "activation", "activation_cpu", "activation_reference",
    "add", "add_cpu", "add_reference",
    "avgpool", "avgpool_cpu", "avgpool_reference",
    "batchnorm", "batchnorm_cpu", "batchnorm_reference",
    "channel_reduce", "channel_reduce_cpu", "channel_reduce_reference",
    "channels", "channels_cpu", "channels_reference",
    "combine", "combine_cpu", "combine_reference",
    "concatenate", "concatenate_cpu", "concatenate_reference",
    "conv2d", "conv2d_direct", "conv2d_im2col", "conv2d_reference",
    "conv2d_transpose", "conv2d_transpose_cpu", "conv2d_transpose_reference",
    "conv2d_winograd",
    "crop", "crop_and_resize", "crop_and_resize_cpu", "crop_and_resize_reference", "crop_cpu", "crop_reference",
    "dense", "dense_cpu", "dense_reference",
    "depthwise_kernel",
    "gemm", "gemm_blocked", "gemm_naive", "gemm_packed", "gemm_reference",
    "global_avgpool", "global_avgpool_reference",
    "global_maxpool", "global_maxpool_cpu", "global_maxpool_reference",
    "grouped_conv2d", "grouped_conv2d_cpu", "grouped_conv2d_lanes", "grouped_conv2d_reference", "grouped_conv2d_tiled",
    "grouped_conv2d_winograd",
    "groupnorm", "groupnorm_cpu", "groupnorm_reference",
    "im2col", "im2col_cpu", "im2col_reference",
    "leaky_relu", "leaky_relu_cpu", "leaky_relu_reference",
    "maxpool", "maxpool_cpu", "maxpool_reference",
    "mold_picture", "mold_picture_cpu", "mold_picture_reference",
    "nms", "nms_cpu", "nms_reference",
    "pad", "pad_cpu", "pad_reference",
    "paste_masks", "paste_masks_cpu", "paste_masks_reference",
    "relu", "relu_cpu", "relu_reference",
    "resize", "resize_cpu", "resize_reference",
    "scale", "scale_cpu", "scale_reference",
    "softmax", "softmax_cpu", "softmax_reference",
    "summed_depthwise_kernel",
    "unitnorm", "unitnorm_cpu", "unitnorm_reference",
    "upsample", "upsample_cpu", "upsample_reference",
]  # fmt: skip

_LADDER = {
    "pad": ("pad_reference", "pad_cpu"),
    "channels": ("channels_reference", "channels_cpu"),
    "crop": ("crop_reference", "crop_cpu"),
    "im2col": ("im2col_reference", "im2col_cpu"),
    "gemm": ("gemm_reference", "gemm_naive", "gemm_blocked", "gemm_packed"),
    "conv2d": ("conv2d_reference", "conv2d_direct", "conv2d_im2col", "conv2d_winograd"),
    "grouped_conv2d": (
        "grouped_conv2d_reference",
        "grouped_conv2d_cpu",
        "grouped_conv2d_tiled",
        "grouped_conv2d_lanes",
        "grouped_conv2d_winograd",
    ),
    "conv2d_transpose": ("conv2d_transpose_reference", "conv2d_transpose_cpu"),
    "batchnorm": ("batchnorm_reference", "batchnorm_cpu"),
    "scale": ("scale_reference", "scale_cpu"),
    "relu": ("relu_reference", "relu_cpu"),
    "leaky_relu": ("leaky_relu_reference", "leaky_relu_cpu"),
    "activation": ("activation_reference", "activation_cpu"),
    "add": ("add_reference", "add_cpu"),
    "combine": ("combine_reference", "combine_cpu"),
    "concatenate": ("concatenate_reference", "concatenate_cpu"),
    "maxpool": ("maxpool_reference", "maxpool_cpu"),
    "avgpool": ("avgpool_reference", "avgpool_cpu"),
    "global_avgpool": ("global_avgpool_reference", "global_avgpool"),
    "global_maxpool": ("global_maxpool_reference", "global_maxpool_cpu"),
    "channel_reduce": ("channel_reduce_reference", "channel_reduce_cpu"),
    "resize": ("resize_reference", "resize_cpu"),
    "upsample": ("upsample_reference", "upsample_cpu"),
    "dense": ("dense_reference", "dense_cpu"),
    "softmax": ("softmax_reference", "softmax_cpu"),
    "groupnorm": ("groupnorm_reference", "groupnorm_cpu"),
    "unitnorm": ("unitnorm_reference", "unitnorm_cpu"),
    "crop_and_resize": ("crop_and_resize_reference", "crop_and_resize_cpu"),
}
"""The names on ``LADDER``: operator -> its versions."""

_CHOOSING = {
    "nms": ("nms_reference", "nms_cpu"),
    "paste_masks": ("paste_masks_reference", "paste_masks_cpu"),
    "mold_picture": ("mold_picture_reference", "mold_picture_cpu"),
}
"""The names on ``CHOOSING``, the ladder of those whose result is a choice: which boxes, which pixels, which whole numbers."""


_ELSEWHERE = {
    "global_avgpool": "avgpool", "global_avgpool_reference": "avgpool",
    "global_maxpool": "globalmaxpool", "global_maxpool_cpu": "globalmaxpool", "global_maxpool_reference": "globalmaxpool",
    **dict.fromkeys(("channel_reduce", "channel_reduce_cpu", "channel_reduce_reference"), "channel_reduce"),
    **dict.fromkeys(
        ("conv2d_transpose", "conv2d_transpose_cpu", "conv2d_transpose_reference"), "conv2d_transpose"
    ),
    **dict.fromkeys(
        ("crop_and_resize", "crop_and_resize_cpu", "crop_and_resize_reference"), "crop_and_resize"
    ),
    **dict.fromkeys(("paste_masks", "paste_masks_cpu", "paste_masks_reference"), "paste_masks"),
    **dict.fromkeys(("leaky_relu", "leaky_relu_cpu", "leaky_relu_reference"), "leaky_relu"),
    "depthwise_kernel": "grouped", "summed_depthwise_kernel": "grouped",
}  # fmt: skip

_MODULES = {name: _ELSEWHERE.get(name, name.split("_")[0]) for name in __all__ if name.islower()}
"""Function -> the module that has it. But for those elsewhere, a name begins with its module's."""


def __getattr__(name: str) -> Any:
    value: Any
    if name in _MODULES:
        value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    elif name in ("LADDER", "CHOOSING"):
        ladder = _LADDER if name == "LADDER" else _CHOOSING
        value = {operator: tuple(map(_get, versions)) for operator, versions in ladder.items()}
    elif name == "cuda":  # which takes a package that most do without
        return importlib.import_module(".cuda", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})


def _get(name: str) -> Any:
    return getattr(sys.modules[__name__], name)


class _Package(ModuleType):
    """Keeps the names of functions for the functions. Most operators' modules have the name of one, and Python makes
    every submodule, whoever imports it, an attribute of its package: ``kernels.relu`` would be one or the other, depending
    on what was imported before."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
