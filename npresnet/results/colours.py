"""Numbers as colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["coloured"]

Array = npt.NDArray[Any]

# from dark blue through green to yellow: five anchors, evenly spaced, linear in between
_SCALE = np.array([(38, 18, 71), (44, 77, 126), (38, 134, 128), (118, 190, 82), (250, 231, 85)], np.float64)
_NAN = (220, 40, 40)


def coloured(values: Array, low: float, high: float) -> Array:
    """uint8[..., 3] for numbers from ``low`` (dark blue) to ``high`` (yellow), and beyond; NaN is red."""
    span = high - low if high > low else 1.0
    with np.errstate(invalid="ignore"):
        place = np.nan_to_num((values.astype(np.float64) - low) / span).clip(0, 1) * (len(_SCALE) - 1)
    first = place.astype(int).clip(0, len(_SCALE) - 2)
    mixed = _SCALE[first] + (_SCALE[first + 1] - _SCALE[first]) * (place - first)[..., None]
    mixed[np.isnan(values)] = _NAN
    result: Array = mixed.round().astype(np.uint8)
    return result
