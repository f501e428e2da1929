"""Times by a card's clock, with a card that is played: what is recorded, and what is queued."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("numba_cuda")

from npresnet.cuda import timing


@pytest.fixture
def card(monkeypatch):
    """Plays a stream whose clock goes on by a second with each piece of work; ``happened`` is what the host did."""
    from numba import cuda

    played = SimpleNamespace(happened=[], clock=0, recorded=True, recording=None)

    def run(action: Any) -> None:
        if played.recording is not None:
            played.recording.append(action)
        else:
            action()

    def piece(name: str) -> Any:
        def queue(stream: Any) -> None:
            played.happened.append(name)
            run(lambda: setattr(played, "clock", played.clock + 1))

        return queue

    class Event:
        at = 0

        def elapsed_time(self, later: Event) -> float:
            return 1e3 * (later.at - self.at)

    def mark(event: Any, stream: Any, recording: bool) -> None:
        assert recording == (played.recording is not None)
        run(lambda: setattr(event, "at", played.clock))

    def record(stream: Any, queue: Any) -> Any:
        if not played.recorded:
            return None
        actions: list[Any] = []
        played.recording = actions
        queue(stream)
        played.recording = None

        def replay(stream: Any) -> None:
            played.happened.append("graph")
            for action in actions:
                action()

        return SimpleNamespace(queue=replay)

    monkeypatch.setattr(cuda, "event", Event)
    monkeypatch.setattr(timing, "_mark", mark)
    monkeypatch.setattr(timing, "record", record)
    played.piece = piece
    played.stream = SimpleNamespace(synchronize=lambda: played.happened.append("wait"))
    return played


def test_rounds_go_at_the_pace_of_the_card(card):
    """The host queues one graph for each of them, once all has run and is recorded."""
    pieces = [card.piece("a"), card.piece("b")]
    found = timing.timed(card.stream, pieces, 2, lambda: card.happened.append("images"))
    assert found == [[1.0, 1.0]] * 2
    assert card.happened == ["images", "a", "b", "a", "b", *["images", "graph", "wait"] * 2]


def test_what_cannot_be_recorded_is_timed_all_the_same(card):
    card.recorded = False
    assert timing.timed(card.stream, [card.piece("a")], 2) == [[1.0]] * 2
    assert card.happened == ["a", "a", "wait", "a", "wait"]
