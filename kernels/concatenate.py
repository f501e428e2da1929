"""Concatenation: the channels of two maps or more side by side.

    out[n, h, w, first + c] = x[n, h, w, c],   where ``first`` counts the channels of all maps before x

The ladder: concatenate_reference (NumPy), concatenate_cpu (Numba); concatenate is concatenate_cpu. Memory-bound: each number is
read and written once. By plan even that is saved: whatever makes a map writes it where it lies in the whole, which takes no more
than a pitch wider than its channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .arrays import Array, images, result
from .steps.im2col import CopyStep
from .steps.loop import run
from .steps.records import Map
from .threads import resolve_threads

__all__ = ["concatenate", "concatenate_cpu", "concatenate_reference", "firsts", "joined_shape"]


def concatenate_reference(*maps: Array) -> Array:
    """Maps dtype[n, h, w, c], each with channels of its own, as one dtype[n, h, w, all of them]."""
    return np.concatenate(maps, axis=-1)


def joined_shape(maps: Sequence[Any]) -> tuple[int, int, int, int]:
    """The shape of maps side by side; ValueError where there are none, or where their pixels differ."""
    shapes = [tuple(x.shape) for x in maps]
    if len({shape[:3] for shape in shapes}) != 1:
        raise ValueError(f"concatenate: got shapes {shapes}; there must be one or more, equal but for the channels")
    return *shapes[0][:3], sum(shape[3] for shape in shapes)


def firsts(channels: Sequence[int]) -> Iterator[int]:
    """Where each of several maps begins among the channels of all."""
    first = 0
    for count in channels:
        yield first
        first += count


def concatenate_cpu(*maps: Array, out: Array | None = None, threads: int | None = 1) -> Array:
    """Maps side by side.

    maps  float32[n, h, w, c], one or more, each with channels of its own
    out   float32[n, h, w, all channels], overwritten; made if None

    Raises TypeError for another dtype, ValueError for a wrong rank or other pixels.
    """
    maps = tuple(images(f"concatenate: input {number}", x) for number, x in enumerate(maps))
    shape = joined_shape(maps)
    out, threads = result("concatenate", out, shape), resolve_threads(threads)
    whole, pixels = Map.of(out), shape[0] * shape[1] * shape[2]
    for first, x in zip(firsts([x.shape[3] for x in maps]), maps, strict=True):
        part = Map(out.ctypes.data + 4 * first, whole.pitch, x.shape[3])
        run(CopyStep.all_pixels(Map.of(x), part, pixels, min(4 * threads, pixels)), threads, x, out)
    return out


concatenate = concatenate_cpu
