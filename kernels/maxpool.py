"""Max-pooling: the largest value in each window.

    out[n, oh, ow, c] = max of x[n, ih, iw, c] over the window that starts at (oh*sh - top, ow*sw - left)

Padding never wins. Nor does NaN, and a window of nothing but NaN or minus infinity gives the smallest finite number:
TensorFlow's CPU kernel starts from that number and takes what compares greater, and so do the versions here.

The ladder: maxpool_reference (NumPy), maxpool_cpu (Numba); maxpool is maxpool_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .geometry import Padding, pair, window_geometry
from .jit import jit

__all__ = ["maxpool", "maxpool_cpu", "maxpool_reference"]

_LOWEST = np.finfo(np.float32).min


def maxpool_reference(
    x: Array, window: int | Sequence[int], *, stride: int | Sequence[int] | None = None, padding: Padding = "valid"
) -> Array:
    """Pool x dtype[n, h, w, c], one comparison per pixel of the window; stride None: the window's own size."""
    (kh, kw), (sh, sw) = pair("window", window), pair("stride", window if stride is None else stride)
    (top, bottom, left, right), ho, wo = window_geometry(x.shape[1:3], (kh, kw), (sh, sw), padding)
    # TensorFlow's starting number also in float64, so that both dtypes tell the same story
    lowest = x.dtype.type(_LOWEST)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=lowest)
    best = np.full((x.shape[0], ho, wo, x.shape[3]), lowest)
    for i in range(kh):
        for j in range(kw):
            seen = padded[:, i::sh, j::sw][:, :ho, :wo]
            best = np.where(seen > best, seen, best)
    return best


@jit
def _maxpool(x, kh, kw, sh, sw, top, left, out, start, stop):
    _, height, width, channels = x.shape
    ho, wo = out.shape[1], out.shape[2]
    for index in range(start, stop):  # one row of output pixels
        n, oh = divmod(index, ho)
        for ow in range(wo):
            best = out[n, oh, ow]
            best[:] = _LOWEST
            for ih in range(max(oh * sh - top, 0), min(oh * sh - top + kh, height)):
                for iw in range(max(ow * sw - left, 0), min(ow * sw - left + kw, width)):
                    seen = x[n, ih, iw]
                    for c in range(channels):
                        best[c] = seen[c] if seen[c] > best[c] else best[c]


def maxpool_cpu(
    x: Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Largest value in each window of a batch of feature maps.

    x        float32[n, h, w, c]
    window   (kh, kw) in pixels, or one number; stride likewise, None: the window's own size
    padding  "same" (TensorFlow's), "valid", pixels on all sides, or (top, bottom, left, right)
    out      float32[n, ho, wo, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank or an image smaller than the window.
    """
    x = images("maxpool: x", x)
    size, step = pair("window", window), pair("stride", window if stride is None else stride)
    n, h, w, c = x.shape
    pads, ho, wo = window_geometry((h, w), size, step, padding)
    out = result("maxpool", out, (n, ho, wo, c))
    threads = _threads.resolve_threads(threads)
    _threads.run(_maxpool, n * ho, threads, x, *size, *step, pads[0], pads[2], out)
    return out


maxpool = maxpool_cpu
