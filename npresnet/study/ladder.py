"""``study ladder``: the same convolution by every version that there is, from loops that can be checked by eye to the one that
networks run on, each with the one idea that it adds, and what that bought.

What would take too long runs on the first rows of the map; how many is said, and nothing is extrapolated. Every version's result is
compared with float64 before it is timed; one that disagrees has no time.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cpu.by_plan import make_plan
from ..cpu.packing import Constants
from ..errors import MissingExtraError, NpResNetError, UsageError
from ..kernels.conv2d import conv2d_direct, conv2d_im2col, conv2d_reference, conv2d_winograd
from ..kernels.gemm import gemm_blocked, gemm_naive
from ..kernels.im2col import im2col
from ..model import ResNet
from ..network.graph import Graph, Layer
from ..network.operators import Conv2D, Input
from ..plan.memory import Memory
from ..verify.compare import compare
from .forms import Column, Grid
from .mine import check, load_function
from .subject import StudiedLayer, subject_of
from .timing import Ceilings, Timing, ceilings, measured, timing_of

__all__ = ["RUNGS", "TABLES", "LadderStudy", "Rung", "RungRow", "ladder"]

Array = npt.NDArray[Any]

_SLOW, _FAST = 4e7, 4e9  # FLOP of one run of what is slow, and of all others

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
class Rung:
    """A version. ``call`` takes x, w, bias and the options of the kernels, and ``threads=`` where ``threaded``.

    source   the function whose text is shown; None for what has no short one
    slow     runs on a small part of the map
    outside  of the ladder: a mark to compare with, which no gain is counted from
    """

    name: str
    idea: str
    call: Callable[..., Array]
    source: Any = None
    slow: bool = False
    threaded: bool = True
    outside: bool = False


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


def _through(product: Callable[..., Array]) -> Callable[..., Array]:
    """A convolution by im2col, the whole matrix at once, and a matrix product."""

    def convolve(x: Array, w: Array, bias: Array | None, *, threads: int = 1, **options: Any) -> Array:
        cols = im2col(x, w.shape[:2], threads=threads, **options)
        kernels = w.reshape(-1, w.shape[3])
        flat = product(cols, kernels, bias) if product is _blas else product(cols, kernels, bias, threads=threads)
        return flat.reshape(x.shape[0], *_size(x, w, options), w.shape[3])

    return convolve


def _size(x: Array, w: Array, options: Mapping[str, Any]) -> tuple[int, int]:
    window = StudiedLayer("", x, w, None, options["stride"], options["padding"], options["dilation"]).window
    return window.ho, window.wo


def _blas(cols: Array, kernels: Array, bias: Array | None) -> Array:
    product: Array = cols @ kernels
    return product if bias is None else product + bias


RUNGS = (
    Rung(
        "conv2d_direct", "the sum as loops, the innermost over channels that lie side by side", conv2d_direct, conv2d_direct, True
    ),
    Rung(
        "im2col + gemm_naive", "windows as rows of a matrix: now it is a matrix product", _through(gemm_naive), gemm_naive, True
    ),
    Rung(
        "im2col + gemm_blocked", "loops in blocks that stay in cache, vectors by the compiler", _through(gemm_blocked), gemm_blocked
    ),
    Rung(
        "conv2d_im2col", "panels packed in the order of reading, sums in registers; patches a block at a time", conv2d_im2col,
        conv2d_im2col,
    ),
    Rung("conv2d_winograd", "a quarter of the multiplications", conv2d_winograd, conv2d_winograd),
)  # fmt: skip
"""The ladder of a convolution, each rung with its idea; the engine's own comes last."""

_MARKS = (
    Rung("NumPy, tap by tap", "the reference: one product of NumPy's BLAS per tap, on threads of its own", conv2d_reference, conv2d_reference,
         threaded=False, outside=True),
    Rung("im2col + NumPy's BLAS", "the whole matrix at once, times the kernels; BLAS has threads of its own", _through(_blas), outside=True),
)  # fmt: skip

_NAMES = (*(rung.name for rung in (*RUNGS, *_MARKS)), "engine")


def ladder(
    net: ResNet,
    images: Array,
    layer: str | None = None,
    rungs: Sequence[str] | None = None,
    mine: str | None = None,
    threads: Sequence[int] = (1,),
    timing: bool = True,
    repeats: int = 5,
) -> LadderStudy:
    """Every version of a convolution of ``net``, for the first of ``images``.

    layer    None: the 3x3 that costs the most
    rungs    names of versions; None: all
    mine     "my_conv.py:conv": the learner's own
    threads  one turn for each number
    timing   whether to time what agrees

    Raises UsageError for a layer that is no convolution, for an unknown version, and for a file without that function.
    """
    subject = subject_of(net, images, layer)
    return of_subject(subject, rungs, mine, threads, timing, repeats)


def of_subject(
    subject: StudiedLayer,
    rungs: Sequence[str] | None = None,
    mine: str | None = None,
    threads: Sequence[int] = (1,),
    timing: bool = True,
    repeats: int = 5,
    versions: Sequence[Rung] = (*RUNGS, *_MARKS),
) -> LadderStudy:
    """The same of a convolution that is at hand."""
    unknown = set(rungs or ()) - set(_NAMES)
    if unknown:
        raise UsageError(f"rungs: got {', '.join(sorted(unknown))}; they are {', '.join(_NAMES)}")
    own = None if mine is None else _learners(mine)
    rows: list[RungRow] = []
    roofs = {count: ceilings(count) for count in threads} if timing else {}
    for count in threads:
        turn: list[RungRow] = []
        chosen = [rung for rung in versions if rungs is None or rung.name in rungs]
        for rung in sorted(chosen, key=lambda rung: rung.outside):
            if rung.threaded or count == threads[0]:
                turn.append(_climbed(rung, subject, count, timing, repeats))
        if rungs is None or "engine" in rungs:
            turn.insert(sum(not row.outside for row in turn), _engine(subject, count, timing, repeats))
        if own is not None and count == threads[0]:
            turn.append(own if isinstance(own, RungRow) else _climbed(own, subject, count, timing, repeats))
        rows += _gained(turn, roofs[count].peak if timing else None)
    cards = _cards(subject, timing, repeats) if rungs is None else []
    return LadderStudy(
        subject.layer, subject.x.shape, subject.w.shape, subject.stride, [*rows, *cards], roofs[threads[0]] if timing else None
    )  # fmt: skip


def _learners(mine: str) -> Rung | RungRow:
    """The learner's version, or the row of one that is refused."""
    function = load_function(mine)
    wrong = check(function)
    if wrong:
        return RungRow(
            mine, "yours", 1, None, 0, None, None, None, None, None, math.inf, math.inf, f"refused: {wrong}", "", True
        )

    def call(x: Array, w: Array, bias: Array | None, *, stride: Any, padding: Any, dilation: Any) -> Array:
        assert dilation == (1, 1)
        if padding == (1, 1, 1, 1) and w.shape[:2] == (3, 3) and stride == (1, 1):
            padding = "same"
        y: Array = function(x, w, bias, stride=stride[0], padding="valid" if not any(padding) else padding)
        return y

    return Rung(mine, "yours", call, function, threaded=False, outside=True)


def _text(rung: Rung) -> str:
    """The source of a version: of the compiled loop that does the work, where there is one beside it."""
    if rung.source is None:
        return ""
    loop = getattr(inspect.getmodule(rung.source), f"_{rung.source.__name__}", rung.source)
    try:
        return inspect.getsource(inspect.unwrap(getattr(loop, "py_func", loop)))
    except (OSError, TypeError):  # typed into a prompt, say
        return ""


def _climbed(rung: Rung, subject: StudiedLayer, threads: int, timing: bool, repeats: int) -> RungRow:
    part = subject.shortened(_SLOW if rung.slow else _FAST)
    options = part.options() | ({"threads": threads} if rung.threaded else {})
    return _row(rung, part, lambda: rung.call(part.x, part.w, part.bias, **options), threads, timing, repeats)


def _row(
    rung: Rung,
    part: StudiedLayer,
    call: Callable[[], Array],
    threads: int,
    timing: bool,
    repeats: int,
    timed: Timing | None = None,
) -> RungRow:
    source = _text(rung)
    window = part.window
    row = RungRow(
        rung.name, rung.idea, threads, (window.ho, window.wo), part.flop, len(source.splitlines()) or None, None, None, None,
        None, None, None, "", source, rung.outside,
    )  # fmt: skip
    try:
        found = call()
    except Exception as error:  # a learner's kernel may raise anything
        if rung.idea != "yours":
            raise
        return replace(row, error=math.inf, problem=f"refused: it raises {type(error).__name__}: {error}")
    difference = compare(found, _truth(part))
    row = replace(row, error=difference.relative, worst=difference.worst)
    if not difference.agrees():
        far = f"relative error {difference.relative:.1e}, worst {difference.worst:.1e}"
        return replace(row, problem=f"disagrees with float64: {difference.problem or far}")
    if not timing:
        return row
    timed = timed or measured(call, repeats)
    return replace(row, timing=timed, gflops=part.flop / timed.seconds / 1e9)


def _truth(part: StudiedLayer) -> Array:
    wide = [None if array is None else array.astype(np.float64) for array in (part.x, part.w, part.bias)]
    return conv2d_reference(*wide, **part.options())  # type: ignore[arg-type]


def _engine(subject: StudiedLayer, threads: int, timing: bool, repeats: int) -> RungRow:
    """What networks run: a plan of this layer alone, its weights packed once."""
    height, width = subject.size
    kernel, channels = subject.w.shape[:2], subject.w.shape[3]
    operator = Conv2D(
        subject.x.shape[3], channels, (kernel[0], kernel[1]), subject.stride, subject.pads, subject.bias is not None,
        dilation=subject.dilation,
    )  # fmt: skip
    graph = Graph((Layer("input", Input(subject.x.shape[3])), Layer("conv", operator, ("input",))), {})
    weights = {"conv": {"kernel": subject.w} | ({} if subject.bias is None else {"bias": subject.bias})}
    constants = Constants(graph, weights)
    plan = make_plan(graph, constants, (1, height, width), ["conv"], winograd=True, threads=threads)
    algorithm = " and ".join(dict.fromkeys(step.algorithm for step in plan.steps))
    memory = Memory(plan.memory_bytes)
    rung = Rung("engine", f"{algorithm}; weights packed once, and for all images", lambda: None, None)  # type: ignore[arg-type,return-value]
    timed = None
    if timing:
        samples = [float(plan.timed(subject.x, memory)[1].sum()) for _ in range(repeats + 1)][1:]
        timed = timing_of(samples)
    return _row(rung, subject, lambda: plan.run(subject.x, memory)["conv"], threads, timing, repeats, timed)


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


def _cards(subject: StudiedLayer, timing: bool, repeats: int) -> list[RungRow]:
    """The versions for a card, or one row that says that there is none."""
    none = RungRow("on a card", "", None, None, 0, None, None, None, None, None, None, None, "no card", "", True)
    try:
        from ..cuda.card import open_card

        open_card(0)
        from ..kernels.cuda import LADDER
    except (NpResNetError, MissingExtraError, ImportError):
        return [none]
    rows = []
    for version in LADDER["conv2d"]:
        name = version.__name__
        rung = Rung(name, "on the card, arrays copied there and back", version, version, threaded=False, outside=True)
        rows.append(_climbed(rung, subject, 1, timing, repeats))
    return rows
