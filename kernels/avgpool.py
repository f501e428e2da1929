"""Average-pooling: the mean of the pixels in each window. Padding does not count, neither in the sum nor in the number.

    out[n, oh, ow, c] = mean of those x[n, ih, iw, c] in the window at (oh*sh - top, ow*sw - left) that exist

``global_avgpool`` is the window that covers the whole image, and returns float32[n, c].

The ladder: avgpool_reference (NumPy), avgpool_cpu (Numba, sums in float64); avgpool is avgpool_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .geometry import Padding, Window, pair, window_geometry
from .jit import jit

__all__ = [
    "avgpool",
    "avgpool_cpu",
    "avgpool_reference",
    "avgpool_window",
    "global_avgpool",
    "global_avgpool_reference",
]


def avgpool_reference(
    x: Array, window: int | Sequence[int], *, stride: int | Sequence[int] | None = None, padding: Padding = "valid"
) -> Array:
    """Pool x dtype[n, h, w, c]: sum over the window, divided by the number of real pixels in it."""
    (kh, kw), (sh, sw) = pair("window", window), pair("stride", window if stride is None else stride)
    (top, bottom, left, right), ho, wo = window_geometry(x.shape[1:3], (kh, kw), (sh, sw), padding)
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded, real = np.pad(x, border), np.pad(np.ones((1, *x.shape[1:3], 1), x.dtype), border)
    total = np.zeros((x.shape[0], ho, wo, x.shape[3]), x.dtype)
    count = np.zeros((1, ho, wo, 1), x.dtype)
    for i in range(kh):
        for j in range(kw):
            total += padded[:, i::sh, j::sw][:, :ho, :wo]
            count += real[:, i::sh, j::sw][:, :ho, :wo]
    return total / count


def global_avgpool_reference(x: Array) -> Array:
    """Mean over all pixels: x dtype[n, h, w, c], result dtype[n, c]."""
    return avgpool_reference(x, x.shape[1:3])[:, 0, 0]


def avgpool_window(
    image: tuple[int, int], window: int | Sequence[int], stride: int | Sequence[int] | None, padding: Padding
) -> Window:
    """The window as compiled loops want it, over images of (height, width) pixels; ValueError where there is none, or
    where one would hold nothing but padding."""
    size, step = pair("window", window), pair("stride", window if stride is None else stride)
    pads, ho, wo = window_geometry(image, size, step, padding)
    if max(pads[:2]) >= size[0] or max(pads[2:]) >= size[1]:
        raise ValueError(
            f"avgpool: got padding {pads}; it must be smaller than the window {size}, or a mean is of nothing"
        )
    return (*size, *step, 1, 1, pads[0], pads[2], ho, wo)


@jit
def _avgpool(x, window, out, start, stop):
    kh, kw, sh, sw, _, _, top, left, ho, wo = window
    _, height, width, channels = x.shape
    sums = np.empty(channels, np.float64)
    for index in range(start, stop):  # one output pixel
        n, pixel = divmod(index, ho * wo)
        oh, ow = divmod(pixel, wo)
        sums[:] = 0.0
        count = 0
        for ih in range(max(oh * sh - top, 0), min(oh * sh - top + kh, height)):
            for iw in range(max(ow * sw - left, 0), min(ow * sw - left + kw, width)):
                count += 1
                seen = x[n, ih, iw]
                for c in range(channels):
                    sums[c] += seen[c]
        mean = out[n, oh, ow]
        for c in range(channels):
            mean[c] = sums[c] / count


def avgpool_cpu(
    x: Array,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Mean of each window of a batch of feature maps.

    x        float32[n, h, w, c]
    window   (kh, kw) in pixels, or one number; stride likewise, None: the window's own size
    padding  "same" (TensorFlow's), "valid", pixels on all sides, or (top, bottom, left, right), each smaller than the
             window, so that every window holds a real pixel
    out      float32[n, ho, wo, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank, too much padding or too small an image.
    """
    x = images("avgpool: x", x)
    n, h, w, c = x.shape
    geometry = avgpool_window((h, w), window, stride, padding)
    out = result("avgpool", out, (n, *geometry[-2:], c))
    threads = _threads.resolve_threads(threads)
    _threads.run(_avgpool, n * out.shape[1] * out.shape[2], threads, x, geometry, out)
    return out


def global_avgpool(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Mean over all pixels: x float32[n, h, w, c], result float32[n, c]. Errors as ``avgpool_cpu``."""
    n, h, w, c = images("global_avgpool: x", x).shape
    out = result("global_avgpool", out, (n, c))
    avgpool_cpu(x, (h, w), out=out.reshape(n, 1, 1, c), threads=threads)
    return out


avgpool = avgpool_cpu
