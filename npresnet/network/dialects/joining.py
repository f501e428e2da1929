"""Layers that read several maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..operators import Add, Concatenate, Multiply, Operator
from .layer_config import LayerConfig, Maker, Unsupported
from .settings import along_channels, setting

__all__ = ["JOINING"]


def _joining(operator: Callable[[], Operator]) -> Maker:
    """Of several maps: each operator takes two."""

    def make(layer: LayerConfig) -> list[Operator]:
        if len(layer.shapes) < 2:
            raise Unsupported("it has one input")
        return [operator() for _ in layer.shapes[1:]]

    return make


def _concatenate(layer: LayerConfig) -> list[Operator]:
    """Maps, or rows of numbers, side by side."""
    ranks = {len(shape) for shape in layer.shapes}
    if len(ranks) > 1:
        raise Unsupported(f"its inputs have shapes {', '.join(map(str, layer.shapes))}; they must be of one rank")
    along_channels(layer, setting(layer.config, "axis", "concat_axis", default=-1))
    return [Concatenate()] if len(layer.shapes) > 1 else []


def _merge(layer: LayerConfig) -> list[Operator]:
    modes: Mapping[Any, Callable[[], Operator]] = {"sum": Add, "mul": Multiply}
    mode = layer.config.get("mode")
    if mode == "concat":
        return _concatenate(layer)
    if not isinstance(mode, str) or mode not in modes:
        raise Unsupported(f"mode is {mode!r}")
    return _joining(modes[mode])(layer)


JOINING: Mapping[str, Maker] = {
    "Add": _joining(Add),
    "Concatenate": _concatenate,
    "Merge": _merge,  # Keras 1
    "Multiply": _joining(Multiply),
}
"""{class in Keras: what makes its operators}."""
