"""Compiled kernels on disk: kept privately, used again, never stale, and never needed."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import pytest

import npresnet
from npresnet import kernels
from npresnet.kernels import cache, compiling

ENVIRONMENT = ("NPRESNET_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME")

# Calls two kernels, checks the results, and prints {kernel: [how many loaded, how many compiled]}.
CALL = """
import numpy as np
from npresnet.kernels import gemm_naive, relu
x = np.float32([[[[-1, 2, -3]]]])
assert relu(x).ravel().tolist() == [0, 2, 0]
assert gemm_naive(x[0, 0].T.copy(), x[0, 0]).tolist() == [[1, -2, 3], [-2, 4, -6], [3, -6, 9]]
import importlib
for operator, kernel in (("relu", "_relu"), ("gemm", "_gemm_naive")):
    stats = getattr(importlib.import_module("npresnet.kernels." + operator), kernel).stats
    print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
LOADED, COMPILED = "1 0\n1 0\n", "0 1\n0 1\n"


def chosen() -> Path | None:
    """The directory that a new process would use."""
    return cache.cache_directory.__wrapped__()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory of this test alone that settings point to; it does not exist yet."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NPRESNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


# The directory -------------------------------------------------------------------------------------------------------


def test_directory_is_made_for_this_user_alone(place):
    before = os.umask(0)  # which would let everybody in
    try:
        assert chosen() == place
    finally:
        os.umask(before)
    assert mode(place) == 0o700
    assert list(place.iterdir()) == []  # the trial file is gone


def test_platforms_place(place, monkeypatch, tmp_path):
    monkeypatch.delenv("NPRESNET_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert chosen() == tmp_path / "home/.cache/npresnet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert chosen() == tmp_path / "xdg/npresnet"
    monkeypatch.setenv("NPRESNET_CACHE_DIR", "~/mine")
    assert chosen() == tmp_path / "home/mine"


def test_a_relative_directory_stays_where_it_is(place, monkeypatch, tmp_path):
    """Otherwise a program that moves would load machine code from wherever it goes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPRESNET_CACHE_DIR", "here")
    assert chosen() == tmp_path / "here"


def unsafe_group(place):
    place.mkdir()
    place.chmod(0o770)


def unsafe_others(place):
    place.mkdir()
    place.chmod(0o707)


def unsafe_sticky(place):
    place.mkdir()
    place.chmod(0o1777)


def unsafe_link(place):
    (place.parent / "target").mkdir(mode=0o700)
    place.symlink_to("target")


def unsafe_foreign(place):
    place.mkdir(mode=0o700)
    try:
        os.chown(place, 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give a directory away")


def file_instead(place):
    place.write_text("not a directory")


def below_a_file(place):
    place.parent.joinpath("file").write_text("not a directory")
    os.environ["NPRESNET_CACHE_DIR"] = str(place.parent / "file" / "cache")


def dangling_link(place):
    place.symlink_to("nowhere")


def no_such_device(place):
    os.environ["NPRESNET_CACHE_DIR"] = "/proc/npresnet"


@pytest.mark.parametrize(
    "spoil",
    [
        unsafe_group,
        unsafe_others,
        unsafe_sticky,
        unsafe_link,
        unsafe_foreign,
        file_instead,
        below_a_file,
        dangling_link,
        no_such_device,
    ],
    ids=lambda function: function.__name__,
)
def test_unsafe_directories_are_not_used(place, spoil):
    spoil(place)
    used = chosen()
    assert used is not None
    assert used != place
    assert used.resolve() != place.resolve()
    assert place not in used.parents
    assert mode(used) == 0o700
    assert used.name.startswith("npresnet-")
    assert not place.is_dir() or list(place.iterdir()) == []  # not even tried


def test_safe_directories_are_used(place):
    for permissions in (0o700, 0o755, 0o750):
        place.mkdir(exist_ok=True)
        place.chmod(permissions)
        assert chosen() == place


def test_a_user_without_home(place, monkeypatch):
    monkeypatch.delenv("NPRESNET_CACHE_DIR")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    used = chosen()
    assert used is not None
    assert used.name.startswith("npresnet-")
    monkeypatch.setattr(cache, "cache_directory", lambda: used)
    assert cache.lasting_directory() is None


def test_nowhere_to_write(place, monkeypatch):
    file_instead(place)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "below"))
    assert chosen() is None


def test_a_temporary_directory_goes_with_its_process(run_python, tmp_path):
    (tmp_path / "file").write_text("")
    printed = run_python(
        "import os\nfrom npresnet.kernels.cache import cache_directory\n"
        "place = cache_directory()\nprint(place, flush=True)\n"
        "if os.fork() == 0:\n    raise SystemExit\n"  # a child that ends must leave its parent's directory alone
        "os.wait()\nassert place.is_dir()",
        NPRESNET_CACHE_DIR=str(tmp_path / "file"),
        TMPDIR=str(tmp_path),
    )
    used = Path(printed.strip())
    assert used.parent == tmp_path
    assert not used.exists()


# What is kept in it --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(run_python, tmp_path_factory):
    """A cache that one process has filled; other tests take copies."""
    place = tmp_path_factory.mktemp("cache") / "filled"
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    return place


def files(place):
    return sorted(path for path in place.rglob("*") if path.is_file())


def test_only_this_user_can_write(filled):
    found = files(filled)
    assert {path.suffix for path in found} == {".nbi", ".nbc"}
    assert {path.name.split("-")[0] for path in found} == {"relu._relu", "gemm._gemm_naive"}
    for path in (filled, *filled.rglob("*")):
        assert not path.lstat().st_mode & 0o022, path
    assert mode(filled) == 0o700


def test_the_next_process_loads_what_the_first_compiled(run_python, filled, tmp_path):
    place = shutil.copytree(filled, tmp_path / "cache")
    place.chmod(0o700)
    before = [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in files(place)]
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED
    assert [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in files(place)] == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\x80\x05garbage" * 100,
        lambda data: b"\x80\x05K\x01." + b"\x80\x05K\x02.",  # what unpickles, but to other things
    ],
    ids=["emptied", "cut short", "overwritten", "other content"],
)
def test_damaged_files_are_replaced(run_python, filled, tmp_path, damage):
    """One kernel's index and another kernel's machine code."""
    place = shutil.copytree(filled, tmp_path / "cache")
    place.chmod(0o700)
    damaged = [path for path in files(place) if path.match("relu*.nbi") or path.match("gemm*.nbc")]
    assert len(damaged) == 2
    for path in damaged:
        path.write_bytes(damage(path.read_bytes()))
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED


def test_lost_data_files_are_replaced(run_python, filled, tmp_path):
    place = shutil.copytree(filled, tmp_path / "cache")
    place.chmod(0o700)
    for path in files(place):
        if path.suffix == ".nbc":
            path.unlink()
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED


def test_computes_where_nothing_can_be_written(run_python, tmp_path):
    """Root may write anywhere but below a file."""
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "below")
    program = (
        f"import tempfile\ntempfile.tempdir = {nowhere!r}\n{CALL}\n"
        "from npresnet.kernels.cache import cache_directory, kernel_cache\n"
        "assert cache_directory() is None\nassert kernel_cache() is None"
    )
    environment = dict.fromkeys((*ENVIRONMENT, "TMPDIR"), nowhere)
    assert run_python(program, **environment) == "0 1\n0 1\n"


UNKEPT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
import logging
logging.getLogger("npresnet").addHandler(logging.StreamHandler(__import__("sys").stdout))
exec(open("call.py").read())
from npresnet.kernels.compiling import compiled, unkept
print(len(compiled) == len(unkept))
"""


def test_a_full_disk_is_told_once(run_python, tmp_path):
    """Kernels of which nothing is kept are not said to be; those that fail count."""
    pytest.importorskip("resource", reason="this system has no limits of a process")
    place = tmp_path / "cache"
    code = UNKEPT.replace('open("call.py").read()', repr(CALL))
    lines = run_python(code, NPRESNET_CACHE_DIR=str(place)).splitlines()
    assert [line for line in lines if "cannot be kept" in line] == [
        f"npresnet: kernels cannot be kept in {place} (File too large): the next process compiles them again"
    ]
    assert lines[-3:] == ["0 1", "0 1", "True"]
    assert not [path for path in files(place) if path.suffix != ".nbi"]  # nothing half-written
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place)) == LOADED


@pytest.mark.parametrize("lasting", [True, False])
def test_what_is_said_before_the_first_kernel_is_compiled(monkeypatch, caplog, lasting):
    monkeypatch.setattr(compiling, "lasting_directory", lambda: Path("there") if lasting else None)
    names: list[str] = []
    for name in ("relu", "gemm"):
        compiling.compiling(name, names, "processor")
    monkeypatch.setattr(compiling, "unkept", [])
    compiling.not_kept("relu", "for a reason")
    compiling.not_kept("gemm", "for another")
    begin = "npresnet: compiling kernels for this processor, some seconds; "
    assert (names, compiling.unkept) == (["relu", "gemm"], ["relu", "gemm"])
    if lasting:
        assert caplog.messages == [
            f"{begin}once, for they are kept in there",
            "npresnet: kernels cannot be kept in there (for a reason): the next process compiles them again",
        ]
    else:
        assert caplog.messages == [f"{begin}each time, for {cache.NOWHERE}"]


def test_computes_when_the_directory_breaks(run_python, tmp_path):
    """It is checked once, and then somebody puts a file in its place."""
    place = tmp_path / "cache"
    program = (
        "import os, shutil\nfrom npresnet.kernels.cache import kernel_cache\nfrom npresnet.kernels.simd import LANES\n"
        "place = kernel_cache(f'lanes{LANES}')\nos.rmdir(place)\nopen(place, 'w').close()\n" + CALL
    )
    assert run_python(program, NPRESNET_CACHE_DIR=str(place)) == COMPILED
    (place / "cache").mkdir()
    (place / "cache" / "kernels").write_text("")
    assert run_python(CALL, NPRESNET_CACHE_DIR=str(place / "cache")) == COMPILED


def test_importing_compiles_and_writes_nothing(run_python, tmp_path):
    program = """
import sys
import npresnet
assert "numba" not in sys.modules
from npresnet import kernels
assert "numba" not in sys.modules
assert all(getattr(kernels, name) for name in kernels.__all__)
assert "numba" not in sys.modules
from npresnet.kernels.numba_later import get_ready
get_ready(kernels.relu)
from numba.core.registry import CPUDispatcher
compiled = [
    value for name, module in list(sys.modules.items()) if name.startswith("npresnet.kernels")
    for value in vars(module).values() if isinstance(value, CPUDispatcher)
]
assert len(compiled) > 10, compiled
assert not any(kernel.signatures for kernel in compiled)
"""
    home = tmp_path / "home"
    home.mkdir()
    run_python(
        program,
        NPRESNET_CACHE_DIR=None,
        XDG_CACHE_HOME=None,
        NUMBA_CACHE_DIR=None,
        HOME=str(home),
        TMPDIR=str(home),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert list(home.iterdir()) == []


# Never stale ---------------------------------------------------------------------------------------------------------


def test_source_hash(monkeypatch, tmp_path):
    """Any change to any kernel file gives another folder."""
    shutil.copytree(Path(kernels.__file__).parent, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kernels, "__path__", [str(tmp_path / "kernels")])
    seen = {cache.source_hash()}
    for step in (
        lambda folder: None,  # the copy's hash is the original's
        lambda folder: (folder / "README.md").write_text("of no consequence"),
        lambda folder: (folder / "simd.py").write_bytes((folder / "simd.py").read_bytes() + b"\n"),
        lambda folder: (folder / "new.py").write_text(""),
        lambda folder: (folder / "new.py").rename(folder / "newer.py"),
        lambda folder: (folder / "newer.py").unlink(),
        lambda folder: (folder / "cuda" / "gemm.py").write_bytes((folder / "cuda" / "gemm.py").read_bytes() + b"\n"),
        lambda folder: (folder / "cuda" / "new.py").write_text(""),
        lambda folder: (folder / "cuda" / "new.py").rename(folder / "new.py"),
    ):
        step(tmp_path / "kernels")
        seen.add(cache.source_hash.__wrapped__())
    assert len(seen) == 7


def test_source_hash_from_a_folder_below(tmp_path):
    """Wherever in the package cache.py stands, it covers all of the package and not its own folder alone."""
    copy = shutil.copy(cache.__file__, tmp_path)
    spec = importlib.util.spec_from_file_location("npresnet.kernels.below.cache", copy)
    assert spec is not None
    assert spec.loader is not None
    moved = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(moved)
    assert Path(moved.__file__).parent == tmp_path
    assert moved.source_hash() == cache.source_hash()


def test_settings_have_folders_of_their_own(place, monkeypatch):
    monkeypatch.setattr(cache, "cache_directory", lambda: place)
    folders = {
        cache.kernel_cache.__wrapped__(*settings) for settings in ((), ("lanes4",), ("lanes8",), ("lanes8", "x"))
    }
    assert len(folders) == 4
    assert all(Path(str(folder)).is_dir() and mode(Path(str(folder))) == 0o700 for folder in folders)
    assert all(cache.source_hash() in str(folder) for folder in folders)


def test_kernels_follow_a_helper_in_another_file(run_python, tmp_path):
    """channel_reduce.py calls a helper of steps/intrinsics.py. Numba's own key covers channel_reduce.py alone and would serve the
    old kernel, which fills all of the result."""
    folder = tmp_path / "copy"
    leave_out = shutil.ignore_patterns("__pycache__", "kernels", "data")
    shutil.copytree(Path(npresnet.__file__).parent, folder / "npresnet", ignore=leave_out)
    shutil.copytree(Path(kernels.__file__).parent, folder / "npresnet" / "kernels")
    program = """
import numpy as np
from npresnet.kernels import channel_reduce
out = np.full((1, 2, 2, 1), 5, np.float32)
print(channel_reduce(np.full((1, 2, 2, 3), 3, np.float32), function="max", out=out).sum())
"""
    environment = {"NPRESNET_CACHE_DIR": str(tmp_path / "cache")}
    assert run_python(program, folder=folder, **environment) == "12.0\n"
    with (folder / "npresnet/kernels/steps/intrinsics.py").open("a") as file:
        file.write("\n\n@jit\ndef part_of(total, block, blocks, unit):\n    return 0, 0\n")
    assert run_python(program, folder=folder, **environment) == "20.0\n"
