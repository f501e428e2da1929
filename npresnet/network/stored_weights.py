"""The weights of a file that stays open: read when they are asked for, and not kept.

A network needs them once, to pack them; then they would lie beside what was made of them for ever, and be as large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files.open_files import OpenFiles
from ..files.stored import StoredLayer
from .operators import Operator
from .stored_form import as_needed

__all__ = ["StoredWeights", "Weights", "in_memory"]

Weights = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
"""{layer name: {role: float32 array}}; roles as in ``Operator.tensors``."""


class StoredWeights(Mapping[str, Mapping[str, npt.NDArray[np.float32]]]):
    """{layer: {role: float32 array}}; the arrays are new each time that a layer is asked for, and read-only.

    May be asked by many threads at once, and in forked processes. To be asked for a layer raises WeightsError where the file was
    written to since it was opened, or can no longer be read.

    layers  {layer: (its operator, its tensors in the file)}; a layer that is another once more has the same pair
    """

    def __init__(self, files: OpenFiles, layers: Mapping[str, tuple[Operator, StoredLayer]]) -> None:
        self._files, self._layers = files, layers

    def __getitem__(self, name: str) -> Mapping[str, npt.NDArray[np.float32]]:
        operator, tensors = self._layers[name]
        with self._files.again():
            found = as_needed(operator, {role: tensor.read() for role, tensor in tensors.items()})
        for array in found.values():
            array.flags.writeable = False  # nobody would see what is changed
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and what another process gets, have the numbers themselves."""
        return dict, (self.read(),)

    def read(self) -> dict[str, Mapping[str, npt.NDArray[np.float32]]]:
        """All of them, in memory."""
        found: dict[int, Mapping[str, npt.NDArray[np.float32]]] = {}
        for name, pair in self._layers.items():
            if id(pair) not in found:
                found[id(pair)] = self[name]
        return {name: found[id(pair)] for name, pair in self._layers.items()}


def in_memory(weights: Weights) -> Weights:
    """The same, read once: for whoever needs them again and again."""
    return weights.read() if isinstance(weights, StoredWeights) else weights
