"""The strict reader: the whole tree of an HDF5 file as Keras writes it, without the HDF5 library.

Three outcomes: the tree; ``WeightsError``, because the file is damaged, or holds what no Keras file does; or
``OutsideSubset``, because the file uses a part of HDF5 that this reader leaves to h5py.
"""

from __future__ import annotations

import numpy as np

from ...errors import WeightsError
from .attributes import attributes
from .datatypes import Bytes, Number, Other, dataspace, datatype
from .groups import is_group, members
from .headers import Message, Messages, Superblock, messages, superblock
from .heaps import GlobalHeaps
from .source import Damaged, Source
from .storage import storage
from .tree import DEEPEST, Group, Refused, StoredTensor

__all__ = ["read_tree"]

_IN_DATASETS = (
    Message.DATASPACE,
    Message.DATATYPE,
    Message.LAYOUT,
    Message.FILTERS,
    Message.EXTERNAL_FILES,
    Message.OLD_FILL_VALUE,
    Message.FILL_VALUE,
    Message.ATTRIBUTE,
    Message.ATTRIBUTE_INFO,
    Message.TIME,
    Message.REFERENCE_COUNT,
)


def read_tree(source: Source) -> Group:
    """The root group with everything below; numbers are read when they are asked for.

    Raises WeightsError, OutsideSubset.
    """
    block = superblock(source)
    reader = _Reader(source, block)
    found = messages(source, block.root)
    if not is_group(found):
        raise Damaged("the root is no group")
    return reader.group(block.root, found, "", 0)


class _Reader:
    def __init__(self, source: Source, block: Superblock) -> None:
        self._source, self._block, self._heaps = source, block, GlobalHeaps(source)
        self._paths: dict[int, str] = {}  # of the objects seen, by address

    def group(self, at: int, found: Messages, path: str, depth: int) -> Group:
        if depth > DEEPEST:
            raise WeightsError(f"{path[:200]!r}: groups are nested more than {DEEPEST} deep; no Keras model is")
        self._paths[at] = path
        below: dict[str, Group | StoredTensor | Refused] = {}
        for name, address in members(self._source, self._block, found, path).items():
            below[name] = self._object(address, path + name, depth)
        return Group(path, attributes(self._source, self._heaps, found), below)

    def _object(self, at: int, path: str, depth: int) -> Group | StoredTensor | Refused:
        self._source.charge(len(path))  # a path repeats the names of all groups above
        if at in self._paths:
            raise WeightsError(
                f"{path!r} is the same group or dataset as {self._paths[at]!r}; Keras never gives two names: save it anew"
            )
        found = messages(self._source, at)
        if not is_group(found):
            self._paths[at] = path
            return self._dataset(found, path)
        return self.group(at, found, path + "/", depth + 1)

    def _dataset(self, found: Messages, path: str) -> StoredTensor | Refused:
        bodies = found.one(Message.DATATYPE), found.one(Message.DATASPACE)
        if bodies[0] is None or bodies[1] is None:
            raise Damaged(f"{path!r} is neither a group nor a dataset")
        found.allow(*_IN_DATASETS)
        kind, shape = datatype(bodies[0]), dataspace(bodies[1])
        if shape is None:
            return _not_numbers(path, "no")
        if isinstance(kind, Number):
            dtype = kind.dtype
        elif isinstance(kind, Bytes) and kind.size == 2:  # bfloat16
            dtype = np.dtype(np.float32)
        else:
            return _not_numbers(path, kind.name if isinstance(kind, Other) else "text or opaque")
        read = storage(self._source, found, kind, shape, path)
        return StoredTensor(path, shape, dtype, read, attributes(self._source, self._heaps, found))


def _not_numbers(path: str, kind: str) -> Refused:
    return Refused(
        f"{path!r} holds {kind} values; weights must be floating-point numbers (float16, 32 or 64, or bfloat16)"
    )
