"""Whether warp groups are used: another process decides, and whatever becomes of it, nothing is computed wrongly."""

from __future__ import annotations

import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba_cuda")  # which test_cuda.py asserts to be there

from npresnet.cuda import measured, trial
from npresnet.cuda.measured import Choices
from npresnet.cuda.trial import Attempt, judged, warpgroups_work
from npresnet.kernels.cuda.fused import Convolution
from npresnet.kernels.cuda.wgmma import WarpgroupTile

RIGHT = 'print(\'compiling\'); print(\'{"verdict": "", "lasting": true}\')'


@pytest.fixture
def card(monkeypatch, tmp_path):
    """One with warp groups; ``card.other_process(code)`` says what is run instead of the trial."""
    started = []

    def other_process(code):
        monkeypatch.setattr(trial, "_command", lambda index: started.append(index) or [sys.executable, "-c", code])

    monkeypatch.setattr(trial, "kernel_cache", lambda kind: str(tmp_path))
    monkeypatch.setattr(trial, "_identity", lambda index: (f"card{index}", 13000))
    monkeypatch.setattr(trial, "_verdicts", {})
    monkeypatch.setattr(measured, "_file", lambda card: None)
    return SimpleNamespace(
        index=1, name="a card", capability=(9, 0), sms=132, other_process=other_process, started=started
    )


def test_what_was_tried_is_used_and_not_tried_again(card, monkeypatch, caplog):
    card.other_process(RIGHT)
    with caplog.at_level(logging.WARNING, "npresnet"):
        assert warpgroups_work(card)
        assert warpgroups_work(card)
        monkeypatch.setattr(trial, "_verdicts", {})  # another process, later
        assert warpgroups_work(card)
    assert card.started == [1]
    assert [record.message for record in caplog.records] == [
        "npresnet: wgmma is tried on this card, once, in a process of its own; some seconds"
    ]


@pytest.mark.parametrize("capability", [(8, 9), (10, 0)])
def test_other_cards_are_not_tried(card, capability):
    card.capability = capability
    assert not warpgroups_work(card)
    assert card.started == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ('print(\'{"verdict": "it is wrong", "lasting": true}\')', "it is wrong"),
        ("import sys; sys.exit('no card')", "the process that tried it ended with status 1, no card"),
        ("import os; os.abort()", "the process that tried it ended with status -6"),
        ("print('{}')", "the process that tried it ended with status 0"),
        ("import time; time.sleep(60)", "the process that tried it did not end in 1 s"),
    ],
)
def test_whatever_goes_wrong_it_is_not_used(card, monkeypatch, caplog, code, said):
    """That is said, in one sentence; and kept, for a card that cannot do it today cannot tomorrow."""
    monkeypatch.setattr(trial, "SECONDS", 1.0)
    card.other_process(code)
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "npresnet"):
            assert not warpgroups_work(card)
        assert caplog.messages[-1] == f"npresnet: cuda:1 (a card): tf32 without wgmma: {said}"
        assert trial.remembered(1) == said
        monkeypatch.setattr(trial, "_verdicts", {})
    assert card.started == [1]


@pytest.mark.parametrize(
    "code", ['print(\'{"verdict": "no memory", "lasting": false}\')', None], ids=["no memory", "no Python"]
)
def test_what_may_pass_is_tried_again_by_the_next_process(card, monkeypatch, code):
    card.other_process(code)
    if code is None:
        monkeypatch.setattr(trial, "_command", lambda index: ["/nowhere/python"])
    assert not warpgroups_work(card)
    assert trial.remembered(1) is None
    card.other_process(RIGHT)
    assert not warpgroups_work(card)
    monkeypatch.setattr(trial, "_verdicts", {})
    assert warpgroups_work(card)


def test_a_driver_that_does_not_answer(card, monkeypatch, caplog):
    monkeypatch.setattr(trial, "_identity", lambda index: 1 / 0)
    with caplog.at_level(logging.WARNING, "npresnet"):
        assert not warpgroups_work(card)
    assert caplog.messages[-1].endswith(
        "tf32 without wgmma: it could not be tried (ZeroDivisionError: division by zero)"
    )


@pytest.mark.parametrize("damage", ["", "[1]", '{"driver": 13000}', json.dumps({"driver": 12090, "verdict": ""})])
def test_what_was_kept_may_be_damaged_or_of_another_driver(card, tmp_path, damage):
    (tmp_path / "trial-card1.json").write_text(damage)
    assert trial.remembered(1) is None


def test_only_what_is_right_is_chosen(card, monkeypatch):
    """Also where warp groups were measured to be the fastest before."""
    size = Convolution(64, 28, 28, 128, 3, 3, 1, 1, 1, 1, 28, 28, 256)
    for verdict in ("it is wrong", ""):
        monkeypatch.setattr(trial, "_verdicts", {1: verdict})
        choices = Choices(card)
        assert isinstance(choices.convolution(size, "tf32", True).tile, WarpgroupTile) == (not verdict)
        choices.known["tf32 64x28x28x128 3x3/1x1 28x28x256"] = "wgmma_128x64s4"
        assert (str(choices.convolution(size, "tf32", True)) == "wgmma_128x64s4") == (not verdict)
        for precision in ("fp32", "3xtf32"):
            assert not isinstance(choices.convolution(size, precision, True).tile, WarpgroupTile)


@pytest.mark.parametrize(
    ("attempt", "problem"),
    [
        (Attempt("tile", 3e-4, 1e-7, True, 0.6), ""),
        (Attempt("tile", 2e-3, 1e-7, True, 0.6), "tile computes a small product with a relative error of 2.0e-03"),
        (Attempt("tile", np.nan, np.nan, False, np.nan), "tile computes a small product with a relative error of nan"),
        (Attempt("tile", 3e-4, 0.1, True, 0.6), "tile computes a large product with a relative error of 1.0e-01"),
        (Attempt("tile", 3e-4, 1e-7, False, 0.6), "tile does not compute the same in every run"),
    ],
)
def test_what_is_wrong(attempt, problem):
    assert attempt.problem == problem


@pytest.mark.parametrize(
    ("times", "verdict"),
    [((0.7, 1.2), ""), ((1.3, 1.25), "it is right, but takes 1.25 times as long as mma")],
)
def test_what_gains_nothing_is_not_used(times, verdict):
    assert judged(Attempt("tile", 3e-4, 1e-7, True, time) for time in times) == verdict


def test_after_what_is_wrong_nothing_is_tried():
    """The card may not be there any more."""
    tried = iter([Attempt("tile", 3e-4, 1e-7, True, 0.6), Attempt("wrong", 1.0, 1.0, True, 0.6), None])
    assert judged(tried) == "wrong computes a small product with a relative error of 1.0e+00"
    assert list(tried) == [None]
