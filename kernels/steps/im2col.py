"""Any convolution through im2col, a block of output pixels at a time; and copies of pixels, which need no arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..geometry import Window
from ..jit import Native, call, jit, native
from ..numba_later import types
from ..simd import LANES, copy_floats, copy_vector
from ..tile import MR, NR
from .intrinsics import copy_bytes, part_of, zero_bytes
from .pointwise import Product, times_panels
from .records import Map, Step, offset_of, view_of

__all__ = ["CopyStep", "Im2colStep", "Patches", "copy_run"]


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Images of ``height`` x ``width`` pixels, and the window that is moved over them."""

    x: Map
    height: int
    width: int
    window: Window


_patches_view = view_of(Patches)
_i = types.int64


@jit
def copy_run(to, source, count):
    """Copy ``count`` floats from address to address: whole vectors, the last of which begins within the one before it."""
    if count > 8 * LANES:
        copy_bytes(to, source, count * 4)
    elif count < LANES:
        copy_floats(to, source, count)
    else:
        last = (count - LANES) * 4
        for i in range(0, last, LANES * 4):
            copy_vector(to + i, source + i)
        copy_vector(to + last, source + last)


@jit
def _taps_of_row(to, row, width, channels, pitch, left, window):
    """The taps of one row of a window whose left edge is at pixel ``left`` of the image's row at address ``row``; zeros outside."""
    kw, dw, pixel = window.kw, window.dw, channels * 4
    for tap in range(kw):
        x = left + tap * dw
        if x < 0 or x >= width:
            zero_bytes(to + tap * pixel, pixel)
        else:
            copy_run(to + tap * pixel, row + x * pitch, channels)


@native(types.void(_i, _i, _i, _i))
def copy_patches(patches, first, last, cols):
    """The patches of output pixels first..last-1 as rows of a matrix at ``cols``.

    patches  address of ``Patches``
    """
    s = _patches_view(patches)
    height, width, channels, pitch, window = s.height, s.width, s.x.channels, s.x.pitch, s.window
    kh, kw, dw, sw, wo = window.kh, window.kw, window.dw, window.sw, window.wo
    pixel, patch = channels * 4, kh * kw * channels * 4
    together = kw if dw == 1 and pitch == pixel else 1  # taps that lie side by side, so that they are copied in one go
    # the columns of outputs whose windows lie between the image's edges, where there is nothing to ask
    inner0 = (window.left + sw - 1) // sw
    inner1 = (width + window.left - (kw - 1) * dw - 1) // sw + 1
    while first < last:
        n, position = divmod(first, window.ho * wo)
        oh, ow = divmod(position, wo)
        stop = min(wo, ow + last - first)
        inner_first = min(max(ow, inner0), stop)
        inner_last = max(min(stop, inner1), inner_first)
        for ky in range(kh):
            y = oh * window.sh - window.top + ky * window.dh
            to = cols + ky * kw * pixel
            if y < 0 or y >= height:
                for _ in range(ow, stop):
                    zero_bytes(to, kw * pixel)
                    to += patch
                continue
            row = s.x.address + (n * height + y) * width * pitch
            for column in range(ow, inner_first):
                _taps_of_row(to, row, width, channels, pitch, column * sw - window.left, window)
                to += patch
            source = row + (inner_first * sw - window.left) * pitch
            for _ in range(inner_first, inner_last):
                for tap in range(0, kw, together):
                    copy_run(to + tap * pixel, source + tap * dw * pitch, together * channels)
                to += patch
                source += sw * pitch
            for column in range(inner_last, stop):
                _taps_of_row(to, row, width, channels, pitch, column * sw - window.left, window)
                to += patch
        cols += (stop - ow) * patch
        first += stop - ow


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
        copy_run(to, source, channels)
