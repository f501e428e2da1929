"""What calling a network returns: its sets of feature maps (``Graph.outputs``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

__all__ = ["Features", "Pyramid", "apart"]

Array = npt.NDArray[Any]


class Features(NamedTuple):
    """The feature maps, float32[n, h', w', c]: C1 after the stem's pool, C2 to C5 after each stage.

    For images of h x w pixels they are 4, 4, 8, 16 and 32 times smaller, rounded up. C5 is None without stage 5.
    """

    c1: Array
    c2: Array
    c3: Array
    c4: Array
    c5: Array | None


class Pyramid(NamedTuple):
    """A detector's feature pyramid, float32[n, h', w', c]: P2 to P6, which are 4, 8, 16, 32 and 64 times smaller than the images."""

    p2: Array
    p3: Array
    p4: Array
    p5: Array
    p6: Array


def apart(resolved: Mapping[str, str], found: Mapping[str, Array]) -> dict[str, Array]:
    """{name that was asked for: array}, each with memory of its own."""
    seen = set[str]()
    results = {}
    for name, layer in resolved.items():
        results[name] = found[layer].copy() if layer in seen else found[layer]
        seen.add(layer)
    return results
