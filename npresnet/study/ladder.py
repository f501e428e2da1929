"""``study ladder``: the same convolution by every version that there is, from loops that can be checked by eye to the one that
networks run on, each with the one idea that it adds (``rungs.py``), and what that bought.

What would take too long runs on the first rows of the map; how many is said, and nothing is extrapolated. Every version's result is
compared with float64 before it is timed; one that disagrees has no time.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from ..errors import UsageError
from ..model import ResNet
from ..verify.compare import compare
from . import elsewhere
from .forms import Column, Grid
from .mine import check_apart, load_function
from .rungs import MARKS, RUNGS, SLOW, Rung, card_rungs, engine, learners, parse_tile, peer, tile_idea
from .sources import text_of
from .subject import StudiedLayer, subject_of
from .timing import Ceilings, Timing, ceilings, measured, timing_of

__all__ = ["TABLES", "LadderStudy", "RungRow", "ladder", "of_subject"]

Array = npt.NDArray[Any]

_NAMES = (*(rung.name for rung in (*RUNGS, *MARKS)), "engine")
_TILED = "conv2d_im2col"  # the version that other tiles are tried in
_OWN_SECONDS = 1.0  # what one run of the learner's may take: as many rows of the map as that

TABLES = (
    Grid(
        "rows",
        (
            Column("version", "name"),
            Column("idea", "idea", wide=True),
            Column("threads", "threads", "count", wide=True),
            Column("pixels", "pixels", "shape"),
            Column("lines", "lines", "count", wide=True),
            Column("ms", "timing.seconds", "ms"),
            Column("quartiles", "timing.quartiles", "spread", wide=True),
            Column("GFLOP/s", "gflops", "three"),
            Column("of peak", "peak_share", "percent"),
            Column("gain", "gain", "times"),
            Column("error", "error", "error"),
        ),
        "GFLOP/s count the FLOP of the definition; gain: GFLOP/s over those of the rung before; error: relative, beside float64",
    ),
)


@dataclass(frozen=True)
class RungRow:
    """What became of a version.

    pixels       (rows, columns) of the outputs that it was run for; None where it was not
    flop         of one run, by the definition of the sum
    timing       None where it disagrees or nothing was timed
    gflops       flop / seconds / 1e9
    gain         over the rung before, of GFLOP/s
    error, worst beside float64, as ``verify.compare`` has them
    problem      what is wrong with it, or why it was not run
    source       its text
    """

    name: str
    idea: str
    threads: int | None
    pixels: tuple[int, int] | None
    flop: int
    lines: int | None
    timing: Timing | None
    gflops: float | None
    peak_share: float | None
    gain: float | None
    error: float | None
    worst: float | None
    problem: str
    source: str
    outside: bool


@dataclass(frozen=True)
class LadderStudy:
    """All versions on one convolution, [n, h, w, ci] with kernels [kh, kw, ci, co]."""

    layer: str
    shape: tuple[int, ...]
    kernels: tuple[int, ...]
    stride: tuple[int, int]
    rows: Sequence[RungRow]
    ceilings: Ceilings | None

    @property
    def problems(self) -> list[str]:
        """Of versions that disagree."""
        return [f"{row.name}: {row.problem}" for row in self.rows if row.problem and row.error is not None]


def ladder(
    net: ResNet,
    images: Array,
    layer: str | None = None,
    rungs: Sequence[str] | None = None,
    mine: str | None = None,
    threads: Sequence[int] = (1,),
    timing: bool = True,
    repeats: int = 5,
    tiles: Sequence[str] = (),
    engines: Sequence[str] = (),
) -> LadderStudy:
    """Every version of a convolution of ``net``, for the first of ``images``.

    layer    None: the 3x3 that costs the most
    rungs    names of versions; None: all
    mine     "my_conv.py:conv": the learner's own
    threads  one turn for each number
    timing   whether to time what agrees
    tiles    "6x64", ...: other tiles of sums for the micro-kernel, each in a process of its own
    engines  of ``npresnet bench``, with this layer alone in each

    Raises UsageError for a layer that is no convolution, for an unknown version, tile or engine, and for a file without that function.
    """
    subject = subject_of(net, images, layer)
    return of_subject(subject, rungs, mine, threads, timing, repeats, tiles=tiles, engines=engines)


def of_subject(
    subject: StudiedLayer,
    rungs: Sequence[str] | None = None,
    mine: str | None = None,
    threads: Sequence[int] = (1,),
    timing: bool = True,
    repeats: int = 5,
    versions: Sequence[Rung] = (*RUNGS, *MARKS),
    tiles: Sequence[str] = (),
    engines: Sequence[str] = (),
) -> LadderStudy:
    """The same of a convolution that is at hand."""
    unknown = set(rungs or ()) - set(_NAMES)
    if unknown:
        raise UsageError(f"rungs: got {', '.join(sorted(unknown))}; they are {', '.join(_NAMES)}")
    settings = {text: parse_tile(text) for text in tiles}
    own = None if mine is None else _learners(mine, subject)
    climb = _Climb(subject, timing, repeats)
    rows: list[RungRow] = []
    roofs = {count: ceilings(count) for count in threads} if timing else {}
    chosen = [rung for rung in versions if rungs is None or rung.name in rungs]
    for count in threads:
        turn: list[Rung | RungRow] = [rung for rung in chosen if not rung.outside]
        if rungs is None or "engine" in rungs:
            turn.append(engine(subject, count))
        turn += [rung for rung in chosen if rung.outside and count == threads[0]]
        for name in engines:
            found = peer(name, subject, count)
            turn.append(_not_run(name, found) if isinstance(found, str) else found)
        climbed = [part if isinstance(part, RungRow) else climb.row(part, count) for part in turn]
        for text, setting in settings.items():
            what, environment = f"tile {text}", {"NPRESNET_SETTINGS": str(setting)}
            row: RungRow = elsewhere.call(what, environment, _tiled, subject, count, timing, repeats)
            climbed.append(replace(row, name=f"{_TILED}, tile {text}", idea=tile_idea(setting), outside=True))
        if own is not None and count == threads[0]:
            climbed.append(own if isinstance(own, RungRow) else climb.row(own, count))
        rows += _gained(climbed, roofs[count].peak if timing else None)
    cards = card_rungs(subject) if rungs is None else []
    rows += [_not_run("on a card", cards)] if isinstance(cards, str) else [climb.row(rung, 1) for rung in cards]
    return LadderStudy(
        subject.layer, subject.x.shape, subject.w.shape, subject.stride, rows, roofs[threads[0]] if timing else None
    )  # fmt: skip


def _not_run(name: str, why: str, error: float | None = None) -> RungRow:
    """The row of a version that is not run; with an infinite ``error``, because it is wrong."""
    return RungRow(name, "", None, None, 0, None, None, None, None, None, error, error, why, "", True)


def _learners(mine: str, subject: StudiedLayer) -> Rung | RungRow:
    """The learner's version, or the row of one that is refused."""
    rung = learners(mine, load_function(mine), subject)
    wrong = check_apart(mine)
    return replace(_not_run(mine, f"refused: {wrong}", math.inf), idea=rung.idea) if wrong else rung


def _tiled(subject: StudiedLayer, threads: int, timing: bool, repeats: int) -> RungRow:
    """In a process that has another tile: the version that is made of it."""
    (rung,) = (rung for rung in RUNGS if rung.name == _TILED)
    return _Climb(subject, timing, repeats).row(rung, threads)


@dataclass
class _Climb:
    """What all versions are run on, and the truth that they are compared with."""

    subject: StudiedLayer
    timing: bool
    repeats: int
    truths: dict[int, Array] = field(default_factory=dict)

    def truth(self, part: StudiedLayer) -> Array:
        """Of the first rows of the map, once for each number of rows."""
        rows = part.size[0]
        if rows not in self.truths:
            self.truths[rows] = part.truth()
        return self.truths[rows]

    def row(self, rung: Rung, threads: int) -> RungRow:
        """A version: run, compared, and timed if it agrees."""
        part = self._part(rung)
        options = part.options() | ({"threads": threads} if rung.threaded else {})
        source, window = _text(rung), part.window
        row = RungRow(
            rung.name, rung.idea, threads, (window.ho, window.wo), part.flop, len(source.splitlines()) or None, None, None, None,
            None, None, None, "", source, rung.outside,
        )  # fmt: skip

        def call() -> Array:
            return rung.call(part.x, part.w, part.bias, **options)

        try:
            found = call()
        except Exception as error:  # a learner's kernel may raise anything
            if not rung.own:
                raise
            return replace(row, error=math.inf, problem=f"refused: it raises {type(error).__name__}: {error}")
        difference = compare(found, self.truth(part))
        row = replace(row, error=difference.relative, worst=difference.worst)
        if not difference.agrees():
            far = f"relative error {difference.relative:.1e}, worst {difference.worst:.1e}"
            return replace(row, problem=f"disagrees with float64: {difference.problem or far}")
        samples = rung.samples(self.repeats) if rung.samples and self.timing else None
        if not self.timing or (samples is not None and not samples):
            return row
        timed = measured(call, self.repeats) if samples is None else timing_of(samples)
        return replace(row, timing=timed, gflops=part.flop / timed.seconds / 1e9)

    def _part(self, rung: Rung) -> StudiedLayer:
        """The rows of the map that a version runs on; of the learner's as many as it is fast enough for."""
        if not rung.own:
            return self.subject.shortened(rung.most)
        part = self.subject.shortened(SLOW / 10)
        if not self.timing:
            return part
        for _ in range(2):  # the first time it may be compiled
            start = time.perf_counter()
            try:
                rung.call(part.x, part.w, part.bias, **part.options())
            except Exception:  # which is said when it is run in earnest
                return part
            seconds = time.perf_counter() - start
        return self.subject.shortened(min(rung.most, part.flop * _OWN_SECONDS / max(seconds, 1e-6)))


def _text(rung: Rung) -> str:
    """The source of a version: of the compiled loop that does the work, where there is one beside it."""
    if rung.source is None:
        return ""
    return text_of(getattr(inspect.getmodule(rung.source), f"_{rung.source.__name__}", rung.source))


def _gained(rows: Sequence[RungRow], peak: float | None) -> list[RungRow]:
    """The rows with what each gained over the one before, on the ladder."""
    found: list[RungRow] = []
    before: float | None = None
    for row in rows:
        if row.gflops is not None and peak is not None:
            gain = row.gflops / before if before and not row.outside else None
            row = replace(row, peak_share=row.gflops * 1e9 / peak, gain=gain)
            before = before if row.outside else row.gflops
        found.append(row)
    return found
