"""Numba, imported when the first kernel is compiled and not before: most processes find all of their kernels on disk.

Kernels' modules name things of Numba where they are imported: types in signatures, ``intrinsic``, ``carray``. Until Numba is
there, those names stand for something that only remembers what it is to become. ``get_ready`` imports Numba and puts the real
things under all of these names; what is compiled from then on sees nothing else.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Later", "carray", "cgutils", "enclosing_real", "get_ready", "intrinsic", "jit", "resolved", "types"]

_imported = _ready = False
_lock = threading.RLock()


class Later:
    """Something of Numba's that is made when first needed: by ``make``, once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def real(self) -> Any:
        """What it stands for."""
        with _lock:
            if self._made is None:
                self._made = self._make()
        return self._made


class _Type(Later):
    """A type of Numba's, or a signature: a type that was called with those of the arguments."""

    def __init__(self, make: Callable[[], Any], args: tuple[Any, ...] = ()) -> None:
        super().__init__(make)
        self.args = args

    def __call__(self, *args: Any) -> _Type:
        return _Type(lambda: self.real()(*map(resolved, args)), args)


class _Types(Later):
    """``numba.types``."""

    def __init__(self) -> None:
        super().__init__(lambda: importlib.import_module("numba").types)

    def __getattr__(self, name: str) -> _Type:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Type(lambda: getattr(self.real(), name))


class _Kernel(Later):
    """A function that is compiled on its first call."""

    def __init__(self, make: Callable[[], Any], function: Callable[..., Any]) -> None:
        super().__init__(make)
        self.__wrapped__, self.__doc__ = function, function.__doc__

    def __call__(self, *arguments: Any) -> Any:
        get_ready(self.__wrapped__)
        return self.real()(*arguments)


def resolved(value: Any) -> Any:
    """``value`` itself, or what it stands for."""
    return value.real() if isinstance(value, Later) else value


def enclosing_real(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, after what it encloses has become real."""
    for cell in function.__closure__ or ():
        cell.cell_contents = resolved(cell.cell_contents)
    return function


def _make_real(names: dict[str, Any]) -> None:
    for name, value in list(names.items()):
        if isinstance(value, Later):
            names[name] = value.real()


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


types: Any = _Types()
carray: Any = Later(lambda: _named("numba", "carray"))
cgutils: Any = Later(lambda: _named("numba.core", "cgutils"))


def intrinsic(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """``numba.extending.intrinsic``."""
    if function is None:
        return lambda function: intrinsic(function, **options)

    def make() -> Any:
        decorator = _named("numba.extending", "intrinsic")
        return decorator(**options)(enclosing_real(function)) if options else decorator(enclosing_real(function))

    later = Later(make)
    return later.real() if _imported else later


def jit(function: Callable[..., Any]) -> Any:
    """Compile ``function`` in nopython mode on its first call, without the GIL, with its machine code cached."""
    later = _Kernel(lambda: _named("npresnet.kernels.numba_cache", "dispatcher")(enclosing_real(function)), function)
    return later.real() if _imported else later


def get_ready(function: Callable[..., Any]) -> None:
    """Import Numba, if that has not been done, and let all names in the kernels' modules, and in that of ``function``, which is to
    be compiled, mean its real things."""
    global _imported, _ready
    with _lock:
        if _ready:
            _make_real(function.__globals__)
            return
        importlib.import_module("numba")
        _imported = True
        root = __name__.rpartition(".")[0]
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{root}."):
                _make_real(vars(module))
        _make_real(function.__globals__)
        _ready = True
