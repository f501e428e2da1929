"""The network that a file describes, from Keras's own layers: which layer reads which is followed here, through models inside
models and shared layers, for Keras's loaders refuse much of what an older Keras wrote. Nothing in the file is executed.

Layers are made when they are first run, so that what is not run, a head that is code, say, stops nothing.

A layer is called by its name; the second use of one that is shared ``NAME@1``; a name that another model has, too, ``MODEL/NAME``.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import WeightsError
from .backend import short, tensorflow_and_keras
from .filling import fill
from .making import in_float32, make, plain
from .stored import Stored, read_stored
from .unrolled import LayerUse, Unrolled

__all__ = ["described", "precision"]

_Config = Mapping[str, Any]
_Path = tuple[str, ...]

_MODELS = ("Functional", "Model", "Sequential")


def described(path: str | os.PathLike[str]) -> Unrolled:
    """The model that a file describes, with its weights, in float32 whatever it was trained in.

    Raises WeightsError where the file describes none, or not one that can be followed, and, when it is run, where Keras cannot make
    a layer or the file lacks its weights; MissingExtraError without TensorFlow.
    """
    tensorflow_and_keras()
    path = Path(path)
    stored = read_stored(path)
    if stored.config is None:
        raise WeightsError(f"{path}: the file does not describe its network; save the whole model, `model.save(...)`")
    try:
        reader = _Reader(path, stored)
        reader.model(in_float32(stored.config, set()), (), None, False)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the description of its network is not understood ({type(error).__name__}: {short(error)}); "
            "check with `--against reference`"
        ) from error
    return Unrolled(path.name, reader.inputs, reader.layers)


def precision(path: str | os.PathLike[str]) -> str | None:
    """What a file says that its network computes in, where that is not float32: "mixed_float16", say. Raises WeightsError."""
    found: set[str] = set()
    in_float32(read_stored(path, weights=False).config, found)
    mixed = {name for name in found if name.startswith("mixed")}  # of these tensors follow, which say their own
    return ", ".join(sorted(mixed or found)) or None


@dataclass(frozen=True)
class _Reference:
    """A tensor: the layer that makes it, at which of its uses, and which of its outputs."""

    layer: str
    use: int
    output: int


@dataclass(frozen=True)
class _Slot:
    """The place of a tensor among a layer's arguments: which of those that are read."""

    number: int


@dataclass
class _Use:
    """A layer at one of the places where it is used in a model, and what it is called with there."""

    layer: _Config
    number: int
    args: Any = ()
    kwargs: Any = None


class _Reader:
    """Collects the layers of a model. Tensors are known by the name of the layer, or of the input, that makes them."""

    def __init__(self, path: Path, stored: Stored) -> None:
        self.path, self.stored = path, stored
        self.inputs: dict[Hashable, tuple[str, tuple[int | None, ...]]] = {}
        self.layers: list[LayerUse] = []
        self._names: dict[_Path, str] = {}
        self._uses: Counter[_Path] = Counter()
        self._made: dict[_Path, _Made] = {}

    def model(self, model: _Config, around: _Path, feeds: Sequence[str] | None, training: bool) -> list[str]:
        """Add the layers of a model. Returns the tensors that it makes.

        around    the names of the models that it is in, and its own
        feeds     what it reads; None for the outermost, which has inputs
        training  it is called as if it were being trained, which only Keras 2 keeps to
        """
        inner = model["config"]
        if isinstance(inner, list):  # Keras 1 and early 2: a Sequential's bare list
            inner = {"layers": inner}
        if model["class_name"] == "Sequential":
            return self._chain(inner, around, feeds, training)
        return self._graph(inner, around, feeds, training)

    def _chain(self, inner: _Config, around: _Path, feeds: Sequence[str] | None, training: bool) -> list[str]:
        values = list(feeds) if feeds is not None else []
        for layer in inner["layers"]:
            if not values:
                shape = _input_shape(layer) or inner.get("build_input_shape")
                named = _name(layer) if layer["class_name"] == "InputLayer" else "input"
                values = [self._input(named, shape)]
            if layer["class_name"] != "InputLayer":
                values = self._use(layer, around, [_Slot(0)], {}, values, training)
        return values

    def _graph(self, inner: _Config, around: _Path, feeds: Sequence[str] | None, training: bool) -> list[str]:
        ends = list(_ends(inner["output_layers"]))
        starts = [reference.layer for reference in _ends(inner["input_layers"])]
        given = dict(zip(starts, feeds, strict=True)) if feeds is not None else {}
        uses = [use for layer in inner["layers"] for use in self._uses_of(layer)]
        made: dict[tuple[str, int], list[str]] = {}
        models = {_name(layer): layer["class_name"] for layer in inner["layers"] if layer["class_name"] in _MODELS}

        def key(reference: _Reference, end: bool = False) -> tuple[str, int]:
            """A use of a layer. Keras 2 counts those of models from one, for their own making is the first; Keras 3 only among a
            model's outputs, and only where the model inside is no Sequential."""
            kind = models.get(reference.layer)
            later = kind is not None if self.stored.keras2 else end and kind in ("Functional", "Model")
            return reference.layer, reference.use - later

        while uses:
            waiting = []
            for use in uses:
                name = _name(use.layer)
                needed = [key(reference) for reference in _references((use.args, use.kwargs))]
                if use.number:  # uses are numbered in the order in which they were made
                    needed.append((name, use.number - 1))
                if not all(one in made for one in needed):
                    waiting.append(use)
                elif use.layer["class_name"] == "InputLayer":
                    made[name, 0] = [given[name] if name in given else self._input(name, _input_shape(use.layer))]
                else:
                    read: list[str] = []
                    args, kwargs = _slots((use.args, use.kwargs or {}), read, lambda x: made[key(x)][x.output])
                    made[name, use.number] = self._use(use.layer, around, args, kwargs, read, training)
            if len(waiting) == len(uses):
                names = ", ".join(repr(_name(use.layer)) for use in waiting[:3])
                raise ValueError(f"{names}: in a circle, or reading a layer that is missing")
            uses = waiting
        return [made[key(end, end=True)][end.output] for end in ends]

    def _uses_of(self, layer: _Config) -> Iterator[_Use]:
        nodes = layer.get("inbound_nodes") or []
        if not nodes:
            yield _Use(layer, 0)
        for number, node in enumerate(nodes):
            if isinstance(node, Mapping):  # Keras 3
                yield _Use(layer, number, _keras3(node["args"]), _keras3(node.get("kwargs", {})))
                continue
            flat = isinstance(node[0], str)  # Keras 2's operators
            entries = [node] if flat else node
            tensors = [entry[2] if entry[0] == "_CONSTANT_VALUE" else _Reference(*entry[:3]) for entry in entries]
            options = entries[0][3] if len(entries[0]) > 3 else {}
            yield _Use(layer, number, tensors if len(tensors) == 1 else [tensors], _keras2(options))

    def _input(self, name: str, shape: Any) -> str:
        if shape is None:
            raise ValueError(f"the shape of the input {name!r} is not given")
        label = self._label((name,))
        self.inputs[label] = name, tuple(shape)
        return label

    def _label(self, path: _Path) -> str:
        """What the next use of a layer is called."""
        if path not in self._names:
            taken = set(self._names.values())
            names = ("/".join(path[-depth:]) for depth in range(1, len(path) + 1))
            self._names[path] = next((name for name in names if name not in taken), f"/{path[-1]}")
        use = self._uses[path]
        self._uses[path] += 1
        return f"{self._names[path]}@{use}" if use else self._names[path]

    def _use(
        self, layer: _Config, around: _Path, args: Any, kwargs: dict[str, Any], read: Sequence[str], training: bool
    ) -> list[str]:
        """Add a layer, or the layers of a model, that reads the tensors ``read``. Returns what it makes."""
        path = (*around, _name(layer))
        training = self.stored.keras2 and bool(kwargs.get("training") or training)
        if layer["class_name"] in _MODELS:
            return self.model(layer, path, read, training)
        kept = {name: value for name, value in kwargs.items() if name not in ("training", "mask", "name")}
        made = self._made.setdefault(path, _Made(self.path, self.stored, layer, path))
        label = self._label(path)
        self.layers.append(
            LayerUse(
                label, lambda values: made(_filled(args, values), _filled(kept, values), training), tuple(read), label
            )
        )
        return [label]


class _Made:
    """A layer that is made and filled when it is first run."""

    def __init__(self, file: Path, stored: Stored, layer: _Config, path: _Path) -> None:
        self.file, self.stored, self.layer, self.path = file, stored, layer, path
        self._function: Any = None

    def __call__(self, args: Sequence[Any], kwargs: dict[str, Any], training: bool) -> Any:
        try:
            if self._function is None:
                function: Any = make(self.layer, self.stored.keras2)
                if hasattr(function, "built"):
                    _build(function, args)
                    fill(function, lambda name: self._tensors(name, function.name))
                self._function = function
            if "training" in inspect.signature(getattr(self._function, "call", self._function)).parameters:
                kwargs = {**kwargs, "training": training}
            return self._function(*args, **kwargs)
        except Exception as error:  # of any kind: neither the description nor Keras is ours
            older = self.stored.keras2 and importlib.util.find_spec("tf_keras") is None
            hint = "`pip install tf_keras`, the Keras that wrote it; or " if older else ""
            raise WeightsError(
                f"{self.file}: TensorFlow cannot run its layer {'/'.join(self.path)!r} ({self.layer['class_name']}): "
                f"{short(error)}; {hint}check with `--against reference`"
            ) from error

    def _tensors(self, name: str, own: str) -> Any:
        return self.stored.find(self.path if name == own else (*self.path, name))


def _build(layer: Any, args: Sequence[Any]) -> None:
    """Make a layer's variables, for what it is called with."""
    if layer.built:
        return
    if len(args) == 1 and hasattr(args[0], "shape"):
        layer.build(tuple(args[0].shape))
        layer.built = True
    else:
        layer(*args)


def _name(layer: _Config) -> str:
    name = layer.get("name") or layer["config"]["name"]
    if not isinstance(name, str):
        raise ValueError(f"a layer is called {name!r}")
    return name


def _input_shape(layer: _Config) -> Any:
    """The shape of what a layer reads, with the batch, where it says; of a model, what its first layer reads."""
    config = layer["config"]
    if layer["class_name"] in _MODELS:
        layers = config if isinstance(config, list) else config["layers"]
        return _input_shape(layers[0])
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    return shape if shape is not None or "shape" not in config else [None, *config["shape"]]


def _ends(layers: Any) -> Iterator[_Reference]:
    """The tensors of ``input_layers`` or ``output_layers``: [name, use, output], or a list or dict of such."""
    if isinstance(layers, Mapping):
        layers = list(layers.values())
    if layers and isinstance(layers[0], str):
        yield _Reference(*layers[:3])
    else:
        for one in layers:
            yield from _ends(one)


def _keras3(value: Any) -> Any:
    """Arguments with the references in them; other objects stay as they are until they are needed."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return _Reference(*value["config"]["keras_history"][:3])
        return value if "class_name" in value else {key: _keras3(item) for key, item in value.items()}
    return [_keras3(item) for item in value] if isinstance(value, list) else value


def _keras2(value: Any) -> Any:
    """The same of Keras 2, which writes a tensor as [name, use, output]."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__ellipsis__":
            return Ellipsis
        if value.keys() == {"start", "stop", "step"}:
            return slice(value["start"], value["stop"], value["step"])
        return {key: _keras2(item) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str) and all(isinstance(one, int) for one in value[1:]):
            return _Reference(*value)
        return [_keras2(item) for item in value]
    return value


def _references(value: Any) -> list[_Reference]:
    if isinstance(value, _Reference):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [found for item in items for found in _references(item)]


def _slots(value: Any, read: list[str], tensor: Any) -> Any:
    """Arguments with a slot for each tensor, whose names are added to ``read``."""
    if isinstance(value, _Reference):
        read.append(tensor(value))
        return _Slot(len(read) - 1)
    if isinstance(value, Mapping):
        return {key: _slots(item, read, tensor) for key, item in value.items()}
    return [_slots(item, read, tensor) for item in value] if isinstance(value, list | tuple) else value


def _filled(value: Any, values: Sequence[Any]) -> Any:
    """Arguments with their tensors."""
    if isinstance(value, _Slot):
        return values[value.number]
    if isinstance(value, Mapping):
        return plain(value) if "class_name" in value else {key: _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list) else value
