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

from ..errors import NpResNetError
from ..network.graph import Graph, Layer
from ..network.operators import (
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Input,
    MaxPool,
    Multiply,
    Normalization,
    Operator,
    Pad,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    Sigmoid,
    Softmax,
)
from ..plan.folding import deviation
from ..plan.times import LayerStep

__all__ = ["run"]


Array = npt.NDArray[Any]


_Tensors = Mapping[str, Array]
_Kernel = Callable[[Operator, Sequence[Array], _Tensors], Array]


def _im2col(threads: int) -> _Kernel:
    """The kernels of ``algorithm="im2col"``: float32, on ``threads`` threads."""
    from .. import kernels as k  # here, because importing the kernels imports Numba

    def apply(operator: Operator, inputs: Sequence[Array], w: _Tensors) -> Array:
        x = inputs[0]
        match operator:
            case Pad(pads):
                return k.pad(x, pads, threads=threads)
            case Conv2D(stride=stride, padding=padding, groups=groups, dilation=dilation):
                options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
                if groups > 1:
                    return k.grouped_conv2d_cpu(
                        x, w["kernel"], w.get("bias"), groups=groups, threads=threads, **options
                    )
                return k.conv2d_im2col(x, w["kernel"], w.get("bias"), threads=threads, **options)
            case BatchNorm(epsilon=epsilon):
                gamma, beta = w.get("gamma"), w.get("beta")
                return k.batchnorm(x, gamma, beta, w["mean"], w["variance"], epsilon, threads=threads)
            case Scale():
                return k.scale(x, w["gamma"], w["beta"], threads=threads)
            case Rescale(factor, offset):
                return k.scale(x, np.array(factor, np.float32), np.array(offset, np.float32), threads=threads)
            case Normalization():
                centred = k.scale(x, np.ones(1, np.float32), -w["mean"], threads=threads)
                return k.scale(centred, 1 / deviation(w["variance"]), np.zeros(1, np.float32), threads=threads)
            case ReLU():
                return k.relu(_map(x), threads=threads).reshape(x.shape)
            case Sigmoid():
                return k.sigmoid(x, threads=threads)
            case Softmax():
                return k.softmax(_rows(x), threads=threads).reshape(x.shape)
            case Add():
                return k.add(_map(x), _map(inputs[1]), threads=threads).reshape(x.shape)
            case Multiply():
                a, b = sorted(inputs, key=lambda array: array.size, reverse=True)
                return k.multiply(_map(a), _map(b), threads=threads).reshape(a.shape)
            case MaxPool(window, stride, padding):
                return k.maxpool(x, window, stride=stride, padding=padding, threads=threads)
            case AveragePool(window, stride, padding):
                return k.avgpool(x, window, stride=stride, padding=padding, threads=threads)
            case GlobalAveragePool(keep_dims):
                return _kept(k.global_avgpool(x, threads=threads), keep_dims)
            case GlobalMaxPool(keep_dims):
                return _kept(k.global_maxpool(x, threads=threads), keep_dims)
            case Flatten():
                return x.reshape(len(x), -1)
            case Reshape(shape):
                return x.reshape(len(x), *shape)
            case Dense(channels=channels):
                y = k.dense(_rows(x), w["kernel"], w.get("bias"), threads=threads)
                y = k.softmax(y, threads=threads) if operator.softmax else y
                return y.reshape(*x.shape[:-1], channels)
        raise AssertionError(operator)

    return apply


def _reference(operator: Operator, inputs: Sequence[Array], w: _Tensors) -> Array:
    """The kernels of ``algorithm="reference"``: plain NumPy in the dtype of the inputs."""
    from .. import kernels as k

    x = inputs[0]
    w = {role: array.astype(x.dtype, copy=False) for role, array in w.items()}
    match operator:
        case Pad(pads):
            return k.pad_reference(x, pads)
        case Conv2D(stride=stride, padding=padding, groups=groups, dilation=dilation):
            options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
            if groups > 1:
                return k.grouped_conv2d_reference(x, w["kernel"], w.get("bias"), groups=groups, **options)
            return k.conv2d_reference(x, w["kernel"], w.get("bias"), **options)
        case BatchNorm(epsilon=epsilon):
            return k.batchnorm_reference(x, w.get("gamma"), w.get("beta"), w["mean"], w["variance"], epsilon)
        case Scale():
            return k.scale_reference(x, w["gamma"], w["beta"])
        case Rescale(factor, offset):
            return k.scale_reference(x, np.array(factor, x.dtype), np.array(offset, x.dtype))
        case Normalization():
            return (x - w["mean"]) / deviation(w["variance"])
        case ReLU():
            return k.relu_reference(x)
        case Sigmoid():
            return k.sigmoid_reference(x)
        case Softmax():
            return k.softmax_reference(x)
        case Add():
            return k.add_reference(x, inputs[1])
        case Multiply():
            a, b = sorted(inputs, key=lambda array: array.size, reverse=True)
            return k.multiply_reference(_map(a), _map(b)).reshape(a.shape)
        case MaxPool(window, stride, padding):
            return k.maxpool_reference(x, window, stride=stride, padding=padding)
        case AveragePool(window, stride, padding):
            return k.avgpool_reference(x, window, stride=stride, padding=padding)
        case GlobalAveragePool(keep_dims):
            return _kept(k.global_avgpool_reference(x), keep_dims)
        case GlobalMaxPool(keep_dims):
            return _kept(k.global_maxpool_reference(x), keep_dims)
        case Flatten():
            return x.reshape(len(x), -1)
        case Reshape(shape):
            return x.reshape(len(x), *shape)
        case Dense(channels=channels):
            y = k.dense_reference(_rows(x), w["kernel"], w.get("bias"))
            y = k.softmax_reference(y) if operator.softmax else y
            return y.reshape(*x.shape[:-1], channels)
    raise AssertionError(operator)


def _map(x: Array) -> Array:
    """``x`` as feature maps [n, h, w, c]: after global pooling, [n, c], there is one pixel."""
    return x if x.ndim == 4 else x.reshape(len(x), 1, 1, -1)


def _rows(x: Array) -> Array:
    """``x`` as a matrix with one row of channels per pixel."""
    return x.reshape(-1, x.shape[-1])


def _kept(pooled: Array, keep_dims: bool) -> Array:
    """The result [n, c] of global pooling, as [n, 1, 1, c] where the dimensions are kept."""
    return _map(pooled) if keep_dims else pooled


def run(
    graph: Graph,
    weights: Mapping[str, _Tensors],
    images: Array,
    outputs: Sequence[str],
    *,
    algorithm: str,
    threads: int,
) -> Iterator[LayerStep]:
    """Run the layers that ``outputs`` need, in order, and yield each as it is done.

    images     float32[n, h, w, 3], C-contiguous; any float dtype for the reference
    algorithm  "im2col" or "reference"

    An activation is dropped as soon as no later layer needs it, so that memory holds a few feature maps, not all:
    keep from a step what you want kept. Raises UsageError for an unknown layer or an image too small.
    """
    layers = graph.needed_for(outputs)
    shapes = graph.shapes(images.shape[1], images.shape[2], outputs)
    apply = _reference if algorithm == "reference" else _im2col(threads)
    return _steps(layers, shapes, weights, images, apply)


def _steps(
    layers: Sequence[Layer],
    shapes: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, _Tensors],
    images: Array,
    apply: _Kernel,
) -> Iterator[LayerStep]:
    """The loop of ``run``, on its own so that wrong arguments are an error at the call and not at the first step."""
    uses = Counter(name for layer in layers for name in layer.inputs)
    alive: dict[str, Array] = {}
    for layer in layers:
        start = time.perf_counter()
        result = images if isinstance(layer.operator, Input) else _apply(apply, layer, alive, weights)
        seconds = time.perf_counter() - start
        for name in layer.inputs:
            uses[name] -= 1
            if not uses[name]:
                del alive[name]
        if uses[layer.name]:
            alive[layer.name] = result
        flop = layer.operator.flop([shapes[name] for name in layer.inputs], shapes[layer.name]) * len(images)
        yield LayerStep(layer.name, layer.operator.kind, result.shape, result, seconds, flop)


def _apply(apply: _Kernel, layer: Layer, alive: Mapping[str, Array], weights: Mapping[str, _Tensors]) -> Array:
    """One layer's output; a kernel's complaint gets the layer's name put in front."""
    try:
        # NaN and infinity are data here: they pass through as in TensorFlow, without NumPy's warnings
        with np.errstate(all="ignore"):
            return apply(layer.operator, [alive[name] for name in layer.inputs], weights.get(layer.name, {}))
    except (TypeError, ValueError) as error:
        raise NpResNetError(f"layer {layer.name!r}: {error}") from error
