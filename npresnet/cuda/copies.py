"""Copies of whole images to, from and on a card, queued with what the driver needs and nothing else: addresses and bytes.

Numba's own arrays know how to do that, too, and ask themselves for each slice where it lies and whether it is contiguous: some
thousand calls of Python for one call of a network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

from ..kernels.cuda.launch import SIMULATED
from .driver import checked, driver, stream_handle

__all__ = ["Placed", "Staged"]

Array = npt.NDArray[Any]


class Placed:
    """Images or maps on a card: Numba's float32[n, ...], C-contiguous, its address and the bytes of each of the n."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.address = id(array) if SIMULATED else int(array.device_ctypes_pointer.value)
        self._each = 4 * math.prod(self.shape[1:])

    def take(self, at: int, source: Placed, first: int, count: int, stream: Any) -> None:
        """Queue the copy of ``count`` images of ``source``, from ``first`` on, to the place of image ``at``."""
        if SIMULATED:
            self.array[at : at + count].copy_to_device(source.array[first : first + count], stream=stream)
            return
        to, of = self.address + at * self._each, source.address + first * self._each
        checked(driver().cuMemcpyDtoDAsync(to, of, count * self._each, stream_handle(stream)))

    def upload(self, source: Staged, stream: Any) -> None:
        """Queue the copy of an array of this shape to here."""
        if SIMULATED:
            self.array.copy_to_device(source.array, stream=stream)
            return
        checked(driver().cuMemcpyHtoDAsync(self.address, source.address, source.bytes, stream_handle(stream)))

    def download(self, target: Staged, stream: Any) -> None:
        """Queue the copy of all of this to an array of its shape."""
        if SIMULATED:
            self.array.copy_to_host(target.array, stream=stream)
            return
        checked(driver().cuMemcpyDtoHAsync(target.address, self.address, target.bytes, stream_handle(stream)))


class Staged:
    """A C-contiguous array of the host: page-locked, or else each copy is waited for. With its address, and its bytes."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.address, self.bytes = int(array.ctypes.data), array.nbytes
