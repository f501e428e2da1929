"""Up-sampling: maps that are ``size`` = (a, b) times as high and as wide. It is a resize (``resize.py``) to that many pixels.

    nearest    out[n, oh, ow, c] = x[n, oh // a, ow // b, c]
    bilinear   by straight lines between pixels

The ladder: upsample_reference (NumPy), upsample_cpu (Numba, rows in parallel); upsample is upsample_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arrays import Array, images, result
from .geometry import pair
from .resize import Interpolation, ResizeStep, is_bilinear, resize_reference
from .steps.loop import run
from .steps.records import Map
from .threads import resolve_threads

__all__ = ["upsample", "upsample_cpu", "upsample_reference"]


def upsample_reference(x: Array, size: int | Sequence[int], *, interpolation: Interpolation = "nearest") -> Array:
    """Maps x dtype[n, h, w, c], ``size`` times as large: dtype[n, a * h, b * w, c]."""
    a, b = pair("size", size)
    if not is_bilinear("upsample", interpolation):
        return np.ascontiguousarray(x.repeat(a, axis=1).repeat(b, axis=2))
    return resize_reference(x, (a * x.shape[1], b * x.shape[2]))


def upsample_cpu(
    x: Array,
    size: int | Sequence[int],
    *,
    interpolation: Interpolation = "nearest",
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Make maps larger.

    x              float32[n, h, w, c]
    size           (a, b), how many times as high and as wide, or one number for both
    interpolation  "nearest" or "bilinear"
    out            float32[n, a * h, b * w, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank, a size below one, or another interpolation.
    """
    x = images("upsample: x", x)
    (a, b), bilinear = pair("size", size), is_bilinear("upsample", interpolation)
    n, h, w, c = x.shape
    out = result("upsample", out, (n, a * h, b * w, c))
    run(ResizeStep.of(Map.of(x), Map.of(out), (n, h, w), (a * h, b * w), bilinear), resolve_threads(threads), x, out)
    return out


upsample = upsample_cpu
