"""Max-pooling: the largest value in each window.

    out[n, oh, ow, c] = max of x[n, ih, iw, c] over the window that starts at (oh*sh - top, ow*sw - left)

Padding never wins. Nor does NaN, and a window of nothing but NaN or minus infinity gives the smallest finite number:
TensorFlow's CPU kernel starts from that number and takes what compares greater, and so do the versions here.

The ladder: maxpool_reference (NumPy), maxpool_cpu (Numba); maxpool is maxpool_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, images, result
from .geometry import Padding, Window, pair, window_geometry
from .geometry import window as sliding
from .steps.intrinsics import pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = ["MaxPoolStep", "maxpool", "maxpool_cpu", "maxpool_reference"]

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


@dataclass(frozen=True, kw_only=True)
class MaxPoolStep(Step):
    """A max-pool; an item is a row of output pixels.

    n, height, width  of the images
    zeros             1 where the border around the images is zeros that take part, 0 where it never wins
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    window: Window
    zeros: int

    @property
    def items(self) -> int:
        return self.n * self.window.ho


_view = view_of(MaxPoolStep)


@MaxPoolStep.native
def _maxpool_item(step, item, scratch):
    s = _view(step)
    height, width, channels = s.height, s.width, s.x.channels
    kh, kw, sh, sw = s.window.kh, s.window.kw, s.window.sh, s.window.sw
    n, oh = divmod(item, s.window.ho)
    top, bottom = oh * sh - s.window.top, oh * sh - s.window.top + kh
    for ow in range(s.window.wo):
        left, right = ow * sw - s.window.left, ow * sw - s.window.left + kw
        best = pixel_of(s.out, item * s.window.wo + ow)
        clipped = top < 0 or left < 0 or bottom > height or right > width
        start = np.float32(0.0) if clipped and s.zeros else _LOWEST
        for c in range(channels):
            best[c] = start
        for ih in range(max(top, 0), min(bottom, height)):
            for iw in range(max(left, 0), min(right, width)):
                seen = pixel_of(s.x, (n * height + ih) * width + iw)
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
    geometry = sliding((h, w), size, step, padding, 1)
    out = result("maxpool", out, (n, geometry.ho, geometry.wo, c))
    run(
        MaxPoolStep(x=Map.of(x), out=Map.of(out), n=n, height=h, width=w, window=geometry, zeros=0),
        resolve_threads(threads),
        x,
        out,
    )
    return out


maxpool = maxpool_cpu
