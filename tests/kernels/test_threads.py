"""Splitting work over threads, many callers at once, and life after a fork."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from npresnet.kernels import conv2d
from npresnet.kernels.threads import _quota, available_threads, resolve_threads, run, start

from ..support import cases


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7, 16])
def test_every_index_once(threads):
    for count in (*range(12), 16, 17, 100, 101):
        calls: list[tuple[Any, ...]] = []
        run(lambda collect, extra, *part: collect((extra, *part)), count, threads, calls.append, "extra")
        assert all(extra == "extra" for extra, *_ in calls)
        ranges = sorted((start, stop) for _, start, stop in calls)
        assert len(ranges) == max(min(threads, count), 1)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == count
        assert all(one[1] == next_one[0] for one, next_one in itertools.pairwise(ranges))
        sizes = {stop - start for start, stop in ranges}
        assert max(sizes) - min(sizes) <= 1  # nobody waits for a longest share


def test_ranges_run_side_by_side():
    """Each waits for all the others; were they run one after another, the first would wait in vain."""
    barrier = threading.Barrier(4, timeout=300)
    run(lambda start, stop: barrier.wait(), 4, 4)


def test_the_caller_takes_a_share():
    threads = []
    run(lambda start, stop: threads.append((start, threading.current_thread())), 3, 3)
    assert dict(threads)[0] is threading.current_thread()
    assert len({thread.ident for _, thread in threads}) >= 2


@pytest.mark.parametrize("failing", [{0}, {1}, {3}, {2, 3}, {0, 2}, {0, 1, 2, 3}], ids=str)
def test_a_failure_surfaces_when_all_have_ended(failing):
    ended = []

    def kernel(start, stop):
        if start in failing:
            raise ZeroDivisionError(f"range {start}")
        time.sleep(0.05)  # the failure is there long before this range ends
        ended.append(start)

    with pytest.raises(ZeroDivisionError, match=f"range {min(failing)}"):
        run(kernel, 4, 4)
    assert sorted(ended) == sorted(set(range(4)) - failing)
    after = []
    run(lambda start, stop: after.append(start), 4, 4)  # the pool still works
    assert sorted(after) == [0, 1, 2, 3]


def test_a_growing_pool_loses_nothing():
    """Callers that ask for more threads replace the pool under those that are using it."""
    totals = []
    lock = threading.Lock()

    def kernel(start, stop):
        with lock:
            totals.append(stop - start)

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda threads: run(kernel, 60, threads), list(range(2, 22)) * 5))
    assert sum(totals) == 60 * 100


def test_offered_calls_run_side_by_side():
    barrier = threading.Barrier(3, timeout=300)
    threads = {}

    def kernel(number):
        threads[number] = threading.current_thread()
        barrier.wait()

    start(kernel, [(0,), (1,), (2,)], None)
    assert threads[0] is threading.current_thread()
    assert len(set(threads.values())) == 3
    alone: list[str] = []
    start(alone.append, [("only",)], None)
    assert alone == ["only"]


def test_nobody_waits_for_offered_calls():
    """They may come late and find no work left; what they know by its address is there until then."""
    free, late = threading.Event(), threading.Event()
    array = np.zeros(1000)
    gone = threading.Event()
    weakref.finalize(array, gone.set)

    def kernel(number):
        if number:
            assert free.wait(300)
            late.set()

    start(kernel, [(0,), (1,)], (array,))
    del array
    assert not late.is_set()
    assert not gone.is_set()
    free.set()
    assert late.wait(300)
    assert gone.wait(300)


def test_available_threads():
    assert 1 <= available_threads() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        assert available_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "nonsense\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, None),
    ],
    ids=str,
)
def test_quota_of_a_container(tmp_path, monkeypatch, files, quota):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert _quota(tmp_path) == quota
    monkeypatch.setattr("npresnet.kernels.threads._quota", lambda root: quota)
    if quota is not None:
        assert available_threads() == max(1, min(len(os.sched_getaffinity(0)), int(quota)))


@pytest.mark.parametrize(("given", "taken"), [(1, 1), (3, 3), (1000, 1000), (np.int64(2), 2), (None, None)], ids=repr)
def test_numbers_of_threads(given, taken):
    resolved = resolve_threads(given)
    assert resolved == (available_threads() if taken is None else taken)
    assert type(resolved) is int


@pytest.mark.parametrize("given", [0, -1, 1.0, 2.5, "2", "", True, False, [2], float("nan")], ids=repr)
def test_refuses_other_numbers_of_threads(given):
    with cases.refuses(ValueError, f"threads: got {given!r}"):
        resolve_threads(given)


CALLS = [
    cases.Conv2d((1, 9, 7, 5), (3, 3), 17, padding="same"),
    cases.Conv2d((2, 8, 8, 16), (1, 1), 70),
    cases.Conv2d((1, 10, 11, 3), (7, 7), 8, (2, 2), 3),
    cases.Conv2d((1, 5, 5, 33), (3, 3), 65, (2, 2), "same"),
]


def test_many_callers_at_once():
    expected = [case.run(conv2d) for case in CALLS]

    def caller(number):
        for turn in range(20):
            which = (number + turn) % len(CALLS)
            cases.assert_same_bits(CALLS[which].run(conv2d, threads=1 + (number + turn) % 4), expected[which])

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(caller, range(8)))


# In other processes: forking this one would take TensorFlow's threads along.

FORK = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from npresnet.kernels import conv2d, threads
from tests.kernels.test_threads import CALLS

def results(number=0):
    return [case.run(conv2d, threads=2).tobytes() for case in CALLS]

def child(queue):
    queue.put(results())

expected = results()
assert threads._pool is not None  # what a child cannot use
fork = multiprocessing.get_context("fork")

queue = fork.Queue()
process = fork.Process(target=child, args=(queue,))
process.start()
assert queue.get(timeout=500) == expected
process.join()
assert process.exitcode == 0

with ProcessPoolExecutor(2, mp_context=fork) as processes:
    assert list(processes.map(results, range(4))) == [expected] * 4

with ThreadPoolExecutor(2) as callers:  # fork while others are inside kernels
    inside = [callers.submit(lambda: [results() for _ in range(20)]) for _ in range(2)]
    with ProcessPoolExecutor(2, mp_context=fork) as processes:
        assert list(processes.map(results, range(4))) == [expected] * 4
    assert all(found == expected for future in inside for found in future.result())

assert results() == expected  # and the parent goes on
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_children_compute(run_python):
    assert run_python(FORK) == "done\n"


CONCURRENT = """
from concurrent.futures import ThreadPoolExecutor
from npresnet.kernels import conv2d
from tests.kernels.test_threads import CALLS

def results(number):
    return [case.run(conv2d, threads=1 + number % 3).tobytes() for case in CALLS]

expected = results(0)
with ThreadPoolExecutor(8) as callers:
    assert list(callers.map(results, range(64))) == [expected] * 64
print("done")
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb", "no such layer"])
def test_numbas_threading_layer_does_not_matter(run_python, layer):
    """Numba's ``workqueue`` ends the process when two threads call it at once; we do not use it."""
    assert run_python(CONCURRENT, NUMBA_THREADING_LAYER=layer) == "done\n"


def test_the_first_call_may_come_from_many_threads(run_python):
    """Eight threads ask for kernels that nobody has loaded yet."""
    program = CONCURRENT.replace("expected = results(0)\n", "").replace("[expected] * 64", "[results(0)] * 64")
    assert run_python(program) == "done\n"
