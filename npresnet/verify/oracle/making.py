"""Keras's layers and operators, each from its part of a model's description; what is code is not run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .backend import tensorflow_and_keras

__all__ = ["CannotMake", "in_float32", "make", "plain"]

_NARROW = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")
_CODE = ("Lambda", "__lambda__", "function")
_OPERATORS = ("numpy", "nn", "image", "math", "core", "linalg")  # modules of keras.src.ops
_PURE = ("__operators__", "math", "nn", "image", "linalg")  # of TensorFlow: they compute and do nothing else
_PURE_NAMES = (
    "abs", "add", "cast", "clip_by_value", "concat", "divide", "expand_dims", "identity", "maximum", "minimum", "multiply",
    "negative", "ones_like", "pad", "pow", "reduce_max", "reduce_mean", "reduce_sum", "repeat", "reshape", "reverse", "round",
    "sigmoid", "split", "sqrt", "square", "squeeze", "stack", "subtract", "tanh", "tile", "transpose", "zeros_like",
)  # fmt: skip
_IDLE = ("batch_input_shape", "rng_type")
"""Settings of Keras 2's layers that Keras 3 does not know, and that compute nothing."""


class CannotMake(Exception):
    """What a layer is not made for."""


def make(layer: Mapping[str, Any], keras2: bool) -> Callable[..., Any]:
    """What computes a layer or operator of a description: by the Keras that wrote it, where that is installed.

    Raises CannotMake, and whatever Keras raises, where it cannot be made.
    """
    _, keras = tensorflow_and_keras()
    kind, config = str(layer["class_name"]), dict(layer.get("config", {}))
    if code := next((found for found in _classes(layer) if found in _CODE), None):
        raise CannotMake(f"{code} is code, which is not run")
    if keras2 and kind in ("TFOpLambda", "SlicingOpLambda"):
        return _tensorflow_function(str(config["function"]))
    if keras2 and importlib.util.find_spec("tf_keras") is not None:
        import tf_keras

        made: Callable[..., Any] = tf_keras.layers.deserialize({"class_name": kind, "config": config})
        return made
    if keras2:
        if "hard_sigmoid" in map(str, config.values()):
            raise CannotMake("its hard_sigmoid is another function in Keras 3")
        config = {key: value for key, value in config.items() if key not in _IDLE}
        config["name"] = str(config["name"]).replace("/", "_")  # which Keras 3 does not allow
        if kind == "BatchNormalization" and isinstance(config.get("axis"), list):
            (config["axis"],) = config["axis"]
    elif _is_operator(layer):
        return _operator(kind, config)
    module = "keras.layers" if keras2 or "module" not in layer else layer["module"]
    named = {"module": module, "class_name": kind, "registered_name": layer.get("registered_name")}
    made = keras.layers.deserialize({**named, "config": config})
    return made


def _classes(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            yield value["class_name"]
        for item in value.values():
            yield from _classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _classes(item)


def _is_operator(layer: Mapping[str, Any]) -> bool:
    """An HDF5 file names no modules; but of a layer Keras 3 always says whether it is trainable."""
    if "module" in layer:
        return str(layer["module"]).startswith("keras.src.ops")
    return not {"trainable", "dtype"} & layer["config"].keys()


def _operator(kind: str, config: Mapping[str, Any]) -> Callable[..., Any]:
    """One of ``keras.ops``, by its class's name, which a layer may have, too: ``Add``."""
    for name in _OPERATORS:
        found = getattr(importlib.import_module(f"keras.src.ops.{name}"), kind, None)
        if isinstance(found, type):
            made: Callable[..., Any] = found.from_config(dict(config))  # type: ignore[attr-defined]
            return made
    raise CannotMake("Keras has no operator of this name")


def _tensorflow_function(name: str) -> Callable[..., Any]:
    """What Keras 2 writes for ``x + y`` or ``tf.nn.relu(x)``: a function of TensorFlow by its name."""
    tensorflow, _ = tensorflow_and_keras()
    if name == "__operators__.getitem":
        return lambda x, slice_spec: x[tuple(slice_spec)]
    parts = name.split(".")
    if not (len(parts) == 2 and parts[0] in _PURE) and name not in _PURE_NAMES:
        raise CannotMake(f"tf.{name} is not among the functions that are called for a file")
    found: Any = tensorflow
    for part in parts:
        found = getattr(found, part)
    called: Callable[..., Any] = found
    return called


def plain(value: Any) -> Any:
    """A constant among an operator's arguments, as Keras 3 writes it."""
    _, keras = tensorflow_and_keras()
    return keras.saving.deserialize_keras_object(value, safe_mode=True)


def in_float32(value: Any, found: set[str]) -> Any:
    """A description whose layers all compute in float32; ``found`` gets the policies that said otherwise."""
    if isinstance(value, list):
        return [in_float32(item, found) for item in value]
    if not isinstance(value, Mapping):
        return value
    changed = {}
    for key, item in value.items():
        named = (item.get("config") or {}).get("name") if isinstance(item, Mapping) else item
        if key == "dtype" and named in _NARROW:
            found.add(named)
            changed[key] = "float32"
        else:
            changed[key] = in_float32(item, found)
    return changed
