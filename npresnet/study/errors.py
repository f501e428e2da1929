"""``study errors``: what each algorithm costs in accuracy, layer by layer, beside float64.

Two tables. ``growth``: the whole network by each algorithm, every layer beside the same network in float64, so that one sees how
errors grow with depth. ``layers``: each convolution alone, all algorithms on the same float32 input, beside float64 on that
input, so that one sees what is the algorithm's own. And ``spread``: how many outputs one NaN, or one infinity, takes with it.

relative is the norm of the error over the norm of the result, worst the largest error over the result's root mean square. Zero
means equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels.conv2d import conv2d_direct, conv2d_im2col, conv2d_winograd
from ..kernels.winograd import winograd_reference
from ..model import ResNet, assemble
from ..verify.compare import Difference, compare
from ..verify.recording import Recording
from .forms import Column, Grid
from .plans import plan_of
from .subject import StudiedLayer, by_definition, convolutions, padded_input, subject_at, subject_of

__all__ = ["TABLES", "ErrorsStudy", "GrowthRow", "LayerErrors", "Spread", "errors"]

Array = npt.NDArray[Any]

_FLOP = 4e8  # of a convolution on which algorithms are compared; of larger ones the first rows of pixels are taken

TABLES = (
    Grid(
        "growth",
        (
            Column("layer", "name"),
            Column("auto", "auto", "error"),
            Column("direct", "direct", "error"),
            Column("im2col", "im2col", "error"),
            Column("TensorFlow", "tensorflow", "error"),
            Column("worst, auto", "auto_worst", "error", wide=True),
            Column("worst, direct", "direct_worst", "error", wide=True),
        ),
        "Relative error of the whole network up to a layer, beside float64",
    ),
    Grid(
        "layers",
        (
            Column("layer", "name"),
            Column("kernel", "kernel", "shape", wide=True),
            Column("pixels", "pixels", "shape", wide=True),
            Column("loops", "loops", "error"),
            Column("im2col", "im2col", "error"),
            Column("F(2x2)", "winograd2", "error"),
            Column("F(4x4)", "winograd4", "error"),
        ),
        "Relative error of each convolution alone, all on the same input, beside float64",
    ),
    Grid(
        "spread",
        (
            Column("algorithm", "algorithm"),
            Column("outputs that are not finite", "outputs", "count"),
            Column("pixels", "pixels", "count"),
            Column("what it means", "meaning"),
        ),
        "One NaN in the middle of the input",
    ),
)


@dataclass(frozen=True)
class GrowthRow:
    """A layer in the whole network. ``tensorflow`` is None where nothing of it is known."""

    name: str
    shape: tuple[int, ...]
    auto: float
    direct: float
    im2col: float
    auto_worst: float
    direct_worst: float
    tensorflow: float | None


@dataclass(frozen=True)
class LayerErrors:
    """A convolution alone, on ``pixels`` outputs. Winograd's are None where that algorithm cannot be used."""

    name: str
    kernel: tuple[int, int]
    pixels: tuple[int, int]
    loops: float
    im2col: float
    winograd2: float | None
    winograd4: float | None


@dataclass(frozen=True)
class Spread:
    """What becomes of one NaN: how many outputs are not finite, in how many pixels."""

    algorithm: str
    outputs: int
    pixels: int
    meaning: str


@dataclass(frozen=True)
class ErrorsStudy:
    """All of it; ``spread_layer``: the convolution that NaN was put into. ``problem`` says in words where input or weights
    are not finite, so that errors cannot be measured."""

    growth: Sequence[GrowthRow]
    layers: Sequence[LayerErrors]
    spread: Sequence[Spread]
    spread_layer: str
    problem: str


def errors(
    net: ResNet,
    images: Array,
    layer: str | None = None,
    tensorflow: Mapping[str, Array] | Recording | None = None,
) -> ErrorsStudy:
    """How far each algorithm is from float64, on the first of ``images``.

    layer       the convolution for ``spread``; None: the 3x3 that costs the most
    tensorflow  what TensorFlow computes for the same image, {layer: float32 array}, or a recording of it

    Raises UsageError for images of a size that the network does not take, and for a layer that is no convolution.
    """
    image = images[:1]
    plan, graph = plan_of(net, (1, *image.shape[1:3])), net.graph
    names = list(dict.fromkeys(step.output for step in plan.steps if step.output in graph.by_name))
    run = {name for step in plan.steps for name in step.layers}
    alone = [each for each in convolutions(graph) if each.name in run]
    sources = [padded_input(graph, each)[0] for each in alone]
    truth = by_definition(net)(image.astype(np.float64), outputs=names)
    found = {
        algorithm: assemble(net._inspection, algorithm=algorithm, threads=net.threads)(image, outputs=wanted)
        for algorithm, wanted in (
            ("auto", list(dict.fromkeys([*names, *sources]))),
            ("direct", names),
            ("im2col", names),
        )
    }
    growth = []
    for name in names:
        auto, direct, im2col = (compare(arrays[name], truth[name]) for arrays in found.values())
        theirs = _beside(tensorflow, name, truth[name])
        growth.append(
            GrowthRow(
                name, truth[name].shape, auto.relative, direct.relative, im2col.relative, auto.worst, direct.worst,
                None if theirs is None else theirs.relative,
            )
        )  # fmt: skip
    subjects = (subject_at(net, each, found["auto"][source]) for each, source in zip(alone, sources, strict=True))
    chosen = subject_of(net, image, layer)
    return ErrorsStudy(
        growth, [of_subject(subject) for subject in subjects], spread_of(chosen), chosen.layer, _problem(image)
    )  # fmt: skip


def _problem(image: Array) -> str:
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if not bad:
        return ""
    return (
        f"{bad} numbers of the image are NaN or infinite: they spread to every output whose receptive field they lie in, by the "
        "direct sum as in TensorFlow; Winograd's algorithm would take whole tiles with them, so such an image is run again "
        "without it"
    )


def _beside(tensorflow: Mapping[str, Array] | Recording | None, name: str, truth: Array) -> Difference | None:
    if isinstance(tensorflow, Recording):
        return tensorflow.compare(name, truth.astype(np.float32)) if name in tensorflow.layers else None
    return compare(tensorflow[name], truth) if tensorflow and name in tensorflow else None


def of_subject(subject: StudiedLayer) -> LayerErrors:
    """One convolution by all algorithms."""
    part = subject.shortened(_FLOP)
    arguments, options = (part.x, part.w, part.bias), part.options()
    truth = part.truth()

    def error(version: Callable[..., Array]) -> float:
        return compare(version(*arguments, **options), truth).relative

    return LayerErrors(
        subject.layer, subject.taps, (truth.shape[1], truth.shape[2]), error(conv2d_direct), error(conv2d_im2col),
        error(_winograd2) if subject.winograd else None, error(conv2d_winograd) if subject.winograd else None,
    )  # fmt: skip


def _winograd2(x: Array, w: Array, bias: Array | None, **options: Any) -> Array:
    y = winograd_reference(x, w, 2)
    return y if bias is None else y + bias


def spread_of(subject: StudiedLayer) -> list[Spread]:
    """One NaN in the middle of the first rows of a convolution's input."""
    part = subject.shortened(_FLOP / 40)
    x = part.x.copy()
    x[0, x.shape[1] // 2, x.shape[2] // 2, 0] = np.nan
    part = replace(part, x=x)

    def counted(algorithm: str, y: Array, meaning: str) -> Spread:
        odd = ~np.isfinite(y)
        return Spread(algorithm, int(odd.sum()), int(odd.any(axis=3).sum()), meaning)

    with np.errstate(invalid="ignore"):
        rows = [
            counted(
                "direct sum",
                conv2d_direct(x, part.w, part.bias, **part.options()),
                "every output whose window sees it, as in TensorFlow",
            )
        ]
        if part.winograd:
            for m in (2, 4):
                y = winograd_reference(x, part.w, m)
                rows.append(counted(f"formula of F({m}x{m})", y, "every output of each tile whose patch it lies in"))
            y = conv2d_winograd(x, part.w, part.bias, **part.options())
            rows.append(counted("conv2d_winograd", y, "it notices, and leaves such an input to the direct sum"))
    return rows
