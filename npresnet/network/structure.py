"""What a model returns: one thing, a list, or {key: ...}, each of these again; in a graph of names, in a result of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["leaves", "mapped"]


def leaves(structure: Any) -> Iterator[Any]:
    """All that is in a structure, in its order."""
    if isinstance(structure, Mapping | list):
        for one in structure.values() if isinstance(structure, Mapping) else structure:
            yield from leaves(one)
    else:
        yield structure


def mapped(structure: Any, values: Mapping[str, Any]) -> Any:
    """The same structure with what ``values`` has for each name; nothing for nothing."""
    if isinstance(structure, Mapping):
        return {key: mapped(one, values) for key, one in structure.items()}
    if isinstance(structure, list):
        return [mapped(one, values) for one in structure]
    return None if structure is None else values[structure]
