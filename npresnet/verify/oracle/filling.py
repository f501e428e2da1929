"""Tensors into Keras's layers, and the check that all of a layer was filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Unfilled", "fill", "owners"]


class Unfilled(Exception):
    """A layer that gets none of its weights, or others than it needs."""


def owners(layer: Any) -> Iterator[tuple[Any, list[Any]]]:
    """A layer and those in it (a wrapper's, say) that have variables of their own, and these, in the order of a file."""
    for one in layer._flatten_layers():
        own = [
            variable
            for kind in ("trainable", "non_trainable")
            for name in (f"_{kind}_variables", f"_{kind}_weights")
            if isinstance(found := one.__dict__.get(name), list | tuple)
            for variable in found
        ]
        if own:
            yield one, own


def fill(layer: Any, tensors: Callable[[str], Sequence[Any] | None]) -> None:
    """Give a built layer its weights: ``tensors`` has them by the layer's name, or by that of a layer in it.

    Raises Unfilled where there are none, or of other shapes.
    """
    filled = list(owners(layer))
    for one, variables in filled:
        arrays = tensors(one.name)
        if arrays is None and len(filled) == 1:
            arrays = tensors(layer.name)
        if arrays is None:
            raise Unfilled(f"the file has no weights for {one.name}")
        needed, found = [tuple(x.shape) for x in variables], [tuple(array.shape) for array in arrays]
        if needed != found:
            raise Unfilled(f"{one.name}: the file has weights of the shapes {found}, where {needed} are needed")
        one.load_own_variables({str(number): array for number, array in enumerate(arrays)})
