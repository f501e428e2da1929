"""These tests run in a process that has the stand-in for its driver. Elsewhere they are not collected."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from .stand_in import LOG, Line, Log

if LOG not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def log() -> Log:
    """Of the whole process."""
    return Log(Path(os.environ[LOG]))


@pytest.fixture
def lines(log: Log) -> Callable[..., Sequence[Line]]:
    """Lines of this test so far, all or those of some calls of the driver; ``forget=True``: and from now on those after them."""
    start = len(log.all())

    def found(*names: str, forget: bool = False) -> Sequence[Line]:
        nonlocal start
        new = [line for line in log.all()[start:] if not names or line.name in names]
        start = len(log.all()) if forget else start
        return new

    return found


@pytest.fixture
def by_the_rules(lines: Callable[..., Sequence[Line]]) -> Iterator[None]:
    """Nothing in this test may be against the rules of CUDA, or ask the driver for what it does not have."""
    yield
    assert lines("refused", "missing") == []
