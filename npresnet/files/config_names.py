"""The names of layers in a model's config: which model each is in, and where a file without names keeps its tensors.

A config is data from a file: whatever is not as Keras writes it is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Counted", "layer_paths", "names_in_tree"]

Counted = Mapping[tuple[str, ...], Mapping[str, Mapping[int, Any]]]
"""{container: {class: {number: what is there}}} of a tree of objects."""


def layer_paths(config: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of names of each layer that a config describes, models and wrappers before what is in them."""
    for layer in _layers(config):
        name = _name(layer)
        if name is not None:
            path = (*outer, name)
            yield path
            yield from layer_paths(layer, path)


def names_in_tree(
    config: Mapping[str, Any], counted: Counted, path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], str]:
    """{path in the tree: layer's name} from a model's config, whose layers are in the order in which they are counted.

    Only the order of the numbers is believed: Keras 2.12 to 2.14 counts layers that have weights twice.
    """
    found: dict[tuple[str, ...], str] = {}
    wrapped = _wrapped(config)
    if wrapped is not None:
        place = (*path, "layer")
        name = _name(wrapped)
        return ({} if name is None else {place: name}) | names_in_tree(wrapped, counted, place)
    for container in ((*path, "layers"), (*path, "_layer_checkpoint_dependencies")):
        numbers = {kind: iter(sorted(ones)) for kind, ones in counted.get(container, {}).items()}
        for layer in _layers(config) if numbers else ():
            kind = _snake_case(str(layer.get("class_name", "")))
            number = next(numbers.get(kind, iter(())), None)
            name = _name(layer)
            if number is not None and name is not None:
                place = (*container, f"{kind}_{number}" if number else kind)
                found[place] = name
                found.update(names_in_tree(layer, counted, place))
    return found


def _layers(model: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The layers right inside a model or a wrapper."""
    inner = model.get("config")
    listed = inner.get("layers") if isinstance(inner, dict) else inner  # a Sequential's bare list, up to Keras 2.2
    yield from (layer for layer in (listed if isinstance(listed, list) else ()) if isinstance(layer, dict))
    wrapped = _wrapped(model)
    if wrapped is not None:
        yield wrapped


def _wrapped(layer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What is inside a wrapper: ``TimeDistributed``."""
    inner = layer.get("config")
    wrapped = inner.get("layer") if isinstance(inner, dict) else None
    return wrapped if isinstance(wrapped, dict) and "class_name" in wrapped else None


def _name(layer: Mapping[str, Any]) -> str | None:
    inner = layer.get("config")
    name = layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return name if isinstance(name, str) else None


def _snake_case(name: str) -> str:
    """A class's name as Keras writes it in a tree of objects: ``Conv2D`` to ``conv2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
