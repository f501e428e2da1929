"""From a feature map to one number for each channel. Each image by itself, in an order that no batch changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["POOLS", "pooled"]

_GEM_POWER, _GEM_LEAST = 3, 1e-6

Array = npt.NDArray[Any]


def _mean(image: Array) -> Array:
    """The mean over all pixels, summed up in float64."""
    mean: Array = image.mean(axis=0, dtype=np.float64)
    return mean


def _max(image: Array) -> Array:
    """The largest of all pixels."""
    largest: Array = image.max(axis=0)
    return largest


def _gem(image: Array) -> Array:
    """The generalised mean, (mean of x³)^(1/3), of x cut at 1e-6 from below. Source: Radenović, Tolias and Chum 2019."""
    cut = np.maximum(image, _GEM_LEAST, dtype=np.float64)
    mean: Array = np.cbrt((cut * cut * cut).mean(axis=0))
    return mean


POOLS: dict[str, Callable[[Array], Array] | None] = {"mean": _mean, "max": _max, "gem": _gem, "none": None}
"""{name: from [pixels, c] to [c]}; None: maps stay as they are."""


def pooled(maps: Array, pool: str) -> Array:
    """Maps float32[n, h, w, c] as [n, c], or as they are for "none" and for what has no pixels."""
    function = POOLS[pool]
    if function is None or maps.ndim != 4:
        return maps
    pixels = maps.reshape(len(maps), -1, maps.shape[-1])
    return np.stack([function(image) for image in pixels])
