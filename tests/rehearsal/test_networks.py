"""Networks on 'cuda', from loading to results, with a driver that runs nothing: what is asked of it, in which order, and for which
memory. Kernels write nothing; where results matter, fills that follow them do it in their place."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba import cuda

import npresnet
from npresnet import DeviceError
from npresnet.cuda import program, runner
from npresnet.cuda.arrays import DeviceArray
from npresnet.cuda.copies import Placed
from npresnet.cuda.driver import checked, driver, stream_handle
from npresnet.cuda.program import Bound

from ..support.threads import beside

DIGITS = Path(__file__).parents[1] / "data" / "digits.keras"

pytestmark = [pytest.mark.usefixtures("by_the_rules"), pytest.mark.filterwarnings("ignore:Grid size")]


@pytest.fixture(scope="module")
def net():
    return npresnet.load(DIGITS, device="cuda")


@pytest.fixture
def afresh(net):
    """The same network, with all programs still to be made."""
    net._runner._programs.clear()
    return net


def images(count=1):
    return np.zeros((count, 32, 32, 3), np.float32)


def on_card(array):
    return cuda.to_device(array)


def maps_of(net):
    return tuple(net.graph.features.values())


@pytest.fixture
def written(monkeypatch):
    """Each run of a program ends with fills of its outputs: with the number that the fixture's value, a function, returns then."""
    current = [lambda: 1.0]
    queue = Bound.queue

    def queue_and_fill(self, stream):
        queue(self, stream)
        bits = int(np.float32(current[0]()).view(np.uint32))
        for output in self.outputs.values():
            count = output.array.size
            checked(driver().cuMemsetD32Async(output.address, bits, count, stream_handle(stream)))

    monkeypatch.setattr(Bound, "queue", queue_and_fill)
    return lambda number: current.__setitem__(0, number)


# Launches ------------------------------------------------------------------------------------------------------------

KERNELS = {"channels": ["set_channels"], "maxpool": ["maxpool_vectors"]}


def kernels_of(algorithm):
    """The kernels of a step of the digits' plan, by what the plan says of it: a tile, and in how many parts."""
    tile, _, parts = algorithm.partition(" / ")
    return KERNELS.get(algorithm) or [f"convolve_{tile}", *(["combine"] if parts else [])]


def launched(lines):
    return [(line.kernel, line.values["grid"], line.values["threads"], line.values["shared"]) for line in lines]


def test_order_as_the_plan_says(afresh, lines):
    steps = afresh._runner._program((1, 32, 32), maps_of(afresh)).steps
    lines(forget=True)
    afresh(images())
    expected = [kernel for step in steps for kernel in kernels_of(step.what.algorithm)]
    assert [line.kernel for line in lines("launch")] == expected
    assert len(expected) > len(steps) > 10


def test_recorded_once_for_each_shape(afresh, lines):
    """Step by step, recorded, and from then on as one piece."""
    for count in (1, 2, 3):
        lines(forget=True)
        for _ in range(5):
            afresh(images(count))
        launches = lines("launch")
        first, again = ([line for line in launches if line.values["recorded"] == kind] for kind in "01")
        assert launched(first) == launched(again) != []
        (ended,) = lines("cuStreamEndCapture")
        graphs = lines("cuGraphLaunch")
        assert len(graphs) == 4
        assert {line.values["nodes"] for line in (ended, *graphs)} == {str(len(again))}


def test_all_on_streams_that_wait_for_no_other(afresh, lines, log):
    for _ in range(3):
        afresh(images())
        afresh(on_card(images()))
    used = {
        line.values["stream"] for line in lines("launch", "cuGraphLaunch", "cuMemcpyHtoDAsync", "cuMemcpyDtoDAsync")
    }
    made = {line.values["stream"]: line.values["flags"] for line in log.all() if line.name == "cuStreamCreate"}
    assert {made[stream] for stream in used} == {"1"}


def test_profiled(net):
    steps = net.profile(images(), repeats=2)
    assert len(steps) > 10
    assert all(step.seconds >= 0 for step in steps)


# Copies --------------------------------------------------------------------------------------------------------------


def test_bytes_from_the_host_and_back(net, lines):
    net(images(3))
    lines(forget=True)
    found = net(images(3))
    assert [line.bytes for line in lines("cuMemcpyHtoDAsync", "cuMemcpyHtoD")] == [images(3).nbytes]
    assert [line.bytes for line in lines("cuMemcpyDtoHAsync", "cuMemcpyDtoH")] == [array.nbytes for array in found]
    assert lines("cuMemcpyDtoDAsync", "cuMemAlloc", "cuMemHostAlloc") == []


def test_images_on_the_card_stay_there(net, lines):
    given = on_card(images(3))
    first = net(given)
    lines(forget=True)
    again = net(given)
    copies = lines("cuMemcpyDtoDAsync")
    assert [line.bytes for line in copies] == [images(3).nbytes, *(array.nbytes for array in again)]
    assert int(copies[0].values["from"], 16) == given.device_ctypes_pointer.value
    assert [int(line.values["to"], 16) for line in copies[1:]] == [address(array) for array in again]
    assert lines("cuMemcpyHtoDAsync", "cuMemcpyHtoD", "cuMemcpyDtoHAsync", "cuMemcpyDtoH") == []
    assert not {address(array) for array in first} & {address(array) for array in again}


def test_results_are_written_in_place_where_memory_comes_again(net, lines):
    """Whoever lets go of results gets the same memory, which the steps then write by themselves; else they are copied."""
    given = on_card(images(3))
    for _ in range(3):
        net(given)
    lines(forget=True)
    net(given)
    assert [line.bytes for line in lines("cuMemcpyDtoDAsync")] == [images(3).nbytes]
    assert len(lines("cuGraphLaunch")) == 1
    held = [net(given) for _ in range(2)]
    lines(forget=True)
    held.append(net(given))
    assert len(lines("cuMemcpyDtoDAsync")) == 1 + len(held[0])
    assert len(lines("cuGraphLaunch")) == 1


@pytest.mark.parametrize("chunk", [8, 3])
@pytest.mark.parametrize("place", [np.asarray, on_card])
def test_every_image_arrives(net, monkeypatch, place, chunk):
    """Each run ends with copies of the first number of each image into its outputs; by way of other memory, for outputs may lie
    where the images were."""
    queue, between = Bound.queue, Placed(on_card(np.zeros((8, 1), np.float32)))

    def queue_and_copy(self, stream):
        queue(self, stream)
        for source, target in [(self.images, between), *((between, output) for output in self.outputs.values())]:
            for of, to in zip(of_each(source), of_each(target), strict=False):
                checked(driver().cuMemcpyDtoDAsync(to, of, 4, stream_handle(stream)))

    monkeypatch.setattr(Bound, "queue", queue_and_copy)
    monkeypatch.setattr(runner, "_CHUNK", chunk * 32 * 32)
    for first in (1, 11):
        given = images(8) + np.arange(first, first + 8, dtype=np.float32)[:, None, None, None]
        for array in net(place(given)):
            assert [image.flat[0] for image in np.asarray(array)] == list(range(first, first + 8))


def of_each(placed):
    """The address of each of its images."""
    return [placed.address + number * placed._each for number in range(placed.shape[0])]


class Foreign:
    """An array of another library, which speaks DLPack and nothing else."""

    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


def test_images_of_another_library_are_shared(net, lines):
    given = DeviceArray(net._runner.card, on_card(images()))
    net(Foreign(given))
    assert int(lines("cuMemcpyDtoDAsync")[0].values["from"], 16) == address(given)


def address(array):
    return array.__cuda_array_interface__["data"][0]


@pytest.mark.parametrize("place", [np.asarray, on_card])
def test_results_are_there_when_they_are_returned(net, written, place):
    """And stay, whatever is computed next."""
    numbers = iter(range(100))
    written(lambda: next(numbers))
    given = place(images())
    found = [net(given) for _ in range(6)]
    for number, maps in enumerate(found):
        for array in maps:
            assert np.unique(np.asarray(array)).tolist() == [number]


def test_what_others_still_do_with_results_is_waited_for(net, written):
    """Before their memory is used again: theirs may be queued on any stream."""
    given = on_card(images())
    net(given)
    theirs = checked(driver().cuStreamCreate(1))
    for array in net(given):
        checked(driver().cuMemsetD32Async(address(array), 0, array.size, theirs))
    del array
    found = net(given)
    checked(driver().cuStreamSynchronize(theirs))
    assert {value for array in found for value in np.unique(np.asarray(array))} == {1}
    checked(driver().cuStreamDestroy(theirs))


def test_tensors_are_there_when_they_are_uploaded(net):
    """Lanes do not wait for the stream on which they come."""
    given = np.arange(1, 9, dtype=np.float32)
    with net._runner.card.current():
        there = net._runner.card.upload(given)
    assert ctypes.string_at(address(there), given.nbytes) == given.tobytes()


@pytest.mark.parametrize("place", [np.asarray, on_card])
def test_chunks_on_two_lanes_by_turns(net, written, lines, monkeypatch, place):
    monkeypatch.setattr(runner, "_CHUNK", 2 * 32 * 32)
    numbers = iter(range(100))
    written(lambda: next(numbers))
    given = place(images(7))
    lines(forget=True)
    for array in net(given):
        assert [np.unique(image).tolist() for image in np.asarray(array)] == [[0], [0], [1], [1], [2], [2], [3]]
    for _ in range(2):
        net(given)
    lines(forget=True)
    net(given)
    streams = [line.values["stream"] for line in lines("cuGraphLaunch")]
    assert streams[0] == streams[2] != streams[1] == streams[3]


# Several callers -----------------------------------------------------------------------------------------------------

CALLERS = 4


def in_threads(call):
    """What ``call(number)`` returns, of so many threads at once."""
    with ThreadPoolExecutor(CALLERS) as pool:
        return [future.result() for future in [pool.submit(call, number) for number in range(CALLERS)]]


@pytest.mark.parametrize("place", [np.asarray, on_card])
def test_callers_share_nothing(net, written, lines, place):
    """All have queued their work before any goes on: streams, arenas and results are their own, and so are the numbers."""
    mine = threading.local()
    all_here = threading.Barrier(CALLERS, timeout=60)  # seconds; nobody comes where one has failed

    def number():
        all_here.wait()
        return mine.number

    written(number)

    def call(number):
        mine.number = number
        given = place(images())
        return [net(given) for _ in range(3)]

    found = in_threads(call)
    for number, runs in enumerate(found):
        assert {value for maps in runs for array in maps for value in np.unique(np.asarray(array))} == {number}
    feeds = lines("cuMemcpyHtoDAsync") if place is np.asarray else [
        line for line in lines("cuMemcpyDtoDAsync") if line.bytes == images().nbytes
    ]  # fmt: skip
    rounds = [feeds[at : at + CALLERS] for at in range(0, len(feeds), CALLERS)]
    assert len(rounds) == 3
    for together in rounds:
        for what in ("to", "stream"):
            assert len({line.values[what] for line in together}) == CALLERS


def test_nobody_is_refused_while_others_record(afresh, lines):
    """New shapes, from many threads, with images on the card: their results' memory is used again, after waiting for the card."""

    def call(number):
        for count in range(1, 6):
            for _ in range(3):
                afresh(on_card(images(count)))

    in_threads(call)
    assert len(lines("cuCtxSynchronize")) > CALLERS
    assert {line.values["spoilt"] for line in lines("cuStreamEndCapture")} == {"0"}


def test_a_wait_for_the_card_waits_for_a_recording(afresh, lines, monkeypatch):
    """The same, but certainly at that moment."""
    begun, go = threading.Event(), threading.Event()
    record = program.record

    def slowly(stream, queue):
        def queue_and_wait(stream):
            queue(stream)
            begun.set()
            go.wait()

        return record(stream, queue_and_wait)

    given = on_card(images(2))
    for _ in range(2):
        afresh(given)  # its memory is there to be used again
    afresh(images(3))
    lines(forget=True)
    monkeypatch.setattr(program, "record", slowly)

    def recorded():
        try:
            afresh(images(3))
        finally:
            begun.set()  # also where nothing was recorded

    beside(recorded, lambda: afresh(given), begun, go)
    assert len(lines("cuCtxSynchronize")) == 1
    assert [line.values["spoilt"] for line in lines("cuStreamEndCapture")] == ["0"]


# Memory --------------------------------------------------------------------------------------------------------------


def held(log):
    """What is alive on the card, after what is only waiting to be freed."""
    gc.collect()
    with cuda.gpus[0]:
        cuda.current_context().memory_manager.deallocations.clear()
    return log.held()


def test_twenty_shapes_take_no_more_than_the_largest(net, log):
    for _ in range(3):
        net(images(20))
    before = held(log)
    for count in range(1, 21):
        for _ in range(3):
            net(images(count))
    after = held(log)
    assert (after["card"], after["host"]) == (before["card"], before["host"])


def test_programs_that_are_forgotten_leave_no_graphs(net, log):
    for count in range(1, 21):
        for _ in range(2):
            net(images(count))
    assert held(log)["graphs"] <= runner._PROGRAMS


def test_a_network_that_nobody_uses_leaves_nothing(net, log):
    def use(another):
        for _ in range(3):
            another(images())

    use(net)
    before = held(log)
    another = npresnet.load(DIGITS, device="cuda")
    use(another)
    during = held(log)
    assert during["card"] > before["card"]
    assert during["graphs"] == before["graphs"] + 1
    del another
    assert held(log) == before


def test_memory_that_is_short(net, log):
    """Is said in bytes; afterwards all goes on."""
    limit = ctypes.c_size_t.in_dll(ctypes.CDLL("libcuda.so.1"), "card_bytes")
    everything = limit.value
    limit.value = held(log)["card"] + 1_000_000
    try:
        with pytest.raises(
            DeviceError, match=r"out of memory: working memory for these images takes [\d,]+ bytes, and"
        ):
            net(images(500))
    finally:
        limit.value = everything
    net(images(500))


# The host's time -----------------------------------------------------------------------------------------------------

PYTHON_CALLS = 200
"""Of one call of a network, recorded, with five outputs; each takes some 0.1 us. Up to 161 were seen."""


@pytest.mark.parametrize("place", [np.asarray, on_card])
def test_a_call_takes_few_calls_of_python(net, place):
    given = place(images())
    for _ in range(4):
        net(given)
    seen = []
    sys.setprofile(lambda frame, event, argument: seen.append(frame.f_code.co_qualname) if event == "call" else None)
    net(given)
    sys.setprofile(None)
    assert len(seen) < PYTHON_CALLS, seen
