"""Some of the channels, in another order: RGB to BGR, grey to RGB, one channel of several.

    out[n, h, w, i] = x[n, h, w, order[i]]

The ladder: channels_reference (NumPy), channels_cpu (Numba, pixels in parallel); channels is channels_cpu. Memory-bound: nothing
is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Array, floats, images, result
from .numba_later import carray
from .steps.intrinsics import float_pointer, part_of, pixel_of
from .steps.loop import run
from .steps.records import Address, Map, Step, view_of
from .threads import resolve_threads

__all__ = ["ChannelsStep", "channels", "channels_cpu", "channels_reference", "check_order"]


def channels_reference(x: Array, order: Array) -> Array:
    """Channels ``order`` of x dtype[n, h, w, c], whole numbers from 0 on: dtype[n, h, w, len(order)]."""
    return np.ascontiguousarray(x[..., order.astype(int)])


def check_order(order: Array, channels: int) -> None:
    """Refuse numbers that are not those of ``channels`` channels: ValueError."""
    if not np.isin(order, np.arange(channels)).all():
        raise ValueError(f"channels: got order {order.tolist()}; it must be whole numbers from 0 to {channels - 1}")


@dataclass(frozen=True, kw_only=True)
class ChannelsStep(Step):
    """The channels of ``pixels`` pixels in another order; an item is one of ``blocks`` parts of them.

    order  address of float32[out.channels]
    """

    x: Map
    out: Map
    order: Address
    pixels: int
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(ChannelsStep)


@ChannelsStep.native
def _channels_item(step, item, scratch):
    s = _view(step)
    order = carray(float_pointer(s.order), (s.out.channels,))
    first, last = part_of(s.pixels, item, s.blocks, 1)
    for pixel in range(first, last):
        x, out = pixel_of(s.x, pixel), pixel_of(s.out, pixel)
        for i in range(len(out)):
            out[i] = x[np.intp(order[i])]


def channels_cpu(x: Array, order: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Pick channels.

    x      float32[n, h, w, c]
    order  float32[k], for each channel of the result the number of one of x: a whole number from 0 to c - 1. As floats, like
           all that a network's layers know by heart; they are exact up to 2**24
    out    float32[n, h, w, k], overwritten; made if None

    Raises TypeError for another dtype, ValueError for a wrong rank or a channel that x does not have.
    """
    x, order = images("channels: x", x), floats("channels: order", order, 1, "one number per channel")
    check_order(order, x.shape[3])
    out, threads = result("channels", out, (*x.shape[:3], len(order))), resolve_threads(threads)
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    step = ChannelsStep(
        x=Map.of(x), out=Map.of(out), order=order.ctypes.data, pixels=pixels, blocks=min(4 * threads, pixels)
    )
    run(step, threads, x, order, out)
    return out


channels = channels_cpu
