"""Grouped 3x3 convolutions by Winograd's algorithm along rows, a band of rows and LANES groups at a time;
``kernels/rowwinograd.py`` tells how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..grouplane import PIXELS, finish_pixels, lane_tile, unlace
from ..jit import Native, call
from ..rowwinograd import M, N, patches_from_rows, rows_from_products
from ..simd import LANES
from .epilogue import Epilogue, bias_only, finish
from .grouped_lanes import LEAST_ROWS, LINE, aligned, band_count, bundle_count, bundles
from .intrinsics import part_of, zero_bytes
from .loop import run
from .records import Address, Map, Step, view_of

__all__ = ["GroupedWinogradStep", "grouped_winograd"]


def _v_bytes(rows: int, width: int, p: int) -> int:
    """Size of V, the transformed patches, of a band of ``rows`` rows of outputs; the last tiles that are read may be outside."""
    return N * ((rows + 2) * -(-width // M) + PIXELS) * p * LANES * 4


@dataclass(frozen=True, kw_only=True)
class GroupedWinogradStep(Step):
    """A grouped 3x3 convolution with stride 1 and a border of one zero; an item is a band of an image's rows and LANES groups.

    p        channels of a group, of the input and of the output
    kernels  address of the transformed kernels, float32[bundles, N, ...], each element as ``lane_order`` has it
    bands    into which an image's rows are cut
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    p: int
    kernels: Address
    epilogue: Epilogue
    bands: int
    unlace: Native = unlace
    patches_from_rows: Native = patches_from_rows
    lane_tile: Native = lane_tile
    rows_from_products: Native = rows_from_products
    finish_pixels: Native = finish_pixels

    @classmethod
    def cut(
        cls, x: Map, out: Map, size: tuple[int, int, int], p: int, kernels: Address, epilogue: Epilogue, threads: int
    ) -> GroupedWinogradStep:
        """In bands that suit L2 and ``threads``; ``size`` is (n, height, width) of the images."""
        n, height, width = size
        at_once = n * bundle_count(out.channels, p)
        bands = band_count(height, LEAST_ROWS, at_once, threads, lambda rows: _v_bytes(rows, width, p))
        return cls(x=x, out=out, n=n, height=height, width=width, p=p, kernels=kernels, epilogue=epilogue, bands=bands)

    @property
    def items(self) -> int:
        return self.n * self.bands * bundle_count(self.out.channels, self.p)

    @property
    def scratch_bytes(self) -> int:
        rows, tiles = -(-self.height // self.bands), -(-self.width // M)
        pixels = N * PIXELS + M + M * tiles + 2  # products, a tile of outputs, a row of the image
        return _v_bytes(rows, self.width, self.p) + pixels * self.p * LANES * 4 + LINE


_view = view_of(GroupedWinogradStep)


@GroupedWinogradStep.native
def _grouped_winograd_item(step, item, scratch):
    s = _view(step)
    epilogue, height, width = s.epilogue, s.height, s.width
    quads, ld, ldc = s.p // 4, epilogue.residual.pitch, s.out.pitch
    slope, floor = epilogue.activation.slope, epilogue.activation.floor
    band, bundle = divmod(item, bundles(s.out.channels, s.p))
    image, band = divmod(band, s.bands)
    first, last = part_of(height, band, s.bands, 1)
    channel, pixel = bundle * s.p * LANES, s.p * LANES * 4
    across = (width + M - 1) // M
    tiles = (last - first) * across  # row by row, without a border: a tile's neighbour below is ``across`` further on
    ld_v, ld_products = (tiles + 2 * across + PIXELS) * pixel, PIXELS * pixel
    v = aligned(scratch)
    products = v + N * ld_v
    patch = products + N * ld_products
    line = patch + M * pixel

    zero_bytes(line, pixel)
    zero_bytes(line + (width + 1) * pixel, (M * across + 1 - width) * pixel)
    to = v
    for y in range(first - 1, last + 1):
        if y < 0 or y >= height:
            for e in range(N):
                zero_bytes(to + e * ld_v, across * pixel)
        else:
            x = s.x.address + (image * height + y) * width * s.x.pitch + channel * 4
            call(s.unlace, (x, s.x.pitch, width, quads, line + pixel))
            call(s.patches_from_rows, (line, across, s.p, to, ld_v))
        to += across * pixel

    size = 3 * s.p * pixel  # of one element of the kernels
    kernels = s.kernels + bundle * N * size
    for start in range(0, tiles, PIXELS):
        for e in range(N):
            x = v + e * ld_v + start * pixel
            to = products + e * ld_products
            call(s.lane_tile, (x, pixel, across * pixel, 0, 3, 1, quads, kernels + e * size, to))
        for tile in range(start, min(start + PIXELS, tiles)):
            call(s.rows_from_products, (products + (tile - start) * pixel, ld_products, s.p, patch))
            y, x = first + tile // across, tile % across * M
            count = min(M, width - x)
            index = (image * height + y) * width + x
            place = s.out.address + index * ldc + channel * 4
            call(s.finish_pixels, (
                patch, count, quads, epilogue.bias + channel * 4, epilogue.residual.address + index * ld + channel * 4, ld,
                slope, floor, place, ldc,
            ))  # fmt: skip
            finish(epilogue.activation, place, ldc, count, s.p * LANES)


def grouped_winograd(x: Array, kernels: Array, bias: Array, out: Array, threads: int) -> None:
    """One grouped convolution with a border of one zero.

    x        float32[n, h, w, ci], C-contiguous
    kernels  of ``transform_rows``, each element as ``lane_order`` has it, side by side for each bundle; bias float32[co]
    out      float32[n, h, w, co], C-contiguous
    """
    zeros = np.zeros(out.shape[3], np.float32)
    step = GroupedWinogradStep.cut(
        Map.of(x),
        Map.of(out),
        x.shape[:3],
        kernels.shape[4],
        kernels.ctypes.data,
        bias_only(bias.ctypes.data, zeros),
        threads,
    )
    run(step, threads, x, kernels, bias, zeros, out)
