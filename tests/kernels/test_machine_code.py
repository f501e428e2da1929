"""Native kernels on disk: linked without Numba, replaced where damaged, never needed."""

from __future__ import annotations

import shutil
import stat

import pytest

from npresnet.kernels import machine_code

# Runs two native kernels, checks the result, and prints whether Numba was imported, and how many could not be kept.
CALL = """
import sys
import numpy as np
from npresnet.kernels import maxpool
from npresnet.kernels.compiling import unkept
x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
assert maxpool(x, 2, stride=2).ravel().tolist() == [5, 7, 13, 15]
print("numba" in sys.modules, len(unkept))
"""
LOADED, COMPILED = "False 0\n", "True 0\n"


@pytest.fixture(scope="module")
def filled(run_python, tmp_path_factory):
    """A cache directory that a process has filled."""
    place = tmp_path_factory.mktemp("machine code") / "cache"
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    return place


@pytest.fixture
def place(filled, tmp_path):
    """A copy of it."""
    copy = shutil.copytree(filled, tmp_path / "cache")
    copy.chmod(0o700)
    return copy


def objects(place):
    return sorted(place.rglob("*.o"))


def test_the_next_process_does_without_numba(run_python, place):
    before = [(path, path.read_bytes()) for path in objects(place)]
    assert [path.name.split(".")[:2] for path, _ in before] == [["loop", "run_steps"], ["maxpool", "_maxpool_item"]]
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED
    assert [(path, path.read_bytes()) for path in objects(place)] == before


def test_only_this_user_can_write(filled):
    assert all(not path.stat().st_mode & 0o022 for path in objects(filled))
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in objects(filled)} == {0o700}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, other: b"",
        lambda data, other: data[: len(data) // 2],
        lambda data, other: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data, other: other,
    ],
    ids=["emptied", "cut short", "one bit", "another kernel's"],
)
def test_damaged_files_are_replaced(run_python, place, damage):
    first, second = objects(place)
    first.write_bytes(damage(first.read_bytes(), second.read_bytes()))
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED


def test_other_settings_of_the_compiler_make_other_files(run_python, place):
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place), NUMBA_OPT="2") == COMPILED
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED
    assert len(objects(place)) == 4


def test_computes_where_nothing_can_be_kept(run_python, place):
    """Root may write anywhere but where a folder is in the way."""
    for path in objects(place):
        path.unlink()
        path.mkdir()
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == "True 2\n"
    assert not [path for path in place.rglob("*.o*") if path.is_file()]  # nothing half-written


def test_many_threads_at_once(run_python, tmp_path):
    """Numba arrives while all of them want kernels, in modules that some of them are just importing."""
    program = """
import threading
import numpy as np
from npresnet import kernels
x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
found, calls = [], [
    lambda: kernels.maxpool(x, 2, stride=2).ravel().tolist() == [5, 7, 13, 15],
    lambda: kernels.relu(-x).max() == 0,
    lambda: kernels.add(x, x).sum() == 240,
    lambda: kernels.gemm_naive(x[0, :, :, 0].copy(), np.eye(4, dtype=np.float32)).tolist() == x[0, :, :, 0].tolist(),
]
threads = [threading.Thread(target=lambda call=call: found.append(call())) for call in calls * 2]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), all(found))
"""
    assert run_python(program, NPRESNET_CACHE_DIR=str(tmp_path / "cache")) == "8 True\n"


def test_kernels_that_need_numba_are_not_kept():
    with pytest.raises(AssertionError, match=r"needs Numba: .*numba_erf"):
        machine_code.keep("one", "symbol", b"code\0numba_erf\0numba_do_raise\0")
