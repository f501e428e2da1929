"""The stand-in itself: it does what it plays, and refuses what NVIDIA's driver refuses."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cuda.bindings import driver
from numba import cuda

UNSUPPORTED = driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
INVALIDATED = driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
IMPLICIT = driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
INVALID = driver.CUresult.CUDA_ERROR_INVALID_VALUE
MODE = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


@pytest.fixture(autouse=True)
def _context():
    with cuda.gpus[0]:
        yield


def done(answer):
    """A call's result; it must have succeeded."""
    assert int(answer[0]) == 0, answer[0]
    return answer[1] if len(answer) > 1 else None


@pytest.fixture(params=["waits for no other", "blocking"])
def stream(request):
    made = done(driver.cuStreamCreate(request.param == "waits for no other"))
    yield made
    done(driver.cuStreamDestroy(made))


@pytest.fixture
def memory():
    """Address of 64 bytes on the card."""
    made = done(driver.cuMemAlloc(64))
    yield int(made)
    done(driver.cuMemFree(made))


def of_another_thread(call):
    """What ``call`` returns in a thread that has the context, too."""

    def run():
        with cuda.gpus[0]:
            return call()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def at(address):
    """The 64 bytes there as numbers."""
    return np.frombuffer(ctypes.string_at(address, 64), np.float32)


def recorded(stream, *calls):
    """(what ends the recording of ``stream`` says, what the calls meanwhile said)."""
    done(driver.cuStreamBeginCapture(stream, MODE))
    said = [call()[0] for call in calls]
    return driver.cuStreamEndCapture(stream)[0], said


def test_who_waits_for_the_card_spoils_what_another_thread_records(stream):
    assert recorded(stream, lambda: of_another_thread(driver.cuCtxSynchronize)) == (INVALIDATED, [UNSUPPORTED])
    done(driver.cuCtxSynchronize())


def test_who_records_makes_no_memory(stream):
    assert recorded(stream, lambda: driver.cuMemAlloc(8)) == (INVALIDATED, [UNSUPPORTED])


def test_another_thread_may_make_memory(stream):
    def make_and_free():
        return driver.cuMemFree(done(driver.cuMemAlloc(8)))

    ended, (said,) = recorded(stream, lambda: of_another_thread(make_and_free))
    assert (int(ended), int(said)) == (0, 0)


def test_a_recorded_stream_is_not_waited_for(stream):
    assert recorded(stream, lambda: driver.cuStreamSynchronize(stream)) == (INVALIDATED, [UNSUPPORTED])


def test_the_default_stream_and_streams_that_wait_for_it(stream, memory):
    waits = int(done(driver.cuStreamGetFlags(stream))) == 0
    ended, (said,) = recorded(stream, lambda: driver.cuMemsetD32Async(memory, 0, 1, 0))
    assert (int(ended), int(said)) == ((INVALIDATED, IMPLICIT) if waits else (0, 0))


def test_only_who_began_ends_a_recording(stream):
    done(driver.cuStreamBeginCapture(stream, MODE))
    error, _ = of_another_thread(lambda: driver.cuStreamEndCapture(stream))
    assert error == driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD
    assert driver.cuStreamEndCapture(stream)[0] == INVALIDATED


def test_recorded_work_happens_when_its_graph_does(stream, memory):
    done(driver.cuStreamBeginCapture(stream, MODE))
    done(driver.cuMemsetD32Async(memory, 7, 16, stream))
    graph = done(driver.cuStreamEndCapture(stream))
    made = done(driver.cuGraphInstantiate(graph, 0))
    done(driver.cuStreamSynchronize(stream))
    assert not at(memory).any()
    for _ in range(2):
        done(driver.cuMemsetD32Async(memory, 0, 16, stream))
        done(driver.cuGraphLaunch(made, stream))
        done(driver.cuStreamSynchronize(stream))
        assert at(memory).view(np.uint32).tolist() == [7] * 16
    done(driver.cuGraphDestroy(graph))
    done(driver.cuGraphExecDestroy(made))


def test_nothing_happens_before_it_is_waited_for(stream, memory):
    locked = int(done(driver.cuMemHostAlloc(64, 0)))
    done(driver.cuMemsetD32Async(memory, 7, 16, stream))
    done(driver.cuMemcpyDtoHAsync(locked, memory, 64, stream))
    assert not at(locked).any()
    done(driver.cuStreamSynchronize(stream))
    assert at(locked).all()
    done(driver.cuMemFreeHost(locked))


def test_memory_that_is_not_page_locked_is_read_at_once(stream, memory):
    given = np.full(16, 3, np.float32)
    done(driver.cuMemcpyHtoDAsync(memory, given.ctypes.data, 64, stream))
    given[:] = 4
    assert not at(memory).any()
    done(driver.cuStreamSynchronize(stream))
    assert at(memory).tolist() == [3] * 16


def test_copies_stay_in_their_memory(stream, memory):
    given = np.zeros(99, np.float32)
    assert driver.cuMemcpyHtoD(memory, given.ctypes.data, 5000)[0] == INVALID
    assert driver.cuMemcpyDtoDAsync(memory, given.ctypes.data, 64, stream)[0] == INVALID


def test_without_a_context_nothing_is_made():
    with ThreadPoolExecutor(1) as pool:
        error, _ = pool.submit(driver.cuMemAlloc, 8).result()
    assert error == driver.CUresult.CUDA_ERROR_INVALID_CONTEXT


@pytest.mark.parametrize(
    "launch", [(0, 1, 1, 256, 0), (1, 65_536, 1, 256, 0), (1, 1, 1, 1025, 0), (1, 1, 1, 32, 50_000)]
)
def test_launches_that_no_card_takes(launch):
    *grid, threads, shared = launch
    assert driver.cuLaunchKernel(driver.CUfunction(0), *grid, threads, 1, 1, shared, 0, 0, 0)[0] == INVALID


def test_what_is_not_there_says_its_name(lines):
    assert driver.cuCtxGetStreamPriorityRange()[0] == driver.CUresult.CUDA_ERROR_NOT_SUPPORTED
    assert [line.values["call"] for line in lines("missing")] == ["cuCtxGetStreamPriorityRange"]


def test_refusals_are_written_down(lines):
    driver.cuMemAlloc(0)
    assert [line.values for line in lines("refused")] == [{"call": "cuMemAlloc", "error": "CUDA_ERROR_INVALID_VALUE"}]
