"""Barriers of the simulator's blocks, which ``bench/simulated_blocks.py`` keeps."""

from __future__ import annotations

import inspect
import textwrap
import threading

import numpy as np
import pytest
from numba import cuda, int32

from npresnet.kernels.cuda.launch import SIMULATED

if not SIMULATED:
    pytest.skip("a card has barriers of its own", allow_module_level=True)

from bench.simulated_blocks import AS_WRITTEN, LOOP, QUICK, QUICK_LOOP, Manager, _of_tiles, together
from npresnet.kernels.cuda import gemm, implicit
from npresnet.kernels.cuda.launch import KERNELS
from npresnet.kernels.cuda.ptx import mma

THREADS = 64


def run(kernel, *arguments):
    """One block of THREADS threads."""
    cuda.jit(kernel)[1, THREADS](*arguments)


def test_nobody_passes_a_barrier_before_all_are_there():
    def kernel(seen):
        for turn in range(20):
            seen.append((turn, cuda.threadIdx.x))
            cuda.syncthreads()

    seen = []
    run(kernel, seen)
    turns = [turn for turn, _ in seen]
    assert turns == sorted(turns)
    assert len(set(seen)) == 20 * THREADS


def test_who_has_ended_is_not_waited_for():
    def kernel(seen):
        for turn in range(cuda.threadIdx.x):
            cuda.syncthreads()
            seen.append(turn)

    seen = []
    run(kernel, seen)
    assert seen == sorted(turn for number in range(THREADS) for turn in range(number))


def _exchange(shared, mine, before, after):
    """A barrier in a function that a kernel calls; and what the thread on the other side has written."""
    shared[mine] = mine
    if before:
        cuda.syncthreads()
    seen = shared[THREADS - 1 - mine]
    if after:
        cuda.syncthreads()
    return seen


def _turns(seen, before, after):
    shared = cuda.shared.array(THREADS, int32)
    for turn in range(4):
        shared[cuda.threadIdx.x] = -1
        cuda.syncthreads()
        seen[turn, cuda.threadIdx.x] = _exchange(shared, cuda.threadIdx.x, before, after)


@pytest.mark.parametrize(("before", "after"), [(True, True), (False, True), (True, False)])
def test_a_barrier_that_is_missing_shows(before, after):
    """The one before what others wrote is read, and the one before what others read is written again."""
    seen = np.zeros((4, THREADS), np.int32)
    run(_turns, seen, before, after)
    assert (seen == np.arange(THREADS)[::-1]).all() == (before and after)


@pytest.mark.parametrize("failing", [0, THREADS - 1])
def test_a_failure_ends_all(failing):
    def kernel(passed):
        if cuda.threadIdx.x == failing:
            raise ZeroDivisionError("of one")
        cuda.syncthreads()
        passed.append(cuda.threadIdx.x)

    outside, passed = threading.current_thread(), []
    with pytest.raises(ZeroDivisionError, match=rf"tid=\[{failing}, 0, 0\] ctaid=\[0, 0, 0\]: of one"):
        run(kernel, passed)
    assert passed == []
    assert threading.current_thread() is outside


def test_a_warp_that_is_not_together_is_an_error():
    """The last of its threads is at the block's barrier, where the others never come."""

    def kernel(x):
        if cuda.threadIdx.x == THREADS - 1:
            cuda.syncthreads()
        mma(x[0], x[0], x[0], x[0], x[0], x[0], x[0], x[0], x[0], x[0])

    with pytest.raises(RuntimeError, match=r"never come to the same barrier: .*\[63\]"):
        run(kernel, np.ones(1, np.float32))


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
    with pytest.raises(AssertionError, match="a barrier that was not seen"):
        Manager(lambda: getattr(threading.current_thread(), hidden)(), (1, 1, 1), (2, 1, 1), False).run((0, 0, 0))


def test_quick_products_are_those_that_are_written():
    """To the last bit, and with all that they leave behind."""
    random = np.random.default_rng(0)

    def numbers(*sizes):
        return [random.normal(size=size).astype(np.float32) for size in sizes]

    def lines(text):
        names, known = ("tile_a", "tile_b", "k", "row", "column", "sums"), {"_TM": 4, "_TN": 4, "_of_tiles": _of_tiles}
        return lambda *given: exec(text, known | dict(zip(names, given, strict=True)))

    tiles = numbers(2 * gemm.BM * gemm.BK, 2 * gemm.BN * gemm.BK)
    calls = [
        (lines(LOOP), lines(QUICK_LOOP), [*numbers((16, 64), (16, 64)), 5, 8, 60, *numbers(16)]),
        (AS_WRITTEN[gemm], QUICK[gemm], [tiles[0], 128, tiles[1], 260, *numbers(gemm.TM, gemm.TN, gemm.SUMS)]),
        *(
            (AS_WRITTEN[implicit], QUICK[implicit], [*numbers(tm, tn), tm, tn, *numbers(tm * tn)])
            for *_, tm, tn in implicit.TILES
        ),
    ]
    for written, quick, arguments in calls:
        one, other = ([np.copy(each) for each in arguments] for _ in range(2))
        written(*one)
        quick(*other)
        assert [each.tobytes() for each in one] == [each.tobytes() for each in other]
        assert one[-1].tobytes() != arguments[-1].tobytes()
    assert textwrap.indent(LOOP, 12 * " ") in inspect.getsource(gemm._gemm_tiled.function)
