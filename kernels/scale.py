"""A factor and an offset per channel, or one of each for all.

    y[..., c] = x[..., c] * factor[c] + offset[c]

The ladder: scale_reference (NumPy), scale_cpu (Numba); scale is scale_cpu. Memory-bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Array, floats, images, result
from .numba_later import carray
from .steps.epilogue import Epilogue, activated, bias_only, finish
from .steps.intrinsics import float_pointer, part_of, pixel_of
from .steps.loop import run
from .steps.records import Address, Map, Step, view_of
from .threads import resolve_threads
from .tile import NR

__all__ = ["AffineStep", "check_numbers", "scale", "scale_cpu", "scale_pixels", "scale_reference"]


def scale_reference(x: Array, factor: Array, offset: Array) -> Array:
    """x dtype[..., c] * factor + offset, both dtype[c] or dtype[1]."""
    return x * factor + offset


def check_numbers(name: str, values: Array, channels: int) -> None:
    """Refuse what is not one number, or one per channel: ValueError."""
    if values.shape not in ((1,), (channels,)):
        raise ValueError(
            f"scale: {name}: got shape {tuple(values.shape)}; it must be ({channels},), one per channel, or (1,)"
        )


@dataclass(frozen=True, kw_only=True)
class AffineStep(Step):
    """out = activation(x * factor + bias + residual), pixel by pixel; an item is one of ``blocks`` parts of the pixels.

    factor    address of float32[channels]; the offset is the epilogue's bias
    """

    x: Map
    out: Map
    factor: Address
    epilogue: Epilogue
    pixels: int
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(AffineStep)


@AffineStep.native
def _affine_item(step, item, scratch):
    s = _view(step)
    channels = s.x.channels
    slope, floor = s.epilogue.activation.slope, s.epilogue.activation.floor
    factor, offset = carray(float_pointer(s.factor), (channels,)), carray(float_pointer(s.epilogue.bias), (channels,))
    first, last = part_of(s.pixels, item, s.blocks, 1)
    for pixel in range(first, last):
        x, more, out = pixel_of(s.x, pixel), pixel_of(s.epilogue.residual, pixel), pixel_of(s.out, pixel)
        if s.epilogue.residual.pitch:  # there is one
            for c in range(channels):
                out[c] = activated(x[c] * factor[c] + offset[c] + more[c], slope, floor)
        else:
            for c in range(channels):
                out[c] = activated(x[c] * factor[c] + offset[c], slope, floor)
        finish(s.epilogue.activation, s.out.address + pixel * s.out.pitch, s.out.pitch, 1, channels)


def scale_pixels(x: Array, factor: Array, offset: Array, out: Array, threads: int) -> None:
    """x * factor + offset into ``out``: both float32[..., c], the numbers float32[c], all of them C-contiguous."""
    channels = len(factor)
    pixels, zeros = x.size // channels if channels else 0, np.zeros(channels + NR, np.float32)
    step = AffineStep(
        x=Map.of(x), out=Map.of(out), factor=factor.ctypes.data, epilogue=bias_only(offset.ctypes.data, zeros), pixels=pixels,
        blocks=min(4 * threads, pixels),
    )  # fmt: skip
    run(step, threads, x, factor, offset, zeros, out)


def _per_channel(name: str, values: Array, channels: int) -> Array:
    """One number or one per channel, as one per channel."""
    values = floats(f"scale: {name}", values)
    check_numbers(name, values, channels)
    return np.ascontiguousarray(np.broadcast_to(values, (channels,)))


def scale_cpu(x: Array, factor: Array, offset: Array, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Scale and shift the channels of feature maps.

    x               float32[n, h, w, c]
    factor, offset  float32[c], or float32[1] for all channels alike
    out             float32[n, h, w, c], overwritten, may be x itself; made if None

    Raises TypeError for another dtype, ValueError for lengths other than c and 1.
    """
    x = images("scale: x", x)
    c = x.shape[3]
    factor, offset = (_per_channel(name, values, c) for name, values in (("factor", factor), ("offset", offset)))
    out = result("scale", out, x.shape)
    scale_pixels(x, factor, offset, out, resolve_threads(threads))
    return out


scale = scale_cpu
