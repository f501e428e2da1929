"""How kernels get onto a card: compilation, grids, arrays. The only place that speaks to the driver for them.

``kernel`` makes a kernel of a Python function: compiled for the card when it is first launched, never at import, with
exactly the argument types that its declaration names. ``Call`` brings the arguments of one public function onto the
card and its result back to where the arguments were.

With ``NUMBA_ENABLE_CUDASIM=1`` in the environment the same kernels run in Numba's simulator, thread by thread in plain
Python: no card, no speed, but every index is the one that a card would use.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import config, cuda, types

from ..arrays import Array, check_float32, check_out, check_vector, floats
from .cached import keep

__all__ = [
    "ELEMENTS",
    "SIMULATED",
    "Call",
    "Kernel",
    "aligned",
    "ceil_div",
    "contiguous",
    "device_function",
    "divide",
    "grid_1d",
    "is_device_array",
    "kernel",
]

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether kernels run in Numba's simulator."""

# A small image makes small grids, whose low occupancy is no news to anybody who reads Numba's remark about it.
warnings.filterwarnings("ignore", message="Grid size .* will likely result in GPU under-utilization")

_simulator = threading.Lock()


def _shared_array(self: Any, shape: Any, dtype: Any, alignment: None = None) -> Any:
    """As the simulator's own: one array for all threads of a block that come to the same line. But its own looks whether the
    array is there and makes it in two steps, between which another thread may make a second one; sums then have gaps, now
    and then. Dynamic shared memory has shape 0."""
    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    with _making:
        if place not in self._allocations:
            made = np.empty(shape, dtype if isinstance(dtype, type) else as_dtype(dtype))
            self._allocations[place] = made if made.size else self._dynshared.view(made.dtype)
        return self._allocations[place]


if SIMULATED:
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    _making = threading.Lock()
    FakeCUDAShared.array = _shared_array

KERNELS: list[Kernel] = []
"""All kernels of the package, as far as their modules are imported; what compiles them without a card goes by it."""

# what declarations of arguments may say; arrays are one stretch of memory, C-contiguous
_TYPES = {
    "vector": types.float32[::1],
    "matrix": types.float32[:, ::1],
    "images": types.float32[:, :, :, ::1],
    "window": types.UniTuple(types.int32, 10),
    "int": types.int32,
    "float": types.float32,
    "double": types.float64,
}


UNASKED = 48 * 1024
"""Bytes of shared memory that a block may have without asking for more."""


class Kernel:
    """A kernel: ``kernel.launch(blocks, stream, *arguments)`` runs it. Made by the decorator ``kernel``.

    arguments  one word for each: vector, matrix, images (float32 of 1, 2, 4 dimensions), int (32 bits), float,
               double, window (``geometry.Window``)
    threads    in a block: a number, or one for each of up to three dimensions
    together   how many blocks an SM should be able to hold at a time; registers are limited to what that leaves
    shared     bytes of dynamic shared memory
    only       the one compute capability that has its instructions; None: all have
    """

    def __init__(
        self,
        function: Callable[..., None],
        arguments: str,
        threads: int | tuple[int, ...],
        together: int,
        shared: int,
        only: tuple[int, int] | None = None,
    ) -> None:
        self.function = function
        self.name = function.__name__.lstrip("_")
        self.arguments = tuple(arguments.split())
        self.threads = (threads,) if isinstance(threads, int) else threads
        self.together = together
        self.shared = shared
        self.only = only
        self._compiled: Any = None
        self._allowed: set[int] = set()  # numbers of the cards on which it may have so much shared memory
        self._lock = threading.Lock()
        KERNELS.append(self)

    @property
    def signature(self) -> Any:
        """The types of its arguments, as Numba has them."""
        return types.void(*(_TYPES[word] for word in self.arguments))

    @property
    def bounds(self) -> tuple[int, int]:
        """Threads in a block, and blocks on an SM."""
        return math.prod(self.threads), self.together

    def launch(self, blocks: int | tuple[int, ...], stream: Any, *arguments: Any) -> None:
        """Queue one run on ``stream``. Trusts its arguments; blocks: how many, in up to three dimensions."""
        if not all((blocks,) if isinstance(blocks, int) else blocks):
            return  # nothing to do
        if not SIMULATED:  # which computes with Python's own numbers
            arguments = tuple(_CASTS[word](a) for word, a in zip(self.arguments, arguments, strict=True))
        # of two threads that load one kernel onto a card at once, Numba lets one down; and the simulator runs one at a time
        with _simulator if SIMULATED else self._lock:
            if self._compiled is None:
                options = {} if SIMULATED else {"launch_bounds": self.bounds}
                self._compiled = cuda.jit(**options)(self.function)
                if not SIMULATED:
                    keep(self._compiled, self.name)
            if self.shared > UNASKED and not SIMULATED:
                self._ask_for_shared_memory()
            self._compiled[blocks, self.threads, stream, self.shared](*arguments)

    def _ask_for_shared_memory(self) -> None:
        """Let the current card know how much this kernel takes, once for each card. Raises the driver's error."""
        number = cuda.current_context().device.id
        if number in self._allowed:
            return
        from numba.cuda.cudadrv.driver import binding, driver

        self._compiled.compile(self.signature.args)  # or finds it
        on_card = self._compiled.overloads[self.signature.args]._codelibrary.get_cufunc()
        attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        driver.cuKernelSetAttribute(attribute, self.shared, on_card.handle, number)
        self._allowed.add(number)


_CASTS: dict[str, Callable[[Any], Any]] = {
    "vector": lambda array: array,
    "matrix": lambda array: array,
    "images": lambda array: array,
    "window": lambda window: tuple(map(np.int32, window)),
    "int": np.int32,
    "float": np.float32,
    "double": np.float64,
}


def kernel(
    arguments: str,
    *,
    threads: int | tuple[int, ...],
    together: int = 1,
    shared: int = 0,
    only: tuple[int, int] | None = None,
) -> Callable[[Callable[..., None]], Kernel]:
    """Make a ``Kernel`` of the decorated function; parameters as there."""
    return lambda function: Kernel(function, arguments, threads, together, shared, only)


device_function = (lambda function: function) if SIMULATED else cuda.jit(device=True, inline="always")
"""Makes a function that kernels call. It is inlined into them before types are known, so that no card is needed to compile.
The simulator calls it as it is: what Numba would put around it costs more than most of these functions."""


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def _divide(index, by):
    q = np.uint64(index) // np.uint64(by)
    return np.int64(q), np.int64(np.uint64(index) - q * np.uint64(by))


divide = divmod if SIMULATED else device_function(_divide)
"""divmod of two numbers that are not negative, in a kernel. Unsigned: signs would cost instructions; and 64 bits wide,
which the card does in 32 where these suffice."""


ELEMENTS = 256
"""Threads in a block of the kernels that have one thread per element."""


def grid_1d(count: int) -> int:
    """How many blocks of ELEMENTS threads there must be for ``count`` elements, one thread each.

    Kernels number their blocks in x alone, where there may be 2**31 - 1 of them, and not in y or z, where 65,535 are the
    most: the naive product of a 1024x1024 image would need more.
    """
    return ceil_div(count, ELEMENTS)


def contiguous(array: Array) -> Array:
    """A NumPy array in one stretch of memory, also by Numba's measure: a new axis has stride 0, with which NumPy is content."""
    array = np.ascontiguousarray(array)
    return array.copy() if array.size and 0 in array.strides else array


def is_device_array(array: Any) -> bool:
    """Whether ``array`` lies on the card: Numba's own arrays, and all that speak ``__cuda_array_interface__``."""
    return hasattr(array, "__cuda_array_interface__") or getattr(array, "__cuda_ndarray__", False)


def aligned(*arrays: Any) -> bool:
    """Whether device arrays begin at multiples of 16 bytes, as vectors of four must. Memory of one's own does; a part of
    another library's array may not."""
    # an empty array's pointer is null, which ctypes has as None
    return SIMULATED or all((array.device_ctypes_pointer.value or 0) % 16 == 0 for array in arrays)


def _numba_array(array: Any) -> Any:
    """A device array of any library as Numba's, sharing its memory."""
    return array if getattr(array, "__cuda_ndarray__", False) else cuda.as_cuda_array(array)


class Call:
    """The arguments of one call of a public function, on the card.

    Arrays may be NumPy's, which are copied over, or device arrays of any library. The result is made where the first
    array was. What is wrong with an array is said in the same words as by the CPU's kernels. ``stream`` is one of Numba's,
    None for the default stream.

        call = Call(stream)
        a = call.images("add: a", a)
        out = call.result("add", out, a.shape)
        _add.launch(..., call.stream, a, out)
        return call.finish()
    """

    def __init__(self, stream: Any = None) -> None:
        self.stream: Any = 0 if stream is None else stream
        self._to_host: bool | None = None
        self._out: Any = None
        self._result: Any = None

    def images(self, name: str, array: Any) -> Any:
        """A batch of images or feature maps, float32[n, h, w, c]."""
        return self._array(name, array, 4, "n, h, w, c (NHWC)")

    def weights(self, name: str, array: Any) -> Any:
        """Weights of a convolution, float32[kh, kw, ci, co]."""
        return self._array(name, array, 4, "kh, kw, ci, co (HWIO)")

    def matrix(self, name: str, array: Any) -> Any:
        """A matrix, float32[rows, columns]."""
        return self._array(name, array, 2, "rows, columns")

    def vector(self, name: str, array: Any, length: int, *, missing: float | None = None) -> Any:
        """One number per channel or column, float32[length]; ``missing`` is the number that stands for no array at all."""
        if array is None and missing is not None:
            return self.copied(np.full(length, missing, np.float32))
        array = self.numbers(name, array)
        check_vector(name, array, length)
        return array

    def numbers(self, name: str, array: Any) -> Any:
        """Some numbers, float32[any]."""
        return self._array(name, array, 1, "one number per channel")

    def floats(self, name: str, array: Any) -> Any:
        """An array of any shape, float32."""
        return self._array(name, array, None, "")

    def copied(self, array: Array) -> Any:
        """A NumPy array, on the card."""
        return cuda.to_device(contiguous(array), stream=self.stream)

    def result(self, name: str, out: Any, shape: Sequence[int]) -> Any:
        """Where the result of ``shape`` goes, on the card; ``out`` as it was given, or None."""
        self._out = out
        if out is not None and is_device_array(out):
            self._result = _numba_array(out)
            check_out(name, self._result, tuple(shape), contiguous=self._result.is_c_contiguous())
        else:
            if out is not None:
                check_out(name, out, tuple(shape))
            self._result = self.empty(shape)
        return self._result

    def empty(self, shape: Sequence[int]) -> Any:
        """An uninitialised float32 array on the card."""
        return cuda.device_array(tuple(shape), np.float32, stream=self.stream)

    def finish(self) -> Any:
        """The result: ``out`` if that was given, otherwise an array where the arguments were."""
        if self._out is None and not self._to_host:
            return self._result
        if self._out is not None and is_device_array(self._out):
            return self._out
        host = self._result.copy_to_host(self._out, stream=self.stream)
        if self.stream:
            self.stream.synchronize()  # copies on a stream may go on after the call
        return host

    def _array(self, name: str, array: Any, rank: int | None, layout: str) -> Any:
        on_device = is_device_array(array)
        if self._to_host is None:
            self._to_host = not on_device
        if not on_device:
            return self.copied(floats(name, array, rank, layout))
        array = _numba_array(array)
        check_float32(name, array, rank, layout)
        if not array.is_c_contiguous():
            raise ValueError(
                f"{name}: the device array has strides {array.strides}; it must be C-contiguous; copy it with "
                "its library's `ascontiguousarray` or `.contiguous()`"
            )
        return array
