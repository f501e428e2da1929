"""Features as ``.npz``, with a note of how they were made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files.safe_write import file_hash, replaced
from ..model import ResNet
from ..version import __version__

__all__ = ["save_arrays"]

Array = npt.NDArray[Any]


def save_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, Array], net: ResNet, weights: Path, images: Sequence[str]
) -> None:
    """Write arrays and, under the key ``about``, JSON text that says how they were made.

    arrays  by "C1" to "C5", "probabilities" or "scores", or the name of a layer

    The file appears under its name only when complete. Raises UsageError where it cannot be written.
    """
    layers = {**net.graph.features, **dict.fromkeys(("probabilities", "scores"), net.graph.classifier)}
    about = {
        "npresnet": __version__,
        "weights": weights.name,
        "weights_sha256": file_hash(weights),
        "architecture": str(net.architecture),
        "algorithm": net.algorithm,
        "images": list(images),
        "layers": {key: layers.get(key) or key for key in arrays},
    }
    with replaced(path) as temporary, temporary.open("wb") as file:
        contents: dict[str, Any] = {"about": np.array(json.dumps(about)), **arrays}
        np.savez(file, **contents)
