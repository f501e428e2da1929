"""Pictures of arrays as PNG, small enough to stand inside a page: written here in a few lines, so that no library is needed."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["data_uri", "png"]

Array = npt.NDArray[Any]


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
