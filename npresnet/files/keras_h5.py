"""Writing Keras weight files: the legacy HDF5 layout, which every Keras loads by the names of layers."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["write_layers"]

_KERAS_NAMES = {"mean": "moving_mean", "variance": "moving_variance"}


def write_layers(
    path: str | os.PathLike[str],
    names: Sequence[str],
    layers: Iterable[tuple[str, Mapping[str, npt.NDArray[Any]]]],
    config: Mapping[str, Any] | None = None,
    models: Mapping[str, str] | None = None,
) -> None:
    """Write layers as Keras 2 saved weights.

    names   of all layers, in order, also of those without weights
    layers  (name, {role: array}) of those with weights, roles in Keras's order; taken one at a time
    config  the model's description of its layers; Keras passes over it in a file of weights alone, npresnet does not
    models  {layer: the model that it is in}: such a model is one layer of the file, with the weights of all in it

    Raises OSError where the file cannot be written.
    """
    with _File(path, "w+") as below, h5py.File(below, "w") as file:
        models = models or {}
        groups = dict.fromkeys(models.get(name, name) for name in names)
        file.attrs["layer_names"] = np.array([name.encode() for name in groups])
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.4"
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        for name in groups:
            file.create_group(name).attrs["weight_names"] = np.zeros(0)
        for name, tensors in layers:
            spelled = {f"{name}/{_KERAS_NAMES.get(role, role)}:0": array for role, array in tensors.items()}
            group = file[models.get(name, name)]
            there = [entry for entry in group.attrs["weight_names"] if name in models]
            group.attrs["weight_names"] = np.array([*there, *(entry.encode() for entry in spelled)])
            for entry, array in spelled.items():
                group[entry] = array
            if below.failure is not None:
                break
    if below.failure is not None:
        raise below.failure


class _File(io.FileIO):
    """What HDF5 writes into. HDF5 may crash when a write fails, on a disk that is full, say; so none of these does, and
    ``failure`` is what happened."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        length = len(rest)
        while rest and self.failure is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.failure = error
        return length

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0
