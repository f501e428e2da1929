"""Copies of whole images to, from and on a card, queued with what the driver needs and nothing else: addresses and bytes.

Numba's own arrays know how to do that, too, and ask themselves for each slice where it lies and whether it is contiguous: some
thousand calls of Python for one call of a network.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy.typing as npt

from ..kernels.cuda.launch import SIMULATED
from .recorded import checked, driver_stream

__all__ = ["Placed"]

Array = npt.NDArray[Any]


class Placed:
    """Images or maps on a card: Numba's float32[n, ...], C-contiguous, its address and the bytes of each of the n."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self._address = 0 if SIMULATED else int(array.device_ctypes_pointer.value)
        self._each = 4 * math.prod(self.shape[1:])

    def take(self, at: int, source: Placed, first: int, count: int, stream: Any) -> None:
        """Queue the copy of ``count`` images of ``source``, from ``first`` on, to the place of image ``at``."""
        if SIMULATED:
            self.array[at : at + count].copy_to_device(source.array[first : first + count], stream=stream)
            return
        to, of = self._address + at * self._each, source._address + first * self._each
        checked(_driver().cuMemcpyDtoDAsync(to, of, count * self._each, driver_stream(stream)))

    def upload(self, source: Array, stream: Any) -> None:
        """Queue the copy of page-locked memory, a C-contiguous array of this shape, to here."""
        if SIMULATED:
            self.array.copy_to_device(source, stream=stream)
            return
        checked(_driver().cuMemcpyHtoDAsync(self._address, _address(source), source.nbytes, driver_stream(stream)))

    def download(self, target: Array, stream: Any) -> None:
        """Queue the copy of all of this to page-locked memory, a C-contiguous array of its shape."""
        if SIMULATED:
            self.array.copy_to_host(target, stream=stream)
            return
        checked(_driver().cuMemcpyDtoHAsync(_address(target), self._address, target.nbytes, driver_stream(stream)))


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


@functools.cache  # an import statement costs as much as a copy does, each time
def _driver() -> Any:
    from cuda.bindings import driver

    return driver
