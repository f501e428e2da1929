"""Checks that the public kernels share: dtype, rank and shape of what they are given and of where results go.

The compiled loops trust their arguments, so every public function passes through here first. Arrays that are not
C-contiguous and aligned are copied; another dtype is refused, because silent conversion hides mistakes and costs time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "check_float32",
    "check_out",
    "check_vector",
    "floats",
    "images",
    "kernel",
    "matrix",
    "result",
    "vector",
]

Array = npt.NDArray[Any]


def check_float32(name: str, array: Any, rank: int | None = None, layout: str = "") -> Any:
    """``array`` itself, if it is float32 of ``rank`` dimensions (None: any); TypeError or ValueError otherwise.

    Also for arrays on a device, which have NumPy's attributes but are not NumPy's.
    """
    if not hasattr(array, "dtype") or array.dtype != np.float32:
        given = f"dtype {array.dtype}" if hasattr(array, "dtype") else f"a {type(array).__name__}"
        raise TypeError(f"{name}: got {given}; this kernel takes float32 arrays; convert with .astype(numpy.float32)")
    if rank is not None and len(array.shape) != rank:
        raise ValueError(f"{name}: got shape {tuple(array.shape)}; it must have {rank} dimensions, {layout}")
    return array


def check_vector(name: str, array: Any, length: int) -> None:
    """Refuse what is not float32[length]: TypeError, ValueError."""
    check_float32(name, array, 1, "one number per channel")
    if array.shape[0] != length:
        raise ValueError(f"{name}: got {array.shape[0]} numbers; it must be {length}, one per channel")


def check_out(name: str, out: Any, shape: tuple[int, ...], contiguous: bool | None = None) -> None:
    """Refuse an array that cannot take a result of ``shape`` in place: TypeError, ValueError.

    contiguous  whether it is one stretch of memory that may be written to; None: ask NumPy
    """
    if contiguous is None:
        if not isinstance(out, np.ndarray):
            raise TypeError(
                f"{name}: out is a {type(out).__name__}; it must be a float32 array of shape {shape}, or None"
            )
        contiguous = out.flags.c_contiguous and out.flags.writeable
    if out.dtype != np.float32 or tuple(out.shape) != shape or not contiguous:
        raise ValueError(
            f"{name}: out has shape {tuple(out.shape)} and dtype {out.dtype}; it must be a writable C-contiguous float32 "
            f"array of shape {shape}"
        )


def floats(name: str, array: Array, rank: int | None = None, layout: str = "") -> Array:
    """What a kernel reads of a NumPy array: checked as by ``check_float32``, C-contiguous and aligned.

    It cannot be written to, whatever the array: or every kernel would be compiled for both.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: got a {type(array).__name__}; this kernel takes float32 arrays")
    check_float32(name, array, rank, layout)
    # the micro-kernel's loads count on aligned elements
    seen = np.ascontiguousarray(array).view() if array.flags.aligned else array.copy("C")
    seen.flags.writeable = False
    return seen


def images(name: str, array: Array) -> Array:
    """A batch of images or feature maps, float32[n, h, w, c]."""
    return floats(name, array, 4, "n, h, w, c (NHWC)")


def kernel(name: str, array: Array) -> Array:
    """Weights of a convolution, float32[kh, kw, ci, co]."""
    return floats(name, array, 4, "kh, kw, ci, co (HWIO)")


def matrix(name: str, array: Array) -> Array:
    """A matrix, float32[rows, columns]."""
    return floats(name, array, 2, "rows, columns")


def vector(name: str, array: Array, length: int) -> Array:
    """One number per channel or column, float32[length]."""
    check_vector(name, array := floats(name, array), length)
    return array


def result(name: str, out: Array | None, shape: tuple[int, ...]) -> Array:
    """``out`` if it can take a result of ``shape`` in place, a new array for None; TypeError, ValueError otherwise."""
    if out is None:
        return np.empty(shape, np.float32)
    check_out(name, out, shape)
    return out
