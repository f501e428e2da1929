"""Checks that the public kernels share: dtype, rank and shape of what they are given and of where results go.

The compiled loops trust their arguments, so every public function passes through here first. Arrays that are not
C-contiguous and aligned are copied; another dtype is refused, because silent conversion hides mistakes and costs time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "floats", "images", "kernel", "matrix", "result", "vector"]

Array = npt.NDArray[Any]


def floats(name: str, array: Array) -> Array:
    """An array of any shape as a C-contiguous, aligned float32 array; TypeError for another dtype."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        given = f"a {type(array).__name__}" if not isinstance(array, np.ndarray) else f"dtype {array.dtype}"
        raise TypeError(f"{name}: got {given}; this kernel takes float32 arrays; convert with .astype(numpy.float32)")
    # the micro-kernel's loads count on aligned elements
    return np.ascontiguousarray(array) if array.flags.aligned else array.copy("C")


def _ranked(name: str, array: Array, rank: int, layout: str) -> Array:
    """The same for an array of ``rank`` dimensions; ValueError for another."""
    array = floats(name, array)
    if array.ndim != rank:
        raise ValueError(f"{name}: got shape {array.shape}; it must have {rank} dimensions, {layout}")
    return array


def images(name: str, array: Array) -> Array:
    """A batch of images or feature maps, float32[n, h, w, c]."""
    return _ranked(name, array, 4, "n, h, w, c (NHWC)")


def kernel(name: str, array: Array) -> Array:
    """Weights of a convolution, float32[kh, kw, ci, co]."""
    return _ranked(name, array, 4, "kh, kw, ci, co (HWIO)")


def matrix(name: str, array: Array) -> Array:
    """A matrix, float32[rows, columns]."""
    return _ranked(name, array, 2, "rows, columns")


def vector(name: str, array: Array, length: int) -> Array:
    """One number per channel or column, float32[length]."""
    array = _ranked(name, array, 1, "one number per channel")
    if len(array) != length:
        raise ValueError(f"{name}: got {len(array)} numbers; it must be {length}, one per channel")
    return array


def result(name: str, out: Array | None, shape: tuple[int, ...]) -> Array:
    """``out`` if it can take a result of ``shape`` in place, a new array for None; TypeError, ValueError otherwise."""
    if out is None:
        return np.empty(shape, np.float32)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: out is a {type(out).__name__}; it must be a float32 array of shape {shape}, or None")
    if out.dtype != np.float32 or out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(
            f"{name}: out has shape {out.shape} and dtype {out.dtype}; it must be a writable C-contiguous float32 "
            f"array of shape {shape}"
        )
    return out
