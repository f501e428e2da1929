"""The engines that npresnet is measured beside: one file each, found by name and imported when it is wanted.

A new engine is one file here, with a ``Peer`` in it, and one line in ``PEERS``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .peer import Peer

__all__ = ["PEERS", "missing", "peer_class"]

PEERS: Mapping[str, str] = {
    "onnxruntime": "OnnxRuntime",
    "openvino": "OpenVino",
    "tensorflow": "TensorFlow",
    "pytorch": "PyTorch",
    "litert": "LiteRT",
    "ncnn": "Ncnn",
    "mnn": "Mnn",
}
"""{engine: its class}. The name is the one that ``npresnet bench --engines`` takes, and that of the engine's file."""


def peer_class(name: str) -> type[Peer]:
    """The class of the engine ``name``. Its file is imported now; the engine itself only with a network."""
    found: type[Peer] = getattr(importlib.import_module(f".{name}", __package__), PEERS[name])
    return found


def missing(name: str) -> str | None:
    """What to do to get the engine ``name``, or None where it is installed."""
    peer = peer_class(name)
    lacking = [module for module in peer.modules if importlib.util.find_spec(module) is None]
    return f"not installed: pip install {' '.join(peer.packages)}" if lacking else None
