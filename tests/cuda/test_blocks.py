"""Barriers of the simulator's blocks, which ``blocks.py`` keeps."""

from __future__ import annotations

import threading

import pytest

from npresnet.kernels.cuda.launch import SIMULATED

if not SIMULATED:
    pytest.skip("a card has barriers of its own", allow_module_level=True)

from .blocks import Manager

THREADS = 8


def run(body):
    """``body(number of the thread, its barrier)`` in each thread of one block."""

    def of_this_thread():
        thread = threading.current_thread()
        body(thread.thread_id, thread.syncthreads)

    Manager(of_this_thread, (1, 1, 1), (THREADS, 1, 1), False).run((0, 0, 0))


def test_nobody_passes_a_barrier_before_all_are_there():
    seen = []

    def body(number, barrier):
        for turn in range(20):
            seen.append(turn)
            barrier()

    run(body)
    assert seen == sorted(seen)
    assert len(seen) == 20 * THREADS


def test_who_has_ended_is_not_waited_for():
    seen = []

    def body(number, barrier):
        for turn in range(number):
            barrier()
            seen.append(turn)

    run(body)
    assert sorted(seen) == sorted(turn for number in range(THREADS) for turn in range(number))


@pytest.mark.parametrize("failing", [0, THREADS - 1])
def test_a_failure_ends_all(failing):
    passed = []

    def body(number, barrier):
        if number == failing:
            raise ZeroDivisionError("of one")
        barrier()
        passed.append(number)

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="of one"):
        run(body)
    assert passed == []
    assert threading.active_count() == before
