"""How a command ends when something outside of it goes wrong: the disk, the standard streams, a user who wants to stop."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from npresnet.cpu.warmup import Warmup
from npresnet.files.keras_h5 import write_layers
from npresnet.kernels.cache import NOWHERE
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES

from .test_cli import cli, weight_file, written

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals, limits and descriptors")

COMMAND = [sys.executable, "-m", "npresnet"]
RUN = ("run", "prepared.npy", "--weights", "weights.h5")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    weight_file(folder / "weights.h5")
    np.save(folder / "prepared.npy", np.zeros((1, 32, 32, 3), np.float32))
    return folder


# A disk that is full --------------------------------------------------------------------------------------------------


@contextmanager
def full_after(size: int):
    """No file of this process can have more bytes: the system says so at the same places, if in other words."""
    resource = pytest.importorskip("resource", reason="this system has no limits of a process")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = f"cannot be written ({os.strerror(errno.EFBIG)}); is the disk full?"


@pytest.mark.parametrize("size", [0, 3000, 20_000, 1_000_000])
@pytest.mark.parametrize("before", [None, b"an older result"])
def test_convert(folder, size, before):
    """Wherever it is in the file that there is no more room: at its beginning, or when HDF5 writes what it held back."""
    if before:
        Path("out.h5").write_bytes(before)
    with full_after(size):
        status, output = cli("convert", "weights.h5", "out.h5", "--force")
    assert (status, output) == (2, f"npresnet: out.h5: {FULL}\n")
    assert written(folder) == ({"out.h5"} if before else set())
    assert not before or Path("out.h5").read_bytes() == before


@pytest.mark.parametrize("size", [0, 3000, 20_000])
def test_run(folder, size):
    with full_after(size):
        status, output = cli(*RUN)
    assert (status, output) == (2, f"npresnet: features.npz: {FULL}\n")
    assert written(folder) == set()


def test_verify(folder):
    with full_after(3000):
        status, output = cli("verify", "weights.h5", "prepared.npy", "--against", "reference", "--record", "r.npz")
    assert status == 2
    assert output.endswith(f"npresnet: r.npz: {FULL}\n")
    assert written(folder) == set()


@pytest.mark.parametrize("size", [0, 20_000])
def test_weights_of_the_demo(folder, monkeypatch, size):
    thin = build_graph(Architecture.standard(FAMILIES["matterport"], 50, width=4))
    monkeypatch.setattr("npresnet.network.building.build_graph", lambda architecture: thin)
    monkeypatch.setattr("npresnet.kernels.cache.cache_directory", lambda: folder / "cache")
    with full_after(size):
        status, output = cli("demo", "--out", "out")
    assert status == 2
    assert output == f"npresnet: {folder}/cache/demo/matterport_resnet50_seed0.h5: {FULL}\n"
    assert written(folder / "cache" / "demo") == written(Path("out")) == set()


def test_picture_of_the_demo(folder, monkeypatch):
    monkeypatch.setattr("npresnet.cli.demo.demo_weights", lambda: (Path("weights.h5"), False))
    monkeypatch.setattr("npresnet.results.saving.save_arrays", lambda *arguments: None)
    with full_after(20_000):
        status, output = cli("demo", "--out", "out")
    assert status == 2
    assert output.endswith(f"npresnet: out/features.png: {FULL}\n")
    assert written(Path("out")) == set()


def test_other_errors_of_the_writer_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_layers(tmp_path / "a.h5", ["a"], (("a", {"kernel": np.zeros(1 // 0)}) for _ in range(1)))


def test_a_folder_that_cannot_be_made(folder, monkeypatch):
    """An error of the system that nobody has foreseen is one line as well."""
    Path("file").touch()
    monkeypatch.setattr("npresnet.kernels.cache.cache_directory", lambda: Path("file"))
    status, output = cli("demo", "--out", "out")
    assert status == 2
    assert output.startswith(f"npresnet: file{os.sep}demo: cannot be read or written (Not a directory)")


@pytest.mark.parametrize(
    ("done", "status", "words"),
    [
        (Warmup(1.25, 47, 0, Path("there")), 0, "47 kernels compiled in 1.2 s, kept in there"),
        (Warmup(1.25, 0, 0, Path("there")), 0, "all kernels were compiled already, loaded in 1.2 s, kept in there"),
        (
            Warmup(1.25, 47, 18, Path("there")),
            1,
            "npresnet: warmup: 18 of 47 kernels compiled could not be kept in there;",
        ),
        (Warmup(1.25, 47, 0, None), 1, f"npresnet: warmup: 47 kernels compiled, none of them kept: {NOWHERE}"),
    ],
)
def test_warmup(monkeypatch, done, status, words):
    """That kernels which are not kept are counted: ``tests/kernels/test_cache.py``."""
    monkeypatch.setattr("npresnet.cpu.warmup.warmup", lambda: done)
    found, output = cli("warmup")
    assert found == status
    assert output.startswith(words)
    assert output.count("\n") == 1


# Standard streams -----------------------------------------------------------------------------------------------------


def closed(*descriptors: int):
    def close():
        for descriptor in descriptors:
            os.close(descriptor)

    return {"preexec_fn": close}


@unix
@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["--version"], ""), (["--help"], ""), (["info", "weights.h5", "--layers"], "1"), ([*RUN], "")],
)
@pytest.mark.parametrize("output", ["full", "closed", "read by nobody"])
def test_results_that_cannot_be_written(folder, output, arguments, unbuffered):
    """One line and status 1; what goes to files is there. A reader that has gone knows."""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command, options = [*COMMAND, *arguments], {"stderr": subprocess.PIPE, "text": True, "env": environment}
    if output == "full":
        if not Path("/dev/full").exists():
            pytest.skip("this system has no device that is always full")
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, **options)
        reason = os.strerror(errno.ENOSPC)
    elif output == "closed":
        done = subprocess.run(command, **closed(1), **options)
        reason = os.strerror(errno.EBADF)
    else:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(command, stdout=write, **options)
        os.close(write)
        reason = None
    said = f"npresnet: the results cannot be written to standard output ({reason}); send them elsewhere\n"
    assert (done.returncode, done.stderr) == (1, said if reason else "")
    assert written(folder) == ({"features.npz"} if arguments == [*RUN] else set())


@unix
@pytest.mark.parametrize("messages", ["full", "closed"])
@pytest.mark.parametrize(
    ("arguments", "status"), [(["info", "missing.h5"], 2), (["frobnicate"], 2), (["--version"], 0)]
)
def test_messages_that_cannot_be_written(messages, arguments, status):
    """They do not go where the results go, and change no exit status."""
    if messages == "full" and not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with open("/dev/full" if messages == "full" else os.devnull, "w") as file:
        options = {"stderr": file} if messages == "full" else closed(2)
        done = subprocess.run([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, **options)
    assert done.returncode == status
    assert done.stdout.startswith("npresnet 0." if status == 0 else "")
    assert (done.stdout == "") == (status != 0)


@unix
def test_no_file_takes_the_place_of_a_closed_stream(folder):
    """What is printed, by the HDF5 library too, would be written into the file."""
    assert cli("convert", "weights.h5", "expected.h5")[0] == 0
    done = subprocess.run([*COMMAND, "convert", "weights.h5", "out.h5"], **closed(0, 1, 2))
    assert done.returncode == 1  # for the results, which are not the file
    assert Path("out.h5").read_bytes() == Path("expected.h5").read_bytes()


# Ctrl-C ---------------------------------------------------------------------------------------------------------------

BEGIN = """
import ctypes, hashlib, sys, tempfile, time
from pathlib import Path
import npresnet.cpu.warmup
from npresnet.files.safe_write import replaced
from npresnet.kernels import cache

def compiled_code():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)  # minutes without a single instruction of Python's

def warmup():
    tempfile.tempdir = "."
    assert cache.lasting_directory() is None and cache.cache_directory().is_dir()
    with replaced("result"):
        Path("ready").touch()
        stay()

npresnet.cpu.warmup.warmup = warmup
sys.argv = ["npresnet", "warmup"]
"""

STAYING = {
    "in Python": "def stay():\n    time.sleep(300)",
    "in compiled code": "def stay():\n    compiled_code()",
    "where exceptions are lost": (
        "def callback():\n    time.sleep(300)\ndef stay():\n    ctypes.CFUNCTYPE(None)(callback)()\n    compiled_code()"
    ),
    "where errors are passed over": (
        "def stay():\n    try:\n        time.sleep(300)\n    finally:\n        compiled_code()"  # as where threads are waited for
    ),
}


def interrupted(folder: Path, place: str, stderr: int) -> subprocess.Popen:
    """A command that stays at a place, and was told to end."""
    code = f"{BEGIN}{STAYING[place]}\nfrom npresnet.__main__ import main\nmain()"
    environment = {**os.environ, "NPRESNET_CACHE_DIR": os.devnull}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr
    )
    while not (folder / "ready").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    return process


@unix
@pytest.mark.parametrize("place", STAYING)
def test_interrupted(tmp_path, place):
    process = interrupted(tmp_path, place, subprocess.PIPE)
    assert process.communicate(timeout=60) == (b"", b"npresnet: interrupted\n")
    assert process.returncode == 130
    assert written(tmp_path) == {"ready"}


@unix
def test_interrupted_on_a_terminal(tmp_path):
    """What is told begins its line, where a progress bar may stand."""
    ours, terminal = os.openpty()
    process = interrupted(tmp_path, "in Python", terminal)
    assert process.wait(timeout=60) == 130
    assert os.read(ours, 1000) == b"\r\x1b[Knpresnet: interrupted\r\n"
    process.stdout.close()
    os.close(ours)
    os.close(terminal)


@unix
def test_interrupted_while_kernels_compile(tmp_path):
    environment = {**os.environ, "NPRESNET_CACHE_DIR": str(tmp_path / "cache")}
    process = subprocess.Popen([*COMMAND, "warmup"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr.readline().startswith(b"npresnet: compiling kernels")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"npresnet: interrupted\n")
    assert process.returncode == 130


@unix
def test_who_has_it_ignored_goes_on(tmp_path):
    """As in the background of a shell's script, or under ``nohup``."""
    code = (
        "import os, signal, sys\nfrom npresnet.cli import app\nimport npresnet.cli.info\n"
        "sys.argv = ['npresnet', '--version']\nfrom npresnet.__main__ import main\n"
        "from npresnet.cli import interrupt\nwatch = interrupt.watch\n"
        "def watched():\n    watch()\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "import npresnet.__main__\nnpresnet.__main__.watch = watched\nmain()"
    )
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **ignore)
    assert (done.returncode, done.stderr) == (0, "")


# No home --------------------------------------------------------------------------------------------------------------


@unix
def test_a_user_without_a_home(folder):
    """Neither in the environment nor in the system's list of users, as in many containers."""
    code = """
import os, pwd, sys
for name in ("HOME", "NPRESNET_CACHE_DIR", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
pwd.getpwuid = {}.__getitem__
from npresnet.__main__ import main
main()
"""
    for arguments, status in (
        (["info", "weights.h5"], 0),
        (["info", "~/weights.h5"], 2),
        (["info", "~nobody/w.h5"], 2),
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == status
        assert done.stderr.count("\n") == (status != 0)
