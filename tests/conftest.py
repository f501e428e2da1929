"""Set-up that must happen before any test module is imported, and the fixtures that many of them share."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is being imported
# Tests run in several processes: there TensorFlow's and NumPy's threads would only wait for each other. Ours are not
# limited, for some tests are about them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# What a shell runs in its background has Ctrl-C ignored, and so have its children; some tests interrupt theirs.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

import npresnet

CHECKOUT = Path(npresnet.__file__).parents[1]
TESTS = Path(__file__).parent

LONGEST = (
    "kernels/test_kernels.py",  # compiles the kernels that those behind it find in the cache
    "without_card/test_assembly.py",
    "without_card/test_simulator.py",
    "cpu/test_backbones.py",
    "files/test_hdf5.py",
    "files/test_layouts.py",
    "network/test_families.py",
    "verify/test_oracle.py",
    "network/test_weights.py",
    "cli/test_cli.py",
    "kernels/test_simd.py",
    "bench/test_on_card.py",
    "network/test_convert.py",
    "study/test_page.py",
    "verify/test_described_oracle.py",
    "network/test_fuzz_networks.py",
    "network/test_described.py",
    "cpu/test_plan.py",
    "kernels/test_cache.py",
    "network/test_preprocessing.py",
    "peers/test_benchmark.py",
    "verify/test_verify.py",
    "cli/test_ends.py",
    "without_card/test_rehearsal.py",
    "kernels/test_machine_code.py",
    "study/test_course.py",
    "extraction/test_faults.py",
    "network/test_functions.py",
    "cpu/test_bounds.py",
    "test_model.py",
    "network/test_elementwise.py",
    "network/test_cut.py",
    "test_packaging.py",
    "kernels/test_threads.py",
    "verify/test_detector.py",
    "study/test_machine.py",
    "network/test_custom.py",
)
"""Files that take long. They begin first, so that at the end no process has much left to do while the others have none."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places), "a file of LONGEST is somewhere else now"
    items.sort(key=lambda item: places.get(item.path, len(places)))


def _stay() -> None:
    """What is there now, modules and compiled functions, stays for good: to look for garbage in it takes seconds each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _stay()
    gc.set_threshold(10_000)  # 14 times as many new objects as usual: Keras's models are many, and few are garbage


@pytest.fixture(scope="module", autouse=True)
def forgotten_models() -> Iterator[None]:
    """Keras keeps whatever was made with it: gigabytes, in the end."""
    yield
    if len(gc.get_objects()) > 100_000:  # since the last time
        for name in {"keras", "tf_keras"} & set(sys.modules):
            sys.modules[name].backend.clear_session()
        _stay()


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, the outside oracle. Only the tests that ask it need it, and without it they say so and are skipped."""
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Run code in a new Python process and return what it prints; a failure there fails here.

    Keywords are environment variables; None removes one. ``folder`` is where npresnet is imported from.
    """

    def run(code: str, *, folder: Path = CHECKOUT, **environment: str | None) -> str:
        everything = os.environ | environment
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env={name: value for name, value in everything.items() if value is not None},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
