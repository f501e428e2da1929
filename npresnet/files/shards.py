"""Weights that Keras 3 has split over several files (``save_weights("x.weights.json", max_shard_size=...)``).

    x.weights.json         {"metadata": ..., "weight_map": {"/layers/conv2d/vars": ["x_00000.weights.h5"], ...}}
    x_00000.weights.h5     an HDF5 file with a part of the tree
    x_00001.weights.h5     the next part; the variables of one layer may be in both, its name in the first alone

The index names files, and is not to be trusted: only names that follow from its own are taken. What each part holds is
read from the part itself, and the index must say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from .hdf5.source import Damaged
from .hdf5.tree import Group, Refused, StoredTensor

__all__ = ["index_of", "joined", "parts", "remedy"]

_MOST_PARTS = 100  # Keras makes parts of gigabytes, and the largest network here has a quarter of one


def parts(index: Mapping[str, Any], name: str) -> dict[str, set[str]]:
    """{name of a part: paths of the groups that it should hold} from the index, a file called ``name``.

    Raises WeightsError for anything but plain names made of its own as Keras makes them.
    """
    base = Path(name).stem.replace(".weights", "")
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise WeightsError(
            "this JSON file is no index of sharded weights (it has no 'weight_map'); give the `.weights.json` that Keras "
            "wrote, or a `.h5` or `.keras` file"
        )
    found: dict[str, set[str]] = {}
    for path, where in places.items():
        for part in where if isinstance(where, list) else [where]:
            if not isinstance(part, str) or not re.fullmatch(re.escape(base) + r"_[0-9]{5}\.weights\.h5", part):
                raise WeightsError(
                    f"the index says that {path[:200]!r} is in {str(part)[:200]!r}; beside {name!r} a part must be called "
                    f"{base + '_00000.weights.h5'!r} and so on: give the files the names with which Keras wrote them"
                )
            found.setdefault(part, set()).add(path)
    if len(found) > _MOST_PARTS:
        raise WeightsError(f"the index names {len(found)} parts; save the weights in at most {_MOST_PARTS}")
    return dict(sorted(found.items()))


def joined(roots: Mapping[str, Group], told: Mapping[str, set[str]]) -> Group:
    """One tree of the trees of all parts, as if they were one file.

    told  what the index says of each part, from ``parts``

    Raises WeightsError where index and parts contradict each other, Damaged where two parts do.
    """
    for part, root in roots.items():
        held = set(_places(root))
        for path in sorted(held ^ told[part]):
            raise WeightsError(
                f"the index and {part!r} disagree on whether {path[:200]!r} is in it; they were not saved together: fetch "
                "or save all files again"
            )
    return _joined(list(roots.values()))


def _places(group: Group) -> Iterator[str]:
    """The paths, as the index writes them, of the groups that hold datasets."""
    if any(not isinstance(entry, Group) for entry in group.members.values()):
        yield "/" + group.path.removesuffix("/")
    for below in group.groups().values():
        yield from _places(below)


def _joined(groups: Sequence[Group]) -> Group:
    path = groups[0].path
    attributes: dict[str, Any] = {}
    for group in groups:
        for name, value in group.attributes.items():
            if attributes.setdefault(name, value) != value:
                raise Damaged(f"the attribute {name!r} of {path!r} differs from one part to another")
    members: dict[str, Group | StoredTensor | Refused] = {}
    for name in sorted({name for group in groups for name in group.members}):  # as one file has them
        entries = [group.members[name] for group in groups if name in group.members]
        below = [entry for entry in entries if isinstance(entry, Group)]
        if len(entries) > 1 and len(below) < len(entries):
            raise Damaged(f"{path + name!r} is in two parts")
        members[name] = _joined(below) if below else entries[0]
    return Group(path, attributes, members)


def index_of(path: Path) -> str | None:
    """The name of the index to which a file belongs if it is one of several parts, as its own name suggests."""
    found = re.fullmatch(r"(.+)_[0-9]{5}\.weights\.h5", path.name)
    return None if found is None else f"{found[1]}.weights.json"


def remedy(path: Path) -> str:
    """What to add to an error about a file that may be one of several parts; empty for all others."""
    index = index_of(path)
    return f"; one part of sharded weights is read with all others: give {index!r}" if index else ""
