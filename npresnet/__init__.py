"""ResNet backbones run straight from Keras weight files by NumPy and Numba kernels written from scratch.

    import npresnet

    net = npresnet.load("mask_rcnn_coco.h5")
    c1, c2, c3, c4, c5 = net(net.prepare("street.jpg"))

Nothing heavy is imported before it is used: Numba with the first kernel, Pillow with the first picture.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    DeviceError,
    ImageError,
    MissingExtraError,
    NpResNetError,
    OutputError,
    UsageError,
    WeightsError,
    WeightsWarning,
)
from .version import __version__

if TYPE_CHECKING:
    from . import kernels
    from .detection.config import DetectorConfig
    from .detection.result import Detections
    from .extraction.reader import open_features
    from .extraction.run import extract
    from .model import Features, Pyramid, ResNet, load, resnet_graph

__all__ = [
    "Detections",
    "DetectorConfig",
    "DeviceError",
    "Features",
    "ImageError",
    "MissingExtraError",
    "NpResNetError",
    "OutputError",
    "Pyramid",
    "ResNet",
    "UsageError",
    "WeightsError",
    "WeightsWarning",
    "__version__",
    "extract",
    "kernels",
    "load",
    "open_features",
    "resnet_graph",
]

_LAZY = {
    "Detections": ".detection.result",
    "DetectorConfig": ".detection.config",
    **dict.fromkeys(("Features", "Pyramid", "ResNet", "load", "resnet_graph"), ".model"),
    "extract": ".extraction.run",
    "open_features": ".extraction.reader",
}


def __getattr__(name: str) -> Any:
    if name == "kernels":
        return importlib.import_module(".kernels", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
