"""The fast program: layers drawn together, each convolution by the kernel, the tile and the split that are the fastest,
as was measured (``measured.py``) or as a model of the card expects (``choice.py``).

The twin of ``npresnet/cpu/by_plan.py``: the same nodes (``fusion.py``), batch-norms folded in float64, everything that follows a
convolution in its epilogue. Precision is the user's choice:

    fp32     float32 throughout; Winograd's F(4x4,3x3) where it is faster
    3xtf32   tensor cores, each factor in two parts: near float32
    tf32     tensor cores: errors near 3e-4 in each layer
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..network.graph import Graph, Layer
from ..network.operators import Conv2D, Dense, GlobalAveragePool, MaxPool
from ..plan.fusion import Node, before_maxpool, draw_together, ends
from .by_layer import Tensors, layer_step
from .choice import Apart
from .measured import Choices
from .packing import Constant, Folded, fours
from .program import Layout, Program, Queue, Region, Step, View

if TYPE_CHECKING:
    from ..kernels.cuda.fused import Convolution
    from ..kernels.cuda.stem import Stem

__all__ = ["convolution_of", "planned_program", "pooled_stems", "stem_of"]


def as_images(shape: tuple[int, ...], n: int) -> tuple[int, int, int, int]:
    """The shape of a layer's output for n images as [n, h, w, channels], the channels filled up; after pooling, 1x1."""
    h, w = shape[:-1] or (1, 1)
    return n, h, w, fours(shape[-1])


def convolution_of(node: Node, n: int, shapes: Mapping[str, tuple[int, ...]]) -> Convolution:
    """The sizes of a node that is a convolution, or a dense layer, which is one of a single pixel, for n images."""
    from ..kernels.cuda.fused import Convolution

    operator = node.operator
    kernel, stride = (operator.kernel, operator.stride) if isinstance(operator, Conv2D) else ((1, 1), (1, 1))
    x, out = as_images(shapes[node.x], n), as_images(shapes[node.layers[-1]], n)
    return Convolution(*x, *kernel, *stride, node.pads[0], node.pads[2], *out[1:])


def pooled_stems(nodes: Sequence[Node], outputs: Sequence[str]) -> dict[str, Node]:
    """{last layer of a node: the max-pool after it} where ``stem.py`` is made for the two, and nobody else reads in between."""
    found = {}
    for node in nodes:
        end = node.layers[-1]
        readers = [other for other in nodes if end in other.inputs]
        if len(readers) != 1 or end in outputs or node.alone or node.residual:
            continue
        match node.operator, readers[0].operator:
            case Conv2D(channels_in=3, kernel=(7, 7), stride=(2, 2)), MaxPool(window=(3, 3), stride=(2, 2)):
                found[end] = readers[0]
    return found


def stem_of(node: Node, pool: Node, n: int, shapes: Mapping[str, tuple[int, ...]]) -> Stem:
    """The sizes of a convolution and the max-pool after it, for n images."""
    from ..kernels.cuda.stem import Stem

    x, y, out = (as_images(shapes[name], n) for name in (node.x, node.layers[-1], pool.layers[-1]))
    return Stem(*x[:3], node.pads[0], node.pads[2], *y[1:3], pool.pads[0], pool.pads[2], *out[1:], pool.padded)


class _Builder:
    """A program while steps are being added to it. Activations are flat in memory, channels in multiples of four."""

    def __init__(
        self,
        choices: Choices,
        folded: Folded,
        tensors: Tensors,
        batch: int,
        shapes: Mapping[str, tuple[int, ...]],
        precision: str,
        winograd: bool,
    ) -> None:
        self._choices, self._folded, self._tensors, self._n, self._shapes = choices, folded, tensors, batch, shapes
        self._precision, self._winograd = precision, winograd
        self.layout = Layout()
        self.steps: list[Step] = []
        self.where: dict[str, Region] = {}
        self._wide: dict[str, Region] = {}
        self.spreads_nan = False

    def _shape(self, name: str) -> tuple[int, ...]:
        return as_images(self._shapes[name], self._n)

    def _input(self, name: str) -> Region:
        """A layer's output for the next step to read, with its channels filled up."""
        region, shape = self.where[name], self._shape(name)
        if region.shape[-1] == shape[-1]:
            return self.layout.use(region.reshaped(shape), len(self.steps))
        if name not in self._wide:  # images of three channels, say
            self._wide[name] = self._set_channels(region, shape, f"{name}/fours")
        return self.layout.use(self._wide[name], len(self.steps))

    def exact(self, name: str) -> Region:
        """A layer's output for the next step to read, with its own channels, in its own shape."""
        shape = (self._n, *self._shapes[name])
        region = self.where[name]
        if region.shape[-1] != shape[-1]:
            region = self._set_channels(region, (*region.shape[:-1], shape[-1]), f"{name}/channels")
        return self.layout.use(region.reshaped(shape), len(self.steps))

    def _set_channels(self, given: Region, shape: tuple[int, ...], label: str) -> Region:
        from ..kernels.cuda import fused

        at = len(self.steps)
        self.layout.use(given, at)
        made = self.layout.new(at, shape)

        def bind(view: View) -> Queue:
            x, out = _flat(view(given)), _flat(view(made))
            return lambda stream: fused.set_channels(stream, x, given.shape[-1], out, shape[-1])

        self.steps.append(Step((label,), "channels", made, 0, bind))
        return made

    def _target(self, name: str) -> Region:
        self.where[name] = self.layout.new(len(self.steps), self._shape(name))
        return self.where[name]

    def _workspace(self, counts: Sequence[int]) -> list[Region]:
        """Memory for the next step to work in."""
        return [self.layout.new(len(self.steps), (count,)) for count in counts]

    def _inputs(self, node: Node) -> tuple[Region, Region | None]:
        """What a node reads, its data and its residual, kept until the step that is added next."""
        residual = self._input(node.residual) if node.residual else None
        x = self._input(node.x)
        if residual is not None:
            self.layout.use(residual, len(self.steps))
        return x, residual

    def add(self, node: Node, pooled: bool) -> None:
        """The steps of one node; ``pooled``: a max-pool reads them, which NaN that Winograd spreads must not reach."""
        if node.alone is not None:
            self._alone(node.alone)
            return
        match node.operator:
            case Conv2D() | Dense():
                self._convolve(node, pooled)
            case MaxPool() as operator:
                self._maxpool(node, operator)
            case GlobalAveragePool():
                self._mean(node)
            case None:
                self._affine(node)

    def _layers(self, node: Node) -> tuple[str, ...]:
        return (node.border, *node.layers) if node.border else tuple(node.layers)

    def _flop(self, node: Node) -> int:
        """Of a node's operator, for all images."""
        assert node.operator is not None
        return self._n * node.operator.flop([self._shapes[node.x]], self._shapes[node.layers[0]])

    def _convolve(self, node: Node, pooled: bool) -> None:
        from ..kernels.cuda import fused

        operator = node.operator
        assert isinstance(operator, Conv2D | Dense)
        name = node.layers[-1]
        x, residual = self._inputs(node)
        size = convolution_of(node, self._n, self._shapes)
        co = size.co
        if max(math.prod(x.shape), size.rows * co, size.depth * co) > fused.LARGEST:
            raise UsageError(
                f"layer {name!r}: {size.rows} x {co} numbers are more than the fast kernels count; give fewer or smaller "
                "images at a time, or algorithm='im2col'"
            )
        choice = self._choices.convolution(size, self._precision, self._winograd and not pooled)
        self.spreads_nan |= choice.winograd or self._precision == "3xtf32"
        weights, bias = self._folded.of(Constant(choice.form, node.layers[0], node.norms, operator.channels))
        work = self._workspace(choice.workspace(size))
        softmax = isinstance(operator, Dense) and operator.softmax
        scores = self.layout.new(len(self.steps), self._shape(name)) if softmax else self._target(name)

        def bind(view: View) -> Queue:
            a, out = _flat(view(x)), _flat(view(scores))
            more = _flat(view(residual)) if residual else None
            space = [_flat(view(region)) for region in work]
            return lambda stream: choice.queue(stream, size, a, weights, bias, more, node.relu, space, out)

        layers = (f"{name}/scores",) if softmax else self._layers(node)
        self.steps.append(Step(layers, str(choice), scores, self._flop(node), bind, node.layers[0]))
        if softmax:
            self._softmax(name, scores)

    def stem(self, node: Node, pool: Node) -> bool:
        """Add one step for a convolution and the max-pool after it; False, and nothing, where two are faster."""
        operator = node.operator
        assert isinstance(operator, Conv2D)
        size = stem_of(node, pool, self._n, self._shapes)
        choice = self._choices.stem(size, convolution_of(node, self._n, self._shapes), self._precision)
        if isinstance(choice, Apart):
            return False
        x = self.exact(node.x)
        weights, bias = self._folded.of(Constant("stem", node.layers[0], node.norms, operator.channels))
        work = self._workspace(choice.workspace(size))
        out = self._target(pool.layers[-1])

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            space = [_flat(view(region)) for region in work]
            return lambda stream: choice.queue(stream, size, a, weights, bias, node.relu, space, b)

        layers = self._layers(node) + self._layers(pool)
        self.steps.append(Step(layers, str(choice), out, self._flop(node), bind, node.layers[0]))
        return True

    def _softmax(self, name: str, scores: Region) -> None:
        from ..kernels.cuda import softmax_cuda

        classes = self._shapes[name][-1]
        if scores.shape[-1] != classes:
            scores = self._set_channels(scores, (*scores.shape[:-1], classes), f"{name}/classes")
        self.layout.use(scores, len(self.steps))
        out = self.where[name] = self.layout.new(len(self.steps), (self._n, *self._shapes[name]))
        rows = self._n * math.prod(self._shapes[name][:-1])

        def bind(view: View) -> Queue:
            x, y = (view(region).reshape(rows, classes) for region in (scores, out))
            return lambda stream: softmax_cuda(x, out=y, stream=stream)

        self.steps.append(Step((name,), "softmax", out, 0, bind, name))

    def _maxpool(self, node: Node, operator: MaxPool) -> None:
        from ..kernels.cuda import fused

        x = self._input(node.x)
        out = self._target(node.layers[-1])
        window = (*operator.window, *operator.stride, 1, 1, node.pads[0], node.pads[2], *out.shape[1:3])

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            return lambda stream: fused.maxpool(stream, a, x.shape[1:], window, node.padded, b)  # type: ignore[arg-type]

        self.steps.append(Step(self._layers(node), "maxpool", out, 0, bind, node.layers[0]))

    def _mean(self, node: Node) -> None:
        from ..kernels.cuda import global_avgpool_cuda

        x = self._input(node.x)
        out = self._target(node.layers[-1])

        def bind(view: View) -> Queue:
            a, b = view(x), view(out).reshape(self._n, out.shape[-1])
            return lambda stream: global_avgpool_cuda(a, out=b, stream=stream)

        self.steps.append(Step(self._layers(node), "mean", out, 0, bind, node.layers[0]))

    def _affine(self, node: Node) -> None:
        from ..kernels.cuda import fused

        name = node.layers[-1]
        x, residual = self._inputs(node)
        factor, offset = self._folded.of(Constant("scale", None, node.norms, self._shapes[name][-1]))
        out = self._target(name)

        def bind(view: View) -> Queue:
            a, b = _flat(view(x)), _flat(view(out))
            more = _flat(view(residual)) if residual else None
            return lambda stream: fused.affine(stream, a, factor, offset, more, node.relu, b)

        self.steps.append(Step(self._layers(node), "affine", out, 0, bind, node.layers[0]))

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

    def look_for_nan(self, regions: Sequence[Region]) -> Region:
        """Steps that note which images have NaN in ``regions``: float32[n], 1 for each that has."""
        from ..kernels.cuda import fused

        at = len(self.steps)
        found = self.layout.new(at, (self._n,))
        for region in regions:
            self.layout.use(region, at)

        def bind(view: View) -> Queue:
            marks, arrays = view(found), [_flat(view(region)) for region in regions]

            def queue(stream: Any) -> None:
                fused.clear(stream, marks)
                for array in arrays:
                    fused.nan_images(stream, array, self._n, marks)

            return queue

        self.steps.append(Step(("NaN?",), "compare", found, 0, bind))
        return found


def _flat(array: Any) -> Any:
    return array.reshape(array.size)


def planned_program(
    choices: Choices,
    graph: Graph,
    folded: Folded,
    tensors: Tensors,
    batch: tuple[int, int, int],
    outputs: Sequence[str],
    precision: str,
    winograd: bool,
) -> Program:
    """The program for images of ``batch`` = (n, h, w); its card must be the current one and gets the weights.

    winograd  whether it may be used. It and 3xtf32 make NaN of infinity, and Winograd spreads NaN over a tile: the program
              then says which images have NaN in their last outputs, and those are to be run once more without

    Raises UsageError for unknown outputs or images that are too small or too large; DeviceError where the weights do not
    fit.
    """
    n, height, width = batch
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(height, width, outputs)
    nodes = draw_together(layers, outputs, shapes, alone=True)
    entry = layers[0].name
    builder = _Builder(choices, folded, tensors, n, shapes, precision, winograd)
    images = builder.where[entry] = builder.layout.new(0, (n, *shapes[entry]))
    pooled = before_maxpool(nodes)
    pools = pooled_stems(nodes, outputs)
    for node in nodes:
        end = node.layers[-1]
        pool = pools.get(end)
        if end in builder.where or (pool and builder.stem(node, pool)):
            continue  # a pool is done together with its stem
        builder.add(node, end in pooled)
    results = {name: builder.exact(name) for name in outputs}
    suspects = None
    if builder.spreads_nan:
        suspects = builder.look_for_nan([results[name] for name in ends(graph, outputs)])
    for region in (*results.values(), *([suspects] if suspects else [])):
        builder.layout.use(region, len(builder.steps))
    return Program(images, results, builder.steps, builder.layout.bytes(), suspects, planned=True)
