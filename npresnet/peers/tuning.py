"""This engine beside itself with other settings: what ``npresnet tune --device cpu`` runs.

``kernels/processor.py`` says which settings there are and which are worth a try. They are fixed when a process imports the
kernels, so each candidate is a process of its own; those of one idea take turns with what was the best before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ..kernels.processor import Settings, alternatives, keep, usual
from .case import Case
from .process import EngineFailed, Process, Worker

__all__ = ["Trial", "Tuned", "tune_processor"]

_BETTER = 0.97  # of the time before: what gains less is noise
_ROUNDS, _TURN = 12, 0.12  # turns of each candidate, and their seconds


@dataclass(frozen=True)
class Trial:
    """``settings`` that were tried, and their least time over that of the best ones until then, measured side by side."""

    settings: Settings
    ratio: float


@dataclass(frozen=True)
class Tuned:
    """The best of all ``trials``, the usual settings being the first; ``kept``: where they are, None where nothing can be
    written."""

    best: Settings
    trials: tuple[Trial, ...]
    kept: Path | None


def tune_processor(
    weights: Path,
    case: Case,
    *,
    seen: Callable[[Trial], None] = lambda trial: None,
    start: Callable[[Settings], Worker] | None = None,
) -> Tuned:
    """Try settings of the processor's kernels on a network, and keep the best for processes that start from now on.

    seen   is called with each trial as it comes
    start  makes the process of a candidate (the tests have their own)

    Nothing else should run meanwhile. Results do not change. Raises EngineFailed where the usual settings fail.
    """

    def process(settings: Settings) -> Process:
        return Process("npresnet", weights, case, {"NPRESNET_SETTINGS": str(settings)})

    begin: Callable[[Settings], Worker] = start or process

    def raced(first: Settings, others: list[Settings]) -> dict[Settings, float]:
        """{settings: time over that of ``first``}, without those that cannot be made."""
        with ExitStack() as running:

            def started(settings: Settings) -> Worker:
                worker = begin(settings)
                running.callback(worker.close)
                return worker

            workers = {first: started(first)}
            for settings in others:
                with suppress(EngineFailed):
                    workers[settings] = started(settings)
            return dict(zip(workers, _ratios([*workers.values()]), strict=True))

    best, trials = usual(), [Trial(usual(), 1.0)]
    for idea in range(len(alternatives(best))):
        ratios = raced(best, alternatives(best)[idea])
        for settings in list(ratios)[1:]:
            trials.append(Trial(settings, ratios[settings]))
            seen(trials[-1])
        fastest = min(ratios, key=ratios.__getitem__)
        if ratios[fastest] < _BETTER:
            best = fastest
    # once more, in new processes: where memory happens to lie makes some of them faster
    if best != usual() and raced(usual(), [best]).get(best, 1.0) > _BETTER:
        best = usual()
    return Tuned(best, tuple(trials), keep(best))


def _ratios(workers: list[Worker]) -> list[float]:
    """Each one's least time over the first one's: others on the same machine can only make a run longer. Infinity for one that has
    failed."""
    runs = max(1, round(_TURN / min(workers[0].time(2, 1))))
    least = [float("inf")] * len(workers)
    for number in range(_ROUNDS):
        for index in range(len(workers)) if number % 2 else reversed(range(len(workers))):
            if number == 0 or least[index] < float("inf"):
                try:
                    least[index] = min(least[index], *workers[index].time(runs, 1))
                except EngineFailed:
                    if index == 0:
                        raise
                    least[index] = float("inf")
    return [seconds / least[0] for seconds in least]
