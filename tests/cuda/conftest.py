"""Where the tests of this folder can run: on a card, or in the simulator. Elsewhere they are not collected, and
``tests/without_card/test_simulator.py`` runs them in the simulator, in processes of their own."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest


def _can_run() -> bool:
    if importlib.util.find_spec("numba_cuda") is None:
        return False
    from numba import config, cuda

    return bool(config.ENABLE_CUDASIM) or cuda.is_available()


def _simulated() -> bool:
    from numba import config

    return bool(config.ENABLE_CUDASIM)


if not _can_run():
    collect_ignore_glob = ["test_*.py"]
elif _simulated():
    from bench.simulated_blocks import quicken

    quicken()


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    """Memory that is made on the card is full of NaN, so that what a kernel does not write, or reads before, shows."""
    from npresnet.kernels.cuda.launch import Call

    def empty(self, shape):
        return self.copied(np.full(shape, np.nan, np.float32))

    monkeypatch.setattr(Call, "empty", empty)


@pytest.fixture
def launches(monkeypatch):
    """[(kernel's name, stream)] of all that has been queued so far in this test."""
    from npresnet.kernels.cuda.launch import Kernel

    seen = []
    launch = Kernel.launch

    def note(self, blocks, stream, *arguments):
        seen.append((self.name, stream))
        return launch(self, blocks, stream, *arguments)

    monkeypatch.setattr(Kernel, "launch", note)
    return seen
