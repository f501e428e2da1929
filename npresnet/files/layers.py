"""What a Keras weight file holds, whatever its layout: {layer: {role: tensor}}, the list of layers, the model's config.

    legacy .h5       weights alone, or the whole model (Keras 1, 2, 3): groups named after layers
    .weights.h5      Keras 3 and Keras 2.12 to 2.15: a tree of objects; layers are counted by class, and carry their
                     names only since Keras 3.6
    .weights.json    the same tree, split over several files
    .keras           the same tree in a zip archive, with the model's config, which tells the names

``read_layers`` brings all of them into one form. Where a file holds no names, ``StoredFile.unnamed`` keeps what is known:
the class of each layer and its number among those of its class. ``network/keras_order.py`` says which layer of a graph that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from .hdf5.tree import Group, StoredTensor
from .opening import WeightsFile

__all__ = ["StoredFile", "StoredLayer", "TheanoKernel", "read_layers", "snake_case"]

# how Keras 1 (W, b, running_*) and later versions spell the role of a variable
_ROLES = {
    "kernel": "kernel",
    "W": "kernel",
    "bias": "bias",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "mean",
    "running_mean": "mean",
    "moving_variance": "variance",
    "mean": "mean",
    "variance": "variance",
    "running_std": "variance",  # since Keras 1.0.7 the value is a variance; only the name stayed
}

# the order in which Keras stores a layer's variables, by how many there are
_IN_ORDER = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "mean", "variance")}


@dataclass(frozen=True)
class TheanoKernel:
    """A tensor that is stored as Theano has it, seen as TensorFlow's: (height, width, in, out), not flipped.

    outer    it is stored as (out, in, height, width)
    flipped  it is stored upside down and left to right
    """

    stored: Tensor
    outer: bool
    flipped: bool

    @property
    def path(self) -> str:
        return self.stored.path

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.stored.shape
        return (*shape[2:], shape[1], shape[0]) if self.outer else shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.dtype

    def read(self) -> npt.NDArray[np.float32]:
        """The numbers as float32. Raises WeightsError where they cannot be read."""
        array = self.stored.read()
        array = array.transpose(2, 3, 1, 0) if self.outer else array
        return np.ascontiguousarray(array[::-1, ::-1] if self.flipped else array)


Tensor = StoredTensor | TheanoKernel
StoredLayer = Mapping[str, Tensor]
"""{role: tensor}; roles are "0", "1", ... where only the order is known."""


@dataclass(frozen=True)
class StoredFile:
    """What ``read_layers`` finds.

    layers       {layer: {role: tensor}} of the layers that have weights
    layer_names  of all layers, also those without weights; empty where the file does not say
    unnamed      {container: {class: {number: tensors}}} of a file without names: ``{"layers": {"conv2d": {0: ...}}}``
    config       the model's own description of its layers, where the file holds one
    """

    layers: Mapping[str, StoredLayer]
    layer_names: tuple[str, ...]
    layout: str
    keras_version: str | None = None
    backend: str | None = None
    config: Mapping[str, Any] | None = None
    unnamed: Mapping[str, Mapping[str, Mapping[int, Sequence[StoredTensor]]]] = field(default_factory=dict)


def read_layers(root: WeightsFile) -> StoredFile:
    """The layers of a file in any layout that Keras writes since version 1.0.

    Raises WeightsError for another layout, saying what to do.
    """
    holder: Group = root
    layout = "legacy HDF5, weights only"
    names = root.names("layer_names")
    groups = root.groups()
    if names is None and "model_weights" in groups:
        layout, holder = "legacy HDF5, whole model", groups["model_weights"]
        names, groups = holder.names("layer_names"), holder.groups()
    if names is not None:
        return _legacy(root, holder, groups, names, layout)
    if root.attribute("nb_layers") is not None:
        raise WeightsError(
            "this is a weight file of Keras before 1.0, which holds no layer names; load the model in Keras and write "
            "`model.save('name.h5')`, a layout that npresnet reads"
        )
    return _objects(root)


def _config(root: WeightsFile) -> dict[str, Any] | None:
    """The model's own description of its layers; None where there is none, or it is damaged: it is additional, and a
    network that the families' table knows is run without it."""
    try:
        return root.config
    except WeightsError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Legacy: groups named after layers


def _legacy(
    root: WeightsFile, holder: Group, groups: Mapping[str, Group], names: Sequence[str], layout: str
) -> StoredFile:
    layers: dict[str, dict[str, StoredTensor]] = {}
    for name in names:
        group = _find(groups, name)
        if group is None:
            raise WeightsError(f"the file lists a layer {name!r} but holds no group of that name; it is incomplete")
        for tensor in group.tensors():
            path = tensor.path[len(group.path) :].split("/")
            layer = _layer_name(name, path)
            role = _role(layer, path[-1])
            if role in layers.get(layer, {}):  # the same name in two nested models: keep both, by their full path
                layer = tensor.path.rsplit("/", 1)[0]
            layers.setdefault(layer, {})[role] = tensor
    version, backend = (holder.attribute(name) or root.attribute(name) for name in ("keras_version", "backend"))
    return StoredFile(
        {name: _named(tensors) for name, tensors in layers.items()},
        tuple(names), layout, version and str(version), backend and str(backend), _config(root),
    )  # fmt: skip


def _role(layer: str, last: str) -> str:
    """The role of a variable from the last part of its path: ``kernel:0``, ``conv1_W:0``, ``moving_mean`` ..."""
    name = re.sub(r":\d+$", "", last)
    if name.startswith(layer + "_"):  # Keras 1 puts the layer's name in front
        name = name[len(layer) + 1 :]
    return _ROLES.get(name, name)


def _named(tensors: dict[str, StoredTensor]) -> StoredLayer:
    """A layer's tensors by role, where Keras has stored them as ``param_0``, ``param_1``, ..."""
    unnamed = [f"param_{position}" for position in range(len(tensors))]
    return _in_order([tensors[name] for name in unnamed]) if tensors.keys() == set(unnamed) else tensors


def _in_order(tensors: Sequence[StoredTensor]) -> StoredLayer:
    """Tensors of which only the order is known, by role where that follows: kernel and bias, or batch-norm's four.

    A batch-norm without scale or centre has three, which could be either: those keep their numbers as roles.
    """
    roles = _IN_ORDER.get(len(tensors), ())
    if not roles or (roles[0] == "kernel" and len(tensors[0].shape) < 2):
        roles = tuple(map(str, range(len(tensors))))
    return dict(zip(roles, tensors, strict=True))


def _find(groups: Mapping[str, Group], name: str) -> Group | None:
    """The group of a layer; a slash in a layer's name, which Keras 2 allowed, makes groups within groups."""
    first, _, rest = name.partition("/")
    if name in groups or not rest or first not in groups:
        return groups.get(name)
    return _find(groups[first].groups(), rest)


def _layer_name(group: str, path: Sequence[str]) -> str:
    """Which layer a variable belongs to, from its group's name and its path below: (``conv1``, ``kernel:0``).

    Keras names the innermost scope after the layer; a second model in one TensorFlow session gets a counter there
    (``conv1_1`` inside group ``conv1``), so the group's name is trusted first. Inside a nested model (``rpn_model``)
    the scope is all there is.
    """
    if len(path) < 2 or re.fullmatch(re.escape(group) + r"(_\d+)?", path[-2]):
        return group
    return path[-2]


# ---------------------------------------------------------------------------------------------------------------------
# Keras 3: a tree of objects


@dataclass(frozen=True)
class _Object:
    """Something that owns variables: its path in the tree, its name if that was saved, its tensors in order."""

    path: tuple[str, ...]
    name: str | None
    tensors: tuple[StoredTensor, ...]


_Unnamed = dict[tuple[str, ...], dict[str, dict[int, tuple[StoredTensor, ...]]]]


def _objects(root: WeightsFile) -> StoredFile:
    config = _config(root)
    found = list(_walk(root, ()))
    if not any(entry.tensors and len(entry.path) > 1 for entry in found):
        raise WeightsError(
            "this HDF5 file was not written by Keras: it has no 'layer_names', no 'model_weights' and no layers; load the "
            "model in Keras and write `model.save('name.h5')`, a layout that npresnet reads"
        )
    counted: _Unnamed = {}
    for entry in found:
        for depth, component in enumerate(entry.path):  # a nested model counts as a layer, too
            kind, number = _class_and_number(component)
            counted.setdefault(entry.path[:depth], {}).setdefault(kind, {}).setdefault(number, ())
        counted[entry.path[:-1]][kind][number] = entry.tensors
    named = any(entry.name for entry in found)
    names = {} if named or config is None else _names_from_config(config, counted)
    layers: dict[str, StoredLayer] = {}
    listed: list[str] = []
    for entry in found:
        name = entry.name or names.get(entry.path)
        if name is not None:
            listed.append(name)
        if entry.tensors:
            path = "/".join(entry.path)
            layers[path if name is None or name in layers else name] = _in_order(entry.tensors)
    kinds = {"h5": "weights", "shards": "weights in shards", "keras": "archive"}
    layout = f"Keras 3 {kinds[root.kind]}{'' if named else ', without names'}"
    unnamed = {} if named or names else {"/".join(path): classes for path, classes in counted.items()}
    return StoredFile(layers, tuple(listed), layout, config=config, unnamed=unnamed)


def _class_and_number(component: str) -> tuple[str, int]:
    """``conv2d`` to (conv2d, 0), ``conv2d_12`` to (conv2d, 12)."""
    kind, _, number = component.rpartition("_")
    return (kind, int(number)) if kind and number.isdecimal() else (component, 0)


def _walk(group: Group, path: tuple[str, ...]) -> Iterator[_Object]:
    """Everything below ``group`` that owns variables, or could; not the optimizer's."""
    for name, child in group.groups().items():
        if name == "vars":
            label = child.attribute("name")
            tensors = sorted(child.tensors(), key=lambda tensor: _number(tensor.path.rsplit("/", 1)[-1]))
            if path:
                yield _Object(path, label if isinstance(label, str) else None, tuple(tensors))
        elif path or name not in ("optimizer", "_optimizer"):
            yield from _walk(child, (*path, name))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def snake_case(name: str) -> str:
    """A class's name as Keras writes it in a tree of objects: ``Conv2D`` to ``conv2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _names_from_config(
    config: Mapping[str, Any], counted: _Unnamed, path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], str]:
    """{path in the tree: layer's name} from a model's config, whose layers are in the order in which they are counted.

    Only the order of the numbers is believed: Keras 2.12 to 2.14 counts layers that have weights twice.
    """
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    found: dict[tuple[str, ...], str] = {}
    for container in ((*path, "layers"), (*path, "_layer_checkpoint_dependencies")):
        numbers = {kind: iter(sorted(ones)) for kind, ones in counted.get(container, {}).items()}
        for layer in layers if isinstance(layers, list) and numbers else ():
            kind = snake_case(str(layer.get("class_name", "")))
            number = next(numbers.get(kind, iter(())), None)
            name = layer.get("name") or layer.get("config", {}).get("name")
            if number is not None and isinstance(name, str):
                place = (*container, f"{kind}_{number}" if number else kind)
                found[place] = name
                found.update(_names_from_config(layer, counted, place))
    return found
