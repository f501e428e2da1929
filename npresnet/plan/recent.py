"""What was used most recently, kept: plans and programs take long to make, and memory to keep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, the ``most`` that were used last. Safe to use from many threads: each value is made once.

    changed  called with all that are kept, after one was made; nobody else gets or makes one meanwhile
    """

    def __init__(self, most: int, changed: Callable[[Sequence[V]], None] = lambda values: None) -> None:
        self._most, self._changed = most, changed
        self._kept: dict[K, V] = {}  # the most recently used last
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``; made by ``make`` if it is not kept. Raises what that raises, and keeps nothing then."""
        with self._lock:
            if key in self._kept:
                self._kept[key] = found = self._kept.pop(key)
                return found
            self._kept[key] = made = make()
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
            self._changed(list(self._kept.values()))
            return made

    def clear(self) -> None:
        """Keep nothing of what there is."""
        with self._lock:
            self._kept.clear()

    def kept(self) -> dict[K, V]:
        """{key: value} of all that are kept, the most recently used last."""
        with self._lock:
            return dict(self._kept)
