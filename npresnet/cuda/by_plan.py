"""The fast program: layers fused, each convolution by the kernel, the tile and the split that are the fastest,
as was measured (``measured.py``) or as a model of the card expects (``choice.py``).

The twin of ``npresnet/cpu/by_plan.py``: the same nodes (``plan/fusion.py``), batch-norms folded in float64, everything that follows a
convolution in its epilogue. Precision is the user's choice:

    fp32     float32 throughout; Winograd's F(4x4,3x3) where it is faster
    3xtf32   tensor cores, each factor in two parts: near float32
    tf32     tensor cores: errors near 3e-4 in each layer
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from ..errors import UsageError
from ..kernels.geometry import Window
from ..network.graph import Graph, Layer
from ..network.operator_base import as_map
from ..network.operators import (
    Add,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Divide,
    GlobalAveragePool,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    ReLU,
    Shape,
    Softmax,
    Subtract,
)
from ..plan.folding import Constant
from ..plan.fusion import (
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
    fuse,
)
from ..plan.steps import PlanStep
from ..plan.winograd import ends, read_by_divisions, read_by_pools
from .by_layer import Tensors, layer_step
from .choice import Apart
from .measured import Choices
from .packing import Constants, fours
from .program import Layout, Program, Queue, QueuedStep, Region, View

if TYPE_CHECKING:
    from ..kernels.cuda.fused import Convolution
    from ..kernels.cuda.stem import Stem

__all__ = ["convolution_of", "fused_nodes", "planned_program", "pooled_stems", "stem_of"]


def fused_nodes(
    layers: Sequence[Layer],
    outputs: Sequence[str],
    shapes: Mapping[str, Shape],
    cancels: Callable[[Layer], bool] = lambda layer: False,
) -> list[Node]:
    """The nodes of a program; there are kernels for fused ones with pixels, with no products among them, and no activation in
    their epilogue but ReLU. ``cancels`` says which layers must not be folded into others (``plan/folding.py``)."""

    def alone(layer: Layer) -> bool:
        if cancels(layer):
            return True
        match layer.operator:
            case Conv2D(groups=groups, dilation=dilation) if groups > 1 or dilation != (1, 1):
                return True
            case Subtract() | Multiply() | Divide() | Maximum() | Minimum():
                return True
            case Conv2DTranspose() | Dense(bias=False) | GlobalAveragePool(keep_dims=True):
                return True
            case Add() if any(shapes[name] != shapes[layer.name] for name in layer.inputs):
                return True
            case Dense() | GlobalAveragePool():
                return len(shapes[layer.name]) != 1
            case operator if operator.epilogue and operator != ReLU():
                return True
        return len(shapes[layer.name]) == 1

    return fuse(layers, outputs, shapes, alone)


def as_images(shape: tuple[int, ...], n: int) -> tuple[int, int, int, int]:
    """The shape of a layer's output for n images as [n, h, w, channels], the channels filled up; after pooling, 1x1."""
    h, w, channels = as_map(shape)
    return n, h, w, fours(channels)


def convolution_of(node: FusedConv | FusedDense, n: int, shapes: Mapping[str, Shape]) -> Convolution:
    """The sizes of a convolution, or of a dense layer, which is one of a single pixel, for n images."""
    from ..kernels.cuda.fused import Convolution

    x, out = as_images(shapes[node.x], n), as_images(shapes[node.output], n)
    match node:
        case FusedConv(operator=operator, pads=(top, _, left, _)):
            return Convolution(*x, *operator.kernel, *operator.stride, top, left, *out[1:])
        case FusedDense():
            return Convolution(*x, 1, 1, 1, 1, 0, 0, *out[1:])


def pooled_stems(nodes: Sequence[Node], outputs: Sequence[str]) -> dict[str, Pool]:
    """{output of a convolution: the max-pool after it} where ``stem.py`` is made for the two, and nobody else reads in between."""
    found = {}
    for node in nodes:
        readers = [other for other in nodes if node.output in other.inputs]
        if len(readers) != 1 or node.output in outputs:
            continue
        match node, readers[0]:
            case (
                FusedConv(
                    operator=Conv2D(channels_in=3, kernel=(7, 7), stride=(2, 2)), epilogue=FusedEpilogue(residual=None)
                ),
                Pool(operator=MaxPool(window=(3, 3), stride=(2, 2))) as pool,
            ):
                found[node.output] = pool
    return found


def stem_of(node: FusedConv, pool: Pool, n: int, shapes: Mapping[str, Shape]) -> Stem:
    """The sizes of a convolution and the max-pool after it, for n images."""
    from ..kernels.cuda.stem import Stem

    x, y, out = (as_images(shapes[name], n) for name in (node.x, node.output, pool.output))
    return Stem(*x[:3], node.pads[0], node.pads[2], *y[1:3], pool.pads[0], pool.pads[2], *out[1:], pool.zeros)


def _relu(epilogue: FusedEpilogue) -> bool:
    """Whether a kernel ends with a ReLU, the only activation that kernels know."""
    match epilogue.activation:
        case ReLU():
            return True
        case None | Softmax():  # which is a step of its own
            return False
    raise AssertionError(epilogue)


class _Builder:
    """A program while steps are being added to it. Activations are flat in memory, channels in multiples of four."""

    def __init__(
        self,
        choices: Choices,
        constants: Constants,
        tensors: Tensors,
        batch: int,
        shapes: Mapping[str, Shape],
        precision: str,
        direct: Collection[str],
    ) -> None:
        self._choices, self._constants, self._tensors, self._n, self._shapes = (
            choices,
            constants,
            tensors,
            batch,
            shapes,
        )
        self._precision, self._direct = precision, direct
        self.layout = Layout()
        self.steps: list[QueuedStep] = []
        self.where: dict[str, Region] = {}
        self._wide: dict[str, Region] = {}
        self.spreads_nan = False

    def _shape(self, name: str) -> Shape:
        return as_images(self._shapes[name], self._n)

    def _input(self, name: str) -> Region:
        """A layer's output for the next step to read, with its channels filled up."""
        region, shape = self.where[name], self._shape(name)
        if region.shape[-1] == shape[-1]:
            return self.layout.use(region.reshaped(shape), len(self.steps))
        if name not in self._wide:  # images of three channels, say
            self._wide[name] = self._set_channels(name, region, shape, "fours")
        return self.layout.use(self._wide[name], len(self.steps))

    def exact(self, name: str) -> Region:
        """A layer's output for the next step to read, with its own channels, in its own shape."""
        shape = (self._n, *self._shapes[name])
        region = self.where[name]
        if region.shape[-1] != shape[-1]:
            region = self._set_channels(name, region, (*region.shape[:-1], shape[-1]), "channels")
        return self.layout.use(region.reshaped(shape), len(self.steps))

    def _set_channels(self, name: str, given: Region, shape: Shape, suffix: str) -> Region:
        """A layer's output with more channels, of zeros, or with fewer, by a step of its own."""
        from ..kernels.cuda import fused

        at = len(self.steps)
        self.layout.use(given, at)
        made = self.layout.new(at, shape)

        def bind(view: View) -> Queue:
            x, out = _flat(view(given)), _flat(view(made))
            return lambda stream: fused.set_channels(stream, x, given.shape[-1], out, shape[-1])

        self._add(PlanStep((f"{name}/{suffix}",), "channels", (name,), shape[1:]), made, bind)
        return made

    def _target(self, name: str) -> Region:
        self.where[name] = self.layout.new(len(self.steps), self._shape(name))
        return self.where[name]

    def _workspace(self, counts: Sequence[int]) -> list[Region]:
        """Memory for the next step to work in."""
        return [self.layout.new(len(self.steps), (count,)) for count in counts]

    def _inputs(self, node: FusedConv | FusedDense | FusedAffine) -> tuple[Region, Region | None]:
        """What a node reads, its data and its residual, kept until the step that is added next."""
        residual = self._input(node.epilogue.residual) if node.epilogue.residual else None
        x = self._input(node.x)
        if residual is not None:
            self.layout.use(residual, len(self.steps))
        return x, residual

    def add(self, node: Node, winograd: bool) -> None:
        """The steps of one node; ``winograd``: whether it may be used."""
        match node:
            case FusedConv() | FusedDense():
                self._convolve(node, winograd)
            case FusedAffine():
                self._affine(node)
            case Pool():
                self._maxpool(node)
            case Mean():
                self._mean(node)
            case Alone():
                self._alone(node.layer)
            case FusedJoin() | FusedTransposed():
                raise AssertionError(f"{node.output} stands alone: see fused_nodes")
            case _:
                assert_never(node)

    def _add(self, what: PlanStep, output: Region, bind: Callable[[View], Queue]) -> None:
        self.steps.append(QueuedStep(what, output, bind))

    def _described(self, node: Node, algorithm: object) -> PlanStep:
        return PlanStep.of(node, str(algorithm), self._shapes)

    def _precision_of(self, name: str) -> str:
        """What is computed without Winograd's algorithm is so without 3xtf32, too (``plan/winograd.py``)."""
        return "fp32" if self._precision == "3xtf32" and name in self._direct else self._precision

    def _convolve(self, node: FusedConv | FusedDense, winograd: bool) -> None:
        from ..kernels.cuda import fused

        name, relu = node.output, _relu(node.epilogue)
        x, residual = self._inputs(node)
        size = convolution_of(node, self._n, self._shapes)
        if max(math.prod(x.shape), size.rows * size.co, size.depth * size.co) > fused.LARGEST:
            raise UsageError(
                f"layer {name!r}: {size.rows} x {size.co} numbers are more than the fast kernels count; give fewer or smaller "
                "images at a time, or algorithm='im2col'"
            )
        precision = self._precision_of(name)
        choice = self._choices.convolution(size, precision, winograd and name not in self._direct)
        self.spreads_nan |= choice.winograd or precision == "3xtf32"
        norms = node.norms if isinstance(node, FusedConv) else ()
        weights, bias = self._constants.of(Constant(choice.form, node.leader, norms, node.operator.channels))
        work = self._workspace(choice.workspace(size))
        done = self._described(node, choice)
        softmax = isinstance(node.activation, Softmax)
        if softmax:
            done = replace(done, layers=(f"{name}/scores",), activation=None)
        out = self.layout.new(len(self.steps), self._shape(name)) if softmax else self._target(name)

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            more = _flat(view(residual)) if residual else None
            space = [_flat(view(region)) for region in work]
            return lambda stream: choice.queue(stream, size, a, weights, bias, more, relu, space, b)

        self._add(done, out, bind)
        if softmax:
            self._softmax(node, out)

    def stem(self, node: FusedConv, pool: Pool) -> bool:
        """Add one step for a convolution and the max-pool after it; False, and nothing, where two are faster."""
        size = stem_of(node, pool, self._n, self._shapes)
        precision = self._precision_of(node.output)
        choice = self._choices.stem(size, convolution_of(node, self._n, self._shapes), precision)
        if isinstance(choice, Apart):
            return False
        relu, x = _relu(node.epilogue), self.exact(node.x)
        weights, bias = self._constants.of(Constant("stem", node.leader, node.norms, node.operator.channels))
        work = self._workspace(choice.workspace(size))
        out = self._target(pool.output)

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            space = [_flat(view(region)) for region in work]
            return lambda stream: choice.queue(stream, size, a, weights, bias, relu, space, b)

        done = self._described(node, choice)
        self._add(replace(done, layers=node.layers + pool.layers, shape=self._shapes[pool.output]), out, bind)
        return True

    def _softmax(self, node: FusedDense | FusedConv, scores: Region) -> None:
        from ..kernels.cuda import softmax_cuda

        name = node.output
        classes = self._shapes[name][-1]
        if scores.shape[-1] != classes:
            scores = self._set_channels(name, scores, (*scores.shape[:-1], classes), "classes")
        self.layout.use(scores, len(self.steps))
        out = self.where[name] = self.layout.new(len(self.steps), (self._n, *self._shapes[name]))
        rows = self._n * math.prod(self._shapes[name][:-1])

        def bind(view: View) -> Queue:
            x, y = (view(region).reshape(rows, classes) for region in (scores, out))
            return lambda stream: softmax_cuda(x, out=y, stream=stream)

        inputs = (f"{name}/scores",)
        self._add(replace(self._described(node, "softmax"), inputs=inputs, flop=0, activation=None), out, bind)

    def _maxpool(self, node: Pool) -> None:
        from ..kernels.cuda import fused

        x = self._input(node.x)
        out = self._target(node.output)
        ho, wo = out.shape[1:3]
        window = Window(*node.operator.window, *node.operator.stride, 1, 1, node.pads[0], node.pads[2], ho, wo)

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            return lambda stream: fused.maxpool(stream, a, x.shape[1:], window, node.zeros, b)  # type: ignore[arg-type]

        self._add(self._described(node, "maxpool"), out, bind)

    def _mean(self, node: Mean) -> None:
        from ..kernels.cuda import global_avgpool_cuda

        x = self._input(node.x)
        out = self._target(node.output)

        def bind(view: View) -> Queue:
            a, b = view(x), view(out).reshape(self._n, out.shape[-1])
            return lambda stream: global_avgpool_cuda(a, out=b, stream=stream)

        self._add(self._described(node, "mean"), out, bind)

    def _affine(self, node: FusedAffine) -> None:
        from ..kernels.cuda import fused

        name, relu = node.output, _relu(node.epilogue)
        x, residual = self._inputs(node)
        factor, offset = self._constants.of(Constant("scale", None, node.norms, self._shapes[name][-1]))
        out = self._target(name)

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            more = _flat(view(residual)) if residual else None
            return lambda stream: fused.affine(stream, a, factor, offset, more, relu, b)

        self._add(self._described(node, "affine"), out, bind)

    def _alone(self, layer: Layer) -> None:
        """A layer by its own kernel, as it runs layer by layer."""
        inputs = [self.exact(name) for name in layer.inputs]
        for region in inputs:  # the later ones may have taken steps
            self.layout.use(region, len(self.steps))
        step, self.where[layer.name] = layer_step(
            layer, inputs, self._tensors, self.layout, len(self.steps), (self._n, *self._shapes[layer.name])
        )
        if step is not None:
            self.steps.append(step)

    def look_for_nan(self, outputs: Mapping[str, Region]) -> Region:
        """A step that notes which images have NaN in one of ``outputs``: float32[n], 1 for each that has."""
        from ..kernels.cuda import fused

        at = len(self.steps)
        found = self.layout.new(at, (self._n,))
        for region in outputs.values():
            self.layout.use(region, at)

        def bind(view: View) -> Queue:
            marks, arrays = view(found), [_flat(view(region)) for region in outputs.values()]

            def queue(stream: Any) -> None:
                fused.clear(stream, marks)
                for array in arrays:
                    fused.nan_images(stream, array, self._n, marks)

            return queue

        self._add(PlanStep(("NaN?",), "compare", tuple(outputs), ()), found, bind)
        return found


def _flat(array: Any) -> Any:
    return array.reshape(array.size)


def planned_program(
    choices: Choices,
    graph: Graph,
    constants: Constants,
    tensors: Tensors,
    batch: tuple[int, int, int],
    outputs: Sequence[str],
    precision: str,
    winograd: bool,
) -> Program:
    """The program for images of ``batch`` = (n, h, w); its card must be the current one and gets the weights.

    winograd  whether it may be used. Then, and in 3xtf32, the program says which images are to be run once more without
              (``plan/winograd.py``)

    Raises UsageError for unknown outputs or images that are too small or too large; DeviceError where the weights do not
    fit.
    """
    n, height, width = batch
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(height, width, outputs)
    nodes = fused_nodes(layers, outputs, shapes, constants.cancels)
    entry = layers[0].name
    pooled = read_by_pools(graph, nodes)
    direct = pooled | read_by_divisions(graph, nodes)
    builder = _Builder(choices, constants, tensors, n, shapes, precision, direct)
    images = builder.where[entry] = builder.layout.new(0, (n, *shapes[entry]))
    stems = pooled_stems(nodes, outputs)
    for node in nodes:
        if node.output in builder.where:
            continue  # a pool is done together with its stem
        pool = stems.get(node.output)
        if pool is None or not isinstance(node, FusedConv) or not builder.stem(node, pool):
            builder.add(node, winograd)
    results = {name: builder.exact(name) for name in outputs}
    suspects = None
    if builder.spreads_nan:
        suspects = builder.look_for_nan({name: results[name] for name in ends(graph, outputs, shapes, pooled)})
    for region in (*results.values(), *([suspects] if suspects else [])):
        builder.layout.use(region, len(builder.steps))
    return Program(images, results, builder.steps, builder.layout.bytes(), suspects, planned=True)
