"""The layout of Keras 1 and 2, which Keras 3 still writes: a group for each layer of the outermost model.

conv1/conv1/kernel:0           a layer: its group, and in there what TensorFlow calls the variable
resnet50/conv1_conv/kernel:0   a layer of a model that is a layer: its own name is in the variable's alone
conv1/bn/conv1/bn/gamma:0      a layer whose name has a slash, which makes groups of it
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import WeightsError
from .config_names import layer_paths
from .hdf5.tree import Group, StoredTensor
from .opening import WeightsFile
from .stored import StoredFile, StoredLayer, in_order, keyed

__all__ = ["read_legacy"]

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
    "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel",
}


def read_legacy(
    root: WeightsFile, holder: Group, names: Sequence[str], layout: str, config: Mapping[str, Any] | None
) -> StoredFile:
    """The layers below ``holder``, which lists them as ``names``.

    Raises WeightsError where a listed layer has no group, or a group holds what no Keras file does.
    """
    described = list(layer_paths(config)) if config else []
    inside: dict[str, set[str]] = {}  # the layers in a model that is a layer
    for path in described:
        if len(path) > 1:
            inside.setdefault(path[0], set()).add(path[-1])
    found: dict[tuple[str, ...], dict[str, StoredTensor]] = {}
    for name in names:
        group = _find(holder.groups(), name)
        if group is None:
            raise WeightsError(f"the file lists a layer {name!r} but holds no group of that name; it is incomplete")
        for scope, variable, tensor in _variables(group):
            layer = _layer_name(name, scope, inside.get(name, set()))
            path = (name,) if layer == name else (name, layer)
            role = _role(layer, variable)
            if role in found.get(path, {}):  # two layers of one name, which only their full paths tell apart
                path = (*path[:1], "/".join(scope))
            found.setdefault(path, {})[role] = tensor
    layers, paths = keyed((path, _named(tensors)) for path, tensors in found.items())
    for path in described:  # which may lead through more models, or into a wrapper, which has its layer's variables
        stored = next((p for p in ((path[0], path[-1]), path[:1]) if p in found), None)
        if stored is not None:
            paths.setdefault("/".join(path), paths["/".join(stored)])
    version, backend = (holder.attribute(name) or root.attribute(name) for name in ("keras_version", "backend"))
    return StoredFile(
        layers, tuple(names), layout, version and str(version), backend and str(backend), config, paths=paths
    )  # fmt: skip


def _find(groups: Mapping[str, Group], name: str) -> Group | None:
    """The group of a layer; a slash in a layer's name, which Keras 2 allowed, makes groups within groups."""
    first, _, rest = name.partition("/")
    if name in groups or not rest or first not in groups:
        return groups.get(name)
    return _find(groups[first].groups(), rest)


def _variables(group: Group) -> Iterator[tuple[list[str], str, StoredTensor]]:
    """(scope, name, tensor) of the variables of a layer's group: those that it lists, in its order, for below it may be the
    groups of other layers (``conv1`` and ``conv1/bn``). Where its list is not there or not of these, all that are below."""
    every = {tensor.path[len(group.path) :]: tensor for tensor in group.tensors()}
    listed = group.names("weight_names")
    if listed is None or (listed and not any(path in every for path in listed)):
        listed = [*every]
    for path in dict.fromkeys(listed):
        if path in every:
            *scope, variable = path.split("/")
            yield scope, variable, every[path]


def _layer_name(group: str, scope: Sequence[str], inside: set[str]) -> str:
    """Which layer a variable belongs to, from its group's name and its scope: (``conv1``, [``conv1``]).

    Keras names the innermost scope after the layer; a second model in one TensorFlow session gets a counter there
    (``conv1_1`` inside group ``conv1``), so the group's name is trusted first. Inside a nested model (``rpn_model``) the
    scope is all there is; how much of it is the layer's name the model's description tells, in which are the layers
    ``inside``.
    """
    ends = ["/".join(scope[start:]) for start in range(len(scope))]  # the longest first
    if not ends or any(re.fullmatch(re.escape(group) + r"(_\d+)?", end) for end in ends):
        return group
    return next((end for end in ends if end in inside), scope[-1])


def _role(layer: str, variable: str) -> str:
    """The role of a variable from its name: ``kernel:0``, ``conv1_W:0``, ``moving_mean`` ..."""
    name = re.sub(r":\d+$", "", variable)
    if name in _ROLES:
        return _ROLES[name]
    if name.startswith(layer + "_"):  # Keras 1 puts the layer's name in front
        name = name[len(layer) + 1 :]
    counted = re.fullmatch(r".*_\d+_(.+)", name)  # a wrapped layer's own, which Keras has made: ``dense_3_W``
    if counted and counted[1] in _ROLES:
        name = counted[1]
    return _ROLES.get(name, name)


def _named(tensors: dict[str, StoredTensor]) -> StoredLayer:
    """A layer's tensors by role, where Keras has stored them as ``param_0``, ``param_1``, ..."""
    unnamed = [f"param_{position}" for position in range(len(tensors))]
    return in_order([tensors[name] for name in unnamed]) if tensors.keys() == set(unnamed) else tensors
