"""How a convolution is computed on this processor, and into which parts its work is cut.

The algorithm depends on the shape of one image alone, never on the batch, on threads or on the processor, so that an image
gives the same bits alone and in a batch. The parts may depend on anything: they do not change results. Their sizes were
found by measuring (``bench/bench_layers.py``).
"""

from __future__ import annotations

from ..kernels.gemm import block_rows, passes
from ..kernels.geometry import Window
from ..kernels.grouplane import in_lanes
from ..kernels.phases import phased
from ..kernels.processor import SETTINGS
from ..kernels.steps.epilogue import Epilogue
from ..kernels.steps.grouped import GroupedStep
from ..kernels.steps.grouped_lanes import GroupedLanesStep
from ..kernels.steps.grouped_winograd import GroupedWinogradStep
from ..kernels.steps.im2col import Im2colStep, Patches
from ..kernels.steps.pointwise import PointwiseStep, Product
from ..kernels.steps.records import Address, Map
from ..kernels.steps.winograd import InputTiles, OutputTiles
from ..kernels.tile import MR, NR
from ..network.operators import Conv2D, Pads

__all__ = [
    "grouped",
    "grouped_form",
    "im2col",
    "in_pairs",
    "in_phases",
    "in_two_steps",
    "pieces",
    "pixel_pitch",
    "pointwise",
    "product",
    "product_blocks",
    "v_blocks",
    "winograd_blocks",
    "winograd_tile",
]


def winograd_tile(operator: Conv2D, pads: Pads, size: tuple[int, int]) -> int | None:
    """m of F(m x m, 3x3) for a convolution on maps of ``size`` (h, w), or None where the direct sum is better."""
    if operator.kernel != (3, 3) or operator.stride != (1, 1) or pads != (1, 1, 1, 1):
        return None
    if operator.groups > 1 or operator.dilation != (1, 1):
        return None
    if operator.channels_in % 16 or operator.channels % 16 or operator.channels_in < 32:
        return None
    # on small maps a third of the 4x4 tiles lies outside, and reading kernels of 36 elements takes longer than that
    return 4 if size[0] * size[1] >= 100 else 2


def in_phases(operator: Conv2D) -> bool:
    """Whether a convolution is a stem for F(3x3, 4x4) on the image in phases."""
    few = (*operator.kernel, operator.channels_in)
    return operator.groups == 1 and phased(few, operator.stride, operator.dilation) and operator.channels % 16 == 0


def grouped_form(operator: Conv2D, pads: Pads, size: tuple[int, int], winograd: bool) -> str:
    """In which form (``packing.py``) the weights of a convolution with groups are for maps of ``size`` (h, w), and so how it is
    computed: "rows" by Winograd's algorithm along rows, "lanes" or "grouped" by the definition, with the same bits.

    On a Xeon (Emerald Rapids) the definition takes 7 % longer for groups of 8 channels on 28x28, 25 % for 16 on 14x14; with
    AVX2 alone, 35 and 40 %. Of groups of 4 the transforms take what is saved, or more. On small maps, twice as many numbers of
    kernels have to be read: for 32 channels on 7x7, the definition takes three quarters of the time.
    """
    groups, p, q = operator.groups, operator.channels_in // operator.groups, operator.channels // operator.groups
    same = operator.kernel == (3, 3) and operator.stride == operator.dilation == (1, 1) and pads == (1, 1, 1, 1)
    large = size[0] * size[1] >= 100 and size[1] >= 4
    if winograd and same and large and p == q and p in (8, 16, 32) and groups % 16 == 0:
        return "rows"
    return "lanes" if in_lanes(p, q, groups) else "grouped"


def _parts(total: int, most: int, unit: int, multiple: int) -> int:
    """Into how many parts to cut ``total`` so that none is much larger than ``most``, and threads end together."""
    parts = -(-total // max(most, 1))
    parts = -(-parts // multiple) * multiple
    return max(1, min(parts, -(-total // unit)))


_WAY = 4096  # bytes of L1 in each of its ways: 64 sets of 64 bytes, on all processors of today


def pixel_pitch(channels: int) -> int:
    """Bytes from pixel to pixel of a map in the arena. A gap of one cache line where all pixels would fall into one set of L1,
    of which a product reads six side by side: 3 % slower for 1024 and 2048 channels on a Xeon, whose L1 has twelve ways
    (``bench/bench_pitch.py``). There 256 and 512 channels would gain as much by themselves, and whole networks nothing."""
    return 4 * channels + (64 if 4 * channels % _WAY == 0 else 0)


def pieces(total: int, threads: int) -> int:
    """Into how many parts to cut what can be cut anywhere."""
    return min(4 * threads, total)


def product(panels: Address, depth: int, out: Map, epilogue: Epilogue) -> Product:
    """Rows of ``depth`` floats times panels of packed weights."""
    return Product(panels=panels, depth=depth, passes=passes(depth), out=out, epilogue=epilogue)


_DEEP = 4096  # deeper than any convolution of a ResNet


def pointwise(x: Map, times: Product, rows: int, threads: int) -> PointwiseStep:
    """A 1x1 convolution. A few rows are cut by panel, so that all threads have work and weights are read once; so are deep ones,
    of which few fit into a block: with 12,544 floats in each of 1000 that takes half the time (``bench/bench_detect.py``)."""
    by_panel = (rows <= 400 or times.depth > _DEEP) and times.count >= 2
    most = 98 if by_panel else min(392, block_rows(times.depth))
    blocks = _parts(rows, most, MR, 1 if by_panel else 4 * threads)
    return PointwiseStep(x=x, product=times, rows=rows, blocks=blocks, by_panel=int(by_panel))


def im2col(patches: Patches, times: Product, rows: int, threads: int) -> Im2colStep:
    """Any other convolution without groups."""
    blocks = _parts(rows, block_rows(times.depth), MR, 2 * threads)
    return Im2colStep(patches=patches, product=times, rows=rows, blocks=blocks)


def in_pairs(size: tuple[int, int], m: int) -> bool:
    """Whether of transformed kernels only those are kept from which the others follow. For maps of so few tiles, reading kernels takes
    longer than multiplying with them, and computing a third or a quarter of them anew less than reading it."""
    return -(-size[0] // m) * -(-size[1] // m) <= 24


def grouped(
    form: str,
    x: Map,
    out: Map,
    size: tuple[int, int, int],
    window: Window,
    groups: int,
    kernels: Address,
    epilogue: Epilogue,
    threads: int,
) -> GroupedStep | GroupedLanesStep | GroupedWinogradStep:
    """A convolution with groups, whose weights are in ``form``; ``size`` is (n, height, width) of the images."""
    if form == "grouped":
        return GroupedStep.cut(x, out, size, window, groups, kernels, epilogue)
    p = x.channels // groups
    if form == "lanes":
        return GroupedLanesStep.cut(x, out, size, window, p, kernels, epilogue, threads)
    return GroupedWinogradStep.cut(x, out, size, p, kernels, epilogue, threads)


def in_two_steps(given: InputTiles, channels: int) -> bool:
    """Whether the transformed tiles of the whole map are cheaper to keep than the transformed kernels, of so many output
    channels, to read again."""
    panels = -(-channels // NR)
    return panels > 1 and given.tiles < 2 * panels * NR


def winograd_blocks(given: InputTiles, threads: int) -> int:
    """Into how many blocks the tiles are cut, where all is done in one step."""
    return _parts(given.tiles, SETTINGS.tiles, 1, 2 * threads)


def v_blocks(given: InputTiles, threads: int) -> int:
    """The same for the first step where it is done in two ..."""
    return min(given.tiles, 8 * threads)


def product_blocks(made: OutputTiles, threads: int) -> int:
    """... and for the second, which is cut by panel, too. Where kernels follow from others, that is done for each block: there are
    fewer then."""
    most = 42 if made.stored == made.m + 2 else max(64, 128 // threads)
    return _parts(made.tiles, most, 1, 1 if made.panels >= 2 * threads else threads)
