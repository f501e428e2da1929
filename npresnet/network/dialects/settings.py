"""The settings of a layer, as numbers that can be trusted: the one place where those of a description are checked.

A description is text from a file that anybody may have written. Each function takes a setting in all spellings that Keras has
used, and returns whole numbers within the limits below, or finite ones; it raises Unsupported where that cannot be. The limits
are far beyond any network, and keep all products of sizes and all addresses within 64 bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..operators import MOST_CHANNELS, MOST_PIXELS
from .layer_config import LayerConfig, Unsupported

__all__ = ["along_channels", "constants", "flag", "number", "padding_of", "pads", "pair", "setting", "short", "whole"]

_MISSING: Any = object()


def setting(config: Mapping[str, Any], *names: str, default: Any = _MISSING) -> Any:
    """The first of these settings that is there and is not null. Raises Unsupported where none is and there is no default."""
    for name in names:
        if config.get(name) is not None:
            return config[name]
    if default is _MISSING:
        raise Unsupported(f"its description lacks {names[0]!r}")
    return default


def whole(what: str, value: Any, least: int = 1, most: int = MOST_CHANNELS) -> int:
    """A whole number from ``least`` to ``most``; 3.0 is one, too."""
    found = value
    if isinstance(value, float) and value.is_integer():
        found = int(value)
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        raise Unsupported(f"{what} is {short(value)}; it must be a whole number from {least} to {most}")
    return found


def number(what: str, value: Any, least: float = -math.inf) -> float:
    """A finite number that is at least ``least``; an array of one, too."""
    value = array_of(value)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unsupported(f"{what} is {short(value)}; it must be a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(np.float32(found)) or found < least:
        rule = "" if least == -math.inf else f" that is at least {least:g}"
        raise Unsupported(f"{what} is {short(value)}; it must be a finite float32{rule}")
    return found


def flag(what: str, value: Any) -> bool:
    """True or false; 0 and 1 are, too."""
    if value not in (True, False):
        raise Unsupported(f"{what} is {short(value)}; it must be true or false")
    return bool(value)


def pair(what: str, value: Any, least: int = 1, most: int = MOST_PIXELS) -> tuple[int, int]:
    """Two whole numbers, (vertical, horizontal), or one for both."""
    if isinstance(value, list | tuple):
        if len(value) == 1:
            value = [*value, *value]
        if len(value) != 2:
            raise Unsupported(f"{what} is {short(value)}; it must be one or two whole numbers")
        return whole(what, value[0], least, most), whole(what, value[1], least, most)
    found = whole(what, value, least, most)
    return found, found


def pads(what: str, value: Any) -> tuple[int, int, int, int]:
    """Widths of a border, (top, bottom, left, right): from one number, two, two pairs, or four by name (Keras 1)."""
    sides: Sequence[Any]
    if isinstance(value, dict):
        sides = [value.get(f"{side}_pad", 0) for side in ("top", "bottom", "left", "right")]
    elif isinstance(value, list | tuple) and len(value) == 4:
        sides = value
    elif isinstance(value, list | tuple) and len(value) == 2:
        sides = [*pair(what, value[0], 0), *pair(what, value[1], 0)]
    else:
        sides = [value] * 4
    top, bottom, left, right = (whole(what, side, 0, MOST_PIXELS) for side in sides)
    return top, bottom, left, right


def padding_of(config: Mapping[str, Any]) -> Literal["same", "valid"]:
    """The padding of a window."""
    padding = str(setting(config, "padding", "border_mode", default="valid")).lower()
    if padding not in ("same", "valid"):
        raise Unsupported(f"padding is {short(padding)}; 'same' and 'valid' are run")
    return "same" if padding == "same" else "valid"


def along_channels(layer: LayerConfig, axis: Any) -> None:
    """Raises Unsupported for any other axis of what a layer reads, as Keras has it: with the batch, and channels first in such a
    network."""
    axes = list(axis) if isinstance(axis, list | tuple) else [axis]
    rank = len(layer.shape) + 1
    channels = 1 if layer.channels_first and rank == 4 else rank - 1
    if axes not in ([channels], [channels - rank]):
        raise Unsupported(f"it works along axis {short(axis)}, not along the channels")


def constants(what: str, value: Any, channels: int) -> tuple[float, ...]:
    """Numbers of a description: one, or one per channel."""
    value = array_of(value)
    try:
        found = np.ravel(np.asarray(value))
    except (ValueError, TypeError):
        raise Unsupported(f"{what} is {short(value)}; it must be numbers") from None
    if len(found) not in (1, channels):
        raise Unsupported(f"{what} has {len(found)} numbers for {channels} channels")
    return tuple(number(what, one) for one in found.tolist())


def array_of(value: Any) -> Any:
    """An array as Keras 3 may write it, as an object, as the list of its numbers; all else as it is."""
    if isinstance(value, dict):
        inner = value.get("config")
        return inner["value"] if isinstance(inner, dict) and "value" in inner else value.get("value", value)
    return value


def short(value: Any) -> str:
    """A value of a description for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
