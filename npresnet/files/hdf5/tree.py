"""What a weight file holds, whoever has read it: groups, tensors and attributes, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import WeightsError
from .attributes import Unreadable, Value

__all__ = ["DEEPEST", "Group", "Refused", "StoredTensor"]

DEEPEST = 16  # groups within groups; Keras nests models, rarely more than three deep
_LARGEST = 2**48  # numbers in an array; NumPy makes no larger one, not even of shape (0, 2**60)


def _plain(name: str, value: Value | None) -> Any:
    if isinstance(value, Unreadable):
        raise WeightsError(f"the attribute {name!r} holds {value.reason}; the file is damaged, or not written by Keras")
    return value


@dataclass(frozen=True)
class StoredTensor:
    """One dataset of the file: where it is, what it claims to be; ``read`` gets the numbers while the file is open.

    dtype  as stored, except that bfloat16, which NumPy does not have, counts as float32, which holds it exactly

    Raises WeightsError for a shape that no array can have.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _read: Callable[[], npt.NDArray[np.float32]] = field(repr=False)
    attributes: Mapping[str, Value] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if math.prod(n or 1 for n in self.shape) > _LARGEST:
            raise WeightsError(
                f"{self.path!r} claims the impossible shape {self.shape}; download or save the file again"
            )

    def read(self) -> npt.NDArray[np.float32]:
        """The numbers as a new, C-contiguous float32 array. Raises WeightsError where they cannot be read."""
        return self._read()


@dataclass(frozen=True)
class Refused:
    """A dataset that is no tensor, and why."""

    reason: str


@dataclass
class Group:
    """A group of an open weight file. ``path`` ends with a slash, except that the root's is empty."""

    path: str
    attributes: Mapping[str, Value]
    members: Mapping[str, Group | StoredTensor | Refused]

    def attribute(self, name: str) -> Any:
        """An attribute as Python data (str, number, or a list of them), or None where there is none.

        Lists that Keras has split over ``name0``, ``name1``, ... for their length are put together. Raises
        WeightsError where it holds anything else.
        """
        if name in self.attributes:
            return _plain(name, self.attributes[name])
        parts: list[Any] = []
        while f"{name}{len(parts)}" in self.attributes:
            part = _plain(name, self.attributes[f"{name}{len(parts)}"])
            parts.append(part if isinstance(part, list) else [part])
        return [item for part in parts for item in part] if parts else None

    def names(self, name: str) -> list[str] | None:
        """An attribute that is a list of names, or None where there is none. Raises WeightsError for anything else."""
        found = self.attribute(name)
        if found is not None and not (isinstance(found, list) and all(isinstance(item, str) for item in found)):
            raise WeightsError(f"the attribute {name!r} holds something other than a list of text; the file is damaged")
        return found

    def groups(self) -> dict[str, Group]:
        """{name: group} of the groups right below this one."""
        return {name: entry for name, entry in self.members.items() if isinstance(entry, Group)}

    def datasets(self) -> dict[str, StoredTensor]:
        """{name: tensor} of the datasets right below this one. Raises WeightsError for one that no Keras file holds."""
        return {name: _tensor(entry) for name, entry in self.members.items() if not isinstance(entry, Group)}

    def tensors(self) -> Iterator[StoredTensor]:
        """Every dataset in this group and below. Raises WeightsError for one that no Keras file holds."""
        for entry in self.members.values():
            if isinstance(entry, Group):
                yield from entry.tensors()
            else:
                yield _tensor(entry)


def _tensor(entry: StoredTensor | Refused) -> StoredTensor:
    if isinstance(entry, Refused):
        raise WeightsError(entry.reason)
    return entry
