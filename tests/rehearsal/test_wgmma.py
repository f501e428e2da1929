"""Kernels with more shared memory than a block has unasked, and a card on which they are wrong: here, where nothing is computed."""

from __future__ import annotations

import pytest

from npresnet.cuda import trial
from npresnet.cuda.card import open_card
from npresnet.kernels.cuda.wgmma import WARPGROUP_TILES

pytestmark = [pytest.mark.usefixtures("by_the_rules"), pytest.mark.filterwarnings("ignore:Grid size")]


@pytest.fixture(autouse=True)
def card():
    return open_card(0)


def test_shared_memory_is_asked_for_once(card, lines):
    """Before the first launch; and a card that writes nothing is seen to be wrong."""
    tile = next(iter(WARPGROUP_TILES))
    with card.current():
        attempt = next(trial.attempts(card))
    assert attempt.problem == f"{tile} computes a small product with a relative error of nan"
    asked = [line for line in lines("cuKernelSetAttribute", "launch") if line.kernel == f"convolve_{tile}"]
    assert [line.name for line in asked] == ["cuKernelSetAttribute", "launch", "launch"]
    assert {line.values["shared"] for line in asked} == {str(tile.shared)}


def test_the_other_process_comes_to_the_same():
    verdict, lasting = trial._verdict(0)
    assert verdict.endswith("computes a small product with a relative error of nan")
    assert lasting
