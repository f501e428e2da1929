"""Arrays that keep a record: the kernels' own loops, run in Python, with every element that they read or write.

Compiled kernels are Python underneath. ``python_of`` gets the function, ``RecordedArray`` arrays go in, and what the loop touches, in
which order, is in the ``Log``. What these arrays cannot follow, they refuse by name: a picture is never drawn of a guess.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .sources import function_of, lines_of

__all__ = ["Log", "RecordedArray", "in_pieces", "python_of"]

Array = npt.NDArray[Any]


@dataclass
class Log:
    """What has been touched, in order: (array's number in ``names``, element, whether it was written).

    pieces  numbers of the accesses with which a new piece of work begins: a block, a tile
    """

    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    accesses: list[tuple[int, int, bool]] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)

    def array(self, name: str, data: Array) -> RecordedArray:
        """``data``, recorded under ``name``; it must be C-contiguous."""
        self.names.append(name)
        self.sizes.append(data.size)
        return RecordedArray(self, len(self.names) - 1, data, np.arange(data.size).reshape(data.shape))


class RecordedArray:
    """An array, or a part of one, that notes what is done with its elements.

    It can be indexed by whole numbers and slices, written to in the same way, and asked for ``shape`` and ``len``; part of one array can
    be copied to a part of another. Anything else is refused by UsageError.
    """

    def __init__(self, log: Log, number: int, data: Array, elements: Array) -> None:
        self._log, self._number, self._data, self._elements = log, number, data, elements

    @property
    def shape(self) -> tuple[int, ...]:
        """As the array's."""
        return self._data.shape

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, key: Any) -> Any:
        data = self._data[self._plain(key)]
        if isinstance(data, np.ndarray):
            return RecordedArray(self._log, self._number, data, self._elements[key])
        self._log.accesses.append((self._number, int(self._elements[key]), False))
        return data

    def __setitem__(self, key: Any, value: Any) -> None:
        elements = self._elements[self._plain(key)]
        if isinstance(value, RecordedArray):
            value._note(False)
            value = value._data
        elif isinstance(value, np.ndarray):
            raise self._refused("an array that is not recorded, as a value")
        self._data[key] = value
        self._log.accesses += [(self._number, int(element), True) for element in np.ravel(elements)]

    def _note(self, written: bool) -> None:
        self._log.accesses += [(self._number, int(element), written) for element in self._elements.ravel()]

    def _plain(self, key: Any) -> Any:
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, bool) or not isinstance(part, int | np.integer | slice):
                raise self._refused(f"the index {part!r}")
        return key

    def _refused(self, what: str) -> UsageError:
        return UsageError(
            f"watch: {self._log.names[self._number]}: {what} cannot be followed; recorded arrays take whole numbers and slices: write the "
            "loop out"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._refused(f"`.{name}`")

    def _arithmetic(self, *_: Any) -> Any:
        raise self._refused("arithmetic with a whole part of an array")

    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __truediv__ = __iadd__ = __imul__ = _arithmetic

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self._refused("a function of NumPy")

    def __iter__(self) -> Any:
        raise self._refused("a loop over its elements")


def python_of(kernel: Any, **constants: Any) -> Callable[..., Any]:
    """The Python function that a kernel is compiled from.

    constants  of its module, as they are to be here: smaller blocks, say. Functions that it calls are Python's, too

    Raises UsageError for what is no kernel of the project's kind.
    """
    function = function_of(kernel)
    if not isinstance(function, types.FunctionType):
        raise UsageError(f"watch: {kernel!r} is written in vector instructions, not in Python; it cannot be recorded")
    names: Mapping[str, Any] = function.__globals__
    called = {
        name: python_of(names[name], **constants)
        for name in function.__code__.co_names
        if name in names and name not in constants and _is_kernel(names[name])
    }
    copied = types.FunctionType(
        function.__code__,
        {**names, **called, **constants},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__module__ = function.__module__
    return copied


def in_pieces(log: Log, function: Callable[..., Any], line: str) -> Callable[..., Any]:
    """``function``, which notes in the log where it comes to the line of its text that begins so: there a new piece begins."""
    first, lines = lines_of(function)
    (number,) = (first + at for at, text in enumerate(lines) if text.strip().startswith(line))

    def inside(frame: Any, event: str, _: Any) -> Any:
        if event == "line" and frame.f_lineno == number:
            log.pieces.append(len(log.accesses))
        return inside

    def call(*arguments: Any) -> None:
        before = sys.gettrace()
        sys.settrace(lambda frame, event, _: inside if frame.f_code is function.__code__ else None)
        try:
            function(*arguments)
        finally:
            sys.settrace(before)

    return call


def _is_kernel(value: Any) -> bool:
    return not isinstance(value, type | types.ModuleType) and (
        hasattr(value, "py_func") or type(value).__name__ == "_Kernel"
    )
