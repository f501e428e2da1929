"""Which kernel, which tile, how many parts: predicted from the sizes of a convolution and of the card.

A block's work is bm * bn * k products. An SM does them at its rate for that precision, less what else the kernel issues
(``issue_share``), or as fast as tiles come from the card's second cache, whichever is slower; the last blocks leave SMs
idle. To that comes what is written and read again for the parts of a split, and Winograd's transforms. The rates are an
H100's, from its data sheet, and nothing here was measured on a card yet: they need to be right about which is faster, not
how fast.
"""

from __future__ import annotations

from typing import NamedTuple

from ..kernels.cuda.fused import AnyTile, Convolution
from ..kernels.cuda.implicit import TILES
from ..kernels.cuda.tensor import TENSOR_TILES
from ..kernels.cuda.winograd import ELEMENTS_OF_A_TILE, tiles_of

__all__ = ["Choice", "choose"]


class Choice(NamedTuple):
    """How a convolution is computed, and the model's opinion of how long it takes, in clock cycles of the card."""

    tile: AnyTile
    splits: int
    winograd: bool
    form: str
    cycles: float

    def __str__(self) -> str:
        split = f" / {self.splits}" if self.splits > 1 else ""
        return f"F(4x4,3x3) {self.tile}" if self.winograd else f"{self.tile}{split}"


_RATE = {"fp32": 128.0, "tf32": 512.0, "3xtf32": 512.0 / 3}  # multiply-adds per clock cycle of one SM, at best
_CACHE = 24.0  # bytes that an SM gets from the second cache per clock cycle: 5.5 TB/s over 132 SMs at 1.75 GHz
_MEMORY = 13.0  # bytes per clock cycle of one SM to or from memory: 3 TB/s likewise
_START = 3000.0  # cycles: a launch in a graph, the first tiles on their way, the last ones stored
_ALONE = 1.35  # two blocks on an SM hide each other's waiting; a single one cannot
_MOST_SPLITS = 16

_SHARES = {
    "128x128": 0.80, "128x64": 0.78, "64x64": 0.70, "64x32": 0.57,
    "tf32_128x128": 1.0, "tf32_128x64": 0.85, "tf32_64x64": 0.80, "3xtf32_128x64": 1.0, "3xtf32_64x64": 1.0,
}  # fmt: skip


def issue_share(tile: AnyTile) -> float:
    """Of the products that an SM could do, those that a tile's kernel issues, as counted in its machine code: what else a
    warp issues in the main loop takes the rest. ``tests/test_cuda_assembly.py`` counts anew."""
    return _SHARES[str(tile)]


def _product(sms: int, tile: AnyTile, precision: str, m: int, n: int, k: int, deep: int) -> float:
    """Cycles for ``deep`` products [m, k] @ [k, n]."""
    blocks = -(-m // tile.bm) * -(-n // tile.bn) * deep
    turns = -(-k // tile.bk)
    arithmetic = tile.bm * tile.bn * tile.bk / (_RATE[precision] * issue_share(tile))
    loads = 4 * (tile.bm + tile.bn) * tile.bk / _CACHE
    alone = _ALONE if blocks <= sms else 1.0
    return -(-blocks // sms) * turns * max(arithmetic, loads) * alone


def _traffic(sms: int, floats: int) -> float:
    """Cycles to move so many numbers from or to memory."""
    return 4 * floats / (_MEMORY * sms)


def choose(sms: int, size: Convolution, precision: str, winograd: bool) -> Choice:
    """The choice with the fewest predicted cycles on a card of ``sms`` multiprocessors.

    winograd  whether F(4x4,3x3) is allowed; it is weighed where it is possible, in fp32 alone
    """
    candidates = []
    exact = precision == "3xtf32"
    tiles: list[AnyTile] = list(TILES) if precision == "fp32" else [t for t in TENSOR_TILES if t.exact == exact]
    form = {"fp32": "direct", "tf32": "tf32", "3xtf32": "transposed"}[precision]
    for tile in tiles:
        most = max(min(_MOST_SPLITS, -(-size.depth // tile.bk) // 4), 1)
        for splits in {1, 2, 3, 4, 6, 8, 12, 16}:
            if splits > most:
                continue
            k = -(-size.depth // (tile.bk * splits)) * tile.bk
            cycles = _START + _product(sms, tile, precision, size.rows, size.co, k, splits)
            if splits > 1:
                cycles += _START + _traffic(sms, (2 * splits + 1) * size.rows * size.co)
            candidates.append(Choice(tile, splits, False, form, cycles))
    possible = (size.kh, size.kw, size.sh, size.sw) == (3, 3, 1, 1) and precision == "fp32" and size.ci >= 32
    if winograd and possible:
        count = tiles_of(size)
        moved = 2 * ELEMENTS_OF_A_TILE * count * (size.ci + size.co) + size.n * size.h * size.w * (
            size.ci + 2 * size.co
        )
        for tile in tiles:
            product = _product(sms, tile, precision, count, size.co, size.ci, ELEMENTS_OF_A_TILE)
            candidates.append(Choice(tile, 1, True, "winograd", 3 * _START + product + _traffic(sms, moved)))
    return min(candidates, key=lambda choice: choice.cycles)
