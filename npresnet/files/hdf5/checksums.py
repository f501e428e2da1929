"""The two checksums that HDF5 uses: one seals its newer structures, the other the chunks of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["fletcher32", "lookup3"]


def lookup3(data: bytes) -> int:
    """Bob Jenkins's hash, with which HDF5 seals its newer structures."""
    a = b = c = 0xDEADBEEF + len(data) & 0xFFFFFFFF
    if not data:
        return c
    # all words, the last block filled up with zeros, which are neutral in the sum
    padded = data + bytes(-len(data) % 12)
    words: list[int] = np.frombuffer(padded, "<u4").tolist()
    mask = 0xFFFFFFFF
    for i in range(0, len(words) - 3, 3):
        a, b, c = a + words[i] & mask, b + words[i + 1] & mask, c + words[i + 2] & mask
        a = (a - c & mask) ^ (c << 4 & mask | c >> 28)
        c = c + b & mask
        b = (b - a & mask) ^ (a << 6 & mask | a >> 26)
        a = a + c & mask
        c = (c - b & mask) ^ (b << 8 & mask | b >> 24)
        b = b + a & mask
        a = (a - c & mask) ^ (c << 16 & mask | c >> 16)
        c = c + b & mask
        b = (b - a & mask) ^ (a << 19 & mask | a >> 13)
        a = a + c & mask
        c = (c - b & mask) ^ (b << 4 & mask | b >> 28)
        b = b + a & mask
    a, b, c = a + words[-3] & mask, b + words[-2] & mask, c + words[-1] & mask
    c = (c ^ b) - (b << 14 & mask | b >> 18) & mask
    a = (a ^ c) - (c << 11 & mask | c >> 21) & mask
    b = (b ^ a) - (a << 25 & mask | a >> 7) & mask
    c = (c ^ b) - (b << 16 & mask | b >> 16) & mask
    a = (a ^ c) - (c << 4 & mask | c >> 28) & mask
    b = (b ^ a) - (a << 14 & mask | a >> 18) & mask
    return (c ^ b) - (b << 24 & mask | b >> 8) & mask


def fletcher32(data: bytes) -> int:
    """The checksum that HDF5 can put behind each chunk: sums of big-endian 16-bit words modulo 65535.

    HDF5 writes 65535 for a remainder of zero unless all words are zero.
    """
    words: npt.NDArray[np.uint64] = np.frombuffer(data + bytes(len(data) % 2), ">u2").astype(np.uint64)
    if not words.any():
        return 0
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % np.uint64(65535)

    def folded(total: Any) -> int:
        return int(total) % 65535 or 65535

    # each product is below 2^32, so that 2^32 of them fit
    return folded((words * weights).sum()) << 16 | folded(words.sum())
