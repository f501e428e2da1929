"""The tests of ``tests/rehearsal``, under a driver that is built here. Where no C compiler is found they say so and are skipped;
``.ci/run`` sees to one, and fails if they were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..rehearsal.stand_in import SOURCE, build, compiler, environment
from ..support.junit import passed

LEAST = 57
"""How many tests must pass, lest none be found and nobody notice."""


@pytest.mark.skipif(sys.platform != "linux", reason="the driver that is built here is a library for Linux")
def test_rehearsed(tmp_path):
    pytest.importorskip("numba_cuda")
    if compiler() is None:
        lacking = pytest.fail if os.environ.get("NPRESNET_COMPILER") == "required" else pytest.skip
        lacking("no C compiler is found (CC, cc, gcc, clang): the card's host code is not rehearsed")
    build(tmp_path)
    found = tmp_path / "found.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        SOURCE.parent,
        f"--junitxml={found}",
    ]
    done = subprocess.run(
        command,
        cwd=SOURCE.parents[2],
        env=environment(tmp_path, tmp_path / "log"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert passed(found).total() >= LEAST
