"""3x3 convolutions by Winograd's F(m x m, 3x3), a block of tiles at a time; ``kernels/winograd.py`` tells how.

Either all at once (``WinogradStep``): an item transforms some tiles of the image, multiplies them by all panels of
transformed kernels, and transforms the products. Or, where the transformed kernels are larger than the transformed image
and would be read again for each block, in two steps: ``WinogradInStep`` transforms the whole image, ``WinogradOutStep``
takes one panel of kernels at a time. The sums are the same, and so are the bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..gemm import passes
from ..jit import Native, call, jit, native
from ..numba_later import carray, types
from ..processor import SETTINGS
from ..simd import LANES
from ..tile import NR, multiply
from ..winograd import (
    derive,
    input_transform2,
    input_transform4,
    output_transform2,
    output_transform4,
    pairs,
    stored_elements,
)
from .epilogue import Epilogue, activated, bias_only, finish
from .intrinsics import copy_bytes, float_pointer, part_of, zero_bytes
from .loop import run
from .records import Address, Map, Step, offset_of, view_of

__all__ = [
    "InputTiles",
    "OutputTiles",
    "WinogradInStep",
    "WinogradOutStep",
    "WinogradStep",
    "step_alone",
    "v_bytes",
    "winograd",
]

_INPUT = {2: input_transform2, 4: input_transform4}
_OUTPUT = {2: output_transform2, 4: output_transform4}


def _odd_lines(size: int) -> int:
    """``size`` bytes rounded up to an odd number of cache lines: elements so far apart share no set of a cache."""
    return (size + 63) // 64 // 2 * 128 + 64


def _count(n: int, height: int, width: int, m: int) -> int:
    """Number of tiles of all images."""
    return n * ((height + m - 1) // m) * ((width + m - 1) // m)


def v_bytes(m: int, tiles: int, channels: int) -> int:
    """Size of V, the transformed patches of ``tiles`` tiles of F(m x m, 3x3)."""
    return (m + 2) ** 2 * _odd_lines(4 * tiles * channels)


def _patch_bytes(m: int, channels: int) -> int:
    """Size of one patch of the image."""
    return 4 * (m + 2) ** 2 * channels


class Two(NamedTuple):
    """Two numbers in a record."""

    first: float
    second: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Two:
        return cls(numbers[0], numbers[-1])


@dataclass(frozen=True, kw_only=True)
class InputTiles:
    """Images of ``height`` x ``width`` pixels in tiles of m x m, whose patches of (m + 2) x (m + 2) overlap."""

    x: Map
    n: int
    height: int
    width: int
    m: int
    transform: Native

    @classmethod
    def of(cls, x: Map, n: int, height: int, width: int, m: int) -> InputTiles:
        return cls(x=x, n=n, height=height, width=width, m=m, transform=_INPUT[m])

    @property
    def tiles(self) -> int:
        """Of all images."""
        return _count(self.n, self.height, self.width, self.m)


@dataclass(frozen=True, kw_only=True)
class OutputTiles:
    """The result in tiles, and what makes it of V.

    channels  of the input
    kernels   address of U, the transformed kernels: float32[ceil(out.channels / NR), (m + 2) * stored, channels, NR]
    stored    elements of each row of U that are there: m + 2, or without those that follow from others (``winograd.Pairs``)
    zero, end  by which they follow, of two pairs at most
    passes    over k
    """

    out: Map
    n: int
    height: int
    width: int
    m: int
    channels: int
    kernels: Address
    stored: int
    zero: Two
    end: Two
    passes: int
    epilogue: Epilogue
    transform: Native
    multiply: Native = multiply
    derive: Native = derive

    @classmethod
    def of(
        cls, given: InputTiles, out: Map, kernels: Address, epilogue: Epilogue, in_pairs: bool = False
    ) -> OutputTiles:
        """``in_pairs``: whether of each pair of points only the first's kernels are there."""
        channels, factors = given.x.channels, pairs(given.m)
        return cls(
            out=out, n=given.n, height=given.height, width=given.width, m=given.m, channels=channels, kernels=kernels,
            stored=stored_elements(given.m, in_pairs), zero=Two.of(factors.zero), end=Two.of(factors.end),
            passes=passes(channels), epilogue=epilogue, transform=_OUTPUT[given.m],
        )  # fmt: skip

    @property
    def tiles(self) -> int:
        """Of all images."""
        return _count(self.n, self.height, self.width, self.m)

    @property
    def panels(self) -> int:
        """Number of panels of kernels."""
        return -(-self.out.channels // NR)

    def products_bytes(self, tiles: int) -> int:
        """Size of the products of ``tiles`` tiles in one panel, of one tile of outputs, and of kernels that follow from others."""
        derived = 4 * self.channels * NR if self.stored < self.m + 2 else 0
        return v_bytes(self.m, tiles, NR) + 4 * self.m**2 * NR + derived


_input_view, _output_view = view_of(InputTiles), view_of(OutputTiles)
_i = types.int64
_odd, _tiles = jit(_odd_lines), jit(_count)


@native(types.void(_i, _i, _i, _i, _i, _i, _i))
def transform_tiles(given, first, last, v, ld_tile, ld_element, patch_at):
    """V of tiles first..last-1: element e of tile i at v + (i - first) * ld_tile + e * ld_element.

    given     address of ``InputTiles``
    patch_at  address of room for one patch
    """
    s = _input_view(given)
    m, height, width, pitch = s.m, s.height, s.width, s.x.pitch
    n, pixel = m + 2, s.x.channels * 4
    down, across = (height + m - 1) // m, (width + m - 1) // m
    for tile in range(first, last):
        image, position = divmod(tile, down * across)
        y0, x0 = position // across * m - 1, position % across * m - 1
        at = v + (tile - first) * ld_tile
        if y0 >= 0 and x0 >= 0 and y0 + n <= height and x0 + n <= width:
            d = s.x.address + ((image * height + y0) * width + x0) * pitch
            call(s.transform, (d, width * pitch, pitch, at, ld_element, s.x.channels // LANES))
            continue
        # at the border: copy what exists into a patch of zeros
        zero_bytes(patch_at, n * n * pixel)
        left, right = max(x0, 0), min(x0 + n, width)
        for y in range(max(y0, 0), min(y0 + n, height)):
            place = patch_at + ((y - y0) * n + left - x0) * pixel
            source = s.x.address + ((image * height + y) * width + left) * pitch
            if pitch == pixel:
                copy_bytes(place, source, (right - left) * pixel)
            else:
                for x in range(right - left):
                    copy_bytes(place + x * pixel, source + x * pitch, pixel)
        call(s.transform, (patch_at, n * pixel, pixel, at, ld_element, s.x.channels // LANES))


@native(types.void(_i, _i, _i, _i, _i, _i, _i, _i))
def finish_tiles(made, first, last, v, ld_tile, ld_element, panel, products):
    """Outputs of tiles first..last-1 in one panel of channels: the products of V with U, transformed.

    made      address of ``OutputTiles``
    products  address of room for the products and, behind them, for one tile of outputs
    """
    s = _output_view(made)
    m, height, width, channels, zeros = s.m, s.height, s.width, s.channels, s.epilogue.zeros
    rows, elements = last - first, (m + 2) * (m + 2)
    between = _odd(rows * NR * 4)
    size, edge = channels * NR * 4, m + 2
    u = s.kernels + panel * edge * s.stored * size
    one, low = np.float32(1.0), np.float32(-np.inf)
    derived = products + elements * between + m * m * NR * 4
    ahead, lines = np.int64(0), s.stored * size // (64 * edge)  # of the next row of U, during each product of this one
    for number in range(elements):
        row, at = divmod(number, edge)
        e, kernels = number, u + number * size
        if s.stored < edge:
            whole = u + row * s.stored * size
            ahead = whole + s.stored * size + at * lines * 64
            if at < 2:
                e, kernels = row * edge + at * (edge - 1), whole + at * size
            else:
                e, pair = number - 1, at // 2 - 1
                kernels = whole + (2 + pair) * size
                if at % 2:
                    zero, end = (s.zero.second, s.end.second) if pair else (s.zero.first, s.end.first)
                    call(s.derive, (whole, whole + size, kernels, derived, zero, end, size))
                    kernels = derived
        call(s.multiply, (
            rows, v + e * ld_element, ld_tile, kernels, channels, NR, s.passes, False,
            zeros, 0, zeros, 0, one, low, products + e * between, NR * 4, ahead, lines,
        ))  # fmt: skip

    slope, floor = s.epilogue.activation.slope, s.epilogue.activation.floor
    patch_at = products + elements * between
    down, across = (height + m - 1) // m, (width + m - 1) // m
    pixel, channel = s.out.pitch, panel * NR
    count = min(NR, s.out.channels - channel)
    slices = count // LANES
    bias, ld = s.epilogue.bias + channel * 4, s.epilogue.residual.pitch
    for tile in range(first, last):
        image, position = divmod(tile, down * across)
        y0, x0 = position // across * m, position % across * m
        p = products + (tile - first) * NR * 4
        index = (image * height + y0) * width + x0
        out = s.out.address + index * pixel + channel * 4
        residual = s.epilogue.residual.address + index * ld + channel * 4
        if y0 + m <= height and x0 + m <= width:
            call(s.transform, (
                p, between, bias, residual, width * ld, ld, slope, floor, out, width * pixel, pixel, slices
            ))  # fmt: skip
            for y in range(m):
                finish(s.epilogue.activation, out + y * width * pixel, pixel, m, count)
            continue
        # a tile that reaches over the edge: into a patch, and from there what exists
        call(s.transform, (p, between, bias, zeros, 0, 0, one, low, patch_at, m * NR * 4, NR * 4, slices))
        for y in range(min(m, height - y0)):
            for x in range(min(m, width - x0)):
                source = carray(float_pointer(patch_at + (y * m + x) * NR * 4), (count,))
                more = carray(float_pointer(residual + (y * width + x) * ld), (count,))
                place = carray(float_pointer(out + (y * width + x) * pixel), (count,))
                for i in range(count):
                    place[i] = activated(source[i] + more[i], slope, floor)
            finish(s.epilogue.activation, out + y * width * pixel, pixel, min(m, width - x0), count)


@dataclass(frozen=True, kw_only=True)
class WinogradStep(Step):
    """All of it; an item is one of ``blocks`` blocks of tiles."""

    given: InputTiles
    made: OutputTiles
    blocks: int
    transform_tiles: Native = transform_tiles
    finish_tiles: Native = finish_tiles

    @property
    def items(self) -> int:
        return self.blocks

    @property
    def scratch_bytes(self) -> int:
        m, tiles, channels = self.given.m, -(-self.given.tiles // self.blocks), self.given.x.channels
        return v_bytes(m, tiles, channels) + max(_patch_bytes(m, channels), self.made.products_bytes(tiles))


_view = view_of(WinogradStep)
_GIVEN, _MADE = offset_of(WinogradStep, "given"), offset_of(WinogradStep, "made")


@WinogradStep.native
def _winograd_item(step, item, scratch):
    s = _view(step)
    m = s.given.m
    first, last = part_of(_tiles(s.given.n, s.given.height, s.given.width, m), item, s.blocks, 1)
    ld_tile = s.given.x.channels * 4
    ld_element = _odd((last - first) * ld_tile)
    products = scratch + (m + 2) * (m + 2) * ld_element  # and where V's patch of zeros lies, before there are products
    call(s.transform_tiles, (step + _GIVEN, first, last, scratch, ld_tile, ld_element, products))
    for panel in range((s.made.out.channels + NR - 1) // NR):
        call(s.finish_tiles, (step + _MADE, first, last, scratch, ld_tile, ld_element, panel, products))


@dataclass(frozen=True, kw_only=True)
class WinogradInStep(Step):
    """V of the whole batch, at address ``v``; an item is one of ``blocks`` blocks of tiles."""

    given: InputTiles
    v: Address
    blocks: int
    transform_tiles: Native = transform_tiles

    @property
    def items(self) -> int:
        return self.blocks

    @property
    def scratch_bytes(self) -> int:
        return _patch_bytes(self.given.m, self.given.x.channels)


_in_view, _IN_GIVEN = view_of(WinogradInStep), offset_of(WinogradInStep, "given")


@WinogradInStep.native
def _winograd_in_item(step, item, scratch):
    s = _in_view(step)
    tiles, ld_tile = _tiles(s.given.n, s.given.height, s.given.width, s.given.m), s.given.x.channels * 4
    first, last = part_of(tiles, item, s.blocks, 1)
    v, ld_element = s.v + first * ld_tile, _odd(tiles * ld_tile)
    call(s.transform_tiles, (step + _IN_GIVEN, first, last, v, ld_tile, ld_element, scratch))


@dataclass(frozen=True, kw_only=True)
class WinogradOutStep(Step):
    """The result from V at address ``v``; an item is one panel of kernels times one of ``blocks`` blocks of tiles."""

    made: OutputTiles
    v: Address
    blocks: int
    finish_tiles: Native = finish_tiles

    @property
    def items(self) -> int:
        return self.blocks * self.made.panels

    @property
    def scratch_bytes(self) -> int:
        return self.made.products_bytes(-(-self.made.tiles // self.blocks))


_out_view, _OUT_MADE = view_of(WinogradOutStep), offset_of(WinogradOutStep, "made")


@WinogradOutStep.native
def _winograd_out_item(step, item, scratch):
    s = _out_view(step)
    panel, block = divmod(item, s.blocks)
    tiles, ld_tile = _tiles(s.made.n, s.made.height, s.made.width, s.made.m), s.made.channels * 4
    first, last = part_of(tiles, block, s.blocks, 1)
    v, ld_element = s.v + first * ld_tile, _odd(tiles * ld_tile)
    call(s.finish_tiles, (step + _OUT_MADE, first, last, v, ld_tile, ld_element, panel, scratch))


def step_alone(x: Array, panels: Array, bias: Array, zeros: Array, out: Array, m: int) -> WinogradStep:
    """One convolution F(m x m, 3x3) with a border of one zero, for arrays that must live as long as it is run.

    x       float32[n, h, w, ci], C-contiguous, ci a multiple of LANES
    panels  float32[ceil(co / NR), (m + 2)**2, ci, NR], the transformed kernels; bias float32[ceil(co / NR) * NR]
    zeros   at least co and NR of them
    out     float32[n, h, w, co], C-contiguous, co a multiple of LANES
    """
    n, height, width, _ = x.shape
    given = InputTiles.of(Map.of(x), n, height, width, m)
    made = OutputTiles.of(given, Map.of(out), panels.ctypes.data, bias_only(bias.ctypes.data, zeros))
    return WinogradStep(given=given, made=made, blocks=max(1, -(-given.tiles // SETTINGS.tiles)))


def winograd(x: Array, panels: Array, bias: Array, out: Array, threads: int, m: int = 4) -> None:
    """Run ``step_alone`` on up to ``threads`` threads; arrays as there."""
    zeros = np.zeros(out.shape[3] + NR, np.float32)
    run(step_alone(x, panels, bias, zeros, out, m), threads, x, panels, bias, zeros, out)
