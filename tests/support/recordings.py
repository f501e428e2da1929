"""The recordings of ``npresnet/verify/subjects.py``, which ``python -m tests.record_backbones`` makes."""

from __future__ import annotations

from pathlib import Path

from npresnet.model import ResNet

FOLDER = Path(__file__).parents[1] / "data" / "recordings"

SAMPLES = 48  # values kept of each layer, and at most twice as many in its corners


def layer_names(net: ResNet) -> list[str]:
    """The layers that a recording must have."""
    return [layer.name for layer in net.graph.layers[1:] if not layer.stored]
