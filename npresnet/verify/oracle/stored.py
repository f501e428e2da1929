"""What a weight file holds, read with h5py: the tensors of each layer, found by its name at any depth, and the description of the
model. Keras's own loaders want the whole model that was saved, at the same depth; a backbone is often one layer of another model.

Nothing here knows :mod:`npresnet.files`, whose reading of the same bytes is what is being checked.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import WeightsError
from .backend import short

__all__ = ["Stored", "read_stored"]

Tensors = Sequence[NDArray[Any]]
Place = tuple[str, ...]

Described = tuple[str, str, "Sequence[Described]"]
"""A layer as Keras counts it in a tree of objects: its class, its name, and a model's own layers."""

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Where a tree keeps a model's layers."""


@dataclass(frozen=True)
class Stored:
    """What is in a weight file.

    layers   {"NAME", or "MODEL/NAME" of a layer inside a model: its tensors, in Keras's order}
    objects  the same of a tree that has no names: {path in the tree: tensors}
    config   the model's description, None in a file of weights alone
    version  of the Keras that wrote it, "" where the file does not say
    """

    layers: Mapping[str, Tensors]
    objects: Mapping[Place, Tensors] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    version: str = ""

    @property
    def keras2(self) -> bool:
        """Whether Keras 2, or 1, wrote it."""
        return self.version.startswith(("1.", "2."))

    def find(self, path: Sequence[str]) -> Tensors | None:
        """The tensors of a layer: ``path`` has the names of the models around it, and its own."""
        if (found := self.layers.get("/".join(path))) is not None:
            return found
        top, name = path[0], path[-1]
        inside = {key: tensors for key, tensors in self.layers.items() if key.startswith(f"{top}/")}
        if len(path) == 1:  # what Keras 2 wrote in a scope of another name
            return [array for tensors in inside.values() for array in tensors] or None
        # the names of models in between may be left out; a layer that two models share is in one of them
        for where, counted in ((inside, ""), (inside, r"(_\d+)?"), (self.layers, "")):
            pattern = re.compile(rf"(?:.*/)?{re.escape(name)}{counted}", re.DOTALL)
            keys = [key for key in where if pattern.fullmatch(key)]
            if len(keys) == 1:
                return self.layers[keys[0]]
        return None

    def inside(self, names: Sequence[str]) -> Mapping[str, Tensors]:
        """{layer: tensors} in that model of the file, the outermost or one inside it, which has the most of ``names``."""
        ends = {name.rpartition("/")[2] for name in names}
        hits: dict[str, int] = {"": 0}
        for key in self.layers:
            around, _, last = key.rpartition("/")
            if last in ends:
                hits[around] = hits.get(around, 0) + 1
        best = max(hits, key=hits.__getitem__)
        start = f"{best}/" if best else ""
        return {key[len(start) :]: tensors for key, tensors in self.layers.items() if key.startswith(start)}

    def in_order(self, layers: Sequence[Described]) -> Mapping[str, Tensors] | None:
        """{layer: tensors} of the part of a tree without names that has as many layers with tensors of each class as
        ``layers``; None where no part has."""
        classes = {_snake(kind) for kind, _, _ in layers}
        wanted = {kind: sum(_snake(one) == kind for one, _, _ in layers) for kind in classes}
        for place in dict.fromkeys(path[:-1] for path in self.objects if path[-2:-1] and path[-2] in _CONTAINERS):
            ones = {path: tensors for path, tensors in self.objects.items() if path[:-1] == place and tensors}
            if wanted == {kind: sum(_counted(path[-1])[0] == kind for path in ones) for kind in classes}:
                return _named(ones, layers, place)
        return None


def read_stored(path: str | os.PathLike[str], weights: bool = True) -> Stored:
    """Read a Keras weight file; what it is is seen in its contents: its name may be anything.

    weights  False: the description and the version alone

    Raises WeightsError where it is none, or cannot be read.
    """
    path = Path(path)
    try:
        return _read(path, weights)
    except WeightsError:
        raise
    except Exception as error:  # of any kind: neither the file nor h5py is ours
        raise WeightsError(f"{path}: h5py cannot read it as a Keras weight file: {short(error)}") from error


def _read(path: Path, weights: bool) -> Stored:
    import h5py

    config, version = None, ""
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            told = {
                name: json.loads(archive.read(name))
                for name in ("config.json", "metadata.json")
                if name in archive.namelist()
            }
            config, version = told.get("config.json"), str(told.get("metadata.json", {}).get("keras_version", ""))
            parts: list[Any] = [io.BytesIO(archive.read("model.weights.h5"))] if weights else []
        elif path.suffix == ".json":
            index = json.loads(path.read_text("utf-8"))["weight_map"]
            names = {name for ones in index.values() for name in ([ones] if isinstance(ones, str) else ones)}
            parts = [path.with_name(name) for name in sorted(names)] if weights else []
        else:
            parts = [path]
        files = [stack.enter_context(h5py.File(part, "r")) for part in parts]
        if files and (text := files[0].attrs.get("model_config")) is not None:
            config = json.loads(text)
        for holder in files[:1]:
            legacy = holder.get("model_weights", holder)
            version = version or _text(legacy.attrs.get("keras_version", holder.attrs.get("keras_version", "")))
            if weights and (listed := _names(legacy.attrs, "layer_names")) is not None:
                return Stored(_legacy(legacy, listed), config=config, version=version)
        return _tree(files, config, version)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _names(attributes: Any, name: str) -> list[str] | None:
    """A list of names, which Keras splits over ``name0``, ``name1``, ... where it is long; None where there is none."""
    if name in attributes:
        return [_text(item) for item in attributes[name]]
    parts: list[str] = []
    number = 0
    while f"{name}{number}" in attributes:
        parts += [_text(item) for item in attributes[f"{name}{number}"]]
        number += 1
    return parts if number else None


def _legacy(holder: Any, listed: Iterable[str]) -> dict[str, list[NDArray[Any]]]:
    """Groups named after the layers of the outermost model. Inside one, a tensor's own name says which layer has it:
    ``conv1/kernel:0`` in the group ``resnet50``, or ``resnet50/conv1/kernel``."""
    layers: dict[str, list[NDArray[Any]]] = {}
    for name in listed:
        group = holder[name]
        for weight in _names(group.attrs, "weight_names") or []:
            scope = weight.rpartition("/")[0]
            if not scope or re.fullmatch(re.escape(name) + r"(_\d+)?", scope):
                key = name
            else:
                key = scope if scope.startswith(f"{name}/") else f"{name}/{scope}"
            layers.setdefault(key, []).append(group[weight][()])
    return layers


def _tree(files: Iterable[Any], config: Mapping[str, Any] | None, version: str) -> Stored:
    """Keras 3's tree of objects, in one file or several, by names where it has them or the description tells them."""
    tensors: dict[Place, dict[int, NDArray[Any]]] = {}
    names: dict[Place, str] = {}

    def walk(group: Any, path: Place) -> Iterator[tuple[Place, Any]]:
        for name, child in group.items():
            if name == "vars":
                yield path, child
            elif hasattr(child, "items") and (path or name not in ("optimizer", "_optimizer")):
                yield from walk(child, (*path, name))

    for file in files:
        for path, owner in walk(file, ()):
            if path and "name" in owner.attrs:
                names[path] = _text(owner.attrs["name"])
            arrays = {int(number): _array(data) for number, data in owner.items()}
            tensors.setdefault(path, {}).update(arrays)
    objects = {path: [arrays[number] for number in sorted(arrays)] for path, arrays in tensors.items() if path}
    if names:
        layers: dict[str, Tensors] = {}
        for path, own in objects.items():
            around = [names[path[:depth]] for depth in range(1, len(path) + 1) if path[:depth] in names]
            if own:
                layers["/".join(around)] = own
        return Stored(layers, objects, config, version)
    places = [(place,) for place in _CONTAINERS]
    described = _layers_of(config) if config is not None else []
    named = [_named(objects, described, place) for place in places]
    return Stored({name: found for ones in named for name, found in ones.items()}, objects, config, version)


def _array(data: Any) -> NDArray[Any]:
    if data.attrs.get("dtype") == "bfloat16":
        import ml_dtypes

        return np.asarray(np.asarray(data[()]).view(ml_dtypes.bfloat16), np.float32)
    return np.asarray(data[()])


def _layers_of(model: Mapping[str, Any]) -> list[Described]:
    """The layers that a model's description lists, as they are counted."""
    inner = model.get("config")
    listed = inner.get("layers", []) if isinstance(inner, dict) else inner if isinstance(inner, list) else []
    return [
        (layer["class_name"], layer.get("name") or layer.get("config", {}).get("name"), _layers_of(layer))
        for layer in listed
        if isinstance(layer, dict) and "class_name" in layer
    ]


def _named(objects: Mapping[Place, Tensors], layers: Iterable[Described], place: Place) -> dict[str, Tensors]:
    """{layer: tensors} of the objects at ``place``: the first of a class there is the first of it among ``layers``. Only the
    order of their numbers is believed: Keras 2.12 to 2.14 leave some out."""
    waiting: dict[str, list[tuple[int, str]]] = {}
    for component in {path[len(place)] for path in objects if len(path) > len(place) and path[: len(place)] == place}:
        kind, number = _counted(component)
        waiting.setdefault(kind, []).append((number, component))
    ordered = {kind: iter(sorted(ones)) for kind, ones in waiting.items()}
    found: dict[str, Tensors] = {}
    for kind, name, inner in layers:
        _, component = next(ordered.get(_snake(kind), iter(())), (0, ""))
        if not component:
            continue
        own = {path: arrays for path, arrays in objects.items() if path[: len(place) + 1] == (*place, component)}
        for path, arrays in own.items():
            if arrays and (not inner or path == (*place, component)):
                found[name] = [*found.get(name, []), *arrays]
        for container in _CONTAINERS if inner else ():
            below = _named(own, inner, (*place, component, container))
            found.update({f"{name}/{key}": arrays for key, arrays in below.items()})
    return found


def _counted(component: str) -> tuple[str, int]:
    """``conv2d`` to (conv2d, 0), ``conv2d_12`` to (conv2d, 12)."""
    kind, _, number = component.rpartition("_")
    return (kind, int(number)) if kind and number.isdecimal() else (component, 0)


def _snake(kind: str) -> str:
    """A class's name as Keras spells it in a tree: ``Conv2D`` to ``conv2d``."""
    from keras.src.utils.naming import to_snake_case

    return str(to_snake_case(kind))
