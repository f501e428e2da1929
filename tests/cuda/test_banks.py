"""What the fp32 tiles ask of shared memory, request by request: 32 banks, and no two lanes that wait for each other.

A warp's request of 16 bytes for each lane is done by quarters of the warp, eight lanes at a time; two quarters at once where each
lane has a neighbour, lane ^ 1 or lane ^ 2, that wants the same (as measured by others on cards of several generations; what a card at
hand does tells ``ncu``, "shared_ld_bank_conflict").
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

import numpy as np
import pytest
from numba import cuda

from npresnet.cuda.choice import shared_turns
from npresnet.kernels.cuda import fused, implicit

WARP, BANKS = 32, 32


def in_turn(places):
    """Turns for words that are wanted at once: those of one bank come one after the other, each once."""
    return max(Counter(place % BANKS for place in set(places)).values())


def turns(places, width):
    """Turns that a warp's request takes, for ``width`` words from each lane's place on."""
    words = [[place + i for i in range(width)] for place in places]
    if width == 1:
        return in_turn(places)
    total = 0
    for half in (words[:16], words[16:]):
        paired = any(all(half[i] == half[i ^ other] for i in range(16)) for other in (1, 2))
        for part in [half] if paired else [half[:8], half[8:]]:
            total += in_turn(place for lane in part for place in lane)
    return total


def test_turns():
    lanes = np.arange(WARP)
    assert turns(lanes, 1) == 1
    assert turns(lanes * 2, 1) == 2
    assert turns(lanes * 0, 1) == 1
    assert turns(lanes * 4, 4) == 4  # 512 bytes
    assert turns(lanes // 2 * 4, 4) == 2
    assert turns(lanes % 16 * 4, 4) == 4  # those that want the same are not neighbours
    assert turns(lanes * 128, 1) == 32


@pytest.mark.parametrize("tile", implicit.TILES, ids=str)
def test_no_bank_conflict(tile, monkeypatch):
    asked = defaultdict(list)  # by thread: (kind, place) of each request

    shared = {2 * tile.bm * tile.bk, 2 * tile.bk * tile.bn}  # numbers in either tile's two buffers

    def note(kind, array, index):
        if array.size in shared:
            asked[threading.current_thread().threadIdx.x].append((kind, int(index)))

    for name in ("load4", "store", "store4"):
        original = getattr(implicit, name)

        def noted(array, index, *values, name=name, original=original):
            note(name, array, index)
            return original(array, index, *values)

        monkeypatch.setattr(implicit, name, noted)
    k = tile.bk  # one turn of the main loop, and the one before it that only loads
    size = fused.Convolution(1, 1, tile.bm, k, 1, 1, 1, 1, 0, 0, 1, tile.bm, tile.bn)
    counts = (
        count + 4 for count in (tile.bm * k, k * tile.bn, tile.bn, tile.bm * tile.bn)
    )  # of none are as many as of those
    x, weights, bias, out = (cuda.to_device(np.ones(count, np.float32)) for count in counts)
    fused.convolve(0, tile, 1, size, x, weights, bias, None, False, None, out)
    assert len(asked) == tile.threads
    assert (out.copy_to_host()[:-4] == k + 1).all()

    totals = Counter()
    for first in range(0, tile.threads, WARP):
        for together in zip(*(asked[first + lane] for lane in range(WARP)), strict=True):
            kinds = {kind for kind, _ in together}
            assert len(kinds) == 1
            (kind,) = kinds
            spent = turns([place for _, place in together], 1 if kind == "store" else 4)
            assert spent == {"load4": 2, "store": 1, "store4": 4}[kind]
            totals[kind] += spent
    # the model's count is for a turn; here all was stored twice, and the first step of k loaded once more
    loads, stores = totals["load4"] * k / (k + 1), (totals["store"] + totals["store4"]) / 2
    assert loads + stores == pytest.approx(shared_turns(tile))
