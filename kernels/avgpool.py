"""Average-pooling: the mean of the pixels in each window. Padding does not count, neither in the sum nor in the number.

    out[n, oh, ow, c] = mean of those x[n, ih, iw, c] in the window at (oh*sh - top, ow*sw - left) that exist

``global_avgpool`` is the window that covers the whole image, and returns float32[n, c].

The ladder: avgpool_reference (NumPy), avgpool_cpu (Numba, sums in float64); avgpool is avgpool_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, images, result
from .geometry import Padding, Window, pair, window_geometry
from .numba_later import carray
from .simd import LANES
from .steps.intrinsics import double_pointer, part_of, pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = [
    "AvgPoolStep",
    "MeanStep",
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
    return Window(*size, *step, 1, 1, pads[0], pads[2], ho, wo)


@dataclass(frozen=True, kw_only=True)
class AvgPoolStep(Step):
    """An average-pool; an item is a row of output pixels. Images of ``height`` x ``width`` pixels."""

    x: Map
    out: Map
    n: int
    height: int
    width: int
    window: Window

    @property
    def items(self) -> int:
        return self.n * self.window.ho

    @property
    def scratch_bytes(self) -> int:
        return 8 * self.x.channels  # sums in float64


_avgpool_view = view_of(AvgPoolStep)


@AvgPoolStep.native
def _avgpool_item(step, item, scratch):
    s = _avgpool_view(step)
    height, width, channels, kw, sw = s.height, s.width, s.x.channels, s.window.kw, s.window.sw
    n, oh = divmod(item, s.window.ho)
    first = oh * s.window.sh - s.window.top
    top, bottom = max(first, 0), min(first + s.window.kh, height)
    sums = carray(double_pointer(scratch), (channels,))
    for ow in range(s.window.wo):
        first = ow * sw - s.window.left
        left, right = max(first, 0), min(first + kw, width)
        for c in range(channels):
            sums[c] = 0.0
        for ih in range(top, bottom):
            for iw in range(left, right):
                seen = pixel_of(s.x, (n * height + ih) * width + iw)
                for c in range(channels):
                    sums[c] += seen[c]
        mean, count = pixel_of(s.out, item * s.window.wo + ow), (bottom - top) * (right - left)
        for c in range(channels):
            mean[c] = sums[c] / count


@dataclass(frozen=True, kw_only=True)
class MeanStep(Step):
    """The mean over all ``pixels`` of each of n images; an item is one of ``blocks`` parts of an image's channels."""

    x: Map
    out: Map
    n: int
    pixels: int
    blocks: int

    @classmethod
    def cut(cls, x: Map, out: Map, n: int, pixels: int, threads: int) -> MeanStep:
        """With work for so many threads."""
        return cls(x=x, out=out, n=n, pixels=pixels, blocks=max(1, min(2 * threads, -(-x.channels // 64))))

    @property
    def items(self) -> int:
        return self.n * self.blocks

    @property
    def scratch_bytes(self) -> int:
        return 8 * self.x.channels


_mean_view = view_of(MeanStep)


@MeanStep.native
def _mean_item(step, item, scratch):
    s = _mean_view(step)
    pixels = s.pixels
    n, block = divmod(item, s.blocks)
    first, last = part_of(s.x.channels, block, s.blocks, LANES)
    sums = carray(double_pointer(scratch), (last - first,))
    for c in range(last - first):
        sums[c] = 0.0
    for pixel in range(n * pixels, (n + 1) * pixels):
        row = pixel_of(s.x, pixel)[first:last]
        for c in range(len(row)):
            sums[c] += row[c]
    mean = pixel_of(s.out, n)[first:last]
    for c in range(len(mean)):
        mean[c] = sums[c] / pixels


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
    out = result("avgpool", out, (n, geometry.ho, geometry.wo, c))
    run(
        AvgPoolStep(x=Map.of(x), out=Map.of(out), n=n, height=h, width=w, window=geometry),
        resolve_threads(threads),
        x,
        out,
    )
    return out


def global_avgpool(x: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Mean over all pixels: x float32[n, h, w, c], result float32[n, c]. Errors as ``avgpool_cpu``."""
    x = images("global_avgpool: x", x)
    n, h, w, c = x.shape
    avgpool_window((h, w), (h, w), None, "valid")  # raises where there is no pixel
    out, threads = result("global_avgpool", out, (n, c)), resolve_threads(threads)
    run(MeanStep.cut(Map.of(x), Map.of(out), n, h * w, threads), threads, x, out)
    return out


avgpool = avgpool_cpu
