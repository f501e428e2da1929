"""Which kernel, which tile, how many parts: predicted from the sizes of a convolution and of the card.

A block's work is bm * bn * k products. An SM does them at its rate for that precision, less what else the kernel issues
(``issue_share``), or as fast as tiles come from the card's second cache, whichever is slower; and no tile comes faster than
its way takes, divided by the tiles that are on their way at a time. The last blocks leave SMs idle. To that comes what is
written and read again for the parts of a split, and Winograd's transforms. The rates are an H100's, from its data sheet, the
length of the way is a guess, and nothing here was measured on a card yet: they need to be right about which is faster, not
how fast.
"""

from __future__ import annotations

from typing import NamedTuple

from ..kernels.cuda.fused import LARGEST, AnyTile, Convolution
from ..kernels.cuda.implicit import TILES, Tile
from ..kernels.cuda.launch import Kernel
from ..kernels.cuda.tensor import TENSOR_TILES
from ..kernels.cuda.winograd import ELEMENTS_OF_A_TILE, tiles_of

__all__ = ["Choice", "Prediction", "choose", "issue_share"]


class Prediction(NamedTuple):
    """The model's opinion of a convolution, in clock cycles of the card.

    arithmetic, cache, memory  if nothing but products, tiles from the second cache, or memory took time
    latency                    if nothing but the way of tiles from there took time
    start                      what no amount of parallel work shortens
    """

    arithmetic: float
    cache: float
    memory: float
    latency: float
    start: float

    @property
    def cycles(self) -> float:
        return self.start + max(self.arithmetic, self.cache, self.memory, self.latency)

    @property
    def limit(self) -> str:
        """What takes the most."""
        return max(self._fields, key=lambda name: getattr(self, name))


class Choice(NamedTuple):
    """How a convolution is computed, and what the model thinks of that.

    form  of the kernel's weights; see ``plan._Constant``
    """

    tile: AnyTile
    splits: int
    winograd: bool
    form: str
    prediction: Prediction

    def __str__(self) -> str:
        split = f" / {self.splits}" if self.splits > 1 else ""
        return f"F(4x4,3x3) {self.tile}" if self.winograd else f"{self.tile}{split}"


_RATE = {"fp32": 128.0, "tf32": 512.0, "3xtf32": 512.0 / 3}  # multiply-adds per clock cycle of one SM, at best
_CACHE = 24.0  # bytes that an SM gets from the second cache per clock cycle: 5.5 TB/s over 132 SMs at 1.75 GHz
_MEMORY = 13.0  # bytes per clock cycle of one SM to or from memory: 3 TB/s likewise
_START = 3000.0  # cycles: a launch in a graph, the first tiles on their way, the last ones stored
_LATENCY = 700.0  # cycles, about, from the first instruction of a tile's copy out of the second cache until it is there
_ALONE = 1.35  # while a block waits at its barrier, another one on the SM multiplies, if there is one
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
_LEAST_TURNS = 4  # of the main loop, for each part of a split

_SHARES = {
    "128x128": 0.80, "128x64": 0.78, "64x64": 0.70, "64x32": 0.57,
    "tf32_128x128x16s2": 1.0, "tf32_128x128x8s4": 1.0, "tf32_128x256x8s2": 1.0, "tf32_128x64x16s3": 1.0, "tf32_64x64x16s4": 0.81,
    "3xtf32_128x64x16s3": 1.0, "3xtf32_64x64x16s4": 1.0,
}  # fmt: skip


def issue_share(tile: AnyTile) -> float:
    """Of the products that an SM could do, those that a tile's kernel issues, as counted in its machine code: what else a
    warp issues in the main loop takes the rest. ``tests/test_cuda_assembly.py`` counts anew."""
    return _SHARES[str(tile)]


def _kernel(tile: AnyTile) -> Kernel:
    return TILES[tile] if isinstance(tile, Tile) else TENSOR_TILES[tile]


def _predict(
    sms: int, tile: AnyTile, precision: str, m: int, n: int, k: int, deep: int, moved: int, launches: int
) -> Prediction:
    """``deep`` products [m, k] @ [k, n] in ``launches`` launches, ``moved`` numbers from and to memory in all."""
    blocks = -(-m // tile.bm) * -(-n // tile.bn) * deep
    on_each = -(-blocks // sms)
    turns = on_each * -(-k // tile.bk)
    together = min(on_each, _kernel(tile).together)
    ahead = 1 if isinstance(tile, Tile) else tile.stages - 1  # tiles of a block that are on their way
    alone = _ALONE if together == 1 else 1.0
    return Prediction(
        arithmetic=alone * turns * tile.bm * tile.bn * tile.bk / (_RATE[precision] * issue_share(tile)),
        cache=turns * 4 * (tile.bm + tile.bn) * tile.bk / _CACHE,
        memory=4 * moved / (_MEMORY * sms),
        latency=turns * _LATENCY / (together * ahead),
        start=launches * _START,
    )


def choose(sms: int, size: Convolution, precision: str, winograd: bool) -> Choice:
    """The choice with the fewest predicted cycles on a card of ``sms`` multiprocessors.

    winograd  whether F(4x4,3x3) is allowed; it is weighed where it is possible, in fp32 alone
    """
    candidates = []
    exact = precision == "3xtf32"
    tiles: list[AnyTile] = list(TILES) if precision == "fp32" else [t for t in TENSOR_TILES if t.exact == exact]
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
    possible = (size.kh, size.kw, size.sh, size.sw) == (3, 3, 1, 1) and precision == "fp32" and size.ci >= 32
    if winograd and possible:
        count = tiles_of(size)
        weights = ELEMENTS_OF_A_TILE * size.ci * size.co
        moved = image + 2 * result + weights + 2 * ELEMENTS_OF_A_TILE * count * (size.ci + size.co)
        for tile in tiles:
            prediction = _predict(sms, tile, precision, count, size.co, size.ci, ELEMENTS_OF_A_TILE, moved, 3)
            # the transforms move while nothing is multiplied
            prediction = prediction._replace(start=prediction.start + prediction.memory, memory=0.0)
            candidates.append(Choice(tile, 1, True, "winograd", prediction))
    return min(candidates, key=lambda choice: choice.prediction.cycles)
