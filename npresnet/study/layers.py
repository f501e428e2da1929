"""``study layers``: a network as a table that can be read. What each layer costs, how it is computed and why, how long that
takes, and how near to what this machine can do at most.

1 MAC is one multiplication and one addition, 2 FLOP. A step of the plan computes several layers at once (a convolution with its
batch-norm, addition and activation); its time stands with the layer that leads it, and the others say which one that is.

Two rooflines, both honest: by the FLOP of the definition, which Winograd's algorithm passes because it does not execute them
all, and by the FLOP that are executed, which nothing can pass.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels.geometry import resolve_padding
from ..model import ResNet
from ..network.graph import Layer
from ..network.operators import Conv2D, Dense, MaxPool, Operator, Pads, Shape
from ..plan.steps import PlanStep
from .forms import Column, Grid
from .plans import ALONG_ROWS, plan_of, winograd_tile
from .receptive import fields_of
from .timing import Ceilings, Timing, ceilings, measured, timings_of_parts

__all__ = ["TABLES", "UNITS", "LayerRow", "LayersStudy", "Roof", "layers"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    feature        C1 to C5 where it makes that map, else ""
    shape_in, out  without the batch
    kernel, stride, pads  of a window; pads (top, bottom, left, right)
    mac            multiply-accumulates of one image by the definition
    bytes          that must move at least: input, weights and output once each, in float32
    algorithm, why how calling the network computes it, and why so; "fused" where it is part of the step that ``leader`` leads
    field          (height, width) in pixels of what one cell sees of the picture; None where there is no such box
    field_step     pixels of the picture from cell to cell
    timing         of the step that this layer leads, all images; None for others, and where nothing was timed
    gflops         FLOP by the definition per second, in 1e9
    executed       FLOP that the algorithm executes: for Winograd its products, without the transforms' additions
    peak_share     executed FLOP per second, as a share of the measured peak
    time_share     of the whole run
    """

    name: str
    kind: str
    feature: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    pads: Pads | None
    mac: int
    bytes: int
    algorithm: str
    leader: str
    why: str
    field: tuple[int, int] | None
    field_step: tuple[int, int] | None
    timing: Timing | None
    gflops: float | None
    executed: int
    peak_share: float | None
    time_share: float | None


@dataclass(frozen=True)
class Roof:
    """One dot under the roof: FLOP per byte, FLOP per second, and what share of the time it stands for.

    winograd  "executed" or "by definition" for one of the two dots of a layer by Winograd's algorithm, else ""
    """

    name: str
    intensity: float
    speed: float
    share: float
    winograd: str


@dataclass(frozen=True)
class LayersStudy:
    """The network.

    batch        [n, h, w] of the images that it was called with
    total_mac    of one image
    weights      how many numbers
    run          of whole calls of the network; None where nothing was timed
    steps_seconds  the sum of the steps' times; of that own_seconds for steps that are the plan's own and no layer's
    """

    architecture: str
    batch: tuple[int, int, int]
    rows: Sequence[LayerRow]
    total_mac: int
    weights: int
    ceilings: Ceilings | None
    run: Timing | None
    steps_seconds: float | None
    own_seconds: float | None
    roofs: Sequence[Roof]


UNITS = "1 MAC = one multiplication and one addition = 2 FLOP"

TABLES = (
    Grid(
        "rows",
        (
            Column("layer", "name"),
            Column("", "feature"),
            Column("kind", "kind", wide=True),
            Column("output", "shape_out", "shape"),
            Column("kernel", "kernel", "shape", wide=True),
            Column("stride", "stride", "shape", wide=True),
            Column("GMAC", "mac", "exact"),
            Column("bytes", "bytes", "bytes", wide=True),
            Column("sees", "field", "shape"),
            Column("computed by", "algorithm"),
            Column("ms", "timing.seconds", "ms"),
            Column("quartiles", "timing.quartiles", "spread", wide=True),
            Column("of time", "time_share", "percent1", wide=True),
            Column("GFLOP/s", "gflops", "three", wide=True),
            Column("of peak", "peak_share", "percent"),
            Column("in the step of", "leader", wide=True),
            Column("because", "why", wide=True),
        ),
        UNITS,
    ),
)


def layers(net: ResNet, images: Array, timing: bool = True, repeats: int = 5) -> LayersStudy:
    """The layers of ``net``, for images float32[n, h, w, c].

    timing   whether to run anything; False gives the same for the same network and size, always
    repeats  how often the network is run for it

    Raises UsageError for images of a size that the network does not take, and for a network that is not run by plan.
    """
    n, height, width, _ = images.shape
    graph = net.graph
    plan = plan_of(net, (n, height, width))
    shapes = graph.shapes(height, width, list(plan.outputs))
    fields = fields_of(graph, graph.shapes(height, width, graph.ends_for(height, width)))
    steps = _by_layer(plan.steps)
    roof = ceilings(net.threads) if timing else None
    times, whole = _timed(net, images, list(plan.outputs), repeats) if timing else ({}, None)
    total = sum(time.seconds for time in times.values())
    own = sum(time.seconds for name, time in times.items() if name not in graph.by_name)
    names = {layer: feature for feature, layer in graph.features.items()}
    rows, dots = [], []
    for layer in graph.needed_for(plan.outputs):
        inputs, shape = [shapes[name] for name in layer.inputs], shapes[layer.name]
        operator, step = layer.operator, steps.get(layer.name)
        flop = operator.flop(inputs, shape)
        counted = flop if isinstance(operator, Conv2D | Dense) else 0
        leads = step is not None and step.leader == layer.name
        timed = times.get(step.output) if step is not None and leads else None
        executed, moved = _executed(layer, step, inputs, shape), _moved(operator, inputs, shape)
        kernel, stride, pads = _window(operator, inputs)
        field = fields.get(layer.name)
        rows.append(
            LayerRow(
                layer.name, operator.kind, names.get(layer.name, ""), inputs[0] if inputs else (), shape, kernel, stride, pads,
                counted // 2, moved, _how(layer, step), step.leader if step else "", _why(layer, step, inputs),
                None if field is None else (field.rows.size, field.columns.size),
                None if field is None else (field.rows.step, field.columns.step),
                timed, n * counted / timed.seconds / 1e9 if timed and counted else None, executed,
                n * executed / timed.seconds / roof.peak if timed and roof and executed else None,
                timed.seconds / total if timed else None,
            )
        )  # fmt: skip
        if timed and counted:
            share = timed.seconds / total
            winograd = executed != counted
            kinds = (("executed", executed), ("by definition", counted)) if winograd else (("", counted),)
            dots += [Roof(layer.name, f / moved, n * f / timed.seconds, share, kind) for kind, f in kinds]
    weights = net._inspection.parameters
    return LayersStudy(
        str(net.architecture), (n, height, width), rows, sum(row.mac for row in rows), weights, roof, whole,
        total if timing else None, own if timing else None, dots,
    )  # fmt: skip


def _by_layer(steps: Sequence[PlanStep]) -> dict[str, PlanStep]:
    """{layer: the step that computes it}; of two that do so together, the one that ends it."""
    return {layer: step for step in steps for layer in step.layers}


def _timed(net: ResNet, images: Array, outputs: list[str], repeats: int) -> tuple[dict[str, Timing], Timing]:
    """{step's output: time of all steps that make it}, and that of whole calls. Both are timed in turn and alike, right after a run
    that does not count: the first after a pause is slower, for threads have gone to sleep."""
    steps, whole = [], []
    for _ in range(repeats):
        once: dict[str, float] = defaultdict(float)
        for step in net.profile(images, outputs, repeats=1):
            once[step.name] += step.seconds
        steps.append(once)
        whole.append([measured(lambda: net(images, outputs), repeats=1).seconds])
    times = timings_of_parts(np.array([list(once.values()) for once in steps]))
    return dict(zip(steps[0], times, strict=True)), timings_of_parts(np.array(whole))[0]


def _window(
    operator: Operator, inputs: Sequence[Shape]
) -> tuple[tuple[int, int] | None, tuple[int, int] | None, Pads | None]:
    if isinstance(operator, Conv2D):
        kernel, dilation = operator.kernel, operator.dilation
    elif isinstance(operator, MaxPool):
        kernel, dilation = operator.window, (1, 1)
    else:
        return None, None, None
    size = inputs[0][0], inputs[0][1]
    return kernel, operator.stride, resolve_padding(operator.padding, size, kernel, operator.stride, dilation)


def _moved(operator: Operator, inputs: Sequence[Shape], output: Shape) -> int:
    shapes = (*inputs, *operator.tensors().values(), output)
    return 4 * sum(map(math.prod, shapes))


def _executed(layer: Layer, step: PlanStep | None, inputs: Sequence[Shape], shape: Shape) -> int:
    """FLOP that are executed for one image: whole tiles, also those that reach over the map's edge."""
    operator = layer.operator
    if not isinstance(operator, Conv2D | Dense):
        return 0
    tile = winograd_tile(step) if step is not None and step.leader == layer.name else None
    if isinstance(operator, Conv2D) and tile:
        tiles = -(-shape[0] // tile.m) * -(-shape[1] // tile.m)
        return 2 * tiles * tile.elements * tile.phases * operator.channels_in * operator.channels
    if isinstance(operator, Conv2D) and _how(layer, step) == ALONG_ROWS:
        return 2 * shape[0] * -(-shape[1] // 4) * 18 * operator.channels_in // operator.groups * operator.channels
    return operator.flop(inputs, shape)


def _how(layer: Layer, step: PlanStep | None) -> str:
    if step is None:
        return ""
    return step.algorithm if step.leader == layer.name else "fused"


_REASONS: Mapping[str, str] = {
    "multiply": "a 1x1 window: the pixels already are the rows of a matrix",
    "im2col": "windows are copied into rows, some at a time, and multiplied",
    "grouped": "each group reads channels of its own",
    ALONG_ROWS: "3x3 with stride 1, groups of 8 channels or more, 100 pixels or more: 18 products in place of 36 per four pixels",
    "maxpool": "one pass over the map",
    "mean": "one pass over the map",
    "affine": "no convolution before it to become part of",
    "copy": "what is copied is read from another place",
}


def _why(layer: Layer, step: PlanStep | None, inputs: Sequence[Shape]) -> str:
    """Why a layer is computed so, in words; the rules are those of ``cpu/choice.py``."""
    operator = layer.operator
    if step is None:
        return "what the network is fed" if operator.kind == "input" else "nothing to be done"
    if step.leader != layer.name:
        return (
            "done before the result leaves the registers" if operator.kind != "pad" else "zeros are part of the window"
        )
    tile = winograd_tile(step)
    if tile:
        products = f"{tile.elements} products in place of {(tile.m * tile.r) ** 2} per tile"
        if tile.phases > 1:
            return (
                f"7x7 with stride 2 is 4x4 with stride 1 on four images, of even and odd rows and columns: {products}"
            )
        size = (
            "100 pixels or more" if tile.m == 4 else "under 100 pixels, where kernels of 36 numbers cost more to read"
        )
        return f"3x3 with stride 1, {size}: {products}"
    if isinstance(operator, Dense):
        return "a matrix product"
    if step.algorithm == "im2col" and isinstance(operator, Conv2D) and operator.kernel == (3, 3):
        if operator.stride != (1, 1):
            return "3x3 with a stride: Winograd's algorithm is for stride 1"
        return "3x3, but few channels, or NaN would be lost or spread in what reads it"
    return _REASONS.get(step.algorithm, "")
