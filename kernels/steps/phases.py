"""The stem, a convolution of 7x7 taps with stride 2, by Winograd's F(3x3, 4x4) on the image in phases (``kernels/phases.py``).

An item is some tiles side by side: it takes the image apart where they see it, transforms their patches, multiplies and
transforms back, all in its own memory. No map in phases is ever whole, and no row of im2col is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..geometry import Window
from ..jit import Native, call, jit, native
from ..numba_later import types
from ..phasetile import DEPTH, EDGE, PITCH, TILES, M, phase_tiles
from ..simd import LANES, copy_floats
from ..winograd import input_transform4
from .epilogue import Epilogue, bias_only, finish
from .im2col import Patches, copy_run
from .intrinsics import part_of, zero_bytes
from .loop import run
from .records import Address, Map, Step, offset_of, view_of

__all__ = ["PhasesStep", "by_phases"]

_MOST = 40  # tiles of one item
_patches_view, _i = view_of(Patches), types.int64
_PIXEL = 4 * PITCH


@jit
def _one_by_one(to, source, ld, channels, first, last, x, width):
    """Pixels first..last-1 of a row in phases, of which the first begins at column x of the image's row at ``source``."""
    for column in range(2 * first, 2 * last):
        if 0 <= x + column < width:
            copy_floats(to + column // 2 * _PIXEL + column % 2 * channels * 4, source + (x + column) * ld, channels)


@native(types.void(_i, _i, _i, _i, _i, _i))
def take_apart(patches, image, y, x, columns, strip):
    """EDGE rows of ``columns`` pixels in phases, of which the first begins at row y and column x of an image; zeros outside.

    patches  address of ``Patches``
    strip    where they go: float32[EDGE, columns, PITCH]
    """
    s = _patches_view(patches)
    channels, height, width, ld = s.x.channels, s.height, s.width, s.x.pitch
    pixel = channels * 4
    zero_bytes(strip, EDGE * columns * _PIXEL)
    # pixels in phases of which both columns lie in the image, and side by side: they are copied in one go
    inner0 = min((max(-x, 0) + 1) // 2, columns) if ld == pixel else columns
    inner1 = max(min((width - x) // 2, columns), inner0)
    for line in range(2 * EDGE):
        row = y + line
        if row < 0 or row >= height:
            continue
        source = s.x.address + (image * height + row) * width * ld
        to = strip + line // 2 * columns * _PIXEL + line % 2 * 2 * pixel
        _one_by_one(to, source, ld, channels, 0, inner0, x, width)
        for column in range(inner0, inner1):
            copy_run(to + column * _PIXEL, source + (x + 2 * column) * ld, 2 * channels)
        _one_by_one(to, source, ld, channels, inner1, columns, x, width)


@dataclass(frozen=True, kw_only=True)
class PhasesStep(Step):
    """A convolution of 7x7 or 8x8 taps with stride 2, of at most CHANNELS channels.

    n        images
    kernels  address of float32[out.channels / LANES, 36, DEPTH, LANES], transformed
    parts    into which a row of tiles is cut
    """

    patches: Patches
    out: Map
    n: int
    kernels: Address
    epilogue: Epilogue
    parts: int
    transform: Native = input_transform4
    take_apart: Native = take_apart
    phase_tiles: Native = phase_tiles

    @classmethod
    def cut(cls, patches: Patches, out: Map, n: int, kernels: Address, epilogue: Epilogue) -> PhasesStep:
        """In items whose memory stays in L2."""
        parts = -(-patches.window.wo // (M * _MOST))
        return cls(patches=patches, out=out, n=n, kernels=kernels, epilogue=epilogue, parts=parts)

    @property
    def items(self) -> int:
        return self.n * -(-self.patches.window.ho // M) * self.parts

    @property
    def scratch_bytes(self) -> int:
        tiles = math.ceil(math.ceil(self.patches.window.wo / M) / self.parts)
        return _PIXEL * EDGE * (tiles * M + EDGE - M + EDGE * (tiles + TILES)) + 4 * TILES * M * EDGE * LANES


_view, _PATCHES = view_of(PhasesStep), offset_of(PhasesStep, "patches")


@PhasesStep.native
def _phases_item(step, item, scratch):
    s = _view(step)
    window, ci, channels, pixel = s.patches.window, s.patches.x.channels, s.out.channels, s.out.pitch
    ho, wo = window.ho, window.wo
    residual, activation = s.epilogue.residual, s.epilogue.activation
    down, across = (ho + M - 1) // M, (wo + M - 1) // M
    row, part = divmod(item, s.parts)
    image, line = divmod(row, down)
    first, last = part_of(across, part, s.parts, 1)
    tiles = last - first
    columns = tiles * M + EDGE - M
    corner = 2 * M * line - window.top, 2 * M * first - window.left
    call(s.take_apart, (step + _PATCHES, image, corner[0], corner[1], columns, scratch))
    v = scratch + EDGE * columns * _PIXEL
    for tile in range(tiles):
        place = v + (tile // TILES * EDGE * EDGE * TILES + tile % TILES) * _PIXEL
        patch = scratch + tile * M * _PIXEL
        call(s.transform, (patch, columns * _PIXEL, _PIXEL, place, TILES * _PIXEL, PITCH // LANES))

    room = v + EDGE * EDGE * (tiles + TILES) * _PIXEL
    rows, wide = min(M, ho - M * line), min(M * last, wo) - M * first
    index = (image * ho + M * line) * wo + M * first
    out, more = s.out.address + index * pixel, residual.address + index * residual.pitch
    for slice in range(channels // LANES):
        at = slice * LANES * 4
        call(s.phase_tiles, (
            tiles, v, s.kernels + slice * 4 * EDGE * EDGE * DEPTH * LANES, 4 * ci, room, s.epilogue.bias + at,
            more + at, wo * residual.pitch, residual.pitch, activation.slope, activation.floor,
            out + at, wo * pixel, pixel, rows, wide,
        ))  # fmt: skip
    for y in range(rows):
        finish(activation, out + y * wo * pixel, pixel, wide, channels)


def by_phases(x: Array, kernels: Array, bias: Array, window: Window, out: Array, threads: int) -> None:
    """One convolution of 7x7 or 8x8 taps with stride 2, on up to ``threads`` threads.

    x        float32[n, h, w, ci], C-contiguous
    kernels  float32[co / LANES, 36, DEPTH, LANES], transformed; bias float32[co]
    out      float32[n, ho, wo, co], C-contiguous, co a multiple of LANES
    """
    zeros = np.zeros(out.shape[3], np.float32)
    n, height, width, _ = x.shape
    epilogue = bias_only(bias.ctypes.data, zeros)
    patches = Patches(x=Map.of(x), height=height, width=width, window=window)
    step = PhasesStep.cut(patches, Map.of(out), n, kernels.ctypes.data, epilogue)
    run(step, threads, x, kernels, bias, zeros, out)
