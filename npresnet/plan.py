"""From a graph to a plan: the few large steps in which ``net(images)`` runs, for one shape of images.

Graph layers are drawn together where that changes nothing but rounding: a batch-norm becomes part of the convolution
before it (its scale multiplies the kernel, its shift the bias, both in float64), an addition and a ReLU are done on the
convolution's result before it is stored, and zero padding is left to the reading of borders. Each convolution gets the
algorithm that suits its shape, every activation a place in one arena, reused when its last reader is done.

A plan's steps are plain data; ``str(step)`` is one line that a person can read.

The choice of algorithm depends on the shape of one image alone, never on the batch or on threads, so that an image
gives the same bits alone and in company.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import (
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Graph,
    Input,
    Layer,
    MaxPool,
    Pad,
    ReLU,
    Shape,
)
from .kernels import threads as _threads
from .kernels.batchnorm import scale_and_shift
from .kernels.gemm import pack_bias
from .kernels.geometry import resolve_padding
from .kernels.steps import COLUMNS, Column, Kind, native_addresses, run_steps
from .kernels.tile import MR, NR
from .kernels.winograd import transform_kernel
from .weights import Weights

__all__ = ["Constants", "Plan", "PlanStep", "Planner", "Unplannable", "make_plan"]

Array = npt.NDArray[Any]


class Unplannable(Exception):
    """This graph, or these outputs, must be run layer by layer."""


@dataclass(frozen=True)
class PlanStep:
    """One step: the layers it stands for, what it reads and writes, and how.

    layers      names of the graph's layers that it computes; the last is the name of its output
    algorithm   multiply, im2col, columns, F(2x2,3x3), F(4x4,3x3), maxpool, affine, mean, softmax
    inputs      names of what it reads: the data, and the residual if there is one
    shape       of its output, without the batch
    """

    layers: tuple[str, ...]
    algorithm: str
    inputs: tuple[str, ...]
    shape: Shape
    relu: bool = False

    @property
    def output(self) -> str:
        return self.layers[-1]

    def __str__(self) -> str:
        extra = (" + " + self.inputs[1] if len(self.inputs) > 1 else "") + (", ReLU" if self.relu else "")
        shape = "x".join(map(str, self.shape))
        return f"{self.output:<24} {shape:<14} {self.algorithm:<12} of {self.inputs[0]}{extra}"


# ---------------------------------------------------------------------------------------------------------------------
# Drawing layers together


@dataclass
class _Node:
    """A step while layers are still being added to it."""

    layers: list[str]
    operator: Conv2D | MaxPool | Dense | GlobalAveragePool | None  # None: element by element
    x: str
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    padded: bool = False  # by a layer of zeros, which takes part in a max-pool
    norm: str | None = None
    residual: str | None = None
    relu: bool = False


def _draw_together(layers: Sequence[Layer], outputs: Sequence[str], shapes: Mapping[str, Shape]) -> list[_Node]:
    """The nodes of the plan, in order. Raises Unplannable where an output would be swallowed."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    for name in outputs:
        readers[name] += 1
    nodes: list[_Node] = []
    ending: dict[str, _Node] = {}  # layer name -> the node that it is the last layer of
    border: dict[str, tuple[str, tuple[int, int, int, int]]] = {}  # pad layer -> what it pads, and how

    def grow(name: str, layer: str) -> _Node | None:
        """The node that ends at ``name``, if ``layer`` is its only reader; from now on it ends at ``layer``."""
        node = ending.get(name)
        if node is None or readers[name] != 1 or node.relu or isinstance(node.operator, MaxPool | GlobalAveragePool):
            return None
        del ending[name]
        node.layers.append(layer)
        ending[layer] = node
        return node

    def new(node: _Node) -> None:
        nodes.append(node)
        ending[node.layers[0]] = node

    for layer in layers:
        operator, source = layer.operator, layer.inputs[0] if layer.inputs else ""
        if (len(shapes[layer.name]) == 1) != isinstance(operator, Dense | GlobalAveragePool):
            raise Unplannable
        match operator:
            case Input():
                pass
            case Pad(pads):
                if readers[layer.name] != 1 or layer.name in outputs:
                    raise Unplannable
                border[layer.name] = (source, pads)
            case Conv2D(groups=1, dilation=(1, 1)) | MaxPool():
                x, pads = border.get(source, (source, (0, 0, 0, 0)))
                window = operator.kernel if isinstance(operator, Conv2D) else operator.window
                size = shapes[source][:2]
                inner = resolve_padding(operator.padding, (size[0], size[1]), window, operator.stride, (1, 1))
                if any(inner) and any(pads):
                    raise Unplannable
                total = tuple(a + b for a, b in zip(pads, inner, strict=True))
                new(_Node([layer.name], operator, x, total, padded=any(pads)))  # type: ignore[arg-type]
            case BatchNorm():
                node = ending.get(source)
                fits = node is not None and isinstance(node.operator, Conv2D) and not (node.norm or node.residual)
                grown = grow(source, layer.name) if fits else None
                if grown is None:
                    new(_Node([layer.name], None, source, norm=layer.name))
                else:
                    grown.norm = layer.name
            case Add():
                order = {id(node): i for i, node in enumerate(nodes)}
                late, early = sorted(layer.inputs, key=lambda n: order.get(id(ending.get(n)), -1), reverse=True)
                node = ending.get(late)
                fits = late != early and node is not None and isinstance(node.operator, Conv2D) and not node.residual
                grown = grow(late, layer.name) if fits else None
                if grown is None:
                    new(_Node([layer.name], None, late, residual=early))
                else:
                    grown.residual = early
            case ReLU():
                grown = grow(source, layer.name)
                if grown is None:
                    new(_Node([layer.name], None, source, relu=True))
                else:
                    grown.relu = True
            case Dense(bias=True) | GlobalAveragePool(keep_dims=False):
                new(_Node([layer.name], operator, source))
            case _:
                raise Unplannable
        if source in border and not isinstance(operator, Conv2D | MaxPool):
            raise Unplannable
    if any(name not in ending and not isinstance(layers[0].operator, Input) for name in outputs):
        raise Unplannable
    made = {node.layers[-1] for node in nodes} | {layers[0].name}
    if any(name not in made for name in outputs):
        raise Unplannable
    return nodes


# ---------------------------------------------------------------------------------------------------------------------
# Weights, folded and packed once per network


def _aligned(shape: tuple[int, ...]) -> Array:
    """An uninitialised float32 array that starts at a multiple of 64 bytes, so that no vector crosses a cache line."""
    size = math.prod(shape)
    raw = np.empty(size * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * 4].view(np.float32).reshape(shape)


class Constants:
    """The weights as steps read them: folded and packed, each made when first needed and shared by all plans."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self._graph, self._weights = graph, weights
        self._made: dict[tuple[str, str, str | None], tuple[Array, Array]] = {}
        self._lock = threading.Lock()

    def packed(self, layer: str, form: str, norm: str | None) -> tuple[Array, Array]:
        """(weights, bias) of ``layer`` with batch-norm ``norm`` folded in; ``form``: "panels", "winograd2", "winograd4"
        or "scale" (of a batch-norm by itself, or of nothing)."""
        key = (layer, form, norm)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(layer, form, norm)
            return self._made[key]

    def _norm(self, name: str) -> tuple[Array, Array]:
        w, operator = self._weights[name], self._graph.by_name[name].operator
        assert isinstance(operator, BatchNorm)
        return scale_and_shift(w.get("gamma"), w.get("beta"), w["mean"], w["variance"], operator.epsilon)

    def _make(self, layer: str, form: str, norm: str | None) -> tuple[Array, Array]:
        if form == "scale":
            scale, shift = self._norm(norm) if norm else (None, None)
            channels = int(layer) if norm is None else len(scale)  # type: ignore[arg-type]
            ones = np.ones(channels) if scale is None else scale
            zeros = np.zeros(channels) if shift is None else shift
            return ones.astype(np.float32), zeros.astype(np.float32)
        kernel = self._weights[layer]["kernel"]
        bias = self._weights[layer].get("bias")
        columns = kernel.shape[-1]
        total = np.zeros(columns) if bias is None else bias.astype(np.float64)
        scale = None
        if norm is not None:
            scale, shift = self._norm(norm)
            total = total * scale + shift
        if form == "panels":
            return _panels(kernel.reshape(1, -1, columns), scale), pack_bias(total.astype(np.float32), columns)
        wide = kernel.astype(np.float64)
        if scale is not None:
            wide *= scale
        transformed = transform_kernel(wide, int(form[-1])).astype(np.float32)
        return _panels(transformed, None), pack_bias(total.astype(np.float32), columns)


def _panels(matrices: Array, scale: Array | None) -> Array:
    """float[e, K, N] as panels float32[ceil(N / NR), e, K, NR]: all that one panel of outputs needs lies together."""
    elements, depth, columns = matrices.shape
    packed = _aligned((-(-columns // NR), elements, depth, NR))
    for panel in range(len(packed)):
        part = matrices[:, :, panel * NR : (panel + 1) * NR]
        if scale is not None:
            part = part * scale[panel * NR : (panel + 1) * NR]
        packed[panel, :, :, : part.shape[2]] = part
        packed[panel, :, :, part.shape[2] :] = 0.0
    return packed


# ---------------------------------------------------------------------------------------------------------------------
# Choosing, cutting, placing

_KC = 512  # steps of k per pass; see kernels/gemm.py
_SPACES = 4  # where an address counts from: 0 nothing (absolute), 1 arena, 2 images, 3 zeros; 4, 5, ... the outputs
_ABSOLUTE, _ARENA, _IMAGES, _ZEROS = range(_SPACES)
_ADDRESSES = (Column.X, Column.OUT, Column.WEIGHTS, Column.BIAS, Column.RESIDUAL, Column.BUFFER)


def _winograd_size(operator: Conv2D, pads: tuple[int, ...], size: Shape) -> int | None:
    """m of F(m x m, 3x3) for a convolution on maps of ``size``, or None where the direct sum is better."""
    if operator.kernel != (3, 3) or operator.stride != (1, 1) or pads != (1, 1, 1, 1):
        return None
    if operator.channels_in % 16 or operator.channels % 16 or operator.channels_in < 32:
        return None
    height, width = size[:2]
    return 4 if height * width >= 100 else 2


@dataclass
class _Buffer:
    """A stretch of the arena, in bytes, needed from one step to another."""

    size: int
    first: int
    last: int
    offset: int = 0


def _place(buffers: Sequence[_Buffer]) -> int:
    """Give every buffer an offset such that no two that live at one time overlap; returns the arena's size in bytes.

    Largest first, each at the lowest offset that is free: simple, and within some per cent of the least possible here.
    """
    placed: list[_Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.size):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if offset + buffer.size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        buffer.offset = offset
        placed.append(buffer)
    return max((b.offset + b.size for b in placed), default=0)


def _round(size: int) -> int:
    return -(-size // 64) * 64


@dataclass
class Plan:
    """Everything needed to run one graph on images of one shape, again and again and from many threads at once."""

    steps: tuple[PlanStep, ...]
    batch: tuple[int, int, int]
    outputs: Mapping[str, Shape]
    arena_bytes: int
    scratch_bytes: int
    threads: int
    winograd: bool
    _table: Array
    _spaces: Array
    _output_order: tuple[str, ...]
    _zeros: Array
    _constants: Constants  # keeps alive what the table's addresses point to
    _idle: list[Array] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    def run(self, images: Array) -> dict[str, Array]:
        """{output name: float32[n, ...]} for ``images`` float32[n, h, w, c], C-contiguous, of the plan's shape."""
        n = len(images)
        results = {name: np.empty((n, *shape), np.float32) for name, shape in self.outputs.items()}
        try:
            arena = self._idle.pop()
        except IndexError:
            arena = _aligned(((self.arena_bytes + self.threads * self.scratch_bytes) // 4,))
        base = arena.ctypes.data
        bases = [0, base, images.ctypes.data, self._zeros.ctypes.data]
        bases += [results[name].ctypes.data for name in self._output_order]
        table = self._table.copy()
        table[:, _ADDRESSES] += np.array(bases, np.int64)[self._spaces]
        sync = np.zeros(2 * len(table), np.int64)
        scratch = [base + self.arena_bytes + i * self.scratch_bytes for i in range(self.threads)]
        natives = native_addresses()
        _threads.start(run_steps, [(table, sync, at, self._zeros.ctypes.data, natives) for at in scratch])
        self._idle.append(arena)
        return results


def make_plan(
    graph: Graph,
    constants: Constants,
    batch: tuple[int, int, int],
    outputs: Sequence[str],
    *,
    winograd: bool,
    threads: int,
) -> Plan:
    """The plan for images of ``batch`` = (n, h, w) and the wanted ``outputs``.

    Raises Unplannable where an output lies inside a step (before its batch-norm, say).
    """
    n, height, width = batch
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(height, width, outputs)
    nodes = _draw_together(layers, outputs, shapes)
    names = tuple(dict.fromkeys(name for name in outputs if name != layers[0].name))
    rows: list[dict[int, int]] = []
    spaces: list[dict[int, int]] = []
    steps: list[PlanStep] = []
    buffers: list[_Buffer] = []
    where: dict[str, tuple[int, int, _Buffer | None]] = {layers[0].name: (_IMAGES, 0, None)}
    fixups: list[tuple[int, int, _Buffer]] = []
    scratch = 0
    columns_of: dict[tuple[str, tuple[int, int]], tuple[int, int, _Buffer | None]] = {}
    place: tuple[int, int, _Buffer | None]

    def step(name: PlanStep, **values: int) -> int:
        rows.append({int(Column[key.upper()]): int(value) for key, value in values.items()})
        spaces.append({})
        steps.append(name)
        return len(rows) - 1

    def refer(index: int, column: Column, place: tuple[int, int, _Buffer | None]) -> None:
        """Let a step's address be that of ``place``, and keep the place alive until then."""
        space, offset, buffer = place
        rows[index][column] = offset
        spaces[index][column] = space
        if buffer is not None:
            buffer.last = max(buffer.last, index)
            fixups.append((index, column, buffer))

    def make(index: int, size: int) -> tuple[int, int, _Buffer]:
        buffer = _Buffer(_round(size), index, index)
        buffers.append(buffer)
        return _ARENA, 0, buffer

    def target(index: int, name: str, shape: Shape) -> None:
        if name in names:
            where[name] = (_SPACES + names.index(name), 0, None)
        else:
            where[name] = make(index, 4 * n * math.prod(shape))
        refer(index, Column.OUT, where[name])

    def constant(index: int, form: str, layer: str, norm: str | None) -> None:
        weights, bias = constants.packed(layer, form, norm)
        rows[index][Column.WEIGHTS], rows[index][Column.BIAS] = weights.ctypes.data, bias.ctypes.data

    def residual(index: int, node: _Node, channels: int) -> None:
        if node.residual is None:
            refer(index, Column.RESIDUAL, (_ZEROS, 0, None))
        else:
            refer(index, Column.RESIDUAL, where[node.residual])
            rows[index][Column.LD_RESIDUAL] = 4 * channels

    for node in nodes:
        name, operator = node.layers[-1], node.operator
        shape, source = shapes[name], shapes[node.x]
        done = PlanStep(
            tuple(node.layers), "", (node.x, *([node.residual] if node.residual else [])), shape, node.relu
        )  # fmt: skip
        flags = {"relu": node.relu, "n": n, "c": source[-1]}
        if len(source) == 3:
            flags |= {"h": source[0], "w": source[1]}
        if isinstance(operator, Conv2D):
            ho, wo, co = shape
            kh, kw = operator.kernel
            m = _winograd_size(operator, node.pads, source) if winograd else None
            flags |= {"ho": ho, "wo": wo, "co": co}
            if m is not None:
                channels, tiles = source[2], n * -(-ho // m) * -(-wo // m)
                elements, panels = (m + 2) ** 2, -(-co // NR)
                done = replace(done, algorithm=f"F({m}x{m},3x3)")
                flags |= {"m": m, "passes": -(-channels // _KC)}
                head = 4 * elements * max(channels, NR)
                if _in_two_phases(tiles, elements, channels, panels, threads):
                    index = step(replace(done, algorithm=done.algorithm + " V"), kind=Kind.WINOGRAD_IN,
                                 items=min(tiles, 8 * threads), **flags)  # fmt: skip
                    refer(index, Column.X, where[node.x])
                    place = make(index, 4 * elements * tiles * channels)
                    refer(index, Column.BUFFER, place)
                    blocks = _parts(tiles, 42, 1, 1 if panels >= 2 * threads else threads)
                    index = step(done, kind=Kind.WINOGRAD_OUT, items=panels * blocks, blocks=blocks, **flags)
                    refer(index, Column.BUFFER, place)
                    scratch = max(scratch, head + 4 * elements * -(-tiles // blocks) * NR)
                else:
                    blocks = _parts(tiles, 28, 1, 2 * threads)
                    index = step(done, kind=Kind.WINOGRAD, items=blocks, blocks=blocks, **flags)
                    refer(index, Column.X, where[node.x])
                    scratch = max(scratch, head + 4 * elements * -(-tiles // blocks) * (channels + NR))
                constant(index, f"winograd{m}", node.layers[0], node.norm)
            else:
                depth, pixels, panels = kh * kw * source[2], n * ho * wo, -(-co // NR)
                flags |= {"passes": -(-depth // _KC)}
                place = where[node.x]
                direct = (kh, kw) == (1, 1) and not any(node.pads)
                if direct and operator.stride != (1, 1):  # keep every second pixel, for all who want it
                    key = (node.x, operator.stride)
                    if key not in columns_of:
                        index = step(replace(done, algorithm="columns", layers=(f"{node.x}/columns",), relu=False),
                                     kind=Kind.COLS, items=4 * threads, blocks=4 * threads, kh=1, kw=1,
                                     sh=operator.stride[0], sw=operator.stride[1], **flags)  # fmt: skip
                        refer(index, Column.X, where[node.x])
                        columns_of[key] = make(index, 4 * pixels * source[2])
                        refer(index, Column.OUT, columns_of[key])
                    place = columns_of[key]
                if direct:
                    by_panel = pixels <= 400 and panels >= 2
                    rows_wanted = 98 if by_panel else max(MR, min(392, 65536 // depth))
                    blocks = _parts(pixels, rows_wanted, MR, 1 if by_panel else 4 * threads)
                    index = step(replace(done, algorithm="multiply"), kind=Kind.MULTIPLY, by_panel=by_panel, kh=1, kw=1,
                                 items=blocks * panels if by_panel else blocks, blocks=blocks, **flags)  # fmt: skip
                else:
                    blocks = _parts(pixels, max(MR, 65536 // depth), MR, 2 * threads)
                    index = step(replace(done, algorithm="im2col"), kind=Kind.CONV, items=blocks, blocks=blocks, kh=kh, kw=kw,
                                 sh=operator.stride[0], sw=operator.stride[1], top=node.pads[0], left=node.pads[2],
                                 **flags)  # fmt: skip
                    most = math.ceil(math.ceil(pixels / MR) / blocks) * MR
                    scratch = max(scratch, 4 * most * depth)
                refer(index, Column.X, place)
                constant(index, "panels", node.layers[0], node.norm)
            residual(index, node, co)
        elif isinstance(operator, MaxPool):
            index = step(replace(done, algorithm="maxpool"), kind=Kind.MAXPOOL, items=n * shape[0], kh=operator.window[0],
                         kw=operator.window[1], sh=operator.stride[0], sw=operator.stride[1], top=node.pads[0],
                         left=node.pads[2], floor=node.padded, ho=shape[0], wo=shape[1], **flags)  # fmt: skip
            refer(index, Column.X, where[node.x])
        elif isinstance(operator, GlobalAveragePool):
            scratch = max(scratch, 8 * source[2])  # sums in float64
            index = step(replace(done, algorithm="mean"), kind=Kind.MEAN, items=n, **flags)
            refer(index, Column.X, where[node.x])
        elif isinstance(operator, Dense):
            panels = -(-operator.channels // NR)
            scores = replace(
                done, algorithm="multiply", layers=(f"{name}/scores",) if operator.softmax else done.layers
            )
            index = step(scores, kind=Kind.MULTIPLY, by_panel=1, items=panels, blocks=1, ho=1, wo=1, kh=1, kw=1,
                         co=operator.channels, passes=-(-operator.channels_in // _KC), **flags)  # fmt: skip
            refer(index, Column.X, where[node.x])
            constant(index, "panels", node.layers[0], None)
            residual(index, node, operator.channels)
            if operator.softmax:
                place = make(index, 4 * n * operator.channels)
                refer(index, Column.OUT, place)
                index = step(replace(done, algorithm="softmax", inputs=scores.layers), kind=Kind.SOFTMAX, items=n, n=n,
                             c=operator.channels)  # fmt: skip
                refer(index, Column.X, place)
        else:
            pixels = n * math.prod(shape[:-1])
            blocks = min(4 * threads, pixels)
            index = step(replace(done, algorithm="affine"), kind=Kind.AFFINE, items=blocks, blocks=blocks, **flags)
            refer(index, Column.X, where[node.x])
            constant(index, "scale", node.norm or str(shape[-1]), node.norm)
            residual(index, node, shape[-1])
        target(index, name, shape)

    arena = _place(buffers)
    table = np.zeros((len(rows), COLUMNS), np.int64)
    space = np.zeros((len(rows), len(_ADDRESSES)), np.int64)
    for index, values in enumerate(rows):
        for column, value in values.items():
            table[index, column] = value
        for column, value in spaces[index].items():
            space[index, _ADDRESSES.index(Column(column))] = value
    for index, column, buffer in fixups:
        table[index, column] += buffer.offset
    widest = max((shape[-1] for shape in shapes.values()), default=1)
    return Plan(
        tuple(steps), batch, {name: shapes[name] for name in names}, _round(arena), _round(scratch), threads, winograd,
        table, space, names, np.zeros(widest + NR, np.float32), constants,
    )  # fmt: skip


class Planner:
    """The plans of one network, one for each shape of images and set of outputs; the most recent few are kept."""

    _MOST = 8

    def __init__(self, graph: Graph, weights: Weights, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._constants = Constants(graph, weights)
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._lock = threading.Lock()

    def plan(self, batch: tuple[int, int, int], outputs: tuple[str, ...], winograd: bool) -> Plan:
        """The plan for images of ``batch`` = (n, h, w); made if it is not at hand. Raises Unplannable, UsageError."""
        key = (batch, outputs, winograd)
        with self._lock:
            found = self._plans.pop(key, None)
            if found is None:
                found = make_plan(
                    self._graph, self._constants, batch, outputs, winograd=winograd, threads=self._threads
                )  # fmt: skip
            self._plans[key] = found  # the last is the most recently used
            while len(self._plans) > self._MOST:
                del self._plans[next(iter(self._plans))]
        return found

    def run(self, images: Array, outputs: tuple[str, ...], winograd: bool) -> dict[str, Array]:
        """{output: array} for float32[n, h, w, c] images. Raises Unplannable, UsageError."""
        n, height, width, _ = images.shape
        plan = self.plan((n, height, width), outputs, winograd)
        results = plan.run(images)
        if not plan.winograd:
            return results
        # Winograd spreads infinity and NaN over a tile, as NaN, which no later layer takes away again: an image whose
        # deepest output holds NaN is run once more without it, so that they come out where TensorFlow has them.
        deepest = results[max(results, key=lambda name: self._order[name])]
        for index in range(n):
            values = deepest[index].ravel()
            if np.isnan(np.dot(values, values)):
                alone = self.plan((1, height, width), outputs, False).run(images[index : index + 1])
                for name, array in alone.items():
                    results[name][index] = array[0]
        return results

    @cached_property
    def _order(self) -> dict[str, int]:
        return {layer.name: index for index, layer in enumerate(self._graph.layers)}


def _parts(total: int, most: int, unit: int, multiple: int) -> int:
    """Into how many parts to cut ``total`` so that none is much larger than ``most``, and threads end together."""
    parts = -(-total // max(most, 1))
    parts = -(-parts // multiple) * multiple
    return max(1, min(parts, -(-total // unit)))


def _in_two_phases(tiles: int, elements: int, channels: int, panels: int, threads: int) -> bool:
    """Whether the transformed tiles of the whole map are cheaper to keep than the transformed kernels to read again."""
    kernels, patches = panels * NR, tiles
    return panels > 1 and patches < 2 * kernels
