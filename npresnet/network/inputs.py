"""What a network takes as images, and what it refuses."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import ImageError

__all__ = ["network_input", "transpose_hint"]


def network_input(images: object, channels: int = 3, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Check what a network is called with, and return it as dtype[n, h, w, channels], C-contiguous and writeable.

    images    anything NumPy takes as an array of integers or floating-point numbers, [n, h, w, channels], or
              [h, w, channels] for a batch of one; values are converted to dtype and otherwise left alone, NaN and
              infinity included: nothing is scaled, no mean is subtracted
    channels  how many the network takes
    dtype     float32, or what the reference computes in

    An array that already is all this is returned as it is, not copied.
    Raises ImageError for any other dtype, rank or channel count, for empty arrays and for NCHW.
    """
    try:
        array = np.asarray(images)
    except Exception as error:  # ragged lists, tensors on another device: each library has its own error
        raise ImageError(
            f"input: {type(images).__name__} does not convert to one numpy array ({error}); "
            "give float32[n, h, w, c] with one size for all"
        ) from error
    described = f"input of shape {list(array.shape)} and dtype {array.dtype}"
    if array.dtype.kind not in "uif":
        raise ImageError(
            f"{described}: a network takes numbers, float32[n, h, w, {channels}]; "
            + ("prepare() reads picture files" if isinstance(images, (str, os.PathLike)) else "convert it first")
        )
    if array.ndim not in (3, 4):
        raise ImageError(f"{described}: a network takes [n, h, w, {channels}], or [h, w, {channels}] for one picture")
    if array.shape[-1] != channels:
        raise ImageError(
            f"{described}: {array.shape[-1]} channels, but the network takes {channels}, last: [n, h, w, {channels}]"
            + transpose_hint(array.shape, (channels,))
        )
    if array.size == 0:
        raise ImageError(f"{described}: empty; every dimension must be at least 1")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, as in a cast anywhere else
        # Aligned and writeable too: compiled kernels would be compiled once more for a read-only array.
        array = np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])
    return array if array.ndim == 4 else array[None]


def transpose_hint(shape: tuple[int, ...], channels: tuple[int, ...]) -> str:
    """How to put the channels last, where the shape looks as if they came before height and width."""
    if len(shape) < 3 or shape[-3] not in channels:
        return "; check the order of the axes"
    axes = "1, 2, 0" if len(shape) == 3 else "0, 2, 3, 1"
    return f"; this looks like channels first (NCHW): give images.transpose({axes})"
