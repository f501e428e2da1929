"""The kernels for cards, in Numba's simulator, and what importing them costs. ``tests/cuda`` holds the tests themselves:
they need a process of their own, in which the simulator takes the compiler's place from the start."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from ..support.junit import passed
from ..support.threads import beside

FOLDER = Path(__file__).parents[1] / "cuda"

LEAST = {
    "test_banks.py": 5,
    "test_blocks.py": 11,
    "test_kernels.py": 1500,
    "test_calls.py": 840,
    "test_fused.py": 55,
    "test_warpgroups.py": 20,
    "test_networks.py": 35,
    "test_detect.py": 1,
    "test_ladder.py": 1,
}
"""By file: how many tests must pass, lest none be found and nobody notice."""

LARGE = ("test_kernels.py", "test_fused.py", "test_networks.py")
"""Files with a process of their own; to start one takes longer than most others do."""


def needs_numba_cuda():
    pytest.importorskip("numba_cuda", reason="numba-cuda has no wheels for this platform")


@pytest.mark.timeout(3600)  # it is a good part of all the work, and the machine may be busy
def test_in_the_simulator(tmp_path):
    """All at once, for each runs on one processor alone. None may be skipped."""
    needs_numba_cuda()
    assert {path.name for path in FOLDER.glob("test_*.py")} == set(LEAST)
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONWARNINGS": "ignore::RuntimeWarning"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    parts = [*((name,) for name in LARGE), tuple(LEAST.keys() - set(LARGE))]
    running = {
        part: subprocess.Popen(
            [*command, *(FOLDER / name for name in sorted(part)), f"--junitxml={tmp_path / part[0]}.xml"],
            cwd=FOLDER.parents[1], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for part in parts
    }  # fmt: skip
    for part, process in running.items():
        print(process.communicate()[0])
        assert process.returncode == 0, part
        found = passed(tmp_path / f"{part[0]}.xml")
        assert found.keys() == set(part)
        for name in part:
            assert found[name] >= LEAST[name], name


def test_imported_when_asked_for(run_python):
    needs_numba_cuda()
    code = """
import sys
import npresnet.kernels
assert "numba.cuda" not in sys.modules and "npresnet.kernels.cuda" not in sys.modules
assert npresnet.kernels.cuda.LADDER["gemm"] and npresnet.kernels.cuda is sys.modules["npresnet.kernels.cuda"]
assert "numba.cuda" in sys.modules
try:
    npresnet.kernels.rocm
except AttributeError as error:
    print(error)
"""
    assert run_python(code) == "module 'npresnet.kernels' has no attribute 'rocm'\n"


def test_networks_on_the_cpu_import_nothing_of_it(run_python):
    """Loading and running one costs the same with numba-cuda and without."""
    needs_numba_cuda()
    code = """
import sys
import numpy as np
import npresnet
net = npresnet.load("tests/data/digits.keras")
net(np.zeros((1, 32, 32, 3), np.float32)), net.summary(), list(net.trace(np.zeros((1, 32, 32, 3), np.float32)))
names = ("numba.cuda", "numba_cuda", "cuda", "npresnet.cuda", "npresnet.kernels.cuda")
print([name for name in sys.modules if name in names or name.startswith(tuple(f"{n}." for n in names))])
"""
    assert run_python(code) == "[]\n"


def test_without_numba_cuda(run_python):
    """Who asks is told what to install; who does not is not bothered."""
    code = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "numba_cuda" else found(name, package)
import npresnet.kernels
try:
    npresnet.kernels.cuda
except ImportError as error:
    print(error)
"""
    said = run_python(code)
    assert "numba-cuda" in said
    assert "pip install 'npresnet[cuda]'" in said


def test_tests_are_collected_without_numba_cuda(tmp_path):
    """Those that need it say so, each by itself; none keeps the others from being run."""
    hide = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "numba_cuda":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "numba_cuda" else found(name, package)
"""
    (tmp_path / "sitecustomize.py").write_text(hide)
    root = FOLDER.parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(root)))}
    folders = [FOLDER, FOLDER.parent / "bench", FOLDER.parent / "without_card"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--collect-only", *folders]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_on_card.py::test_tables" in done.stdout


def test_a_kernel_is_launched_by_one_thread_at_a_time(monkeypatch):
    """The first launch compiles and loads it, which Numba does not survive on two threads at once."""
    needs_numba_cuda()
    from npresnet.kernels.cuda import launch

    inside, most, begun, go = [], [], threading.Event(), threading.Event()

    def queued(*arguments):
        inside.append(arguments)
        most.append(len(inside))
        begun.set()
        go.wait()
        inside.pop()

    class Compiled:
        def __getitem__(self, configuration):
            return queued

    monkeypatch.setattr(launch.cuda, "jit", lambda **options: lambda function: Compiled())
    monkeypatch.setattr(launch, "KERNELS", [])
    kernel = launch.kernel("int", threads=1)(lambda number: None)
    beside(lambda: kernel.launch(1, 0, 5), lambda: kernel.launch(1, 0, 5), begun, go)
    assert most == [1, 1]


def test_alignment():
    """Vectors of four begin at multiples of 16 bytes; parts of another library's array may not."""
    needs_numba_cuda()
    from npresnet.kernels.cuda.launch import aligned

    def at(address):
        return SimpleNamespace(device_ctypes_pointer=ctypes.c_void_p(address))

    assert aligned(at(1 << 40), at(32), at(0))  # an empty array has no address
    for address in (4, 8, 12, (1 << 40) + 8):
        assert not aligned(at(16), at(address))


def test_examples_of_the_readme(run_python):
    needs_numba_cuda()
    text = (FOLDER.parents[1] / "kernels" / "README.md").read_text()
    simulated, compiled = re.findall(r"```python\n(.*?)```", text.split("## On a card")[1], re.DOTALL)
    lines = run_python(simulated).split("\n")
    assert [line.split(" ")[0] for line in lines] == ["conv2d_cuda_direct", "conv2d_cuda_im2col", ""]
    assert all(float(line.split(" ")[1]) < 1e-5 for line in lines[:-1])
    assert "0 bytes spilled" in run_python(compiled)


@pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="numba-cuda has no wheels for this platform")
def test_numba_cuda_is_installed():
    """The extra ``test`` brings it, so that nothing of this is skipped by mistake."""
    import numba_cuda

    assert numba_cuda.__version__
