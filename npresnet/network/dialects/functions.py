"""Functions in the place of layers: ``x / 127.5 - 1``, ``tf.nn.relu(x)``, ``keras.ops.mean(x, axis=(1, 2))``.

Keras writes each as a layer of its own: TFOpLambda and SlicingOpLambda before version 3 (``"function": "math.truediv"``), since
then a class for each (``TrueDivide``). Names and numbers, no code. Here each is described as a layer that does the same, where
there is such a layer; what it computes ``LAYERS`` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..wiring import Tensor
from .layer_config import LayerConfig, Unsupported
from .settings import array_of, number, short, whole

__all__ = ["function_of", "layers_of", "one_channel", "stacked_channels"]

_Layers = list[tuple[str, Mapping[str, Any]]]
"""(class, config) of the layers that do the same, one after another."""


def function_of(layer: LayerConfig) -> str | None:
    """The function that a layer is, by a name of this module's; None for what is no function."""
    if layer.kind in ("TFOpLambda", "SlicingOpLambda"):
        name = str(layer.config.get("function"))
        name = name.removeprefix("compat.v1.").removeprefix("math.").removeprefix("nn.").removeprefix("__operators__.")
    elif layer.module.startswith(("keras.src.ops", "keras.ops")):
        name = layer.kind
    elif not layer.module and layer.keras >= 3 and "trainable" not in layer.config and layer.kind in _NAMES:
        name = (
            layer.kind
        )  # in .h5 no module is written; all layers say whether they are to be trained, functions do not
    else:
        return None
    return _NAMES.get(name, name)


def layers_of(layer: LayerConfig) -> _Layers:
    """The layers that do what a function does. Raises Unsupported where there is none."""
    name = function_of(layer)
    make = _FUNCTIONS.get(name or "")
    if make is None:
        raise Unsupported(f"npresnet does not have the function {_spelled(layer)!r}")
    return make(_Call(layer, name or ""))


def _spelled(layer: LayerConfig) -> str:
    """The function as the user wrote it."""
    return f"tf.{layer.config.get('function')}" if layer.kind.endswith("Lambda") else f"keras.ops: {layer.kind}"


class _Call:
    """A function and what it is called with, wherever that is written."""

    def __init__(self, layer: LayerConfig, name: str) -> None:
        self.layer, self.name = layer, name
        self._given: dict[Any, Any] = {**layer.config, **layer.arguments}

    def get(self, *keys: str | int, default: Any = None) -> Any:
        """The first of these arguments that is there and is not None."""
        return next((self._given[key] for key in keys if self._given.get(key) is not None), default)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the first tensor, without the batch."""
        return self.layer.shape

    @property
    def rank(self) -> int:
        """Of the first tensor, with the batch."""
        return len(self.shape) + 1

    def axes(self, *keys: str | int, default: Any = None) -> list[int]:
        """Axes with the batch as the first, counted from 0; all but the batch for none."""
        given = self.get(*keys, default=default)
        found = given if isinstance(given, list | tuple) else [given]
        if found == [None]:
            return list(range(1, self.rank))
        axes = [whole("axis", axis, -self.rank, self.rank - 1) for axis in found]
        return sorted(axis % self.rank for axis in axes)

    def operands(self) -> tuple[Any, Any]:
        """The two things that are added, say: each a Tensor or numbers."""
        return self.get(0, "x", "x1", "input", "value"), self.get(1, "y", "x2", "bias")

    def constant(self, value: Any) -> Any:
        """Numbers that apply to all pixels: one, or one per channel."""
        try:
            array = np.asarray(array_of(value), np.float64)
        except (TypeError, ValueError):
            raise Unsupported(f"it is called with {short(value)}") from None
        if math.prod(array.shape[:-1]) != 1:
            raise Unsupported(f"it is called with numbers of shape {array.shape}, which are not one per channel")
        return [number("a constant", one) for one in array.ravel().tolist()]


# ---------------------------------------------------------------------------------------------------------------------
# Arithmetic


def _arithmetic(joined: str, scaled: Callable[[Any, Any], tuple[Any, Any]] | None) -> Callable[[_Call], _Layers]:
    """Of two tensors the layer ``joined``; of one and constants a factor and an offset."""

    def make(call: _Call) -> _Layers:
        first, second = call.operands()
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return [(joined, {})]
        if scaled is None:
            raise Unsupported(f"it is called with {short(second)}")
        tensor_first = isinstance(first, Tensor)
        constant = np.array(call.constant(second if tensor_first else first))
        with np.errstate(all="ignore"):
            factor, offset = scaled(constant, tensor_first)
        return [("Rescaling", {"scale": np.ravel(factor).tolist(), "offset": np.ravel(offset).tolist()})]

    return make


def _divided(constant: Any, tensor_first: Any) -> tuple[Any, Any]:
    if not tensor_first:
        raise Unsupported("it divides by what the network computes")
    return 1 / constant, 0.0


def _extreme(call: _Call) -> _Layers:
    """Maximum and minimum, of two tensors or of one and a number."""
    first, second = call.operands()
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return [(call.name.capitalize(), {})]
    (limit,) = call.constant(second if isinstance(first, Tensor) else first) or [None]
    if call.name == "maximum" and limit == 0:
        return [("ReLU", {})]
    raise Unsupported(f"the {call.name} of a map and {limit} is not run; ReLU and its max_value are")


def _clip(call: _Call) -> _Layers:
    low = number("the lower limit", call.get("clip_value_min", "x_min", 1, default=0))
    high = number("the upper limit", call.get("clip_value_max", "x_max", 2, default=0))
    if low != 0 or high <= 0:
        raise Unsupported(f"it clips at {low:g} and {high:g}; from 0 on is run")
    return [("ReLU", {"max_value": high})]


def _negative(call: _Call) -> _Layers:
    return [("Rescaling", {"scale": -1.0})]


# ---------------------------------------------------------------------------------------------------------------------
# Activations


def _activation(name: str) -> Callable[[_Call], _Layers]:
    return lambda call: [("Activation", {"activation": name})]


def _leaky_relu(call: _Call) -> _Layers:
    return [("LeakyReLU", {"negative_slope": call.get("alpha", "negative_slope", 1, default=0.2)})]


def _relu(call: _Call) -> _Layers:
    """``tf.keras.activations.relu`` has more settings than ``tf.nn.relu``."""
    named = {"negative_slope": ("negative_slope", "alpha"), "max_value": ("max_value",), "threshold": ("threshold",)}
    return [("ReLU", {key: found for key, names in named.items() if (found := call.get(*names)) is not None})]


def _softmax(call: _Call) -> _Layers:
    return [("Softmax", {"axis": call.get("axis", 1, default=-1)})]


def _gelu(call: _Call) -> _Layers:
    default = call.layer.kind != "TFOpLambda"  # Keras's own is the approximation, TensorFlow's is not
    approximate = call.get("approximate", 1, default=default)
    return [("Activation", {"activation": "gelu_tanh" if approximate else "gelu_exact"})]


def _elu(call: _Call) -> _Layers:
    return [("ELU", {"alpha": call.get("alpha", 1, default=1.0)})]


# ---------------------------------------------------------------------------------------------------------------------
# Shapes


def _nothing(call: _Call) -> _Layers:
    return []


def _cast(call: _Call) -> _Layers:
    dtype = call.get("dtype", 1, default="float32")
    name = dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype
    if str(name) not in ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"):
        raise Unsupported(f"it makes numbers of type {short(name)}")
    return []


def _pad(call: _Call) -> _Layers:
    width, mode = call.get("paddings", "pad_width", 1), str(call.get("mode", 2, default="constant")).lower()
    value = call.get("constant_values", default=0)
    if mode != "constant" or value not in (0, 0.0):
        raise Unsupported(f"it pads by {mode} {short(value)}; zeros are run")
    if not isinstance(width, list) or len(width) != call.rank or call.rank != 4:
        raise Unsupported(f"it pads by {short(width)}")
    if any(width[axis] not in ([0, 0], (0, 0), 0) for axis in (0, 3)):
        raise Unsupported("it pads the channels")
    return [("ZeroPadding2D", {"padding": [width[1], width[2]]})]


def _pooled(layer: str) -> Callable[[_Call], _Layers]:
    """The mean or the maximum over all pixels, or over the channels of each."""

    def make(call: _Call) -> _Layers:
        axes = call.axes("axis", "axes", "reduction_indices")
        keep = bool(call.get("keepdims", "keep_dims", 2, default=False))
        if call.rank == 4 and axes == [1, 2]:
            return [(layer, {"keepdims": keep})]
        if call.rank == 4 and axes == [3] and keep:
            return [("ChannelReduce", {"function": call.name})]
        raise Unsupported(
            f"it reduces the axes {axes} of {call.rank}{' and drops them' * (not keep)}; the pixels, 1 and 2 of 4, are run, and the "
            "channels, 3, where they are kept (keepdims=True)"
        )

    return make


def _reshape(call: _Call) -> _Layers:
    shape = call.get("shape", "newshape", 1)
    if (
        not isinstance(shape, list)
        or not shape
        or shape[0] not in (-1, None)
        or any(type(n) is not int for n in shape[1:])
    ):
        raise Unsupported(f"its shape is {short(shape)}, whose first number must be -1: as many images as there are")
    return [("Reshape", {"target_shape": shape[1:]})]


def _known(call: _Call) -> list[int]:
    """The shape where all of it is known."""
    if any(size is None for size in call.shape):
        raise Unsupported("what it comes to depends on the size of the image, which the file does not fix")
    return [size for size in call.shape if size is not None]


def _squeeze(call: _Call) -> _Layers:
    shape = _known(call)
    given = call.get("axis", 1)
    drop = [axis for axis in range(1, call.rank) if shape[axis - 1] == 1] if given is None else call.axes("axis")
    if any(axis == 0 or shape[axis - 1] != 1 for axis in drop):
        raise Unsupported(f"it drops axis {given} of shape {(None, *shape)}")
    left = [size for axis, size in enumerate(shape, 1) if axis not in drop]
    return [("Reshape", {"target_shape": left})]


def _expand_dims(call: _Call) -> _Layers:
    axis = whole("axis", call.get("axis", 1), -call.rank - 1, call.rank) % (call.rank + 1)
    if axis == 0:
        raise Unsupported("it puts an axis before the images")
    shape = _known(call)
    return [("Reshape", {"target_shape": [*shape[: axis - 1], 1, *shape[axis - 1 :]]})]


def _transpose(call: _Call) -> _Layers:
    axes = call.get("perm", "axes", 1)
    if not isinstance(axes, list) or axes[:1] != [0]:
        raise Unsupported(f"it changes the order of axes to {short(axes)}")
    return [("Permute", {"dims": axes[1:]})]


def _concatenate(call: _Call) -> _Layers:
    return [("Concatenate", {"axis": call.get("axis", 1, default=-1)})]


def _normalize(call: _Call) -> _Layers:
    axis, order = call.get("axis", 1, default=-1), call.get("order", "ord", default=2)
    if order != 2:
        raise Unsupported(f"it normalises by the norm of order {order}; 2 is run")
    tensorflow = call.layer.kind.endswith("Lambda")
    least = number("epsilon", call.get("epsilon", default=1e-12 if tensorflow else 1e-7), 0)
    return [("UnitNormalization", {"axis": axis, "least": math.sqrt(least) if tensorflow else least})]


def _resize(call: _Call) -> _Layers:
    size, method = call.get("size", 1), call.get("interpolation", "method", 2, default="bilinear")
    for name in ("antialias", "preserve_aspect_ratio", "crop_to_aspect_ratio", "pad_to_aspect_ratio"):
        if call.get(name):
            raise Unsupported(f"{name} is {call.get(name)}; without it, it is run")
    if not isinstance(size, list) or len(size) != 2:
        raise Unsupported(f"its size is {short(size)}")
    return [("Resizing", {"height": size[0], "width": size[1], "interpolation": method})]


def _add_n(call: _Call) -> _Layers:
    return [("Add", {})]


def _windows(layer: str) -> Callable[[_Call], _Layers]:
    """A pool. TensorFlow may count batch and channels among a window's axes."""

    def make(call: _Call) -> _Layers:
        if call.rank != 4 or str(call.get("data_format", default="channels_last")) not in ("channels_last", "NHWC"):
            raise Unsupported("it does not pool the pixels of maps whose channels come last")
        size = _two(call.get("pool_size", "ksize", 1))
        stride, padding = call.get("strides", 2, default=size), call.get("padding", 3, default="valid")
        return [(layer, {"pool_size": size, "strides": _two(stride), "padding": padding})]

    return make


def _two(sizes: Any) -> Any:
    """A window's sizes without those of batch and channels, which must be 1."""
    if isinstance(sizes, list | tuple) and len(sizes) == 4:
        if sizes[0] != 1 or sizes[3] != 1:
            raise Unsupported(f"it has a window of {short(sizes)}")
        return sizes[1:3]
    return sizes


# ---------------------------------------------------------------------------------------------------------------------
# Channels in another order


def _order(order: Callable[[_Call, list[int]], list[int]]) -> Callable[[_Call], _Layers]:
    """What puts channels in another order, given the list of them; what does so along another axis is not run."""

    def make(call: _Call) -> _Layers:
        if call.get("axis", 2) is not None and call.axes("axis", 2) != [call.rank - 1]:
            raise Unsupported(f"it works along axis {short(call.get('axis', 2))}; the channels, the last axis, are run")
        return [("Channels", {"order": order(call, list(range(call.layer.channels)))})]

    return make


def _tiled(call: _Call, channels: list[int]) -> list[int]:
    times = call.get("multiples", "repeats", 1)
    if not isinstance(times, list) or len(times) != call.rank or any(n != 1 for n in times[:-1]):
        raise Unsupported(f"it repeats maps {short(times)} times; channels, the last axis, are run")
    return channels * whole("multiples", times[-1])


def _repeated(call: _Call, channels: list[int]) -> list[int]:
    times = whole("repeats", call.get("repeats", 1))
    return [channel for channel in channels for _ in range(times)]


def _taken(call: _Call, channels: list[int]) -> list[int]:
    picked = array_of(call.get("indices", 1))
    if not isinstance(picked, list):
        raise Unsupported(f"it takes {short(picked)}; a list of channels is run")
    count = len(channels)
    return [whole("a channel", channel, -count, count - 1) % count for channel in picked]


def _grey_to_rgb(call: _Call) -> _Layers:
    if call.shape[-1] != 1:
        raise Unsupported(f"it gets {call.shape[-1]} channels; it must be 1")
    return [("Channels", {"order": [0, 0, 0]})]


# ---------------------------------------------------------------------------------------------------------------------
# Parts of a map


def _index(call: _Call) -> list[Any]:
    """What a map is indexed with, one item for each axis that is there and None for each new one."""
    given = call.get("slice_spec", "key", 1)
    items = list(given) if isinstance(given, list | tuple) else [given]
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if taken > call.rank or items.count(Ellipsis) > 1:
        raise Unsupported(f"it is indexed by {short(items)}")
    whole_axes = [slice(None)] * (call.rank - taken)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        return [*items[:at], *whole_axes, *items[at + 1 :]]
    return [*items, *whole_axes]


def _part(call: _Call) -> _Layers:
    items = _index(call)
    if items[0] != slice(None):
        raise Unsupported("it picks images from the batch")
    if None in items:
        if any(item is not None and item != slice(None) for item in items):
            raise Unsupported(f"it is indexed by {short(items)}")
        sizes = iter(_known(call))
        return [("Reshape", {"target_shape": [1 if item is None else next(sizes) for item in items[1:]]})]
    *pixels, channels = items[1:]
    if not all(isinstance(item, slice) for item in items[1:]):
        raise Unsupported(f"it is indexed by {short(items)}; one channel at the end is run, where such are stacked")
    layers: _Layers = []
    if any(item != slice(None) for item in pixels):
        layers.append(
            ("Cropping2D", {"cropping": [_cut(item, size) for item, size in zip(pixels, call.shape, strict=False)]})
        )
    order = list(range(call.layer.channels))[channels]
    if order != list(range(call.layer.channels)):
        layers.append(("Channels", {"order": order}))
    return layers


def _cut(item: slice, size: int | None) -> list[int]:
    """How many rows are cut away before and behind."""
    if item.step not in (None, 1):
        raise Unsupported("it leaves out every second pixel, or turns the map round")
    start, stop = item.start or 0, item.stop
    if size is not None:
        first, last, _ = item.indices(size)
        return [first, size - last]
    if start < 0 or (stop is not None and stop >= 0):
        raise Unsupported("what it cuts away depends on the size of the image, which the file does not fix")
    return [start, 0 if stop is None else -stop]


def one_channel(layer: LayerConfig) -> int | None:
    """Which channel a function picks, where it does nothing else and drops the axis; None where it does something else."""
    if function_of(layer) != "getitem" or len(layer.shapes) != 1 or len(layer.shape) != 3:
        return None
    items = _index(_Call(layer, "getitem"))
    if len(items) != 4 or any(item != slice(None) for item in items[:3]) or type(items[3]) is not int:
        return None
    return whole("the channel", items[3], -layer.channels, layer.channels - 1) % layer.channels


def stacked_channels(layer: LayerConfig, picked: Sequence[int]) -> list[int]:
    """The order in which a function puts channels together that were ``picked`` one by one. Raises Unsupported."""
    call, name = _Call(layer, ""), function_of(layer)
    if name in ("stack", "expand_dims") and call.get("axis", 1, default=0 if name == "stack" else -1) in (-1, 3):
        return list(picked)
    raise Unsupported("of single channels only the stack along the last axis is run")


# ---------------------------------------------------------------------------------------------------------------------
# The tables

_FUNCTIONS: Mapping[str, Callable[[_Call], _Layers]] = {
    "abs": _activation("abs"),
    "add": _arithmetic("Add", lambda c, first: (1.0, c)),
    "add_n": _add_n,
    "average_pool": _windows("AveragePooling2D"),
    "cast": _cast,
    "clip": _clip,
    "concatenate": _concatenate,
    "divide": _arithmetic("Divide", _divided),
    "elu": _elu,
    "exp": _activation("exponential"),
    "expand_dims": _expand_dims,
    "flip": _order(lambda call, channels: channels[::-1]),
    "gelu": _gelu,
    "getitem": _part,
    "grayscale_to_rgb": _grey_to_rgb,
    "hard_sigmoid": _activation("hard_sigmoid"),
    "hard_silu": _activation("hard_silu"),
    "identity": _nothing,
    "leaky_relu": _leaky_relu,
    "max": _pooled("GlobalMaxPooling2D"),
    "max_pool": _windows("MaxPooling2D"),
    "maximum": _extreme,
    "mean": _pooled("GlobalAveragePooling2D"),
    "minimum": _extreme,
    "multiply": _arithmetic("Multiply", lambda c, first: (c, 0.0)),
    "negative": _negative,
    "normalize": _normalize,
    "pad": _pad,
    "relu": _relu,
    "relu6": lambda call: [("ReLU", {"max_value": 6.0})],
    "repeat": _order(_repeated),
    "reshape": _reshape,
    "resize": _resize,
    "selu": _activation("selu"),
    "sigmoid": _activation("sigmoid"),
    "silu": _activation("silu"),
    "softmax": _softmax,
    "softplus": _activation("softplus"),
    "softsign": _activation("softsign"),
    "squeeze": _squeeze,
    "subtract": _arithmetic("Subtract", lambda c, first: (1.0, -c) if first else (-1.0, c)),
    "take": _order(_taken),
    "tanh": _activation("tanh"),
    "tile": _order(_tiled),
    "transpose": _transpose,
}
"""{function: the layers that do the same}."""

_NAMES: Mapping[str, str] = {
    **{name.title().replace("_", ""): name for name in _FUNCTIONS},  # Keras 3's classes
    "Absolute": "abs",
    "AddV2": "add",
    "BiasAdd": "add",
    "GetItem": "getitem",
    "Stack": "stack",
    "TrueDivide": "divide",
    "activations.relu": "relu",
    "avg_pool": "average_pool",
    "avg_pool2d": "average_pool",
    "bias_add": "add",
    "clip_by_value": "clip",
    "concat": "concatenate",
    "gather": "take",
    "image.grayscale_to_rgb": "grayscale_to_rgb",
    "image.resize": "resize",
    "l2_normalize": "normalize",
    "max_pool2d": "max_pool",
    "neg": "negative",
    "reduce_max": "max",
    "reduce_mean": "mean",
    "reverse": "flip",
    "stop_gradient": "identity",
    "StopGradient": "identity",
    "sub": "subtract",
    "swish": "silu",
    "truediv": "divide",
    "div": "divide",
    "mul": "multiply",
}
"""{spelling: function}; what is not listed is spelled as it is called here."""
