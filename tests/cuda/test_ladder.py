"""The rungs of ``npresnet study ladder`` that a card adds: compared on a card or in the simulator, timed on a card alone."""

from __future__ import annotations

import sys

import numpy as np

from npresnet.kernels.cuda import LADDER
from npresnet.kernels.cuda.launch import SIMULATED
from npresnet.study.ladder import of_subject
from npresnet.study.subject import StudiedLayer
from npresnet.study.timing import Ceilings


def test_rungs_of_a_card(monkeypatch):
    monkeypatch.setattr(sys.modules["npresnet.study.ladder"], "ceilings", lambda threads: Ceilings("", 1, 1e11, 1e10))
    random = np.random.default_rng(0)
    x, w = random.standard_normal((1, 6, 5, 4), np.float32), random.standard_normal((3, 3, 4, 5), np.float32)
    subject = StudiedLayer("conv", x, w, np.ones(5, np.float32), (2, 2), (1, 1, 1, 0))
    rows = {row.name: row for row in of_subject(subject, timing=not SIMULATED, repeats=2).rows}
    for version in LADDER["conv2d"]:
        row = rows[version.__name__]
        assert row.problem == ""
        assert row.error < 1e-6
        assert (row.outside, row.peak_share) == (True, None)  # the peak is the processor's
        assert (row.timing is None) == SIMULATED
        assert "simulator" in row.idea or not SIMULATED
