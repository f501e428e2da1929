"""The layout of Keras 3, and of Keras 2 since version 2.12: a tree of objects, each of which may own variables.

layers/conv2d_7/vars/0                            the first variable of the eighth Conv2D
layers/functional/layers/conv2d/vars/0            of the first Conv2D in a model that is a layer
layers/time_distributed/layer/vars/0              of the layer inside a wrapper
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import WeightsError
from .config_names import names_in_tree
from .hdf5.tree import Group, StoredTensor
from .opening import WeightsFile
from .stored import StoredFile, in_order, keyed

__all__ = ["read_objects"]


@dataclass(frozen=True)
class _Object:
    """Something that owns variables: its path in the tree, its name if that was saved, its tensors in order."""

    path: tuple[str, ...]
    name: str | None
    tensors: tuple[StoredTensor, ...]


def read_objects(root: WeightsFile, config: Mapping[str, Any] | None) -> StoredFile:
    """The layers of a tree, by the names that it holds or that ``config`` gives them. Raises WeightsError for another tree."""
    found = list(_walk(root, ()))
    if not any(entry.tensors and len(entry.path) > 1 for entry in found):
        raise WeightsError(
            "this HDF5 file was not written by Keras: it has no 'layer_names', no 'model_weights' and no layers; load the "
            "model in Keras and write `model.save('name.h5')`, a layout that npresnet reads"
        )
    counted: dict[tuple[str, ...], dict[str, dict[int, tuple[StoredTensor, ...]]]] = {}
    for entry in found:
        for depth, component in enumerate(entry.path):  # a nested model counts as a layer, too
            kind, number = _class_and_number(component)
            counted.setdefault(entry.path[:depth], {}).setdefault(kind, {}).setdefault(number, ())
        counted[entry.path[:-1]][kind][number] = entry.tensors
    names = {entry.path: entry.name for entry in found if entry.name}
    named = bool(names)
    if not named and config is not None:
        names = names_in_tree(config, counted)
    layers, paths = keyed((_names(entry.path, names), in_order(entry.tensors)) for entry in found if entry.tensors)
    listed = tuple(names[entry.path] for entry in found if entry.path in names)
    kinds = {"h5": "weights", "shards": "weights in shards", "keras": "archive"}
    layout = f"Keras 3 {kinds[root.kind]}{'' if named else ', without names'}"
    unnamed = {} if names else {"/".join(path): classes for path, classes in counted.items()}
    return StoredFile(layers, listed, layout, config=config, unnamed=unnamed, paths=paths if names else {})


def _names(path: tuple[str, ...], names: Mapping[tuple[str, ...], str]) -> tuple[str, ...]:
    """The names along a path in the tree; its own text where its end has none."""
    if path not in names:
        return ("/".join(path),)
    every = (path[:depth] for depth in range(1, len(path) + 1))
    return tuple(names[part] for part in every if part in names)


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
