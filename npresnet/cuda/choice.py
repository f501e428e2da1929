"""Which kernel, which tile, how many parts: predicted from the sizes of a convolution and of the card.

A block of threads does bm * bn * k multiply-adds. How long an SM is busy, the slowest of these decides:

    arithmetic  the SM's rate for that precision, less what else the kernel issues (``issue_share``)
    shared      what its warps ask of shared memory (``shared_turns``)
    cache       tiles of both factors from the L2, at its bandwidth
    memory      what must be read and written at least, at the device memory's bandwidth
    latency     of the L2, once for each tile, divided by the tiles in flight: of one block, times the blocks on the SM

The busiest SM counts: the last blocks leave others idle. To that comes what no SM can shorten: launches, the parts of a split
added up, Winograd's transforms. The rates are an H100's, from its data sheet, the latency is a guess, and nothing here was
measured on a card yet: they need to be right about which is faster, not how fast. Measurements, where there are some, come
first: ``measured.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..kernels.cuda import fused
from ..kernels.cuda import stem as by_stem
from ..kernels.cuda import winograd as by_winograd
from ..kernels.cuda.fused import LARGEST, AnyTile, Convolution, kernel_of
from ..kernels.cuda.implicit import TILES, Tile
from ..kernels.cuda.launch import ceil_div
from ..kernels.cuda.stem import STEMS, UNITS, WIDE, Stem, planes_shape, units_of
from ..kernels.cuda.tensor import TENSOR_TILES, TensorTile
from ..kernels.cuda.wgmma import ROWS, WARPGROUP_TILES, WarpgroupTile
from ..kernels.cuda.winograd import ELEMENTS_OF_A_TILE, tiles_of
from ..kernels.geometry import Window

__all__ = [
    "Apart",
    "Choice",
    "Prediction",
    "StemChoice",
    "convolutions",
    "issue_share",
    "issued_by_stem",
    "shared_turns",
    "stems",
    "winograd_fits",
]


class Prediction(NamedTuple):
    """The model's opinion of a convolution, in clock cycles of the card.

    arithmetic, shared, cache, memory  if nothing but multiply-adds, shared memory, tiles from the L2, or device memory took
                                       time
    latency                            if nothing but the L2's latency took time
    start                              what no amount of parallel work shortens
    """

    arithmetic: float
    shared: float
    cache: float
    memory: float
    latency: float
    start: float

    @property
    def cycles(self) -> float:
        return self.start + max(self.arithmetic, self.shared, self.cache, self.memory, self.latency)

    @property
    def limit(self) -> str:
        """What takes the most."""
        return max(self._fields, key=lambda name: getattr(self, name))


class Choice(NamedTuple):
    """How a convolution is computed, and what the model thinks of that.

    splits  blocks that share the sum of a tile; of Winograd's, parts that are done one after the other
    form    of the kernel's weights; see ``packing.py``
    """

    tile: AnyTile
    splits: int
    winograd: bool
    form: str
    prediction: Prediction

    def __str__(self) -> str:
        split = f" / {self.splits}" if self.splits > 1 else ""
        return f"F(4x4,3x3) {self.tile}{split}" if self.winograd else f"{self.tile}{split}"

    def workspace(self, size: Convolution) -> tuple[int, ...]:
        """Of how many numbers each array is that it works in."""
        if self.winograd:
            tiles = ceil_div(tiles_of(size), self.splits)
            return tuple(ELEMENTS_OF_A_TILE * tiles * channels for channels in (size.ci, size.co))
        return (self.splits * size.rows * size.co,) if self.splits > 1 else ()

    def queue(
        self,
        stream: Any,
        size: Convolution,
        x: Any,
        weights: Any,
        bias: Any,
        residual: Any,
        relu: bool,
        work: Sequence[Any],
        out: Any,
    ) -> None:
        """Queue it: arrays as those of ``fused.convolve``, ``work`` as ``workspace`` says."""
        if self.winograd:
            v, products = work
            by_winograd.winograd(
                stream, self.tile, self.splits, size, x, weights, bias, residual, relu, v, products, out
            )
        else:
            parts = work[0] if work else None
            fused.convolve(stream, self.tile, self.splits, size, x, weights, bias, residual, relu, parts, out)


_RATE = {"fp32": 128.0, "tf32": 512.0, "3xtf32": 512.0 / 3}  # multiply-adds per clock cycle of one SM, at best
_WARPGROUPS = 0.8 * 1024.0  # the same by ``wgmma``, in tf32: the data sheet's, and a guess how much of that is reached
_CACHE = 24.0  # bytes that an SM gets from the L2 per clock cycle: 5.5 TB/s over 132 SMs at 1.75 GHz
_MEMORY = 13.0  # bytes per clock cycle of one SM to or from memory: 3 TB/s likewise
_CACHED = 24e6  # bytes that stay in the L2, of 50 MB, from one launch to the next
_START = 3000.0  # cycles: a launch in a graph, the first tiles in flight, the last ones stored
_LATENCY = 700.0  # cycles, about, from the first instruction of a tile's copy out of the L2 until it is there
_ALONE = 1.35  # while a block waits at its barrier, another one on the SM multiplies, if there is one
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
_LEAST_TURNS = 4  # of the main loop, for each part of a split

_SHARES = {
    "128x128": 0.80, "128x64": 0.80, "64x64": 0.72, "64x32": 0.64,
    "tf32_128x128x16s3": 1.0, "tf32_128x256x8s4": 1.0, "tf32_128x64x16s4": 1.0, "tf32_64x64x16s4": 0.81,
    "3xtf32_128x64x16s4": 1.0, "3xtf32_64x64x16s4": 1.0,
    "wgmma_256x128s4": 1.0, "wgmma_128x128s3": 1.0, "wgmma_128x64s4": 0.72,
}  # fmt: skip


def issue_share(tile: AnyTile) -> float:
    """Of the products that an SM could do, those that a tile's kernel issues, as counted in its machine code: what else a
    warp issues in the main loop takes the rest. ``tests/without_card/test_assembly.py`` counts anew."""
    return _SHARES[str(tile)]


def shared_turns(tile: AnyTile) -> float:
    """Cycles that shared memory is busy in one turn of a tile's main loop: it serves 32 words in each. Of fp32's loads, of four
    words by each lane, half are the same as a neighbour's. ``tests/cuda/test_banks.py`` counts what warps ask for; that each warp
    group reads all of B for itself is a guess."""
    warps = tile.threads // 32
    match tile:
        case Tile():
            loads = warps * tile.bk * (tile.tm + tile.tn) / 4 * 2
        case TensorTile():  # matrices of 8 x 4 words, 128 bytes each, for every 8 steps of k
            loads = warps * tile.bk / 8 * 4 * (tile.wm / 16 + tile.wn / 16)
        case WarpgroupTile():
            loads = tile.bm / ROWS * (ROWS + tile.bn) * tile.bk / 32
    return loads + (tile.bm + tile.bn) * tile.bk / 32


def _predict(
    sms: int, tile: AnyTile, precision: str, m: int, n: int, k: int, deep: int, moved: int, launches: int
) -> Prediction:
    """``deep`` products [m, k] @ [k, n] in ``launches`` launches, ``moved`` numbers from and to memory in all."""
    blocks = -(-m // tile.bm) * -(-n // tile.bn) * deep
    on_each = -(-blocks // sms)
    turns = on_each * -(-k // tile.bk)
    together = min(on_each, kernel_of(tile).together)
    alone = _ALONE if together == 1 else 1.0
    match tile:  # tiles of a block in flight, and how fast they are multiplied
        case Tile():
            in_flight, rate = 1, _RATE[precision]
        case TensorTile():
            in_flight, rate = tile.stages - 1, _RATE[precision]
        case WarpgroupTile():  # whose products go on while a block waits
            in_flight, rate, alone = tile.stages - 2, _WARPGROUPS, 1.0
    return Prediction(
        arithmetic=alone * turns * tile.bm * tile.bn * tile.bk / (rate * issue_share(tile)),
        shared=turns * shared_turns(tile),
        cache=turns * 4 * (tile.bm + tile.bn) * tile.bk / _CACHE,
        memory=4 * moved / (_MEMORY * sms),
        latency=turns * _LATENCY / (together * in_flight),
        start=launches * _START,
    )


def winograd_fits(size: Convolution) -> bool:
    """Whether a convolution is one that F(4x4,3x3) can do: 3x3, stride 1, one pixel of padding on each side; and whether
    what it works in can be indexed."""
    window = (size.kh, size.kw, size.sh, size.sw, size.top, size.left, size.ho, size.wo)
    transformed = ELEMENTS_OF_A_TILE * tiles_of(size) * max(size.ci, size.co)
    return window == (3, 3, 1, 1, 1, 1, size.h, size.w) and transformed <= LARGEST


def convolutions(sms: int, size: Convolution, precision: str, winograd: bool, warpgroups: bool = False) -> list[Choice]:
    """All choices for a convolution on a card of ``sms`` multiprocessors, those with the fewest predicted cycles first.

    winograd    whether F(4x4,3x3) is allowed; it is weighed where it fits, in fp32 alone
    warpgroups  whether the card has ``wgmma``, which is weighed in tf32 alone
    """
    candidates = []
    exact = precision == "3xtf32"
    tiles: list[AnyTile] = list(TILES) if precision == "fp32" else [t for t in TENSOR_TILES if t.exact == exact]
    if warpgroups and precision == "tf32":
        tiles += WARPGROUP_TILES
    form = {"fp32": "direct", "tf32": "tf32", "3xtf32": "transposed"}[precision]
    image, result = size.n * size.h * size.w * size.ci, size.rows * size.co
    once = image + size.depth * size.co + 2 * result  # a residual is read, as often as not
    for tile in tiles:
        turns = -(-size.depth // tile.bk)
        for splits in _SPLITS:
            if splits > max(turns // _LEAST_TURNS, 1):
                continue
            k = -(-turns // splits) * tile.bk
            if splits * result > LARGEST:
                continue
            prediction = _predict(sms, tile, precision, size.rows, size.co, k, splits, once + (splits - 1) * result, 1)
            if splits > 1:  # the parts are added up when all are there
                added = _START + 4 * (splits + 1) * result / (_MEMORY * sms)
                prediction = prediction._replace(start=prediction.start + added)
            candidates.append(Choice(tile, splits, False, form, prediction))
    if winograd and winograd_fits(size) and precision == "fp32" and size.ci >= 32:
        count = tiles_of(size)
        once = image + 2 * result + ELEMENTS_OF_A_TILE * size.ci * size.co
        between = 2 * ELEMENTS_OF_A_TILE * count * (size.ci + size.co)  # written by one launch, read by the next
        parts = ceil_div(2 * between, int(_CACHED))  # 4 bytes a number, and each number is in it twice
        for tile in tiles:
            prediction = _predict(sms, tile, precision, count, size.co, size.ci, ELEMENTS_OF_A_TILE, once, 3)
            # the transforms move while nothing is multiplied
            start = prediction.start + prediction.memory
            whole = prediction._replace(start=start + 4 * between / (_MEMORY * sms), memory=0.0)
            candidates.append(Choice(tile, 1, True, "winograd", whole))
            if parts > 1:
                start += 3 * (parts - 1) * _START + 4 * between / (_CACHE * sms)
                candidates.append(Choice(tile, parts, True, "winograd", prediction._replace(start=start, memory=0.0)))
    return sorted(candidates, key=_cost)


def _cost(choice: Choice | StemChoice | Apart) -> tuple[float, float]:
    """What choices are compared by: cycles; and, where the same limit makes them equal, all that goes on below it."""
    return choice.prediction.cycles, sum(choice.prediction)


class StemChoice(NamedTuple):
    """How a stem is computed: results in a unit and rows in a strip, see ``stem.py``; and what the model thinks of that."""

    width: int
    rows: int
    prediction: Prediction

    def __str__(self) -> str:
        return f"stem {self.width}x{self.rows}"

    def workspace(self, size: Stem) -> tuple[int, ...]:
        """Of how many numbers each array is that it works in."""
        return (math.prod(planes_shape(size, self.width)),)

    def queue(
        self, stream: Any, size: Stem, x: Any, weights: Any, bias: Any, relu: bool, work: Sequence[Any], out: Any
    ) -> None:
        """Queue it: arrays as those of ``stem.stem``, ``work`` as ``workspace`` says."""
        by_stem.stem(stream, self.width, self.rows, size, x, weights, bias, relu, work[0], out)


class Apart(NamedTuple):
    """A stem as a convolution by ``choice`` and a pool; but first the images get a fourth channel."""

    choice: Choice
    convolution: Convolution
    prediction: Prediction

    def __str__(self) -> str:
        return f"{self.choice}, pool"

    def workspace(self, size: Stem) -> tuple[int, ...]:
        """Of how many numbers each array is that it works in."""
        pixels, result = 4 * size.n * size.h * size.w, self.convolution.rows * size.co
        return pixels, result, *self.choice.workspace(self.convolution)

    def queue(
        self, stream: Any, size: Stem, x: Any, weights: Any, bias: Any, relu: bool, work: Sequence[Any], out: Any
    ) -> None:
        """Queue the three steps, with weights for ``choice``."""
        fused.set_channels(stream, x, 3, work[0], 4)
        self.choice.queue(stream, self.convolution, work[0], weights, bias, None, relu, work[2:], work[1])
        window = Window(3, 3, 2, 2, 1, 1, size.pool_top, size.pool_left, size.po, size.qo)
        fused.maxpool(stream, work[1], (size.ho, size.wo, size.co), window, size.zeros, out)


_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
_ISSUED = {7: (456, 420), 4: (283, 270)}
_WAIT = 150.0  # cycles that a warp waits in each step for its row of the image: it comes from the L1 mostly


def issued_by_stem(width: int) -> tuple[int, int]:
    """What a warp issues for one row of one channel of the image, of which there are 21 for each row of the convolution, and
    for what else such a row takes. ``tests/without_card/test_assembly.py`` counts anew."""
    return _ISSUED[width]


def stems(sms: int, size: Stem, convolution: Convolution, one: Choice) -> list[StemChoice | Apart]:
    """All choices for a stem, those with the fewest predicted cycles first. Through ``stem.py`` it is computed in fp32,
    whatever the precision; ``one`` is how its convolution alone would be computed."""
    pixels, result = size.n * size.h * size.w, size.n * size.po * size.qo * size.co
    moved = 7 * pixels + convolution.rows * size.co + result  # by what comes before and after
    start = one.prediction.start + 2 * _START + 4 * moved / (_MEMORY * sms)
    candidates: list[StemChoice | Apart] = [Apart(one, convolution, one.prediction._replace(start=start))]
    for width, kernel in STEMS.items():
        planes = math.prod(planes_shape(size, width))
        if planes > LARGEST:
            continue
        for rows in (rows for rows in _ROWS if rows <= size.po):
            # each of a block's four warps is on a scheduler of its own
            blocks = ceil_div(ceil_div(units_of(size, width, rows), UNITS) * ceil_div(size.co, WIDE), sms)
            step, turn = _ISSUED[width]
            turns = 2 * rows + 1
            busy = blocks * turns * (21 * step + turn)
            waiting = ceil_div(blocks, kernel.together) * turns * (21 * (step + _WAIT) + turn)
            start = 2 * _START + 4 * (3 * pixels + planes) / (_MEMORY * sms)
            prediction = Prediction(busy, 0.0, 0.0, 4 * (planes + result) / (_MEMORY * sms), waiting, start)
            candidates.append(StemChoice(width, rows, prediction))
    return sorted(candidates, key=_cost)
