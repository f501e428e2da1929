"""Grouped convolutions in which each lane has a group, a band of rows and LANES groups at a time; ``kernels/grouplane.py`` tells how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..geometry import Window
from ..grouplane import PIXELS, finish_pixels, lane_tile, unlace
from ..jit import Native, call, jit
from ..simd import LANES, prefetch_write
from .epilogue import Epilogue, bias_only, finish
from .grouped import band_columns, band_rows
from .intrinsics import part_of, zero_bytes
from .loop import run
from .records import Address, Map, Step, view_of

__all__ = [
    "LEAST_ROWS",
    "LINE",
    "GroupedLanesStep",
    "aligned",
    "band_count",
    "bundle_count",
    "bundles",
    "grouped_lanes",
    "prefetch_pixels",
]

_BAND_BYTES, LEAST_ROWS = 1 << 18, 4
"""Of the copy that an item makes: it shall stay in L2, beside the weights. But bands of few rows would mostly copy what others
copy, too."""

LINE = 64


def _aligned(address: int) -> int:
    return (address + LINE - 1) // LINE * LINE


def bundle_count(channels: int, p: int) -> int:
    return channels // (p * LANES)


def _copy_bytes(rows: int, window: Window, p: int) -> int:
    """Size of the copy that a band of ``rows`` rows of outputs needs."""
    columns = band_columns(window.wo, window.kw, window.sw, window.dw, PIXELS)
    return band_rows(rows, window.kh, window.sh, window.dh) * columns * p * LANES * 4


def band_count(rows: int, least: int, at_once: int, threads: int, copy_bytes: Callable[[int], int]) -> int:
    """Into how many bands to cut ``rows`` rows, so that what is copied for one stays in L2 unless it has ``least`` rows or fewer, and
    so that threads end together. ``at_once``: how often they are cut, for images and bundles."""
    count = 1
    while -(-rows // count) > least and copy_bytes(-(-rows // count)) > _BAND_BYTES:
        count += 1
    items = -(-count * at_once // threads) * threads
    return min(-(-items // at_once), rows)


aligned, bundles = jit(_aligned), jit(bundle_count)
_rows_read, _columns_read = jit(band_rows), jit(band_columns)


@jit
def prefetch_pixels(at, pitch, pixels, size):
    """Ask for ``pixels`` pixels, of ``size`` bytes each, before they are computed: they come while that is done."""
    for _ in range(pixels):
        for line in range(0, size, LINE):
            prefetch_write(at + line)
        at += pitch


@dataclass(frozen=True, kw_only=True)
class GroupedLanesStep(Step):
    """A grouped convolution; an item is a band of an image's rows and LANES groups.

    p        channels of a group, of the input and of the output
    kernels  address of the weights as ``lane_order`` has them
    bands    into which an image's rows are cut
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    window: Window
    p: int
    kernels: Address
    epilogue: Epilogue
    bands: int
    unlace: Native = unlace
    lane_tile: Native = lane_tile
    finish_pixels: Native = finish_pixels

    @classmethod
    def cut(
        cls,
        x: Map,
        out: Map,
        size: tuple[int, int, int],
        window: Window,
        p: int,
        kernels: Address,
        epilogue: Epilogue,
        threads: int,
    ) -> GroupedLanesStep:
        """In bands that suit L2 and ``threads``; ``size`` is (n, height, width) of the images."""
        n, height, width = size
        at_once = n * bundle_count(out.channels, p)
        bands = band_count(
            window.ho, max(LEAST_ROWS // window.sh, 1), at_once, threads, lambda rows: _copy_bytes(rows, window, p)
        )
        return cls(
            x=x, out=out, n=n, height=height, width=width, window=window, p=p, kernels=kernels, epilogue=epilogue, bands=bands
        )  # fmt: skip

    @property
    def items(self) -> int:
        return self.n * self.bands * bundle_count(self.out.channels, self.p)

    @property
    def scratch_bytes(self) -> int:
        rows = -(-self.window.ho // self.bands)
        return _copy_bytes(rows, self.window, self.p) + PIXELS * self.p * LANES * 4 + LINE


_view = view_of(GroupedLanesStep)


@GroupedLanesStep.native
def _grouped_lanes_item(step, item, scratch):
    s = _view(step)
    window, epilogue = s.window, s.epilogue
    wo, kh, kw, quads, ld, ldc = window.wo, window.kh, window.kw, s.p // 4, epilogue.residual.pitch, s.out.pitch
    slope, floor = epilogue.activation.slope, epilogue.activation.floor
    band, bundle = divmod(item, bundles(s.out.channels, s.p))
    image, band = divmod(band, s.bands)
    first, last = part_of(window.ho, band, s.bands, 1)
    channel, pixel = bundle * s.p * LANES, s.p * LANES * 4
    columns = _columns_read(wo, kw, window.sw, window.dw, PIXELS)
    sums = aligned(scratch)
    copy = sums + PIXELS * pixel

    left = min(window.left, columns)
    inside = max(min(s.width, columns - left), 0)
    y0 = first * window.sh - window.top
    to = copy
    for y in range(y0, y0 + _rows_read(last - first, kh, window.sh, window.dh)):
        if y < 0 or y >= s.height:
            zero_bytes(to, columns * pixel)
        else:
            zero_bytes(to, left * pixel)
            x = s.x.address + (image * s.height + y) * s.width * s.x.pitch + channel * 4
            call(s.unlace, (x, s.x.pitch, inside, quads, to + left * pixel))
            zero_bytes(to + (left + inside) * pixel, (columns - left - inside) * pixel)
        to += columns * pixel

    kernels = s.kernels + bundle * kh * kw * s.p * pixel
    for oh in range(first, last):
        x = copy + (oh - first) * window.sh * columns * pixel
        for ow in range(0, wo, PIXELS):
            count = min(PIXELS, wo - ow)
            index = (image * window.ho + oh) * wo + ow
            place = s.out.address + index * ldc + channel * 4
            prefetch_pixels(place, ldc, count, pixel)
            call(s.lane_tile, (
                x + ow * window.sw * pixel, window.sw * pixel, window.dh * columns * pixel, window.dw * pixel, kh, kw, quads,
                kernels, sums,
            ))  # fmt: skip
            call(s.finish_pixels, (
                sums, count, quads, epilogue.bias + channel * 4, epilogue.residual.address + index * ld + channel * 4, ld,
                slope, floor, place, ldc,
            ))  # fmt: skip
            finish(epilogue.activation, place, ldc, count, s.p * LANES)


def grouped_lanes(x: Array, kernels: Array, bias: Array, window: Window, out: Array, threads: int) -> None:
    """One grouped convolution.

    x        float32[n, h, w, ci], C-contiguous
    kernels  as ``lane_order`` has them; bias float32[co]
    out      float32[n, ho, wo, co], C-contiguous
    """
    zeros = np.zeros(out.shape[3], np.float32)
    step = GroupedLanesStep.cut(
        Map.of(x),
        Map.of(out),
        x.shape[:3],
        window,
        kernels.shape[3],
        kernels.ctypes.data,
        bias_only(bias.ctypes.data, zeros),
        threads,
    )
    run(step, threads, x, kernels, bias, zeros, out)
