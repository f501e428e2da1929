"""From a graph to a plan: the few large steps in which ``net(images)`` runs, for one shape of images.

Layers are fused (``fusion.py``), batch-norms folded into weights (``packing.py``), each convolution gets the
algorithm that suits its shape, every activation a place in one arena, reused when its last reader is done
(``memory.py``). The steps are rows of a table that one compiled loop works off (``kernels/steps.py``).

A plan's steps are plain data; ``str(step)`` is one line that a person can read.

The choice of algorithm depends on the shape of one image alone, never on the batch or on threads, so that an image
gives the same bits alone and in company.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from ..kernels import threads as _threads
from ..kernels.gemm import KC
from ..kernels.geometry import resolve_padding
from ..kernels.simd import LANES
from ..kernels.steps import (
    COLUMNS,
    SYNC,
    TILES,
    Column,
    Kind,
    addresses,
    band_bytes,
    group_bands,
    run_steps,
    v_bytes,
    working_bytes,
)
from ..kernels.tile import MR, NR
from ..network.graph import Graph
from ..network.operators import (
    AveragePool,
    Conv2D,
    Flatten,
    GlobalMaxPool,
    Operator,
    Pad,
    ReLU,
    Reshape,
    Shape,
    Sigmoid,
    Softmax,
)
from ..plan.folding import Constant
from ..plan.fusion import Alone, Epilogue, FusedAffine, FusedConv, FusedDense, FusedProduct, Mean, Node, Pool, fuse
from ..plan.memory import Buffer, Memory, place, rounded
from ..plan.nan import ends, read_by_pools
from ..plan.steps import PlanStep
from .packing import Constants

__all__ = ["Plan", "make_plan"]


Array = npt.NDArray[Any]


@dataclass
class Plan:
    """Everything needed to run one graph on images of one shape, again and again and from many threads at once.

    steps          what is done, in order
    batch          (n, h, w) of the images
    outputs        {name: shape of one image's}
    ends           the outputs that no other output is computed from
    arena_bytes    memory for activations; scratch_bytes: each thread's own
    """

    steps: tuple[PlanStep, ...]
    batch: tuple[int, int, int]
    outputs: Mapping[str, Shape]
    ends: tuple[str, ...]
    arena_bytes: int
    scratch_bytes: int
    threads: int
    winograd: bool
    _table: Array  # int64[steps, COLUMNS]; addresses count from the bases that _spaces names
    _spaces: Array  # int64[steps, len(_ADDRESSES)]
    _zeros: Array
    _wanted: Mapping[int, Constant]  # {step: its weights}
    _constants: Constants

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    @property
    def working_bytes(self) -> int:
        """Memory for activations, and each thread's own."""
        return self.arena_bytes + self.threads * self.scratch_bytes

    @property
    def memory_bytes(self) -> int:
        """Working memory and outputs of one run."""
        return self.working_bytes + 4 * self.batch[0] * sum(math.prod(shape) for shape in self.outputs.values())

    @property
    def weights_bytes(self) -> int:
        """Memory for the weights as the steps read them; they are packed now, if no run has done it yet."""
        arrays = {id(array): array for pair in self._ready[2] for array in pair}
        return sum(array.nbytes for array in arrays.values())

    @cached_property
    def _ready(self) -> tuple[Array, Array, Any]:
        """The table with the addresses of weights, those of the kernels, and the weights, to keep them alive."""
        table = self._table.copy()
        packed = self._constants.packed(list(self._wanted.values()), self.threads)
        for index, (weights, bias) in zip(self._wanted, packed, strict=True):
            table[index, [Column.WEIGHTS, Column.BIAS]] = weights.ctypes.data, bias.ctypes.data
        return table, addresses(table), packed

    def run(self, images: Array, memory: Memory) -> dict[str, Array]:
        """{output name: float32[n, ...]} for ``images`` float32[n, h, w, c], C-contiguous, of the plan's shape."""
        return self.timed(images, memory)[0]

    def timed(self, images: Array, memory: Memory) -> tuple[dict[str, Array], Array]:
        """As ``run``, and the seconds that each step took, float64[steps]."""
        results = {name: memory.array((len(images), *shape)) for name, shape in self.outputs.items()}
        ready, natives, _ = self._ready
        zeros = self._zeros.ctypes.data
        with memory.lend(self.working_bytes) as base:
            bases = [0, base, images.ctypes.data, zeros, *(array.ctypes.data for array in results.values())]
            table = ready.copy()
            table[:, _ADDRESSES] += np.array(bases, np.int64)[self._spaces]
            sync = np.zeros(SYNC * len(table) + 1, np.int64)
            scratch = [base + self.arena_bytes + i * self.scratch_bytes for i in range(self.threads)]
            start = time.perf_counter()
            _threads.start(run_steps, [(table, sync, at, zeros, natives) for at in scratch])
            seconds = time.perf_counter() - start
        ticks = np.diff(sync[[-1, *range(SYNC - 1, len(sync) - 1, SYNC)]]).astype(np.float64)
        return results, ticks * (seconds / max(ticks.sum(), 1.0))


# ---------------------------------------------------------------------------------------------------------------------
# Choosing and cutting. The sizes were found by measuring; block sizes do not change results.


def _winograd(operator: Conv2D, pads: tuple[int, ...], size: Shape) -> int | None:
    """m of F(m x m, 3x3) for a convolution on maps of ``size``, or None where the direct sum is better."""
    if operator.kernel != (3, 3) or operator.stride != (1, 1) or pads != (1, 1, 1, 1):
        return None
    if operator.groups > 1 or operator.dilation != (1, 1):
        return None
    if operator.channels_in % 16 or operator.channels % 16 or operator.channels_in < 32:
        return None
    # on small maps a third of the 4x4 tiles lies outside, and reading kernels of 36 elements takes longer than that
    return 4 if size[0] * size[1] >= 100 else 2


def _parts(total: int, most: int, unit: int, multiple: int) -> int:
    """Into how many parts to cut ``total`` so that none is much larger than ``most``, and threads end together."""
    parts = -(-total // max(most, 1))
    parts = -(-parts // multiple) * multiple
    return max(1, min(parts, -(-total // unit)))


def _in_two_phases(tiles: int, panels: int) -> bool:
    """Whether the transformed tiles of the whole map are cheaper to keep than the transformed kernels to read again."""
    return panels > 1 and tiles < 2 * panels * NR


# ---------------------------------------------------------------------------------------------------------------------
# Building the table

_ADDRESSES = (Column.X, Column.OUT, Column.WEIGHTS, Column.BIAS, Column.RESIDUAL, Column.BUFFER)
_ABSOLUTE, _ARENA, _IMAGES, _ZEROS, _OUTPUTS = range(5)  # where an address counts from; the n-th output: _OUTPUTS + n


@dataclass(frozen=True)
class _Place:
    """Where an activation lies: in one of the spaces, and if that is the arena, in which stretch of it."""

    space: int
    buffer: Buffer | None = None


def _as_map(shape: Shape) -> tuple[int, int, int]:
    """``shape`` as (h, w, channels): after global pooling there is one pixel."""
    h, w = shape[:-1] or (1, 1)
    return h, w, shape[-1]


def _relu(epilogue: Epilogue) -> bool:
    """Whether a step ends with a ReLU, the only activation that steps can do on their way to memory."""
    match epilogue.activation:
        case ReLU():
            return True
        case None | Softmax():  # which is a step of its own
            return False
    raise AssertionError(epilogue)


class _Builder:
    """A plan while steps are being added to it."""

    def __init__(
        self, batch: int, shapes: Mapping[str, Shape], outputs: Sequence[str], entry: str,
        threads: int,
    ) -> None:  # fmt: skip
        self._n, self._shapes, self._outputs = batch, shapes, outputs
        self._threads = threads
        self.steps: list[PlanStep] = []
        self.scratch = 0
        self.wanted: dict[int, Constant] = {}
        self._rows: list[dict[Column, int]] = []
        self._places: list[tuple[int, Column, _Place]] = []
        self._buffers: list[Buffer] = []
        self._where = {entry: _Place(_IMAGES)}
        self._columns: dict[tuple[str, tuple[int, int]], _Place] = {}

    def _step(self, step: PlanStep, kind: Kind, **values: int) -> None:
        """Begin a step; what follows is about it."""
        self.steps.append(step)
        row = {Column[name.upper()]: int(value) for name, value in values.items()}
        self._rows.append({**row, Column.KIND: kind, Column.N: self._n})

    def _refer(self, column: Column, where: _Place) -> None:
        """Let an address of this step be that of ``where``, and keep what lies there until then."""
        index = len(self._rows) - 1
        self._places.append((index, column, where))
        if where.buffer is not None:
            where.buffer.last = max(where.buffer.last, index)

    def _make(self, size: int) -> _Place:
        """A new stretch of the arena, needed from this step on."""
        index = len(self._rows) - 1
        buffer = Buffer(rounded(size), index, index)
        self._buffers.append(buffer)
        return _Place(_ARENA, buffer)

    def _target(self, name: str) -> None:
        """This step's output is the layer ``name``'s."""
        if name in self._outputs:
            where = _Place(_OUTPUTS + self._outputs.index(name))
        else:
            where = self._make(4 * self._n * math.prod(self._shapes[name]))
        self._where[name] = where
        self._refer(Column.OUT, where)

    def _constant(self, form: str, layer: str | None, norms: tuple[str, ...]) -> None:
        """This step's weights and bias."""
        channels = self.steps[-1].shape[-1]
        self.wanted[len(self._rows) - 1] = Constant(form, layer, norms, channels)

    def _residual(self, epilogue: Epilogue, channels: int) -> None:
        """What this step adds to its result."""
        if epilogue.residual is None:
            self._refer(Column.RESIDUAL, _Place(_ZEROS))
        else:
            self._refer(Column.RESIDUAL, self._where[epilogue.residual])
            self._rows[-1][Column.LD_RESIDUAL] = 4 * channels

    def _items(self, items: int, **values: int) -> None:
        self._rows[-1] |= {Column.ITEMS: items, **{Column[name.upper()]: int(v) for name, v in values.items()}}

    def add(self, node: Node, winograd: bool) -> None:
        """The steps of one node."""
        match node:
            case FusedConv():
                self._conv(node, winograd)
            case FusedProduct():
                self._product(node)
            case FusedAffine():
                self._affine(node)
            case FusedDense():
                self._dense(node)
            case Pool():
                self._maxpool(node)
            case Mean():
                self._mean(node)
            case Alone():
                self._alone(node, node.layer.operator)
            case _:
                assert_never(node)

    def _described(self, node: Node, algorithm: str) -> PlanStep:
        return PlanStep.of(node, algorithm, self._shapes)

    def _conv(self, node: FusedConv, winograd: bool) -> None:
        operator = node.operator
        (ho, wo, co), (h, w, c) = self._shapes[node.output], self._shapes[node.x]
        size = {"h": h, "w": w, "c": c, "ho": ho, "wo": wo, "co": co, "relu": _relu(node.epilogue)}
        m = _winograd(operator, node.pads, (h, w)) if winograd else None
        form = "panels"
        if m is not None:
            form = f"winograd{m}"
            self._conv_winograd(node, m, size)
        elif operator.groups > 1:
            form = "grouped"
            self._conv_grouped(node, size)
        elif operator.kernel == (1, 1) and not any(node.pads):
            self._conv_multiply(node, operator.stride, size)
        else:
            self._conv_im2col(node, size)
        self._constant(form, node.leader, node.norms)
        self._residual(node.epilogue, co)
        self._target(node.output)

    def _conv_winograd(self, node: FusedConv, m: int, size: dict[str, int]) -> None:
        n, threads, c, panels = self._n, self._threads, size["c"], -(-size["co"] // NR)
        tiles = n * -(-size["ho"] // m) * -(-size["wo"] // m)
        size |= {"m": m, "passes": -(-c // KC)}
        done = self._described(node, f"F({m}x{m},3x3)")
        if _in_two_phases(tiles, panels):
            self._step(replace(done, algorithm=done.algorithm + " V", flop=0), Kind.WINOGRAD_IN, **size)
            self._items(min(tiles, 8 * threads))
            self._refer(Column.X, self._where[node.x])
            v = self._make(v_bytes(m, tiles, c))
            self._refer(Column.BUFFER, v)
            self.scratch = max(self.scratch, working_bytes(Kind.WINOGRAD_IN, m, 1, c))
            blocks = _parts(tiles, 42, 1, 1 if panels >= 2 * threads else threads)
            self._step(done, Kind.WINOGRAD_OUT, **size)
            self._items(panels * blocks, blocks=blocks)
            self._refer(Column.BUFFER, v)
            self.scratch = max(self.scratch, working_bytes(Kind.WINOGRAD_OUT, m, -(-tiles // blocks), c))
        else:
            blocks = _parts(tiles, TILES, 1, 2 * threads)
            self._step(done, Kind.WINOGRAD, **size)
            self._items(blocks, blocks=blocks)
            self._refer(Column.X, self._where[node.x])
            self.scratch = max(self.scratch, working_bytes(Kind.WINOGRAD, m, -(-tiles // blocks), c))

    def _conv_multiply(self, node: FusedConv | FusedDense, stride: tuple[int, int], size: dict[str, int]) -> None:
        threads, c, pixels, panels = self._threads, size["c"], self._n * size["ho"] * size["wo"], -(-size["co"] // NR)
        done = self._described(node, "multiply")
        x = self._where[node.x]
        if stride != (1, 1):  # keep every second pixel, for all who want it
            key = (node.x, stride)
            if key not in self._columns:
                kept = PlanStep((f"{node.x}/columns",), "columns", (node.x,), (size["ho"], size["wo"], c))
                self._columns_of(kept, x, {**size, "sh": stride[0], "sw": stride[1]})
                self._columns[key] = self._make(4 * pixels * c)
                self._refer(Column.OUT, self._columns[key])
            x = self._columns[key]
        by_panel = pixels <= 400 and panels >= 2
        blocks = _parts(pixels, 98 if by_panel else max(MR, min(392, 65536 // c)), MR, 1 if by_panel else 4 * threads)
        self._step(done, Kind.MULTIPLY, kh=1, kw=1, passes=-(-c // KC), **size)
        self._items(blocks * panels if by_panel else blocks, blocks=blocks, by_panel=by_panel)
        self._refer(Column.X, x)

    def _columns_of(self, step: PlanStep, x: _Place, size: dict[str, int]) -> None:
        """A step that copies pixels."""
        self._step(step, Kind.COLUMNS, kh=1, kw=1, dh=1, dw=1, **size)
        self._items(4 * self._threads, blocks=4 * self._threads)
        self._refer(Column.X, x)

    def _conv_grouped(self, node: FusedConv, size: dict[str, int]) -> None:
        operator = node.operator
        groups, top, left = operator.groups, node.pads[0], node.pads[2]
        window = (*operator.kernel, *operator.stride, *operator.dilation, top, left, size["ho"], size["wo"])
        p, q = size["c"] // groups, size["co"] // groups
        bands = group_bands(window, p, q)
        kh, kw, sh, sw, dh, dw = window[:6]
        self._step(self._described(node, "grouped"), Kind.GROUPED, kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw,
                   top=top, left=left, groups=groups, **size)  # fmt: skip
        self._items(self._n * bands * -(-size["co"] // LANES), blocks=bands)
        self._refer(Column.X, self._where[node.x])
        self.scratch = max(self.scratch, band_bytes(-(-size["ho"] // bands), window, p, q))

    def _conv_im2col(self, node: FusedConv, size: dict[str, int]) -> None:
        operator = node.operator
        (kh, kw), (sh, sw), (dh, dw) = operator.kernel, operator.stride, operator.dilation
        depth, pixels = kh * kw * size["c"], self._n * size["ho"] * size["wo"]
        blocks = _parts(pixels, max(MR, 65536 // depth), MR, 2 * self._threads)
        self._step(self._described(node, "im2col"), Kind.CONV, kh=kh, kw=kw, sh=sh, sw=sw, dh=dh, dw=dw,
                   top=node.pads[0], left=node.pads[2], passes=-(-depth // KC), **size)  # fmt: skip
        self._items(blocks, blocks=blocks)
        self._refer(Column.X, self._where[node.x])
        rows = math.ceil(math.ceil(pixels / MR) / blocks) * MR
        self.scratch = max(self.scratch, 4 * rows * depth)

    def _maxpool(self, node: Pool) -> None:
        (ho, wo, _), (h, w, c) = self._shapes[node.output], self._shapes[node.x]
        (kh, kw), (sh, sw) = node.operator.window, node.operator.stride
        self._step(self._described(node, "maxpool"), Kind.MAXPOOL, h=h, w=w, c=c, ho=ho, wo=wo, kh=kh, kw=kw, sh=sh,
                   sw=sw, top=node.pads[0], left=node.pads[2], floor=node.zeros)  # fmt: skip
        self._items(self._n * ho)
        self._refer(Column.X, self._where[node.x])
        self._target(node.output)

    def _mean(self, node: Mean) -> None:
        h, w, c = self._shapes[node.x]
        self._step(self._described(node, "mean"), Kind.MEAN, h=h, w=w, c=c)
        blocks = min(2 * self._threads, -(-c // 64))
        self._items(self._n * blocks, blocks=blocks)
        self.scratch = max(self.scratch, 8 * c)  # sums in float64
        self._refer(Column.X, self._where[node.x])
        self._target(node.output)

    def _dense(self, node: FusedDense) -> None:
        name, shape = node.output, self._shapes[node.leader]
        c, co, pixels = node.operator.channels_in, node.operator.channels, math.prod(shape[:-1])
        size = {"h": 1, "w": pixels, "c": c, "ho": 1, "wo": pixels, "co": co, "relu": _relu(node.epilogue)}
        self._conv_multiply(node, (1, 1), size)
        done = self.steps[-1]
        self._constant("panels", node.leader, ())
        self._residual(node.epilogue, co)
        if isinstance(node.activation, Softmax):
            self.steps[-1] = replace(done, layers=(f"{name}/scores",), activation=None)
            values = self._make(4 * self._n * pixels * co)
            self._refer(Column.OUT, values)
            softmax = replace(done, algorithm="softmax", inputs=self.steps[-1].layers, flop=0, activation=None)
            self._step(softmax, Kind.SOFTMAX, c=co)
            self._items(self._n * pixels)
            self._refer(Column.X, values)
        self._target(name)

    def _product(self, node: FusedProduct) -> None:
        shape, other = self._shapes[node.x], self._shapes[node.factor]
        pixels = math.prod(shape[:-1])
        self._step(self._described(node, "product"), Kind.PRODUCT, h=1, w=pixels, c=shape[-1], relu=_relu(node.epilogue),
                   shared=pixels // math.prod(other[:-1]))  # fmt: skip
        self._in_blocks(self._n * pixels)
        self._refer(Column.X, self._where[node.x])
        self._refer(Column.BUFFER, self._where[node.factor])
        self._residual(node.epilogue, shape[-1])
        self._target(node.output)

    def _in_blocks(self, most: int) -> None:
        """Items of a step that can be cut anywhere, into ``most`` parts."""
        blocks = min(4 * self._threads, most)
        self._items(blocks, blocks=blocks)

    def _alone(self, node: Alone, operator: Operator) -> None:
        """A layer that nothing is fused with."""
        x, name = self._where[node.x], node.output
        (h, w, c), (ho, wo, _) = (_as_map(self._shapes[which]) for which in (node.x, name))
        size = {"h": h, "w": w, "c": c, "ho": ho, "wo": wo}
        match operator:
            case Pad((top, _, left, _)):
                self._columns_of(self._described(node, "pad"), x, {**size, "sh": 1, "sw": 1, "top": top, "left": left})
            case Flatten() | Reshape():
                self._columns_of(self._described(node, "copy"), x, {**size, "sh": 1, "sw": 1, "ho": h, "wo": w})
            case AveragePool((kh, kw), (sh, sw), padding):
                top, _, left, _ = resolve_padding(padding, (h, w), (kh, kw), (sh, sw), (1, 1))
                self._step(self._described(node, "avgpool"), Kind.AVGPOOL, kh=kh, kw=kw, sh=sh, sw=sw, top=top,
                           left=left, **size)  # fmt: skip
                self._items(self._n * ho)
                self.scratch = max(self.scratch, 8 * c)  # sums in float64
            case GlobalMaxPool():
                self._step(self._described(node, "maximum"), Kind.MAXIMUM, **size)
                self._items(self._n)
            case Sigmoid():
                self._step(self._described(node, "sigmoid"), Kind.SIGMOID, **size)
                self._in_blocks(self._n * h * w)
            case Softmax():
                self._step(self._described(node, "softmax"), Kind.SOFTMAX, **size)
                self._items(self._n * h * w)
            case _:
                raise AssertionError(operator)
        self._refer(Column.X, x)
        self._target(name)

    def _affine(self, node: FusedAffine) -> None:
        shape = self._shapes[node.output]
        pixels = math.prod(shape[:-1])
        self._step(self._described(node, "affine"), Kind.AFFINE, h=1, w=pixels, c=shape[-1], relu=_relu(node.epilogue))
        self._in_blocks(self._n * pixels)
        self._refer(Column.X, self._where[node.x])
        self._constant("scale", None, node.norms)
        self._residual(node.epilogue, shape[-1])
        self._target(node.output)

    def tables(self) -> tuple[Array, Array, int]:
        """(table, spaces, bytes of the arena): the steps as numbers; see ``Plan``."""
        arena = place(self._buffers)
        table = np.zeros((len(self._rows), COLUMNS), np.int64)
        spaces = np.zeros((len(self._rows), len(_ADDRESSES)), np.int64)
        for index, row in enumerate(self._rows):
            for column, value in row.items():
                table[index, column] = value
        for index, column, where in self._places:
            table[index, column] = where.buffer.offset if where.buffer else 0
            spaces[index, _ADDRESSES.index(column)] = where.space
        return table, spaces, arena


def make_plan(
    graph: Graph,
    constants: Constants,
    batch: tuple[int, int, int],
    outputs: Sequence[str],
    *,
    winograd: bool,
    threads: int,
) -> Plan:
    """The plan for images of ``batch`` = (n, h, w) and the wanted ``outputs``, which are layers other than the input.

    Raises UsageError for unknown outputs or images that are too small.
    """
    n, height, width = batch
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(height, width, outputs)
    names = tuple(dict.fromkeys(outputs))
    builder = _Builder(n, shapes, names, layers[0].name, threads)
    nodes = fuse(layers, outputs, shapes)
    pooled = read_by_pools(graph, nodes)
    for node in nodes:
        builder.add(node, winograd and node.output not in pooled)
    table, spaces, arena = builder.tables()
    widest = max(shape[-1] for shape in shapes.values())
    return Plan(
        tuple(builder.steps), batch, {name: shapes[name] for name in names}, ends(graph, names), rounded(arena), rounded(builder.scratch),
        threads, winograd, table, spaces, np.zeros(widest + NR, np.float32),
        builder.wanted, constants,
    )  # fmt: skip
