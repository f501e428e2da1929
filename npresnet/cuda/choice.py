"""Which kernel, which tile, how many parts: predicted from the sizes of a convolution and of the card.

A block's work is bm * bn * k products; an SM does a tile's products at a rate that was counted from its machine code
(``share``: products per issued instruction), some blocks at a time; the last blocks leave SMs idle. To that comes what is
written and read for the parts of a split, and Winograd's two transforms. The figures are of a model, not of a clock: they
need to be right about which is faster, not how fast.
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


_RATE = {"fp32": 128, "tf32": 512, "3xtf32": 512 / 3}  # multiply-adds per clock cycle of one SM, at best
_BYTES = 12.0  # to and from memory, per clock cycle of one SM: 3 TB/s over 132 SMs at 1.8 GHz
_START = 3000.0  # cycles: a launch in a graph, filling and emptying the pipeline
_MOST_SPLITS = 16


def _product(sms: int, tile: AnyTile, precision: str, m: int, n: int, k: int, deep: int) -> float:
    """Cycles for ``deep`` products [m, k] @ [k, n]."""
    blocks = -(-m // tile.bm) * -(-n // tile.bn) * deep
    steps = -(-k // tile.bk) * tile.bk
    waves = -(-blocks // sms)
    # two blocks on an SM hide each other's waiting; a single one cannot
    alone = 1.35 if blocks <= sms else 1.0
    return waves * tile.bm * tile.bn * steps * alone / (_RATE[precision] * _SHARE[tile]) + 2.0 * tile.bk * 25


def _traffic(sms: int, floats: int) -> float:
    return 4 * floats / (_BYTES * sms)


# of the products that an SM could do, those that a tile's kernel does where all else is well: what is counted in its
# innermost loop, and for large tiles fewer reads of memory per product
_SHARE: dict[AnyTile, float] = {}
for _tile in TILES:
    _SHARE[_tile] = {(128, 128): 0.80, (128, 64): 0.76, (64, 64): 0.68, (64, 32): 0.52}[_tile.bm, _tile.bn]
for _tensor in TENSOR_TILES:
    _SHARE[_tensor] = {(128, 128): 0.6, (128, 64): 0.5, (64, 64): 0.4}[_tensor.bm, _tensor.bn]


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
