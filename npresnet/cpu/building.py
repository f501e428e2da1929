"""From fused nodes to steps: what each reads and writes, and where in memory that lies.

Every feature map is a ``Map``: an address, a pixel pitch, channels. While steps are added, addresses are places: a stretch
of the arena, an output, the images, zeros, packed weights. Which step needs a stretch of the arena first and last follows
from the records themselves.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from ..kernels.activation import ActivationStep, activation_of
from ..kernels.avgpool import AvgPoolStep, MeanStep
from ..kernels.channel_reduce import ChannelReduceStep
from ..kernels.channels import ChannelsStep
from ..kernels.combine import CombineStep
from ..kernels.concatenate import firsts
from ..kernels.conv2d_transpose import Col2imStep
from ..kernels.geometry import Window, resolve_padding
from ..kernels.globalmaxpool import GlobalMaxPoolStep
from ..kernels.groupnorm import GroupNormStep
from ..kernels.maxpool import MaxPoolStep
from ..kernels.resize import ResizeStep
from ..kernels.scale import AffineStep
from ..kernels.softmax import SoftmaxStep
from ..kernels.steps.epilogue import LINEAR, Activating, Epilogue
from ..kernels.steps.im2col import CopyStep, Patches
from ..kernels.steps.phases import PhasesStep
from ..kernels.steps.records import Map, Place, Step, places
from ..kernels.steps.winograd import InputTiles, OutputTiles, WinogradInStep, WinogradOutStep, WinogradStep, v_bytes
from ..kernels.unitnorm import UnitNormStep
from ..network import operators
from ..network.operator_base import as_map
from ..network.operators import (
    AveragePool,
    ChannelReduce,
    Channels,
    Concatenate,
    Crop,
    Flatten,
    GlobalMaxPool,
    Operator,
    Pad,
    Reshape,
    Resize,
    Shape,
    Softmax,
    UpSample,
)
from ..plan.folding import Constant
from ..plan.fusion import (
    NOTHING,
    Alone,
    FusedAffine,
    FusedConv,
    FusedDense,
    FusedEpilogue,
    FusedJoin,
    FusedTransposed,
    Mean,
    Node,
    Pool,
)
from ..plan.memory import SMALL, Buffer, Room, rounded
from ..plan.slices import Slice
from ..plan.steps import PlanStep
from . import choice

__all__ = ["ARENA", "GIVEN", "ZEROS", "InMemory", "Packed", "StepBuilder"]

ARENA, ZEROS, GIVEN = range(3)
"""Stretches of memory that places lie in; input number i is GIVEN + i, and the outputs follow."""


@dataclass(frozen=True)
class InMemory(Place):
    """In a stretch of memory; in the arena, which stretch of it. ``offset``: how many bytes behind its beginning."""

    stretch: int
    buffer: Buffer | None = None
    offset: int = 0

    @property
    def placed(self) -> tuple[int, int]:
        """(stretch of memory, bytes from its beginning), once all buffers have their places: some in outputs."""
        if self.buffer is None:
            return self.stretch, self.offset
        return self.buffer.room.stretch if self.buffer.room else self.stretch, self.buffer.offset + self.offset


@dataclass(frozen=True)
class Packed(Place):
    """Packed weights, or the bias that goes with them."""

    constant: Constant
    bias: bool = False


def _activation(operator: Operator | None) -> Activating:
    """What is part of an epilogue, as the kernels do it; a softmax, say, cannot be, and takes a step of its own."""
    match operator:
        case operators.Activation(function, constants):
            return activation_of(function, constants)
        case operators.ReLU() | operators.LeakyReLU():
            return Activating(*operator.slope_and_floor())
    return LINEAR


class StepBuilder:
    """A plan while steps are being added to it.

    steps    what people see of each step
    records  what the kernels see
    zeros    how many there must be in ``ZEROS``, but for those that fill up a panel
    """

    def __init__(
        self,
        batch: int,
        shapes: Mapping[str, Shape],
        outputs: Sequence[str],
        entries: Sequence[str],
        threads: int,
        slices: Mapping[str, Slice],
    ) -> None:
        self._n, self._shapes, self._outputs, self._threads = batch, shapes, outputs, threads
        self._slices = slices
        self.steps: list[PlanStep] = []
        self.records: list[Step] = []
        self.buffers: list[Buffer] = []
        self.zeros = max(shape[-1] for shape in shapes.values())
        self._maps = {
            name: Map.plain(InMemory(GIVEN + number), shapes[name][-1]) for number, name in enumerate(entries)
        }
        self._first_output = GIVEN + len(entries)
        self._begun: dict[int, int] = {}  # which step is the first to write an output, by its stretch
        self._subsampled: dict[tuple[str, tuple[int, int]], Map] = {}
        self._wholes = {part.whole for part in slices.values()}
        self._done: Container[str] = ()

    def add(self, node: Node, winograd: bool, done: Container[str] = ()) -> None:
        """The steps of one node.

        winograd  whether that algorithm may be used
        done      what no node after this one reads
        """
        self._done = done
        match node:
            case FusedConv():
                self._conv(node, winograd)
            case FusedTransposed():
                self._transposed(node)
            case FusedJoin():
                self._join(node)
            case FusedAffine():
                self._affine(node)
            case FusedDense():
                self._dense(node)
            case Pool():
                self._pool(node)
            case Mean():
                self._mean(node)
            case Alone():
                self._alone(node, node.layer.operator)
            case _:
                assert_never(node)

    # Memory ----------------------------------------------------------------------------------------------------------

    def _step(self, step: PlanStep, record: Step) -> None:
        """Add a step; what it reads and writes in the arena must stay there until then."""
        index = len(self.records)
        for place in places(record):
            if not isinstance(place, InMemory):
                continue
            if place.buffer is not None:
                place.buffer.last = index
            elif place.stretch >= self._first_output:
                self._begun.setdefault(place.stretch, index)
        self.steps.append(step)
        self.records.append(record)

    def rooms(self, sizes: Sequence[int]) -> list[Room]:
        """The outputs, of so many bytes each, as room for what is done with before they are written. Small ones are no use, nor
        do they begin at a cache line."""
        made = ((self._first_output + number, size) for number, size in enumerate(sizes) if size >= SMALL)
        return [Room(stretch, size, self._begun[stretch]) for stretch, size in made]

    def _make(self, size: int) -> InMemory:
        """A new stretch of the arena of so many bytes, needed from the step on that is added next: so what a step writes is made
        after all other steps that it needs are there."""
        index = len(self.records)
        self.buffers.append(Buffer(rounded(size), index, index))
        return InMemory(ARENA, self.buffers[-1])

    def _pixels(self, name: str) -> int:
        """Of all images, in a layer's output."""
        return self._n * math.prod(self._shapes[name][:-1])

    def _batched(self, name: str) -> tuple[int, int, int, int]:
        """The shape of a layer's output as maps, with the batch."""
        return self._n, *as_map(self._shapes[name])

    def _map(self, pixels: int, channels: int) -> Map:
        """A new map in the arena, with a gap between its pixels where that is better."""
        pitch = choice.pixel_pitch(channels)
        return Map(self._make(pixels * pitch), pitch, channels)

    def _target(self, name: str, plain: bool = False) -> Map:
        """Where a layer's output goes; ``plain``: without gaps, wherever that is."""
        channels = self._shapes[name][-1]
        if name in self._maps:  # a concatenation, which is there as soon as the first of its parts
            return self._maps[name]
        if name in self._slices:
            whole, first = self._slices[name]
            made = self._part(self._target(whole), first, channels)
        elif name in self._outputs:
            made = Map.plain(InMemory(self._first_output + self._outputs.index(name)), channels)
        elif plain:
            made = Map.plain(self._make(4 * self._pixels(name) * channels), channels)
        else:
            made = self._map(self._pixels(name), channels)
        self._maps[name] = made
        return made

    def _over_residual(self, node: FusedConv) -> Map:
        """Where a convolution's output goes: over what is added to it, where that is done with. Each number is read right before the
        other is written in its place, which then is in the cache already: for large maps a third less is to be moved."""
        added = node.epilogue.residual
        free = added in self._done and added not in self._wholes and added != node.x
        if (
            added is not None
            and free
            and not any(node.output in names for names in (self._maps, self._slices, self._outputs))
        ):
            old, channels = self._maps[added], self._shapes[node.output][-1]
            where = old.address
            if isinstance(where, InMemory) and where.buffer and added not in self._slices and old.channels == channels:
                self._maps[node.output] = old
        return self._target(node.output)

    def _part(self, whole: Map, first: int, channels: int) -> Map:
        """Some of a map's channels."""
        assert isinstance(whole.address, InMemory)
        return Map(replace(whole.address, offset=whole.address.offset + 4 * first), whole.pitch, channels)

    def _zeros(self, channels: int) -> Map:
        """As many pixels of zeros as one likes."""
        self.zeros = max(self.zeros, channels)
        return Map(InMemory(ZEROS), 0, channels)

    def _epilogue(self, fused: FusedEpilogue, constant: Constant | None, channels: int) -> Epilogue:
        """A node's epilogue; ``constant`` is the one whose bias is added."""
        residual = self._zeros(channels) if fused.residual is None else self._maps[fused.residual]
        bias = InMemory(ZEROS) if constant is None else Packed(constant, bias=True)
        return Epilogue(bias, residual, _activation(fused.activation), InMemory(ZEROS))

    # Steps -----------------------------------------------------------------------------------------------------------

    def _described(self, node: Node, algorithm: str) -> PlanStep:
        return PlanStep.of(node, algorithm, self._shapes)

    def _conv(self, node: FusedConv, winograd: bool) -> None:
        operator, (h, w, _), (ho, wo, co) = node.operator, self._shapes[node.x], self._shapes[node.output]
        x, m = self._maps[node.x], choice.winograd_tile(operator, node.pads, (h, w)) if winograd else None

        def weights(form: str) -> tuple[Packed, Epilogue]:
            constant = Constant(form, node.leader, node.norms, co)
            return Packed(constant), self._epilogue(node.epilogue, constant, co)

        if m is not None:
            paired = choice.in_pairs((h, w), m)
            given = InputTiles.of(x, self._n, h, w, m)
            self._winograd(node, given, *weights(f"{'pairs' if paired else 'winograd'}{m}"), paired)
            return
        window = Window(*operator.kernel, *operator.stride, *operator.dilation, node.pads[0], node.pads[2], ho, wo)
        patches = Patches(x=x, height=h, width=w, window=window)
        if winograd and choice.in_phases(operator):
            kernels, epilogue = weights("phases")
            record: Step = PhasesStep.cut(patches, self._over_residual(node), self._n, kernels, epilogue)
            self._step(self._described(node, "F(3x3,4x4)"), record)
            return
        if operator.groups > 1:
            form = choice.grouped_form(operator, node.pads, (h, w), winograd)
            kernels, epilogue = weights(form)
            size, out = (self._n, h, w), self._target(node.output)
            record = choice.grouped(form, x, out, size, window, operator.groups, kernels, epilogue, self._threads)
            self._step(self._described(node, "F(4,3)" if form == "rows" else "grouped"), record)
            return
        panels, epilogue = weights("panels")
        rows = self._n * ho * wo
        if operator.kernel == (1, 1) and not any(node.pads):
            if operator.stride != (1, 1):
                x = self._every(node.x, operator.stride, (ho, wo))
            times = choice.product(panels, operator.channels_in, self._over_residual(node), epilogue)
            self._step(self._described(node, "multiply"), choice.pointwise(x, times, rows, self._threads))
            return
        depth = math.prod(operator.kernel) * operator.channels_in
        times = choice.product(panels, depth, self._over_residual(node), epilogue)
        if operator.kernel == (h, w) and (ho, wo) == (1, 1) and not any(node.pads) and x.pitch == 4 * x.channels:
            whole = Map.plain(x.address, depth)  # a window as large as the map: its only patch lies there as it is
            self._step(self._described(node, "multiply"), choice.pointwise(whole, times, rows, self._threads))
            return
        self._step(self._described(node, "im2col"), choice.im2col(patches, times, rows, self._threads))

    def _transposed(self, node: FusedTransposed) -> None:
        """A product of all pixels, and a gathering of its taps."""
        operator, (h, w, ci) = node.operator, self._shapes[node.x]
        height, width, window = operator.window((h, w))
        constant = Constant("taps", node.leader, node.norms, operator.channels)
        rows, taps = self._n * h * w, math.prod(operator.kernel) * operator.channels
        x, given = self._maps[node.x], self._map(rows, taps)
        times = choice.product(Packed(constant), ci, given, self._epilogue(FusedEpilogue(None, None), None, taps))
        done = self._described(node, "gather")
        product = replace(
            done, layers=(f"{node.output}/taps",), algorithm="multiply", inputs=(node.x,), activation=None
        )
        self._step(product, choice.pointwise(x, times, rows, self._threads))
        record = Col2imStep(
            x=given, out=self._target(node.output), n=self._n, height=height, width=width, window=window,
            epilogue=self._epilogue(node.epilogue, constant, operator.channels),
        )  # fmt: skip
        self._step(replace(done, flop=0), record)

    def _winograd(self, node: FusedConv, given: InputTiles, kernels: Packed, epilogue: Epilogue, paired: bool) -> None:
        algorithm = f"F({given.m}x{given.m},3x3)"
        done = self._described(node, algorithm)
        if not choice.in_two_steps(given, done.shape[-1]):
            made = OutputTiles.of(given, self._over_residual(node), kernels, epilogue, paired)
            blocks = choice.winograd_blocks(given, self._threads)
            self._step(done, WinogradStep(given=given, made=made, blocks=blocks))
            return
        v = self._make(v_bytes(given.m, given.tiles, given.x.channels))
        transformed = replace(done, algorithm=f"{algorithm} V", flop=0)
        self._step(transformed, WinogradInStep(given=given, v=v, blocks=choice.v_blocks(given, self._threads)))
        made = OutputTiles.of(given, self._over_residual(node), kernels, epilogue, paired)
        self._step(done, WinogradOutStep(made=made, v=v, blocks=choice.product_blocks(made, self._threads)))

    def _every(self, name: str, stride: tuple[int, int], size: tuple[int, int]) -> Map:
        """Every second pixel of a map, kept for all who want them: maps of ``size``."""
        if (name, stride) not in self._subsampled:
            channels = self._shapes[name][-1]
            step = PlanStep((f"{name}/columns",), "columns", (name,), (*size, channels))
            out = self._map(self._n * math.prod(size), channels)
            self._copy(step, name, Window(1, 1, *stride, 1, 1, 0, 0, *size), out)
            self._subsampled[name, stride] = out
        return self._subsampled[name, stride]

    def _copy(self, step: PlanStep, name: str, window: Window, out: Map) -> None:
        """A step that copies pixels."""
        h, w, _ = as_map(self._shapes[name])
        patches = Patches(x=self._maps[name], height=h, width=w, window=window)
        self._step(
            step, CopyStep(patches=patches, out=out, rows=self._n * window.ho * window.wo, blocks=4 * self._threads)
        )

    def _copy_all(self, step: PlanStep, name: str, out: Map) -> None:
        """A step that copies all pixels as they are."""
        pixels = self._pixels(name)
        blocks = choice.pieces(pixels, self._threads)
        self._step(step, CopyStep.all_pixels(self._maps[name], out, pixels, blocks))

    def _concatenate(self, node: Alone, out: Map) -> None:
        """Steps that copy what does not lie in the whole already."""
        channels = [self._shapes[name][-1] for name in node.inputs]
        parts = zip(node.inputs, firsts(channels), channels, strict=True)
        apart = [part for part in parts if self._slices.get(part[0]) != Slice(node.output, part[1])]
        for number, (name, first, count) in enumerate(apart, 1):
            step = PlanStep((f"{node.output}/{name}",), "copy", (name,), self._shapes[name])
            self._copy_all(
                step if number < len(apart) else self._described(node, "copy"), name, self._part(out, first, count)
            )

    def _pool(self, node: Pool) -> None:
        (h, w, _), (ho, wo, _) = self._shapes[node.x], self._shapes[node.output]
        window = Window(*node.operator.window, *node.operator.stride, 1, 1, node.pads[0], node.pads[2], ho, wo)
        record = MaxPoolStep(
            x=self._maps[node.x], out=self._target(node.output), n=self._n, height=h, width=w, window=window,
            zeros=int(node.zeros),
        )  # fmt: skip
        self._step(self._described(node, "maxpool"), record)

    def _mean(self, node: Mean) -> None:
        pixels = math.prod(self._shapes[node.x][:-1])
        record = MeanStep.cut(self._maps[node.x], self._target(node.output), self._n, pixels, self._threads)
        self._step(self._described(node, "mean"), record)

    def _dense(self, node: FusedDense) -> None:
        done, co, rows = self._described(node, "multiply"), node.operator.channels, self._pixels(node.leader)
        constant = Constant("panels", node.leader, (), co)
        epilogue = self._epilogue(node.epilogue, constant, co)
        # what is no part of an epilogue takes a step of its own
        behind = node.activation if node.activation and not node.activation.epilogue else None
        if behind is None:
            scores = self._target(node.output)
        else:
            scores = self._map(rows, co)
            done = replace(done, layers=(f"{node.output}/scores",), activation=None)
        times = choice.product(Packed(constant), node.operator.channels_in, scores, epilogue)
        self._step(done, choice.pointwise(self._maps[node.x], times, rows, self._threads))
        if behind is not None:
            assert isinstance(behind, Softmax), behind
            softmax = replace(done, layers=node.layers, algorithm="softmax", inputs=done.layers, flop=0)
            self._step(softmax, SoftmaxStep(x=scores, out=self._target(node.output), pixels=rows))

    def _join(self, node: FusedJoin) -> None:
        a, b = ((self._maps[name], self._batched(name)) for name in (node.x, node.other))
        epilogue = self._epilogue(node.epilogue, None, self._shapes[node.output][-1])
        out = self._target(node.output), self._batched(node.output)
        blocks = choice.pieces(self._pixels(node.output), self._threads)
        record = CombineStep.of(node.operator.kind, a, b, out, epilogue, blocks)
        self._step(
            self._described(node, "product" if isinstance(node.operator, operators.Multiply) else "join"), record
        )

    def _affine(self, node: FusedAffine) -> None:
        channels, pixels = self._shapes[node.output][-1], self._pixels(node.output)
        constant = Constant("scale", None, node.norms, channels)
        record = AffineStep(
            x=self._maps[node.x], out=self._target(node.output), factor=Packed(constant), pixels=pixels,
            epilogue=self._epilogue(node.epilogue, constant, channels), blocks=choice.pieces(pixels, self._threads),
        )  # fmt: skip
        self._step(self._described(node, "affine"), record)

    def _alone(self, node: Alone, operator: Operator) -> None:
        """A layer that nothing is fused with."""
        moved = isinstance(operator, Flatten | Reshape)  # copied pixel by pixel into what has other pixels
        x, out, n = self._maps[node.x], self._target(node.output, plain=moved), self._n
        (h, w, c), (ho, wo, _) = (as_map(self._shapes[name]) for name in (node.x, node.output))
        pixels = n * h * w
        match operator:
            case Pad((top, _, left, _)):
                self._copy(self._described(node, "pad"), node.x, Window(1, 1, 1, 1, 1, 1, top, left, ho, wo), out)
            case Crop((top, _, left, _)):
                self._copy(self._described(node, "crop"), node.x, Window(1, 1, 1, 1, 1, 1, -top, -left, ho, wo), out)
            case Flatten() | Reshape():
                self._copy_all(self._described(node, "copy"), node.x, Map.plain(out.address, c))
            case Channels(order):
                numbers = Packed(Constant("order", node.leader, (), len(order)))
                blocks = choice.pieces(pixels, self._threads)
                record = ChannelsStep(x=x, out=out, order=numbers, pixels=pixels, blocks=blocks)
                self._step(self._described(node, "channels"), record)
            case Concatenate():
                self._concatenate(node, out)
            case Resize(_, interpolation) | UpSample(_, interpolation):
                resized = ResizeStep.of(x, out, (n, h, w), (ho, wo), interpolation == "bilinear")
                self._step(self._described(node, operator.kind), resized)
            case AveragePool(kernel, stride, padding):
                top, _, left, _ = resolve_padding(padding, (h, w), kernel, stride, (1, 1))
                window = Window(*kernel, *stride, 1, 1, top, left, ho, wo)
                averages = AvgPoolStep(x=x, out=out, n=n, height=h, width=w, window=window)
                self._step(self._described(node, "avgpool"), averages)
            case GlobalMaxPool():
                self._step(self._described(node, "maximum"), GlobalMaxPoolStep(x=x, out=out, n=n, pixels=h * w))
            case ChannelReduce(function):
                mean, blocks = int(function == "mean"), choice.pieces(pixels, self._threads)
                reduced = ChannelReduceStep(x=x, out=out, pixels=pixels, mean=mean, blocks=blocks)
                self._step(self._described(node, f"{function} of channels"), reduced)
            case operators.Activation():
                told, blocks = _activation(operator), choice.pieces(pixels, self._threads)
                step = ActivationStep(x=x, out=out, activation=told, pixels=pixels, blocks=blocks)
                self._step(self._described(node, "activation"), step)
            case operators.PReLU(shape):
                alpha, of_one = Packed(Constant("parameters", node.output, (), c)), (1, *as_map(shape))
                self._joined(node, "prelu", x, (Map.plain(alpha, of_one[-1]), of_one), out)
            case operators.Normalization():
                constant, of_one = Constant("parameters", node.output, (), c), (1, 1, 1, c)
                self._joined(node, "subtract", x, (Map.plain(Packed(constant), c), of_one), out)
                self._joined(node, "divide", out, (Map.plain(Packed(constant, bias=True), c), of_one), out)
            case operators.LayerNorm() | operators.GroupNorm():
                self._groupnorm(node, operator, x, out)
            case operators.UnitNorm(least):
                self._step(self._described(node, "unitnorm"), UnitNormStep(x=x, out=out, least=least, pixels=pixels))
            case Softmax():
                self._step(self._described(node, "softmax"), SoftmaxStep(x=x, out=out, pixels=pixels))
            case _:
                raise AssertionError(operator)

    def _joined(
        self, node: Alone, function: str, x: Map, other: tuple[Map, tuple[int, int, int, int]], out: Map
    ) -> None:
        """A layer that joins its input with its weights."""
        shape, channels = self._batched(node.output), self._shapes[node.output][-1]
        epilogue, blocks = (
            self._epilogue(NOTHING, None, channels),
            choice.pieces(self._pixels(node.output), self._threads),
        )
        record = CombineStep.of(function, (x, shape), other, (out, shape), epilogue, blocks)
        self._step(self._described(node, "join"), record)

    def _groupnorm(self, node: Alone, operator: operators.LayerNorm | operators.GroupNorm, x: Map, out: Map) -> None:
        n, h, w, c = self._batched(node.output)
        constant, groups, pitch = Constant("parameters", node.output, (), c), 1, 0
        if isinstance(operator, operators.GroupNorm):
            groups = operator.groups
        elif len(operator.shape) == 1:
            n, h, w = n * h * w, 1, 1  # each pixel by itself
        else:
            pitch = 4 * c
        gamma, beta = Map(Packed(constant), pitch, c), Map(Packed(constant, bias=True), pitch, c)
        record = GroupNormStep(
            x=x, out=out, gamma=gamma, beta=beta, images=n, pixels=h * w, groups=groups, epsilon=operator.epsilon,
            blocks=choice.pieces(n * groups, self._threads),
        )  # fmt: skip
        self._step(self._described(node, "groupnorm"), record)
