"""Grouped convolutions, a band of rows and one register of output channels at a time; ``kernels/grouptile.py`` has the tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..geometry import Window
from ..grouptile import PIXELS, SPLAT, SPREAD, group_row, layout
from ..jit import Native, call, jit, native
from ..numba_later import types
from ..simd import LANES, copy_floats
from .epilogue import Epilogue, bias_only, finish
from .intrinsics import part_of, zero_bytes
from .loop import run
from .records import Address, Map, Step, view_of

__all__ = ["GroupedStep", "grouped"]

BAND_BYTES = 1 << 15
"""Of the copy that an item makes: it shall stay in L1."""


def band_rows(rows: int, taps: int, stride: int, dilation: int) -> int:
    """Rows of inputs that so many rows of outputs read."""
    return (rows - 1) * stride + (taps - 1) * dilation + 1


def band_columns(wo: int, taps: int, stride: int, dilation: int, pixels: int) -> int:
    """Columns of the copy: as many as whole tiles, of so many pixels, read."""
    return (-(-wo // pixels) * pixels - 1) * stride + (taps - 1) * dilation + 1


_layout, _rows_read, _columns_read = jit(layout), jit(band_rows), jit(band_columns)


def band_bytes(rows: int, window: Window, p: int, q: int) -> int:
    """Size of the copy that a band of ``rows`` rows of outputs needs, of ``p`` input and ``q`` output channels per group."""
    columns = band_columns(window.wo, window.kw, window.sw, window.dw, PIXELS)
    return band_rows(rows, window.kh, window.sh, window.dh) * columns * layout(p, q)[1] * 4


def _bands(window: Window, p: int, q: int) -> int:
    """Into how many bands of rows a convolution is cut."""
    rows = 1
    while rows < window.ho and band_bytes(rows + 1, window, p, q) <= BAND_BYTES:
        rows += 1
    return -(-window.ho // rows)


_i = types.int64


@dataclass(frozen=True, kw_only=True)
class GroupedStep(Step):
    """A grouped convolution; an item is a band of an image's rows and LANES output channels.

    n, height, width  of the images
    kernels           address of float32[ceil(out.channels / LANES), kh * kw * ci / groups, LANES]
    bands             into which an image's rows are cut
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    window: Window
    groups: int
    kernels: Address
    epilogue: Epilogue
    bands: int
    copy_band: Native
    group_row: Native = group_row

    @classmethod
    def cut(
        cls,
        x: Map,
        out: Map,
        size: tuple[int, int, int],
        window: Window,
        groups: int,
        kernels: Address,
        epilogue: Epilogue,
    ) -> GroupedStep:
        """In bands that suit L1; ``size`` is (n, height, width) of the images."""
        n, height, width = size
        return cls(
            x=x, out=out, n=n, height=height, width=width, window=window, groups=groups, kernels=kernels,
            epilogue=epilogue, bands=_bands(window, x.channels // groups, out.channels // groups), copy_band=_copy_band,
        )  # fmt: skip

    @property
    def items(self) -> int:
        return self.n * self.bands * -(-self.out.channels // LANES)

    @property
    def scratch_bytes(self) -> int:
        p, q = self.x.channels // self.groups, self.out.channels // self.groups
        return band_bytes(-(-self.window.ho // self.bands), self.window, p, q)


_view = view_of(GroupedStep)


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i))
def _copy_band(step, n, first_row, rows, columns, first_channel, how, to):
    """Rows of an image with the border that they have: of each pixel what LANES output channels from ``first_channel`` on
    read, as ``grouptile`` wants it."""
    s = _view(step)
    height, width, channels, pitch, left = s.height, s.width, s.x.channels, s.x.pitch, s.window.left
    p, q = channels // s.groups, s.out.channels // s.groups
    unit = (p if how == SPLAT else p * LANES if how == SPREAD else LANES) * 4
    source = first_channel // q * p  # the first channel that is read
    count = p if how == SPLAT else min(LANES, channels - source)
    lanes = min(LANES, s.out.channels - first_channel)
    for ih in range(first_row, first_row + rows):
        if ih < 0 or ih >= height:
            zero_bytes(to, columns * unit)
            to += columns * unit
            continue
        inside = max(min(width, columns - left), 0)
        x = s.x.address + (n * height + ih) * width * pitch + source * 4
        zero_bytes(to, min(left, columns) * unit)
        to += min(left, columns) * unit
        for _ in range(inside):
            if how == SPREAD:
                for lane in range(lanes):
                    at = x + ((first_channel + lane) // q * p - source) * 4
                    for c in range(p):
                        copy_floats(to + (c * LANES + lane) * 4, at + c * 4, 1)
            else:
                for c in range(0, count, LANES):
                    copy_floats(to + c * 4, x + c * 4, count - c)
            to += unit
            x += pitch
        rest = columns - min(left, columns) - inside
        zero_bytes(to, rest * unit)
        to += rest * unit


@GroupedStep.native
def _grouped_item(step, item, scratch):
    s = _view(step)
    window, epilogue = s.window, s.epilogue
    wo, co, kh, kw, ld = window.wo, s.out.channels, window.kh, window.kw, epilogue.residual.pitch
    p, q = s.x.channels // s.groups, co // s.groups
    how, unit = _layout(p, q)
    block, band = divmod(item, s.n * s.bands)
    n, band = divmod(band, s.bands)
    first, last = part_of(window.ho, band, s.bands, 1)
    channel = block * LANES
    columns = _columns_read(wo, kw, window.sw, window.dw, PIXELS)
    rows = _rows_read(last - first, kh, window.sh, window.dh)
    call(s.copy_band, (step, n, first * window.sh - window.top, rows, columns, channel, how, scratch))
    pixel, ldc = unit * 4, s.out.pitch
    kernels = s.kernels + block * kh * kw * p * LANES * 4
    for oh in range(first, last):
        index = (n * window.ho + oh) * wo
        place = s.out.address + index * ldc + channel * 4
        call(s.group_row, (
            how, scratch + (oh - first) * window.sh * columns * pixel, window.sw * pixel, window.dh * columns * pixel,
            window.dw * pixel, kh, kw, p, kernels, epilogue.bias + channel * 4,
            epilogue.residual.address + index * ld + channel * 4, ld, epilogue.activation.slope, epilogue.activation.floor,
            place, ldc, wo, min(LANES, co - channel),
        ))  # fmt: skip
        finish(epilogue.activation, place, ldc, wo, min(LANES, co - channel))


def grouped(x: Array, panels: Array, bias: Array, groups: int, window: Window, out: Array, threads: int) -> None:
    """One grouped convolution.

    x       float32[n, h, w, ci], C-contiguous
    panels  float32[ceil(co / LANES), kh * kw * ci / groups, LANES], the kernel, zeros where it has no output channels
    bias    float32, as many as the panels have columns
    out     float32[n, ho, wo, co], C-contiguous
    """
    n, height, width, _ = x.shape
    zeros = np.zeros(out.shape[3] + LANES, np.float32)
    epilogue = bias_only(bias.ctypes.data, zeros)
    size = (n, height, width)
    step = GroupedStep.cut(Map.of(x), Map.of(out), size, window, groups, panels.ctypes.data, epilogue)
    run(step, threads, x, panels, bias, zeros, out)
