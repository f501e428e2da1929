"""Two threads of which one has to wait for the other."""

from __future__ import annotations

import threading
from collections.abc import Callable


def beside(
    first: Callable[[], object], second: Callable[[], object], begun: threading.Event, go: threading.Event
) -> None:
    """Start ``second`` when ``first`` has set ``begun``, give it time to do what it must not do yet, and only then set ``go``, which
    ``first`` waits for. Returns when both have ended."""
    threads = [threading.Thread(target=call) for call in (first, second)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    threads[1].join(0.1)
    go.set()
    for thread in threads:
        thread.join()
