"""What was used most recently is kept, and made once."""

from __future__ import annotations

import threading
import time

import pytest

from npresnet.plan.recent import Recent


def test_the_last_that_were_used_are_kept():
    seen: list[list[str]] = []
    recent: Recent[str, str] = Recent(2, lambda values: seen.append([*values]))
    for key in "abacab":
        assert recent.get(key, key.upper) == key.upper()
    assert [*recent.kept().items()] == [("a", "A"), ("b", "B")]
    assert seen == [["A"], ["A", "B"], ["A", "C"], ["A", "B"]]
    recent.clear()
    assert not recent.kept()


def test_what_cannot_be_made_is_not_kept():
    recent: Recent[int, int] = Recent(1)
    recent.get(1, lambda: 1)
    with pytest.raises(ZeroDivisionError):
        recent.get(2, lambda: 1 // 0)
    assert recent.kept() == {1: 1}
    assert recent.get(2, lambda: 2) == 2


def test_many_threads_make_it_once():
    recent: Recent[str, object] = Recent(2)
    made: list[object] = []
    found: list[object] = []

    def make() -> object:
        time.sleep(0.01)
        made.append(object())
        return made[-1]

    threads = [threading.Thread(target=lambda: found.append(recent.get("key", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(found), len(set(found))) == (1, 8, 1)
