"""Layers that read several maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..operators import Add, Concatenate, Divide, Maximum, Minimum, Multiply, Operator, Rescale, Subtract
from .layer_config import LayerConfig, Maker, Unsupported
from .settings import along_channels, setting

__all__ = ["JOINING"]


def _joining(operator: Callable[[], Operator]) -> Maker:
    """Of several maps: each operator takes two."""

    def make(layer: LayerConfig) -> list[Operator]:
        count = len(layer.shapes)
        if count < 2:
            raise Unsupported("it has one input")
        if count > 2 and not operator().commutative:
            raise Unsupported(f"it has {count} inputs")
        if layer.channels_first and len({len(shape) for shape in layer.shapes}) > 1:
            raise Unsupported("its inputs are aligned at the width of maps, which come channels first")
        return [operator() for _ in range(count - 1)]

    return make


def _concatenate(layer: LayerConfig) -> list[Operator]:
    """Maps, or rows of numbers, side by side."""
    ranks = {len(shape) for shape in layer.shapes}
    if len(ranks) > 1:
        raise Unsupported(f"its inputs have shapes {', '.join(map(str, layer.shapes))}; they must be of one rank")
    along_channels(layer, setting(layer.config, "axis", "concat_axis", default=-1))
    return [Concatenate()] if len(layer.shapes) > 1 else []


def _average(layer: LayerConfig) -> list[Operator]:
    return [*_joining(Add)(layer), Rescale((1 / len(layer.shapes),), (0.0,))]


def _merge(layer: LayerConfig) -> list[Operator]:
    modes: Mapping[Any, Maker] = {
        "sum": _joining(Add),
        "mul": _joining(Multiply),
        "ave": _average,
        "max": _joining(Maximum),
    }
    mode = layer.config.get("mode")
    if mode == "concat":
        return _concatenate(layer)
    if not isinstance(mode, str) or mode not in modes:
        raise Unsupported(f"mode is {mode!r}")
    return modes[mode](layer)


JOINING: Mapping[str, Maker] = {
    "Add": _joining(Add),
    "Average": _average,
    "Concatenate": _concatenate,
    "Divide": _joining(Divide),  # a function
    "Maximum": _joining(Maximum),
    "Merge": _merge,  # Keras 1
    "Minimum": _joining(Minimum),
    "Multiply": _joining(Multiply),
    "Subtract": _joining(Subtract),
}
"""{class in Keras: what makes its operators}."""
