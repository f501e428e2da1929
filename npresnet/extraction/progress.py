"""How far a job has come: a ``Progress`` for whoever shows it, and ``status.json`` for whoever looks on from elsewhere."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .storage import write_whole

__all__ = ["Progress", "Watch", "was_killed"]

_EVERY_SHOW, _EVERY_FILE = 0.25, 5.0  # seconds
_RECENT = 30.0  # seconds over which the speed is taken


@dataclass(frozen=True)
class Progress:
    """Where a process is with its share of a job.

    total, done, failed  images; ``done`` are those with a row or an error, of earlier runs, too
    computed             of those, in this run
    per_second           images, of late; 0 before there are any
    remaining            seconds; None before that is known
    bytes                of rows that are committed
    errors               {kind: images that failed so}
    state                "running", "done", "stopped"
    """

    total: int
    done: int
    failed: int
    computed: int
    per_second: float
    remaining: float | None
    bytes: int
    errors: dict[str, int] = field(default_factory=dict)
    state: str = "running"


def was_killed(about: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a ``status.json`` has ended without a word; False where it was on another machine."""
    if about["state"] != "running" or about["host"] != socket.gethostname():
        return False
    try:
        os.kill(about["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False


class Watch:
    """Counts images, tells ``show`` a few times a second, and keeps ``file`` up to date."""

    def __init__(self, total: int, file: Path, show: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.failed, self.computed, self.bytes = total, 0, 0, 0, 0
        self.errors: Counter[str] = Counter()
        self._file, self._show = file, show
        self._shown = self._written = 0.0
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def progress(self, state: str = "running") -> Progress:
        now = time.monotonic()
        then, count = self._recent[0]
        speed = (self.computed - count) / (now - then) if self.computed > count and now > then else 0.0
        left = (self.total - self.done) / speed if speed else None
        return Progress(
            self.total, self.done, self.failed, self.computed, speed, left, self.bytes, dict(self.errors), state
        )

    def count(self, error: str = "") -> None:
        """An image is done, now."""
        self.done += 1
        self.computed += 1
        if error:
            self.failed += 1
            self.errors[error] += 1

    def tell(self, state: str = "running") -> None:
        """Show and keep what there is, if it is time for that, or the state is a last one."""
        now = time.monotonic()
        if self._show is not None and (state != "running" or now - self._shown >= _EVERY_SHOW):
            self._shown = now
            self._show(self.progress(state))
        if state != "running" or now - self._written >= _EVERY_FILE:
            self._written = now
            if now - self._recent[-1][0] >= 1:
                self._recent.append((now, self.computed))
                while len(self._recent) > 1 and now - self._recent[0][0] > _RECENT:
                    self._recent.popleft()
            about = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
            with suppress(OutputError):  # nothing depends on it; a full disk is noticed where it matters
                text = json.dumps({**about, **asdict(self.progress(state))}, indent=1) + "\n"
                write_whole(self._file, [text.encode()], durable=False)
