"""Splitting a kernel's range over threads: ``run(kernel, count, threads, *arguments)``.

The kernels release the GIL, so ordinary Python threads run them side by side. Numba's own parallel layers are not
used: ``workqueue`` ends the process on concurrent calls, ``omp`` does not survive a fork and needs a system library.
Here any number of callers may share the pool, a forked child makes its own, and no thread exists before it is needed.

How a range is split never changes a result: every output element is computed whole, in the same order, by one thread.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["available_threads", "resolve_threads", "run", "start"]

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def available_threads() -> int:
    """Processors that this process may use: those of its affinity, and no more than its container's quota."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        processors = os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup"))
    # Rounded down: more threads than the quota would all be stopped together for the rest of each period.
    return processors if quota is None else max(1, min(processors, int(quota)))


def _quota(root: Path) -> float | None:
    """Processors' worth of time that the control group below ``root`` grants; None without a limit. A container sees
    its own group as the root."""
    with contextlib.suppress(OSError, ValueError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1: -1 is no limit
        values = [int((root / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")]
        return None if values[0] < 0 else values[0] / values[1]
    return None


def resolve_threads(threads: int | None) -> int:
    """``threads`` itself, or all available processors for None. Raises ValueError unless it is 1 or more."""
    if threads is None:
        return available_threads()
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or threads < 1:
        raise ValueError(
            f"threads: got {threads!r}; it must be a whole number of at least 1, or None for all processors"
        )
    return int(threads)


def _offer(kernel: Callable[..., Any], calls: list[tuple[Any, ...]], keep: Any = None) -> list[Future[Any]]:
    """Hand each call to the shared pool, made or enlarged to one thread per call; ``keep`` lives until they have ended."""
    global _pool, _pool_size
    with _lock:  # held while submitting, so that no other caller shuts this pool down in between
        if _pool is None or _pool_size < len(calls):
            outgrown, _pool, _pool_size = _pool, ThreadPoolExecutor(len(calls), "npresnet"), len(calls)
            if outgrown is not None:
                outgrown.shutdown(wait=False)  # it still finishes what it was given
        return [_pool.submit(_held, kernel, call, keep) for call in calls]


def _held(kernel: Callable[..., Any], call: tuple[Any, ...], keep: Any) -> None:
    """One call. Its arguments may be addresses, so what lies there must live as long: even where the caller has gone on, because
    it was interrupted, say."""
    kernel(*call)


def _forget_pool() -> None:
    """A forked child has the pool's object but none of its threads."""
    global _pool, _pool_size, _lock
    _pool, _pool_size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(kernel: Callable[..., Any], count: int, threads: int, *arguments: Any) -> None:
    """Call ``kernel(*arguments, start, stop)`` for ranges that cover 0..count-1, on up to ``threads`` threads.

    The caller's own thread takes the first range. Raises what a kernel raises, once all ranges have ended.
    """
    parts = min(threads, count)
    if parts <= 1:
        kernel(*arguments, 0, count)
        return
    edges = [count * part // parts for part in range(parts + 1)]
    futures = _offer(kernel, [(*arguments, *edge) for edge in itertools.pairwise(edges[1:])])
    try:
        kernel(*arguments, edges[0], edges[1])
    finally:
        wait(futures)  # nothing may still write into the caller's arrays once this call has ended
    for future in futures:
        future.result()


def start(kernel: Callable[..., Any], calls: list[tuple[Any, ...]], keep: Any) -> None:
    """Call ``kernel(*call)`` for the first of ``calls`` on this thread, and offer the others to the pool.

    For kernels that share their work out among whoever is there: returns when the first call returns, without waiting
    for calls that came too late to find any work.

    keep  all arrays that the calls know by their addresses
    """
    if len(calls) > 1:
        _offer(kernel, calls[1:], keep)
    kernel(*calls[0])
