"""Grouped convolution: the channels are split into equal groups, each convolved on its own (ResNeXt, depthwise).

    out[n, oh, ow, g*q + k] = bias[g*q + k] + sum over i, j, c of
        x[n, oh*sh + i*dh - top, ow*sw + j*dw - left, g*p + c] * w[i, j, c, g*q + k]
    p = ci / groups input channels and q = co / groups output channels in each group

With as many groups as input channels it is a depthwise convolution. The kernel is float32[kh, kw, p, co], as Keras
stores it for ``Conv2D(groups=)``; ``depthwise_kernel`` and ``summed_depthwise_kernel`` bring other forms into it.

The ladder:

    grouped_conv2d_reference   NumPy, one convolution per group
    grouped_conv2d_cpu         Numba, direct, sums in float64
    grouped_conv2d_tiled       a register of output channels, whichever groups they belong to, for 7 pixels at a time
                               (``grouptile.py``)
    grouped_conv2d_lanes       where there are as many groups as a register has lanes, or twice as many, ...: each lane
                               computes a group of its own (``grouplane.py``); the same bits
    grouped_conv2d_winograd    of those, 3x3 with stride 1 for half of the multiplications (``rowwinograd.py``)
    grouped_conv2d             the plain name: grouped_conv2d_lanes, which is as exact for every value as for every shape
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import threads as _threads
from .arrays import Array, images, kernel, result, vector
from .conv2d import conv2d_reference
from .geometry import Padding, window
from .grouplane import in_lanes, lane_order
from .jit import jit
from .rowwinograd import row_kernels
from .simd import LANES
from .steps.grouped import grouped
from .steps.grouped_lanes import grouped_lanes
from .steps.grouped_winograd import grouped_winograd

__all__ = [
    "check_groups",
    "depthwise_kernel",
    "grouped_conv2d",
    "grouped_conv2d_cpu",
    "grouped_conv2d_lanes",
    "grouped_conv2d_reference",
    "grouped_conv2d_tiled",
    "grouped_conv2d_winograd",
    "summed_depthwise_kernel",
]


def depthwise_kernel(w: Array) -> Array:
    """Keras's depthwise kernel dtype[kh, kw, c, m] as a grouped one, dtype[kh, kw, 1, c*m] in c groups."""
    kh, kw, c, m = w.shape
    return w.reshape(kh, kw, 1, c * m)


def summed_depthwise_kernel(w: Array) -> Array:
    """The depthwise kernel dtype[kh, kw, c, q] of a depthwise convolution whose results are then summed in groups, as
    a grouped kernel dtype[kh, kw, q, c] in c / q groups.

    This is how keras-applications spells the grouped convolutions of ResNeXt: output channel g*q + k is the sum over
    the input channels g*q + i of group g of their responses number k.
    """
    kh, kw, c, q = w.shape
    return np.ascontiguousarray(w.reshape(kh, kw, c // q, q, q).swapaxes(2, 3).reshape(kh, kw, q, c))


def grouped_conv2d_reference(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    groups: int,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Convolve each group of channels of x dtype[n, h, w, ci] by itself and put the results side by side."""
    check_groups(x, w, groups)
    parts = zip(np.split(x, groups, axis=3), np.split(w, groups, axis=3), strict=True)
    out = np.concatenate(
        [conv2d_reference(a, b, stride=stride, padding=padding, dilation=dilation) for a, b in parts], axis=3
    )
    return out if bias is None else out + bias


def check_groups(x: Array, w: Array, groups: int) -> None:
    """Refuse numbers of channels that do not go with each other: ValueError."""
    if groups < 1 or x.shape[3] != groups * w.shape[2] or w.shape[3] % groups:
        raise ValueError(
            f"grouped_conv2d: x has {x.shape[3]} channels, w takes {w.shape[2]} and makes {w.shape[3]}, in {groups} "
            "groups; x must have groups times what w takes, and w must make a multiple of groups"
        )


@jit
def _grouped(x, w, bias, groups, window, out, start, stop):
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    _, height, width, _ = x.shape
    p, q = w.shape[2], w.shape[3] // groups
    sums = np.empty(w.shape[3], np.float64)
    for index in range(start, stop):  # one row of output pixels
        n, oh = divmod(index, ho)
        for ow in range(wo):
            sums[:] = 0.0
            for i in range(kh):
                ih = oh * sh + i * dh - top
                if ih < 0 or ih >= height:
                    continue
                for j in range(kw):
                    iw = ow * sw + j * dw - left
                    if iw < 0 or iw >= width:
                        continue
                    seen = x[n, ih, iw]
                    if p == 1 and q == 1:  # plain depthwise: one long loop instead of many of one step
                        weights = w[i, j, 0]
                        for c in range(len(sums)):
                            sums[c] += seen[c] * weights[c]
                        continue
                    for g in range(groups):
                        part = sums[g * q : (g + 1) * q]
                        for c in range(p):
                            value = seen[g * p + c]
                            weights = w[i, j, c, g * q : (g + 1) * q]
                            for k in range(q):
                                part[k] += value * weights[k]
            place = out[n, oh, ow]
            for k in range(len(sums)):
                place[k] = sums[k] + bias[k]


def _arguments(x, w, bias, groups, stride, padding, dilation, out):
    """The arguments, checked; the bias as numbers, the window as compiled loops want it."""
    x, w = images("grouped_conv2d: x", x), kernel("grouped_conv2d: w", w)
    check_groups(x, w, groups)
    bias = np.zeros(w.shape[3], np.float32) if bias is None else vector("grouped_conv2d: bias", bias, w.shape[3])
    geometry = window((x.shape[1], x.shape[2]), (w.shape[0], w.shape[1]), stride, padding, dilation)
    return x, w, bias, geometry, result("grouped_conv2d", out, (x.shape[0], *geometry[-2:], w.shape[3]))


def grouped_conv2d_cpu(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    groups: int,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Convolve a batch of images group by group.

    x        float32[n, h, w, ci]                       w  float32[kh, kw, ci / groups, co]
    groups   divides ci and co
    others   as for ``conv2d``

    Raises TypeError for another dtype; ValueError for shapes that do not fit or an image smaller than the window.
    """
    x, w, bias, geometry, out = _arguments(x, w, bias, groups, stride, padding, dilation, out)
    threads = _threads.resolve_threads(threads)
    _threads.run(_grouped, x.shape[0] * out.shape[1], threads, x, w, bias, groups, geometry, out)
    return out


def grouped_conv2d_tiled(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    groups: int,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """The same with sums that stay in registers; arguments, result and errors as ``grouped_conv2d_cpu``. Networks keep the
    kernel as it is read; here it is laid out anew in every call."""
    x, w, bias, geometry, out = _arguments(x, w, bias, groups, stride, padding, dilation, out)
    _tiled(x, w, bias, geometry, out, groups, _threads.resolve_threads(threads))
    return out


def _tiled(x, w, bias, geometry, out, groups, threads):
    """As ``grouped_conv2d_tiled``, with arguments that have been checked."""
    depth, channels = w.shape[0] * w.shape[1] * w.shape[2], w.shape[3]
    blocks = -(-channels // LANES)
    wide = np.zeros((depth + 1, blocks * LANES), np.float32)
    wide[:depth, :channels], wide[depth, :channels] = w.reshape(depth, channels), bias
    panels = np.ascontiguousarray(wide[:depth].reshape(depth, blocks, LANES).swapaxes(0, 1))
    grouped(x, panels, wide[depth], groups, geometry, out, threads)


def grouped_conv2d_lanes(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    groups: int,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """The same with a group in each lane, for 4, 8, 16 or 32 channels in each group of input and output and a multiple of LANES
    groups; anything else as grouped_conv2d_tiled. The same bits; arguments, result and errors as ``grouped_conv2d_cpu``."""
    x, w, bias, geometry, out = _arguments(x, w, bias, groups, stride, padding, dilation, out)
    _lanes(x, w, bias, geometry, out, groups, _threads.resolve_threads(threads))
    return out


def _lanes(x, w, bias, geometry, out, groups, threads):
    """As ``grouped_conv2d_lanes``, with arguments that have been checked."""
    kh, kw, p, co = w.shape
    if in_lanes(p, co // groups, groups):
        grouped_lanes(x, lane_order(w.reshape(kh * kw, p, co)), bias, geometry, out, threads)
    else:
        _tiled(x, w, bias, geometry, out, groups, threads)


def grouped_conv2d_winograd(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    groups: int,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """The same by Winograd's F(4, 3) along rows; arguments, result and errors as ``grouped_conv2d_cpu``. What is not 3x3 with
    stride and dilation 1 and a border of one pixel, or not for grouped_conv2d_lanes, goes there. So does all where infinity or NaN
    turn up: they would spread over a tile. Networks keep transformed kernels; here they are made anew in every call."""
    x, w, bias, geometry, out = _arguments(x, w, bias, groups, stride, padding, dilation, out)
    threads = _threads.resolve_threads(threads)
    p, co = w.shape[2:]
    same = geometry == (3, 3, 1, 1, 1, 1, 1, 1, *x.shape[1:3])
    if same and in_lanes(p, co // groups, groups):
        grouped_winograd(x, row_kernels(w), bias, out, threads)
        if np.isfinite(out).all():
            return out
    _lanes(x, w, bias, geometry, out, groups, threads)
    return out


grouped_conv2d = grouped_conv2d_lanes
