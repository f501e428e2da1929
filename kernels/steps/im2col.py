"""Any convolution through im2col, a block of output pixels at a time; and copies of pixels, which need no arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import types

from ..geometry import Window
from ..jit import Native, call, native
from ..simd import LANES, copy_floats
from ..tile import MR, NR
from .intrinsics import copy_bytes, part_of, zero_bytes
from .pointwise import Product, times_panels
from .records import Map, Step, offset_of, view_of

__all__ = ["CopyStep", "Im2colStep", "Patches"]


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Images of ``height`` x ``width`` pixels, and the window that is moved over them."""

    x: Map
    height: int
    width: int
    window: Window


_patches_view = view_of(Patches)
_i = types.int64


@native(types.void(_i, _i, _i, _i))
def copy_patches(patches, first, last, cols):
    """The patches of output pixels first..last-1 as rows of a matrix at ``cols``.

    patches  address of ``Patches``
    """
    s = _patches_view(patches)
    height, width, channels, pitch, wo, dw = s.height, s.width, s.x.channels, s.x.pitch, s.window.wo, s.window.dw
    dh, kh, kw = s.window.dh, s.window.kh, s.window.kw
    pixel = channels * 4
    taps = kw if dw == 1 and pitch == pixel else 1  # that lie side by side, so that they are copied in one go
    n, position = divmod(first, s.window.ho * wo)
    oh, ow = divmod(position, wo)
    for _ in range(first, last):
        ih, start = oh * s.window.sh - s.window.top, ow * s.window.sw - s.window.left
        for y in range(ih, ih + kh * dh, dh):
            for iw in range(start, start + kw * dw, taps * dw):
                left, right = max(iw, 0), min(iw + taps, width)
                count = (right - left) * channels
                if y < 0 or y >= height or right - left < taps:  # a part of it is outside: zeros, then what is inside
                    zero_bytes(cols, taps * pixel)
                if y >= 0 and y < height and count > 0:
                    source = s.x.address + ((n * height + y) * width + left) * pitch
                    to = cols + (left - iw) * pixel
                    if count > 8 * LANES:
                        copy_bytes(to, source, count * 4)
                    else:  # a call of the C library would take longer
                        for i in range(0, count, LANES):
                            copy_floats(to + i * 4, source + i * 4, count - i)
                cols += taps * pixel
        ow += 1
        if ow == wo:
            oh, ow = oh + 1, 0
            if oh == s.window.ho:
                n, oh = n + 1, 0


@dataclass(frozen=True, kw_only=True)
class Im2colStep(Step):
    """Any convolution without groups.

    rows    output pixels of all images
    blocks  into which they are cut: an item is one, whose patches are copied to a thread's own memory
    """

    patches: Patches
    product: Product
    rows: int
    blocks: int
    copy_patches: Native = copy_patches
    times_panels: Native = times_panels

    @property
    def items(self) -> int:
        return self.blocks

    @property
    def scratch_bytes(self) -> int:
        return 4 * math.ceil(math.ceil(self.rows / MR) / self.blocks) * MR * self.product.depth


_view = view_of(Im2colStep)
_PATCHES, _PRODUCT = offset_of(Im2colStep, "patches"), offset_of(Im2colStep, "product")


@Im2colStep.native
def _im2col_item(step, item, scratch):
    s = _view(step)
    first, last = part_of(s.rows, item, s.blocks, MR)
    call(s.copy_patches, (step + _PATCHES, first, last, scratch))
    panels = (s.product.out.channels + NR - 1) // NR
    arguments = (step + _PRODUCT, last - first, scratch, s.product.depth * 4, first, np.int64(0), panels)
    call(s.times_panels, arguments)


@dataclass(frozen=True, kw_only=True)
class CopyStep(Step):
    """Pixels copied one by one: every second one, or with a border of zeros. The window has one tap.

    rows    output pixels of all images
    blocks  into which they are cut
    """

    patches: Patches
    out: Map
    rows: int
    blocks: int

    @classmethod
    def all_pixels(cls, x: Map, out: Map, pixels: int, blocks: int) -> CopyStep:
        """Every pixel as it is, from one place to another."""
        patches = Patches(x=x, height=1, width=pixels, window=Window(1, 1, 1, 1, 1, 1, 0, 0, 1, pixels))
        return cls(patches=patches, out=out, rows=pixels, blocks=blocks)

    @property
    def items(self) -> int:
        return self.blocks


_copy_view = view_of(CopyStep)


@CopyStep.native
def _copy_item(step, item, scratch):
    s = _copy_view(step)
    height, width, window, x = s.patches.height, s.patches.width, s.patches.window, s.patches.x
    channels, ho, wo = x.channels, window.ho, window.wo
    first, last = part_of(s.rows, item, s.blocks, 1)
    for row in range(first, last):
        n, position = divmod(row, ho * wo)
        oh, ow = divmod(position, wo)
        ih, iw = oh * window.sh - window.top, ow * window.sw - window.left
        to = s.out.address + row * s.out.pitch
        if ih < 0 or ih >= height or iw < 0 or iw >= width:
            zero_bytes(to, channels * 4)
            continue
        source = x.address + ((n * height + ih) * width + iw) * x.pitch
        if channels > 8 * LANES:
            copy_bytes(to, source, channels * 4)
        else:
            for i in range(0, channels, LANES):
                copy_floats(to + i * 4, source + i * 4, channels - i)
