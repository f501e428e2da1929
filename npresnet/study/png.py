"""Pictures of arrays as PNG, small enough to stand inside a page: written here in a few lines, so that no library is needed."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["coloured", "data_uri", "png"]

Array = npt.NDArray[Any]

# dark blue through green to yellow: five anchors, evenly spaced, linear in between; as the pictures of `npresnet demo`
_SCALE = np.array([(38, 18, 71), (44, 77, 126), (38, 134, 128), (118, 190, 82), (250, 231, 85)], np.float64)


def coloured(values: Array, low: float, high: float) -> Array:
    """uint8[..., 3] for numbers from ``low`` (dark blue) to ``high`` (yellow); NaN is red."""
    span = high - low if high > low else 1.0
    with np.errstate(invalid="ignore"):
        place = np.nan_to_num((values.astype(np.float64) - low) / span).clip(0, 1) * (len(_SCALE) - 1)
    first = place.astype(int).clip(0, len(_SCALE) - 2)
    mixed = _SCALE[first] + (_SCALE[first + 1] - _SCALE[first]) * (place - first)[..., None]
    mixed[np.isnan(values)] = (220, 40, 40)
    result: Array = mixed.round().astype(np.uint8)
    return result


def png(pixels: Array) -> bytes:
    """A PNG file of uint8[h, w, 3]."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # no filter

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def data_uri(pixels: Array) -> str:
    """The same as the address of a picture within a page."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()
