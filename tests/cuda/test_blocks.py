"""Barriers of the simulator's blocks, which ``blocks.py`` keeps."""

from __future__ import annotations

import threading

import pytest

from npresnet.kernels.cuda.launch import SIMULATED

if not SIMULATED:
    pytest.skip("a card has barriers of its own", allow_module_level=True)

from npresnet.kernels.cuda.launch import KERNELS

from .blocks import Manager, together

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


def test_threads_without_barriers_run_one_after_another():
    outside, seen = threading.current_thread(), []

    def body():
        thread = threading.current_thread()
        seen.append((thread.thread_id, tuple(thread.threadIdx), tuple(thread.blockIdx), threading.get_ident()))

    Manager(body, (2, 1, 1), (2, 3, 1), False).run((1, 0, 0))
    assert seen == [
        (x + 2 * y, (x, y, 0), (1, 0, 0), threading.get_ident()) for x in range(2) for y in range(3)
    ]  # fmt: skip
    assert threading.current_thread() is outside

    def failing():
        if threading.current_thread().thread_id == 4:
            raise ZeroDivisionError("of one")

    with pytest.raises(ZeroDivisionError, match=r"tid=\[0, 2, 0\] ctaid=\[1, 0, 0\]: of one"):
        Manager(failing, (2, 1, 1), (2, 3, 1), False).run((1, 0, 0))
    assert threading.current_thread() is outside


def test_kernels_with_barriers_are_known():
    import npresnet.cuda.by_plan
    import npresnet.kernels.cuda  # noqa: F401 (with their kernels)

    found = {kernel.name for kernel in KERNELS if together(kernel.function)}
    assert {"gemm_shared", "gemm_vectorized", "softmax", "global_avgpool", "global_maxpool", "stem_7"} <= found
    assert not {"gemm_naive", "conv2d_direct", "grouped", "maxpool", "relu", "pad", "im2col"} & found


def test_a_barrier_that_was_not_seen_is_an_error():
    hidden = "syncthreads"
    with pytest.raises(AssertionError, match="a barrier in a kernel"):
        Manager(lambda: getattr(threading.current_thread(), hidden)(), (1, 1, 1), (2, 1, 1), False).run((0, 0, 0))
