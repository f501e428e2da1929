"""What a weight file holds, as data: tensors by layer and role, and by which names a layer can be asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np
import numpy.typing as npt

from .hdf5.tree import StoredTensor

__all__ = ["StoredFile", "StoredLayer", "Tensor", "TheanoKernel", "in_order", "keyed"]


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
    """What ``layers.read_layers`` finds.

    layers       {layer: {role: tensor}} of the layers that have weights, by name; where several layers have one name, it is the
                 outermost model's or else the first's, and the others go by their path
    paths        {path: its key in ``layers``}: names from the outermost model's layer inwards, OUTER/MODEL/NAME, and NAME for
                 its own layers; empty where the file does not say which model a layer is in
    layer_names  of all layers, also those without weights; empty where the file does not say
    unnamed      {container: {class: {number: tensors}}} of a file without names: ``{"layers": {"conv2d": {0: ...}}}``
    config       the model's own description of its layers, where the file holds one
    doubts       what is to be said about how the file was read
    """

    layers: Mapping[str, StoredLayer]
    layer_names: tuple[str, ...]
    layout: str
    keras_version: str | None = None
    backend: str | None = None
    config: Mapping[str, Any] | None = None
    unnamed: Mapping[str, Mapping[str, Mapping[int, Sequence[StoredTensor]]]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def legacy(self) -> bool:
        """Whether it is of the layout up to Keras 2, which Keras wrote on any backend."""
        return self.layout.startswith("legacy")


def keyed(
    found: Iterable[tuple[tuple[str, ...], StoredLayer]],
) -> tuple[dict[str, StoredLayer], dict[str, str]]:
    """``layers`` and ``paths`` of a ``StoredFile``, from layers by their path of names.

    A model or wrapper in which one layer alone has weights stands for that layer: a wrapped layer has its wrapper's name, too.
    """
    found = list(found)
    outermost = {path[0] for path, _ in found if len(path) == 1}
    layers: dict[str, StoredLayer] = {}
    paths: dict[str, str] = {}
    inside: dict[str, list[str]] = {}
    for path, tensors in found:
        name, whole = path[-1], "/".join(path)
        plain = [name] if len(path) == 1 or name not in outermost else []
        every = chain(plain, [whole], (f"{whole} ({number})" for number in count(2)))
        key = next(key for key in every if key not in layers)
        layers[key] = tensors
        paths.setdefault(whole, key)
        for depth in range(1, len(path)):
            inside.setdefault("/".join(path[:depth]), []).append(key)
    return layers, {outer: keys[0] for outer, keys in inside.items() if len(keys) == 1} | paths


def in_order(tensors: Sequence[StoredTensor]) -> StoredLayer:
    """Tensors of which only the order is known, by role where that follows from their shapes: a kernel and its bias, or
    batch-norm's four.

    What could be several things (a batch-norm without scale or centre has three) keeps its numbers as roles, for
    whoever knows the layer.
    """
    ranks = [len(tensor.shape) for tensor in tensors]
    roles: tuple[str, ...] = tuple(map(str, range(len(tensors))))
    if ranks in ([2], [4], [2, 1], [4, 1]):
        roles = ("kernel", "bias")[: len(ranks)]
    elif ranks == [1, 1, 1, 1]:
        roles = ("gamma", "beta", "mean", "variance")
    return dict(zip(roles, tensors, strict=True))
