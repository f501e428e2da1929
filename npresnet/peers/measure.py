"""This engine beside every engine that is installed: what ``npresnet bench`` runs.

Each engine lives in a process of its own, with its number of threads fixed at the start, and all are given the same
Keras file and the same images. Their features are compared with npresnet's before anything is timed; an engine that
computes something else is not timed at all. Then they take turns, A, B, C, A, B, C, ..., so that whatever slows the
machine for a while slows all of them; only one runs at a time, and each first runs untimed, because the others have
cooled the caches. What comes out is a plain dict with every single sample in it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from ..verify.compare import compare
from .case import Case
from .engines import PEERS, missing, peer_class
from .process import EngineFailed, Process, Worker

__all__ = ["ENGINES", "Watcher", "measure", "summary"]

Array = npt.NDArray[Any]

OURS = "npresnet"
ENGINES = (OURS, *PEERS)
"""All engines by name, ours first."""

_TURN = 0.5  # seconds of timed runs in one turn, if one run is shorter than that
_WARM = 0.1  # seconds of untimed runs before them, at least one run
_MOST = 50  # timed runs in one turn


class Watcher(Protocol):
    """Who wants to see how it goes."""

    def note(self, text: str) -> None:
        """A line worth keeping: how an engine's results compare, that one is missing or has failed."""

    def doing(self, text: str) -> None:
        """What goes on now."""


def measure(
    case: Case,
    weights: Path,
    engines: Sequence[str] = ENGINES,
    *,
    rounds: int = 5,
    watcher: Watcher,
    start: Callable[[str], Worker] | None = None,
) -> dict[str, Any]:
    """Measure one case on all of ``engines`` that are installed; npresnet is always one of them.

    start   makes the worker of an engine (the tests have their own)

    Returns {"network", "batch", "threads", "precision", "rounds", "engines": {name: result}}. An engine's result has
    "title" and "status": "ok", "missing", "failed" or "disagrees"; "reason" unless it is ok; and as far as it came

    version, settings, chosen (what the engine was found to do best with)
    start_seconds     from the start of its process to its first features; of that weights_seconds for reading the
                      Keras file, build_seconds for importing the engine and making the network, first_seconds to run
    convert_seconds   none of these: what a converter took, in a process of its own, where the engine has one
    differences       {output: [relative, worst]} from npresnet's; error is the largest relative one
    samples           seconds of every timed run, one list per round; median, min and quartiles of all of them
    peak_bytes        peak resident memory while running, once the network is made (on Linux; else since the start);
                      load_peak_bytes until then
    """
    begin: Callable[[str], Worker] = start or (lambda engine: Process(engine, weights, case))
    names = [OURS, *(name for name in engines if name != OURS)]
    results: dict[str, dict[str, Any]] = {name: {"title": _title(name)} for name in names}
    workers: dict[str, Worker] = {}

    def drop(name: str, status: str, reason: str) -> None:
        results[name] |= {"status": status, "reason": reason}
        watcher.note(f"{results[name]['title']}: {status}: {reason}")
        if name in workers:
            workers.pop(name).close()

    @contextmanager
    def working(name: str, text: str) -> Iterator[None]:
        watcher.doing(f"{results[name]['title']}: {text}")
        try:
            yield
        except EngineFailed as error:
            drop(name, "failed", str(error))

    try:
        expected: Mapping[str, Array] | None = None
        found: Mapping[str, Array] | None = None
        for name in names:
            lacking = missing(name) if name in PEERS else None
            if lacking:
                drop(name, "missing", lacking)
            elif expected is None and name != OURS:
                drop(name, "failed", "not run, because npresnet's results are not there to compare with")
            else:
                with working(name, "starting and comparing"):
                    workers[name] = begin(name)
                    results[name] |= workers[name].ready
                    found = workers[name].features()
                    results[name] |= _compared(found, found if expected is None else expected)
                    if expected is None:
                        expected = found
                    elif results[name]["status"] == "ok":
                        watcher.note(f"{results[name]['title']}: {_in_words(results[name]['differences'])}")
                    else:
                        drop(name, "disagrees", results[name]["reason"])
        expected = found = None  # some hundred megabytes, not to be held while others are timed

        runs: dict[str, tuple[int, int]] = {}
        for name in list(workers):
            with working(name, "warming up"):
                seconds = min(workers[name].time(2, 1))
                runs[name] = _count(_TURN / seconds), _count(_WARM / seconds)
                results[name]["samples"] = []
        for number in range(rounds):
            for name in list(workers):
                with working(name, f"round {number + 1} of {rounds}"):
                    results[name]["samples"].append(workers[name].time(*runs[name]))
        for name in workers:
            results[name] |= summary(results[name]["samples"])
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "network": case.network,
        "batch": list(case.batch),
        "threads": case.threads,
        "precision": "float32",
        "rounds": rounds,
        "engines": results,
    }


def _title(engine: str) -> str:
    return peer_class(engine).title if engine in PEERS else engine


def _count(number: float) -> int:
    """``number`` of runs as a whole one, at least one and not too many."""
    return max(1, min(_MOST, math.ceil(number)))


def summary(samples: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Median, least and quartiles of all samples, in their unit."""
    every = [seconds for turn in samples for seconds in turn]
    low, middle, high = statistics.quantiles(every, n=4, method="inclusive") if len(every) > 1 else every * 3
    return {"median": middle, "min": min(every), "quartiles": [low, high]}


def _compared(found: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, Any]:
    """How far ``found`` is from npresnet's outputs, and the verdict: status, reason, differences, error."""
    if set(found) != set(expected):
        return {"status": "disagrees", "reason": f"it has {', '.join(found)} instead of {', '.join(expected)}"}
    verdict: dict[str, Any] = {"status": "ok", "differences": {}, "error": 0.0}
    for output, array in expected.items():
        difference = compare(found[output], array)
        if difference.problem is None:
            verdict["differences"][output] = [difference.relative, difference.worst]
            verdict["error"] = max(verdict["error"], difference.relative)
        if not difference.agrees() and verdict["status"] == "ok":
            text = difference.problem or f"relative error {difference.relative:.1e}, worst {difference.worst:.1e}"
            verdict |= {"status": "disagrees", "reason": f"{output}: {text}"}
    return verdict


def _in_words(differences: Mapping[str, Sequence[float]]) -> str:
    return "relative difference " + ", ".join(f"{name} {value[0]:.1e}" for name, value in differences.items())
