"""Set-up that must happen before any test module is imported, and the fixtures that many of them share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is being imported

import pytest

import npresnet

CHECKOUT = Path(npresnet.__file__).parents[1]


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
