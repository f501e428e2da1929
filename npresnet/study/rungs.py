"""The versions of a convolution that a ladder is made of, each with its one idea: the project's own, the learner's, and marks beside
them, NumPy's, other engines', a card's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cpu.by_plan import make_plan
from ..cpu.packing import Constants
from ..errors import NpResNetError, UsageError
from ..kernels.conv2d import conv2d_direct, conv2d_im2col, conv2d_reference, conv2d_winograd
from ..kernels.gemm import gemm_blocked, gemm_naive
from ..kernels.geometry import resolve_padding
from ..kernels.im2col import im2col
from ..kernels.processor import SETTINGS, Settings
from ..kernels.simd import LANES
from ..network.graph import Graph, Layer
from ..network.operators import Conv2D, Input, Pad
from ..peers.engines import PEERS, missing, peer_class
from ..plan.memory import Memory
from .subject import StudiedLayer

__all__ = ["MARKS", "RUNGS", "Rung", "card_rungs", "engine", "learners", "parse_tile", "peer", "tile_idea"]

Array = npt.NDArray[Any]

SLOW, FAST, WHOLE = 4e7, 4e9, float("inf")
"""FLOP of one run: of what is slow, of what is fast, and of what runs on whole maps alone."""

_SIMULATED = 2e4  # FLOP that Numba's simulator of cards can be asked for


@dataclass(frozen=True)
class Rung:
    """A version.

    call      takes x, w, bias and the options of the kernels, and ``threads=`` where ``threaded``
    source    the function whose text is shown; None for what has no short one
    most      FLOP of one run: what would take more runs on the first rows of the map
    outside   of the ladder: a mark to compare with, which no gain is counted from
    own       the learner's: it may raise anything, and be slow
    samples   seconds of so many runs, where the call does more than what is to be timed
    """

    name: str
    idea: str
    call: Callable[..., Array]
    source: Any = None
    most: float = FAST
    threaded: bool = True
    outside: bool = False
    own: bool = False
    samples: Callable[[int], Sequence[float]] | None = None


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
        "conv2d_direct", "the sum as loops, the innermost over channels that lie side by side", conv2d_direct, conv2d_direct, SLOW
    ),
    Rung(
        "im2col + gemm_naive", "windows as rows of a matrix: now it is a matrix product", _through(gemm_naive), gemm_naive, SLOW
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

MARKS = (
    Rung("NumPy tap by tap", "the reference: one product of NumPy's BLAS per tap, on threads of its own", conv2d_reference, conv2d_reference,
         threaded=False, outside=True),
    Rung("im2col + NumPy's BLAS", "the whole matrix at once, times the kernels; BLAS has threads of its own", _through(_blas), outside=True,
         threaded=False),
)  # fmt: skip


# The learner's -------------------------------------------------------------------------------------------------------


def learners(name: str, function: Callable[..., Any], subject: StudiedLayer) -> Rung:
    """The learner's own, of which only that is asked which is promised: a stride that is a whole number, "same" or "valid". What else
    a layer may have is brought into that form before: another border by zeros around the map, dilation by zeros between the taps.

    Raises UsageError for a layer with two strides.
    """
    if subject.stride[0] != subject.stride[1]:
        raise UsageError(
            f"mine: layer {subject.layer!r} has stride {subject.stride}, and your convolution is asked for one number; choose another layer"
        )

    def call(x: Array, w: Array, bias: Array | None, *, stride: Any, padding: Any, dilation: Any) -> Array:
        if dilation != (1, 1):
            (dh, dw), (kh, kw) = dilation, w.shape[:2]
            spread = np.zeros(((kh - 1) * dh + 1, (kw - 1) * dw + 1, *w.shape[2:]), w.dtype)
            spread[::dh, ::dw] = w
            w = spread
        word = "valid"
        if any(padding):
            same = resolve_padding("same", x.shape[1:3], w.shape[:2], stride, (1, 1))
            if tuple(padding) == tuple(same):
                word = "same"
            else:
                top, bottom, left, right = padding
                x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
        y: Array = function(x, w, bias, stride=stride[0], padding=word)
        return y

    return Rung(name, "yours", call, function, threaded=False, outside=True, own=True)


# Whole layers by engines ---------------------------------------------------------------------------------------------


def _network(subject: StudiedLayer, pads_apart: bool) -> tuple[Graph, dict[str, Mapping[str, Array]]]:
    """(a network of this layer alone, its weights); ``pads_apart``: its border as a layer of its own."""
    kernel, channels = subject.w.shape[:2], subject.w.shape[3]
    bordered = pads_apart and any(subject.pads)
    operator = Conv2D(
        subject.x.shape[3], channels, (kernel[0], kernel[1]), subject.stride, "valid" if pads_apart else subject.pads,
        subject.bias is not None, dilation=subject.dilation,
    )  # fmt: skip
    layers = [Layer("input", Input(subject.x.shape[3]))]
    if bordered:
        layers.append(Layer("border", Pad(subject.pads), ("input",)))
    layers.append(Layer("conv", operator, (layers[-1].name,)))
    tensors: Mapping[str, Array] = (
        {"kernel": subject.w} if subject.bias is None else {"kernel": subject.w, "bias": subject.bias}
    )
    return Graph(tuple(layers), {"C": {"C1": "conv"}}), {"conv": tensors}


def engine(subject: StudiedLayer, threads: int) -> Rung:
    """What networks run: a plan of this layer alone, its weights packed once."""
    graph, weights = _network(subject, pads_apart=False)
    plan = make_plan(graph, Constants(graph, weights), (1, *subject.size), ["conv"], winograd=True, threads=threads)
    algorithm = " and ".join(dict.fromkeys(step.algorithm for step in plan.steps))
    memory = Memory(plan.memory_bytes)
    return Rung(
        "engine", f"{algorithm}; weights packed once, and for all images", lambda *_, **__: plan.run(subject.x, memory)["conv"],
        most=WHOLE, threaded=False,
        samples=lambda repeats: [float(plan.timed(subject.x, memory)[1].sum()) for _ in range(repeats + 1)][1:],
    )  # fmt: skip


def peer(name: str, subject: StudiedLayer, threads: int) -> Rung | str:
    """Another engine with this layer alone in it; or what keeps it from that, in words. Raises UsageError for an unknown name."""
    if name not in PEERS:
        raise UsageError(f"engines: got {name!r}; it must be one of {', '.join(PEERS)}")
    if lacking := missing(name):
        return lacking
    if subject.dilation != (1, 1):
        return "other engines are asked for convolutions without dilation only"
    graph, weights = _network(subject, pads_apart=True)
    kind = peer_class(name)
    try:
        made = kind(graph, weights, (1, *subject.size), threads)
        given = made.prepare(subject.x)
    except Exception as error:  # each engine has errors of its own
        return f"it does not take this layer ({type(error).__name__}: {' '.join(str(error).split())[:200]})"

    def samples(repeats: int) -> list[float]:
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            made.run(given)
            seconds.append(time.perf_counter() - start)
        return seconds[1:]

    return Rung(
        name, f"{kind.title} {made.version}: {kind.settings}", lambda *_, **__: made.features(made.run(given))["C1"], most=WHOLE,
        threaded=False, outside=True, samples=samples,
    )  # fmt: skip


# Other tiles ---------------------------------------------------------------------------------------------------------


def parse_tile(text: str) -> Settings:
    """The settings of this process with another tile of sums, such as "6x64": rows of A times columns of B. Raises UsageError."""
    words = text.split("x")
    if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):
        rows, columns = map(int, words)
        settings = SETTINGS._replace(rows=rows, vectors=columns // LANES)
        if columns % LANES == 0 and settings.valid:
            return settings
    raise UsageError(
        f"tile: got {text!r}; it must be ROWSxCOLUMNS, such as {SETTINGS.rows}x{SETTINGS.vectors * LANES}; a register has {LANES} columns "
        f"here, and the tile's sums and a row of B must fit into {31 if LANES == 16 else 15} of them"
    )


def tile_idea(settings: Settings) -> str:
    """What a tile is, in a line."""
    sums = settings.rows * settings.vectors
    return f"{sums} registers of sums; {sums} multiply-adds for {settings.rows + settings.vectors} reads"


# On a card -----------------------------------------------------------------------------------------------------------


def card_rungs(subject: StudiedLayer) -> list[Rung] | str:
    """The versions for a card, their arrays there already; or why there is none, in words. In Numba's simulator they run, too, on very
    little, and without a time."""
    from ..cuda.card import open_card, why_no_cuda
    from ..cuda.driver import simulated

    if reason := why_no_cuda():
        return f"not run: {reason}"
    try:
        open_card(0)
    except NpResNetError as error:
        return f"not run: {error}"
    from numba import cuda

    from ..kernels.cuda import LADDER

    def rung(version: Callable[..., Any]) -> Rung:
        if simulated():
            idea = "on no card, but in Numba's simulator, which says what it computes and not how fast"
            return Rung(
                version.__name__,
                idea,
                version,
                version,
                most=_SIMULATED,
                threaded=False,
                outside=True,
                samples=lambda _: (),
            )

        def call(x: Array, w: Array, bias: Array | None, **options: Any) -> Array:
            found: Array = version(x, w, bias, **options)
            return found

        arguments = [None if array is None else cuda.to_device(array) for array in (subject.x, subject.w, subject.bias)]

        def samples(repeats: int) -> list[float]:
            seconds = []
            for _ in range(repeats + 1):
                cuda.synchronize()
                start = time.perf_counter()
                version(*arguments, **subject.options())
                cuda.synchronize()
                seconds.append(time.perf_counter() - start)
            return seconds[1:]

        idea = "on the card, arrays there already; from the call to the end of the kernel"
        return Rung(version.__name__, idea, call, version, most=WHOLE, threaded=False, outside=True, samples=samples)

    return [rung(version) for version in LADDER["conv2d"]]
