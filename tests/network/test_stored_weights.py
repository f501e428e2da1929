"""The weights of a file are not kept: they are read when they are asked for, whatever has become of the file's name."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.model import ResNet
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.network.stored_weights import StoredWeights, in_memory
from npresnet.network.weights import Weights, load_weights

from ..support.networks import saved, thin

if not hasattr(os, "preadv"):
    pytest.skip("on this system all weights stay in memory", allow_module_level=True)

GRAPH = build_graph(Architecture.standard(FAMILIES["keras-resnet"], 18, width=32))
WEIGHTS = random_weights(GRAPH)
BYTES = sum(array.nbytes for tensors in WEIGHTS.values() for array in tensors.values())
_PAGE = 2 << 20  # bytes of a large page, at which large blocks begin


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_keras_file(tmp_path / "net.h5", GRAPH, WEIGHTS)


def pixels(size: int) -> Any:
    return np.random.default_rng(size).uniform(-120, 130, (1, size, size, 3)).astype(np.float32)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(
        tensors.keys() == other[name].keys()
        and all(np.array_equal(a, other[name][role]) for role, a in tensors.items())
        for name, tensors in one.items()
    )


def all_same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_nothing_of_the_file_is_kept(path: Path) -> None:
    """Beyond what is packed, what may lie idle and begins at a large page, and the results, there is not room for the largest layer."""
    largest = max(array.nbytes for tensors in WEIGHTS.values() for array in tensors.values())
    npresnet.load(path)(pixels(32))  # imports and kernels are no part of it
    tracemalloc.start()
    try:
        net = npresnet.load(path)
        loaded = tracemalloc.get_traced_memory()[0]
        features = net(pixels(32))
        planner = net._planner
        assert planner is not None
        gc.collect()
        now = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert loaded < largest < BYTES / 4
    held = planner._constants.bytes + planner._memory.idle + sum(c.nbytes for c in features if c is not None)
    assert now < held + _PAGE + loaded + largest
    assert same(net.weights, WEIGHTS)


def test_they_come_back_equal_and_new(path: Path) -> None:
    net = npresnet.load(path)
    net(pixels(32))
    assert isinstance(net.weights, StoredWeights)
    assert same(net.weights, WEIGHTS)
    assert list(net.weights) == [layer.name for layer in net.graph.layers if layer.operator.tensors()]
    assert "conv1" in net.weights
    assert net.weights.get("no such layer", {}) == {}
    assert net.weights["conv1"]["kernel"] is not net.weights["conv1"]["kernel"]
    with pytest.raises(ValueError, match="read-only"):  # it would be lost
        net.weights["conv1"]["kernel"][...] = 0


@pytest.mark.parametrize("layout", ["weights", "model", "v3", "archive"])
def test_every_layout(tmp_path_factory: pytest.TempPathFactory, layout: Any) -> None:
    found = load_weights(saved(tmp_path_factory, thin("keras.applications", 50), layout))
    assert isinstance(found.weights, StoredWeights)
    once = in_memory(found.weights)
    assert same(once, found.weights)
    assert found.parameters == sum(array.size for tensors in once.values() for array in tensors.values())
    assert found.tensors == sum(map(len, once.values()))


def test_those_that_cannot_be_read_again_stay(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of a deflated archive, and of what h5py must read."""
    whole = saved(tmp_path_factory, thin("keras.applications", 50), "archive")
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    plain = saved(tmp_path_factory, thin("keras.applications", 50), "weights")
    with h5py.File(plain) as old, h5py.File(tmp_path / "x.h5", "w") as new:
        new.attrs.update(old.attrs)

        def visit(name: str, entry: Any) -> None:
            if isinstance(entry, h5py.Dataset):
                new.create_dataset(name, data=entry[()], compression="lzf" if entry.shape else None)
            else:
                new.create_group(name).attrs.update(entry.attrs)

        old.visititems(visit)
    for name in ("x.keras", "x.h5"):
        found = load_weights(tmp_path / name)
        assert isinstance(found.weights, dict), name
        assert same(found.weights, load_weights(whole if name == "x.keras" else plain).weights), name


# What becomes of the file -------------------------------------------------------------------------------------------


def _moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere.h5"))


def _replaced(path: Path) -> None:
    (path.parent / "new").write_bytes(b"something else")
    (path.parent / "new").replace(path)


@pytest.mark.parametrize("change", [Path.unlink, _moved, _replaced])
def test_its_name_may_go(path: Path, change: Callable[[Path], Any]) -> None:
    """A network needs the file, not its name: for a first plan, for others, and for whoever asks."""
    expected = npresnet.load(path)(pixels(96))
    net = npresnet.load(path)
    change(path)
    assert all_same(net(pixels(96)), expected)
    net(pixels(40))
    assert same(net.weights, WEIGHTS)
    assert len(list(net.trace(pixels(20)))) == len(net.layers)


def _longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _later(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("change", [_longer, _shorter, _later])
def test_a_file_that_was_written_to(path: Path, change: Callable[[Path], None]) -> None:
    """What is packed goes on; what would have to be read is refused, with words that help."""
    os.utime(path, ns=(1, 1))  # long ago
    net = npresnet.load(path)
    expected = net(pixels(32))
    change(path)
    words = r"net\.h5: the file was written to since it was loaded, .*; load it anew, and replace a file .* by renaming"
    with pytest.raises(WeightsError, match=words):
        net.weights["conv1"]
    with pytest.raises(WeightsError, match=words):
        net(pixels(32), outputs=["res2a_branch2a"])
    with pytest.raises(WeightsError, match=words):
        list(net.trace(pixels(20)))
    assert all_same(net(pixels(32)), expected)
    if change is not _shorter:
        assert same(npresnet.load(path).weights, WEIGHTS)


def test_a_file_that_is_no_longer_there_at_all(path: Path) -> None:
    """As where a network drive is gone: told as an error of the weights."""
    weights = load_weights(path).weights
    assert isinstance(weights, StoredWeights)
    (stream,) = weights._files._streams
    spare = os.dup(stream.fileno())
    os.close(stream.fileno())
    try:
        with pytest.raises(
            WeightsError, match=r"net\.h5: the file can no longer be read \(Bad file descriptor\); check"
        ):
            weights["conv1"]
    finally:
        os.dup2(spare, stream.fileno())
        os.close(spare)
    assert same(weights, WEIGHTS)


def test_it_is_closed_with_the_last_that_needs_it(path: Path) -> None:
    net = npresnet.load(path)
    weights = net.weights
    assert isinstance(weights, StoredWeights)
    (stream,) = weights._files._streams
    assert isinstance(stream, io.FileIO)
    del net
    gc.collect()
    assert same(weights, WEIGHTS)
    assert not stream.closed
    del weights
    gc.collect()
    assert stream.closed


# Company ------------------------------------------------------------------------------------------------------------


def test_many_threads_at_once(path: Path) -> None:
    """Several shapes, each with forms of its own, and others that look at the weights, on one network that has none packed."""
    expected = {size: npresnet.load(path)(pixels(size)) for size in (32, 96, 160)}
    net = npresnet.load(path, threads=2)

    def work(number: int) -> bool:
        if number % 4 == 3:
            return same(net.weights, WEIGHTS)
        size = (32, 96, 160)[number % 4]
        return all_same(net(pixels(size)), expected[size])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))


def test_forked_processes_do_not_disturb_each_other(path: Path) -> None:
    """They share the open file, but not where in it they read."""
    code = """
import os, sys
import npresnet
from npresnet.network.stored_weights import in_memory

weights = npresnet.load(sys.argv[1]).weights
first = in_memory(weights)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        fine = all(a.tobytes() == weights[name][role].tobytes() for _ in range(5)
                   for name, tensors in first.items() for role, a in tensors.items())
        os._exit(0 if fine else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)


@pytest.mark.parametrize("pass_on", [copy.deepcopy, lambda weights: pickle.loads(pickle.dumps(weights))])
def test_copies_have_the_numbers(path: Path, pass_on: Callable[[Weights], Weights]) -> None:
    weights = pass_on(load_weights(path).weights)
    path.write_bytes(b"")
    assert isinstance(weights, dict)
    assert same(weights, WEIGHTS)


@pytest.mark.parametrize("algorithm", ["im2col", "reference"])
def test_a_network_that_runs_layer_by_layer_reads_once(path: Path, algorithm: str) -> None:
    net = npresnet.load(path, algorithm=algorithm)
    expected = net(pixels(8))
    path.write_bytes(b"")
    assert all_same(net(pixels(8)), expected)


def test_weights_at_hand_stay_so() -> None:
    assert in_memory(WEIGHTS) is WEIGHTS
    net: ResNet = npresnet.model.assemble(npresnet.network.seeded.seeded(Architecture.named("keras-resnet/resnet18")))
    assert net.weights is net._inspection.weights
