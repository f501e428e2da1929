"""Layers that read several maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..operators import Add, Multiply, Operator
from .layer_config import LayerConfig, Maker, Unsupported

__all__ = ["JOINING"]


def _joining(operator: Callable[[], Operator]) -> Maker:
    """Of several maps: each operator takes two."""

    def make(layer: LayerConfig) -> list[Operator]:
        if len(layer.shapes) < 2:
            raise Unsupported("it has one input")
        return [operator() for _ in layer.shapes[1:]]

    return make


def _merge(layer: LayerConfig) -> list[Operator]:
    modes: Mapping[Any, Callable[[], Operator]] = {"sum": Add, "mul": Multiply}
    mode = layer.config.get("mode")
    if not isinstance(mode, str) or mode not in modes:
        raise Unsupported(f"mode is {mode!r}")
    return _joining(modes[mode])(layer)


JOINING: Mapping[str, Maker] = {
    "Add": _joining(Add),
    "Merge": _merge,  # Keras 1
    "Multiply": _joining(Multiply),
}
"""{class in Keras: what makes its operators}."""
