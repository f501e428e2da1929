"""Running a graph layer by layer: one kernel per Keras layer, nothing fused, every output to be seen.

Two sets of kernels do the same job: ``"im2col"``, the textbook path in float32, and ``"reference"``, plain NumPy in
the dtype of its input, so that float64 images give the truth against which float32 results are measured.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import kernels
from ..errors import NpResNetError
from ..network.graph import Graph, Layer
from ..network.operators import Input, Operator
from ..plan.layer_calls import calls
from ..plan.times import LayerStep

__all__ = ["run"]


Array = npt.NDArray[Any]


_Tensors = Mapping[str, Array]
_Apply = Callable[[Operator, Sequence[Array], _Tensors], Array]

_IM2COL = {"conv2d": "conv2d_im2col", "grouped_conv2d": "grouped_conv2d_cpu"}
"""The textbook's versions of those kernels whose plain name is, or may become, that of a cleverer one."""


def _kernels(algorithm: str, threads: int) -> _Apply:
    """The function that computes an operator, of its inputs and its weights, with the kernels of ``algorithm``; its result may
    have the shape in which the kernel sees it."""
    by_definition = algorithm == "reference"
    further = {} if by_definition else {"threads": threads}

    def apply(operator: Operator, inputs: Sequence[Array], weights: _Tensors) -> Array:
        for call in calls(operator, by_definition):
            name = f"{call.kernel}_reference" if by_definition else _IM2COL.get(call.kernel, call.kernel)
            tensors = call.arrays(operator, weights, inputs[0].dtype)
            inputs = [getattr(kernels, name)(*map(call.view, inputs), *tensors, **call.options(operator), **further)]
        return inputs[0]

    return apply


def run(
    graph: Graph,
    weights: Mapping[str, _Tensors],
    images: Array | Mapping[str, Array],
    outputs: Sequence[str],
    *,
    algorithm: str,
    threads: int,
) -> Iterator[LayerStep]:
    """Run the layers that ``outputs`` need, in order, and yield each as it is done.

    images     float32[n, h, w, 3], C-contiguous, or {input: ...} for a network of several; any float dtype for the reference
    algorithm  "im2col" or "reference"

    An activation is dropped as soon as no later layer needs it, so that memory holds a few feature maps, not all:
    keep from a step what you want kept. Raises UsageError for an unknown layer or an image too small.
    """
    layers = graph.needed_for(outputs)
    entry = graph.layers[0].name
    given = images if isinstance(images, Mapping) else {entry: images}
    further = {name: array.shape[1:] for name, array in given.items()}
    height, width = given[entry].shape[1:3]
    shapes = graph.shapes(height, width, outputs, further)
    return _steps(layers, shapes, weights, given, _kernels(algorithm, threads))


def _steps(
    layers: Sequence[Layer],
    shapes: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, _Tensors],
    given: Mapping[str, Array],
    apply: _Apply,
) -> Iterator[LayerStep]:
    """The loop of ``run``, on its own so that wrong arguments are an error at the call and not at the first step."""
    uses = Counter(name for layer in layers for name in layer.inputs)
    alive: dict[str, Array] = {}
    n = len(next(iter(given.values())))
    for layer in layers:
        tensors = weights.get(layer.name, {})  # read from the file, perhaps, which is no part of the layer's time
        start = time.perf_counter()
        if isinstance(layer.operator, Input):
            result = given[layer.name]
        else:
            result = _applied(apply, layer, alive, tensors, (n, *shapes[layer.name]))
        seconds = time.perf_counter() - start
        for name in layer.inputs:
            uses[name] -= 1
            if not uses[name]:
                del alive[name]
        if uses[layer.name]:
            alive[layer.name] = result
        flop = layer.operator.flop([shapes[name] for name in layer.inputs], shapes[layer.name]) * n
        yield LayerStep(layer.name, layer.operator.kind, result.shape, result, seconds, flop)


def _applied(
    apply: _Apply,
    layer: Layer,
    alive: Mapping[str, Array],
    tensors: _Tensors,
    shape: tuple[int, ...],
) -> Array:
    """One layer's output, of ``shape``; a kernel's complaint gets the layer's name put in front."""
    try:
        # NaN and infinity are data here: they pass through as in TensorFlow, without NumPy's warnings
        with np.errstate(all="ignore"):
            result = apply(layer.operator, [alive[name] for name in layer.inputs], tensors)
        return result.reshape(shape)
    except (TypeError, ValueError) as error:
        raise NpResNetError(f"layer {layer.name!r}: {error}") from error
