"""Cropping: each image without a border.

    out[n, h, w, c] = x[n, top + h, left + w, c]

The ladder: crop_reference (NumPy), crop_cpu (Numba, the copy of ``steps/im2col.py`` with a border of less than no pixels); crop is
crop_cpu. Memory-bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arrays import Array, images, result
from .geometry import Pads, Window
from .pad import in_pixels
from .steps.im2col import CopyStep, Patches
from .steps.loop import run
from .steps.records import Map
from .threads import resolve_threads

__all__ = ["crop", "crop_cpu", "crop_reference", "cropped"]


def cropped(shape: Sequence[int], crops: Pads | int) -> Window:
    """Where the pixels of the result come from, as a window of one tap; ValueError where none would be left."""
    top, bottom, left, right = in_pixels(crops)
    height, width = shape[1] - top - bottom, shape[2] - left - right
    if min(height, width) < 1:
        raise ValueError(
            f"crop: got shape {tuple(shape)} and {(top, bottom, left, right)} pixels to cut off (top, bottom, left, right); "
            "there must be one left"
        )
    return Window(1, 1, 1, 1, 1, 1, -top, -left, height, width)


def crop_reference(x: Array, crops: Pads | int) -> Array:
    """Images x dtype[n, h, w, c] without ``crops`` pixels on each side: dtype[n, h - top - bottom, w - left - right, c]."""
    window = cropped(x.shape, crops)
    return np.ascontiguousarray(x[:, -window.top :, -window.left :][:, : window.ho, : window.wo])


def crop_cpu(x: Array, crops: Pads | int, *, out: Array | None = None, threads: int | None = 1) -> Array:
    """Cut a border off each image of a batch.

    x       float32[n, h, w, c]
    crops   (top, bottom, left, right) in pixels, or one number for all sides
    out     float32[n, h - top - bottom, w - left - right, c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank, negative numbers, or where no pixel is left.
    """
    x = images("crop: x", x)
    n, h, w, c = x.shape
    window = cropped(x.shape, crops)
    out, threads = result("crop", out, (n, window.ho, window.wo, c)), resolve_threads(threads)
    rows, patches = n * window.ho * window.wo, Patches(x=Map.of(x), height=h, width=w, window=window)
    run(CopyStep(patches=patches, out=Map.of(out), rows=rows, blocks=min(4 * threads, rows)), threads, x, out)
    return out


crop = crop_cpu
