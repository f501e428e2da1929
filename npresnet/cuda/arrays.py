"""Arrays on the card that users give and get: shared with CuPy, PyTorch, JAX and Numba without a copy.

Two protocols are spoken. DLPack (``__dlpack__``) goes first where an array has both, for it says when the other library's
work on the array is done; ``__cuda_array_interface__`` is the other one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, UsageError
from .card import Card
from .driver import wait_for

__all__ = ["DeviceArray", "device_images", "on_card"]

_CUDA = 2  # DLPack's number for CUDA cards


class DeviceArray:
    """float32 values on a card, as networks return them for images that were on the card.

    ``torch.from_dlpack(array)``, ``cupy.asarray(array)``, ``jax.dlpack.from_dlpack(array)`` and Numba's kernels share its
    memory; ``array.copy_to_host()`` and ``numpy.asarray(array)`` copy it. All work on it is done when it is returned.
    """

    def __init__(self, card: Card, memory: Any) -> None:
        self._card = card
        self.memory = memory  # Numba's array

    def __del__(self) -> None:
        self._card.give_back(self.memory)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.memory.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.memory.size)

    @property
    def nbytes(self) -> int:
        return 4 * self.size

    @property
    def device(self) -> str:
        """Where it lies: "cuda:0"."""
        return f"cuda:{self._card.index}"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        described: dict[str, Any] = self.memory.__cuda_array_interface__
        return described

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._card.index

    def __dlpack__(self, **options: Any) -> Any:
        """Made by NVIDIA's cuda.core, of the same memory. Raises UsageError where that is missing or too old."""
        try:
            from cuda.core import Buffer
            from cuda.core.utils import StridedMemoryView

            capsule = StridedMemoryView.__dlpack__  # older versions have all but this
        except (ImportError, AttributeError):
            raise UsageError(
                "DLPack: sharing arrays that way takes cuda.core 1.0 or newer, which is not installed; "
                "`pip install -U cuda-core`, or use __cuda_array_interface__"
            ) from None
        address = self.__cuda_array_interface__["data"][0]
        with self._card.current():
            buffer = Buffer.from_handle(address, self.nbytes, owner=self)
            view = StridedMemoryView.from_buffer(buffer, self.shape, dtype=self.dtype)
        return capsule(view, **options)

    def copy_to_host(self) -> npt.NDArray[np.float32]:
        """A copy as a NumPy array."""
        with self._card.current():
            copy: npt.NDArray[np.float32] = self.memory.copy_to_host()
        return copy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a NumPy array cannot share the memory of a card; ask for a copy")
        return self.copy_to_host().astype(dtype or np.float32, copy=False)

    def __repr__(self) -> str:
        return f"<float32{list(self.shape)} on {self.device} ({self._card.name})>"


def on_card(images: object) -> bool:
    """Whether ``images`` is an array on some card."""
    if hasattr(images, "__cuda_array_interface__") or getattr(images, "__cuda_ndarray__", False):
        return True
    if isinstance(images, np.ndarray) or not hasattr(images, "__dlpack_device__"):
        return False
    return int(images.__dlpack_device__()[0]) == _CUDA


def device_images(card: Card, images: Any, channels: int, stream: Any) -> Any:
    """An array of any library on ``card`` as Numba's, float32[n, h, w, channels], sharing its memory.

    What its library still does with it is waited for on ``stream``. [h, w, channels] is a batch of one. Raises ImageError
    for another dtype, rank, number of channels or layout, for empty arrays, and for another card's.
    """
    array = _numba_array(card, images, stream)
    shape = tuple(array.shape)
    described = f"input of shape {list(shape)} and dtype {array.dtype} on the card"
    wanted = f"float32[n, h, w, {channels}]"
    if array.dtype != np.float32:
        raise ImageError(f"{described}: arrays on a card are not converted; give {wanted}")
    if len(shape) not in (3, 4) or shape[-1] != channels:
        hint = "; this looks like channels first (NCHW)" if channels in shape[-3:-2] else ""
        raise ImageError(f"{described}: a network takes {wanted}, or [h, w, {channels}] for one picture{hint}")
    if array.size == 0:
        raise ImageError(f"{described}: empty; every dimension must be at least 1")
    if not array.is_c_contiguous() and len(shape) == 4 and shape[0] == 1:
        array = array[0]  # a batch of one may have any stride from image to image
    if not array.is_c_contiguous():
        raise ImageError(
            f"{described}: its strides are {tuple(array.strides)}; it must be C-contiguous in that order of axes: "
            "`.contiguous()` in PyTorch, `ascontiguousarray` elsewhere"
        )
    batch = shape if len(shape) == 4 else (1, *shape)
    return array if tuple(array.shape) == batch else array.reshape(*batch)


def _numba_array(card: Card, images: Any, own: Any) -> Any:
    from numba import cuda

    if isinstance(images, DeviceArray):
        return images.memory
    if getattr(images, "__cuda_ndarray__", False):
        wait_for(None)  # Numba's arrays say at best on which stream they were made
        if images.stream:
            wait_for(images.stream)
        return images
    if hasattr(images, "__dlpack__"):
        kind, index = (int(number) for number in images.__dlpack_device__())
        if kind == _CUDA and index != card.index:
            raise ImageError(
                f"input on cuda:{index}: the network is on cuda:{card.index}; move the images there, or load the network with "
                f"device='cuda:{index}'"
            )
        try:
            from cuda.core.utils import StridedMemoryView
        except ImportError:
            pass  # an older cuda.core: the other protocol will do
        else:
            view = StridedMemoryView.from_dlpack(images, stream_ptr=int(own.handle))
            return cuda.as_cuda_array(_Described(view))
    # nor does this protocol, always: the default stream is a fair guess
    wait_for(None)
    return cuda.as_cuda_array(images)


class _Described:
    """A view of cuda.core in the terms of ``__cuda_array_interface__``."""

    def __init__(self, view: Any) -> None:
        self._view = view  # keeps the memory alive
        strides = None if view.strides is None else tuple(s * view.dtype.itemsize for s in view.strides)
        self.__cuda_array_interface__ = {
            "shape": tuple(view.shape),
            "typestr": view.dtype.str,
            "data": (view.ptr, view.readonly),
            "strides": strides,
            "version": 3,
        }
