"""The engines that npresnet is measured beside: one file each, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from .ncnn import Ncnn
from .onnxruntime import OnnxRuntime
from .openvino import OpenVino
from .peer import Peer
from .pytorch import PyTorch
from .tensorflow import TensorFlow

__all__ = ["PEERS", "missing"]


PEERS: Mapping[str, type[Peer]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "tensorflow": TensorFlow,
    "pytorch": PyTorch,
    "ncnn": Ncnn,
}
"""The engines by the names that ``npresnet bench --engines`` takes."""


def missing(name: str) -> str | None:
    """What to do to get the engine ``name``, or None where it is installed."""
    peer = PEERS[name]
    lacking = [module for module in peer.modules if importlib.util.find_spec(module) is None]
    return f"not installed: pip install {' '.join(peer.packages)}" if lacking else None
