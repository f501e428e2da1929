"""Running a whole plan in one compiled call: steps one after another, the items of each claimed by any number of threads.

Threads claim items from a counter, and wait at the end of a step until all its items are done: that wait is the only
synchronisation. A thread that comes late, or not at all, is not waited for; what it would have done, others do. An item's
result does not depend on who computes it or on how the step is cut, so results are the same bits for any number of threads.

Steps' functions are ``native``, and are called by address: Numba would compile each of them again inside every caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import threads as _threads
from ..arrays import Array
from ..jit import call, native
from ..numba_later import carray, types
from .intrinsics import atomic_add, atomic_load, clock, int_pointer, yield_processor
from .records import Step, Table

__all__ = ["SYNC", "run", "start"]

SYNC = 3
"""Numbers per step that threads share: items claimed, items done, the clock when the step was done. One more number
behind them all is the clock at the start."""

_FUNCTION, _ITEMS, _OFFSET = range(3)


_i = types.int64


@native(types.void(_i, _i, _i, _i, _i))
def run_steps(schedule, steps, records, sync, scratch):
    """Work off all steps, together with whoever else calls this with the same ``schedule``, ``records`` and ``sync``.

    schedule  address of int64[steps, 3], see ``Table.schedule``
    records   address of the steps' records
    sync      address of int64[SYNC * steps + 1], zeros at the start
    scratch   address of this thread's own working memory
    """
    rows = carray(int_pointer(schedule), (steps, 3))
    clocks = carray(int_pointer(sync), (SYNC * steps + 1,))
    if clocks[SYNC * steps] == 0:
        clocks[SYNC * steps] = clock()
    for s in range(steps):
        function, items, record = rows[s, _FUNCTION], rows[s, _ITEMS], records + rows[s, _OFFSET]
        claimed, finished = sync + 8 * SYNC * s, sync + 8 * (SYNC * s + 1)
        done = 0
        while True:
            item = atomic_add(claimed, 1)
            if item >= items:
                break
            call(function, (record, item, scratch))
            done += 1
        if done:
            atomic_add(finished, done)
        spins = 0
        while atomic_load(finished) < items:
            spins += 1
            if spins > 2000:  # tens of microseconds: the others were interrupted, let them have this processor
                yield_processor()
        if clocks[SYNC * s + 2] == 0:  # a thread that comes late does not set it again
            clocks[SYNC * s + 2] = clock()


def start(schedule: Array, records: Array, sync: Array, scratch: Sequence[int], keep: Any) -> None:
    """``run_steps`` on a thread for each of ``scratch``, the addresses of their working memory.

    keep  all arrays whose addresses the records hold, and the memory behind ``scratch``
    """
    shared = (schedule.ctypes.data, len(schedule), records.ctypes.data, sync.ctypes.data)
    _threads.start(run_steps.call, [(*shared, own) for own in scratch], (schedule, records, sync, keep))


def run(step: Step, threads: int, *keep: Any) -> None:
    """Run a single step, all of whose addresses are known, on up to ``threads`` threads.

    keep  the arrays that it reads and writes
    """
    table = Table([step])
    assert not table.places
    records = table.linked()
    schedule, sync = table.schedule(), np.zeros(SYNC + 1, np.int64)
    scratch = [np.empty(step.scratch_bytes // 8 + 1, np.float64) for _ in range(max(1, min(threads, step.items)))]
    start(schedule, records, sync, [own.ctypes.data for own in scratch], (scratch, keep))
