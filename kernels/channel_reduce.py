"""Mean or largest value over the channels of each pixel: float32[n, h, w, c] to float32[n, h, w, 1], as attention blocks make it.

    out[n, h, w, 0] = mean, or max, over c of x[n, h, w, c]

A NaN among the channels gives NaN, as in ``tf.reduce_mean`` and ``tf.reduce_max``.

The ladder: channel_reduce_reference (NumPy), channel_reduce_cpu (Numba, pixels in parallel, sums in float64); channel_reduce is
channel_reduce_cpu. Memory-bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .arrays import Array, images, result
from .steps.intrinsics import part_of, pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = [
    "ChannelReduceStep",
    "Reduction",
    "channel_reduce",
    "channel_reduce_cpu",
    "channel_reduce_reference",
    "check_channels",
    "is_mean",
]

Reduction = Literal["mean", "max"]


def is_mean(function: str) -> bool:
    """Which of the two it is; ValueError for any other."""
    if function not in ("mean", "max"):
        raise ValueError(f"channel_reduce: function: got {function!r}; it must be 'mean' or 'max'")
    return function == "mean"


def check_channels(x: Array) -> None:
    """Refuse pixels without channels: ValueError."""
    if x.shape[3] == 0:
        raise ValueError(f"channel_reduce: got shape {tuple(x.shape)}; each pixel must have a channel")


def channel_reduce_reference(x: Array, *, function: Reduction) -> Array:
    """Mean or largest value over the channels of x dtype[n, h, w, c]: dtype[n, h, w, 1]."""
    return np.mean(x, axis=3, keepdims=True) if is_mean(function) else np.max(x, axis=3, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class ChannelReduceStep(Step):
    """The mean (``mean`` = 1) or the largest (0) of the channels of each of ``pixels`` pixels; an item is one of ``blocks`` parts
    of them."""

    x: Map
    out: Map
    pixels: int
    mean: int
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(ChannelReduceStep)


@ChannelReduceStep.native
def _channel_reduce_item(step, item, scratch):
    s = _view(step)
    first, last = part_of(s.pixels, item, s.blocks, 1)
    for pixel in range(first, last):
        x, out = pixel_of(s.x, pixel), pixel_of(s.out, pixel)
        if s.mean:
            total = 0.0
            for c in range(len(x)):
                total += x[c]
            out[0] = total / len(x)
        else:
            best = x[0]
            for c in range(1, len(x)):
                if x[c] > best or x[c] != x[c]:
                    best = x[c]
            out[0] = best


def channel_reduce_cpu(x: Array, *, function: Reduction, out: Array | None = None, threads: int | None = 1) -> Array:
    """Mean or largest value over the channels of each pixel.

    x         float32[n, h, w, c], c >= 1
    function  "mean" or "max"
    out       float32[n, h, w, 1], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank, pixels without channels, or another function.
    """
    x, mean = images("channel_reduce: x", x), is_mean(function)
    check_channels(x)
    out, threads = result("channel_reduce", out, (*x.shape[:3], 1)), resolve_threads(threads)
    pixels = out.size
    step = ChannelReduceStep(
        x=Map.of(x), out=Map.of(out), pixels=pixels, mean=int(mean), blocks=min(4 * threads, pixels)
    )
    run(step, threads, x, out)
    return out


channel_reduce = channel_reduce_cpu
