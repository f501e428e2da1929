"""Simulated: a cache of lines in sets, the least recently used of each set thrown out; and what a card's memory makes of a warp.

No counter of a processor is read: these are the textbook's models, which say exactly what a trace of addresses would do in a cache
of such a size. A real one also fetches ahead.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence

__all__ = ["BANKS", "LINE", "SECTOR", "Cache", "conflicts", "reuse_distances", "sectors"]

LINE, SECTOR, BANKS = 64, 32, 32
"""Bytes of a processor's cache line, and of a sector, the least that a card's memory moves; words side by side in shared memory
that can be read in one cycle."""


class Cache:
    """``size`` bytes in lines of 64, ``ways`` of them in each set. Raises ValueError where these do not fit."""

    def __init__(self, size: int, ways: int) -> None:
        self.size, self.ways = size, ways
        self._count = size // (LINE * ways)
        if self._count < 1 or self._count * LINE * ways != size:
            raise ValueError(
                f"cache: got {size} bytes in {ways} ways; it must be a multiple of {LINE} bytes times the ways"
            )
        self._sets: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(self._count)]
        self.hits = self.misses = 0

    def touch(self, address: int) -> bool:
        """Read or write what is at ``address``, in bytes; whether it was there."""
        line = address // LINE
        ways = self._sets[line % self._count]
        hit = line in ways
        if hit:
            ways.move_to_end(line)
            self.hits += 1
        else:
            self.misses += 1
            ways[line] = None
            if len(ways) > self.ways:
                ways.popitem(last=False)
        return hit


def reuse_distances(addresses: Iterable[int]) -> list[int]:
    """For each access, how many other lines were touched since its own was; -1 for the first time."""
    order: OrderedDict[int, None] = OrderedDict()
    found = []
    for address in addresses:
        line = address // LINE
        if line in order:
            distance = next(count for count, other in enumerate(reversed(order)) if other == line)
            order.move_to_end(line)
        else:
            distance = -1
            order[line] = None
        found.append(distance)
    return found


def sectors(addresses: Sequence[int]) -> int:
    """How many sectors of 32 bytes one request of a warp touches: the addresses, in bytes, of its lanes' float32."""
    return len({address // SECTOR for address in addresses})


def conflicts(words: Sequence[int]) -> int:
    """How many turns one request to shared memory takes: the most different words that its lanes want of one bank. Lanes that want the
    same word get it together."""
    banks: dict[int, set[int]] = defaultdict(set)
    for word in words:
        banks[word % BANKS].add(word)
    return max(map(len, banks.values()), default=0)
