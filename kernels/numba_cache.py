"""Numba's dispatchers as kernels use them: free of the GIL, their machine code kept where ``cache.py`` says, no state of the disk
an error. The only module of the processor's kernels that imports Numba, when the first of them is to be compiled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba
from numba.core import caching

from . import machine_code
from .cache import kernel_cache
from .compiling import compiled, compiling, not_kept

__all__ = ["OPTIONS", "Keyed", "Locator", "dispatcher"]

# Multiplication and addition may fuse into one rounding (FMA); NaN, infinity, signed zero and the order of sums stay
# as written, because results must follow TensorFlow's and must not depend on the machine's vector width.
#
# Division follows NumPy: a check for zero would carry an exception's handling through every loop.
OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


class Locator(caching._CacheLocator):
    """Tells Numba to keep a kernel's machine code in our own private folder, that of ``settings``."""

    settings: tuple[str, ...] = machine_code.KIND

    def __init__(self, line: int, path: str) -> None:
        self._line, self._path = line, path

    def get_cache_path(self) -> str:
        return self._path

    def get_source_stamp(self) -> str:
        return "the sources' hash is in the folder's name"

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Locator | None:
        path = kernel_cache(*cls.settings)
        return None if path is None else cls(py_func.__code__.co_firstlineno, path)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [Locator]  # noqa: RUF012 (Numba's own name)


class Keyed:
    """For Numba's caches: a function's machine code is found by its types and its name, which its file has, and by nothing else.
    The sources' hash is in the folder's name; and of what a function encloses, another function, say, Numba makes another key
    in each process."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple()


class _Files(Keyed, caching.FunctionCache):
    _impl_class = _Implementation


class _Cache(caching._Cache):
    """Numba's cache with two differences: it touches the disk only when a kernel is first called, and no state of the
    disk (read-only, full, damaged files) is an error. A kernel that cannot be cached is compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._files: _Files | None = None
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        return kernel_cache(*Locator.settings)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        if self._enabled:
            # RuntimeError: no folder; any other: a damaged file, whose pickle can raise anything
            with contextlib.suppress(Exception):
                self._files = self._files or _Files(self._function)
                found = self._files.load_overload(sig, target_context)
        if found is None:
            compiling(self._function.__qualname__, compiled, "processor")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._enabled:
            return
        try:
            self._save(sig, data)
        except OSError as error:
            self.disable()
            not_kept(self._function.__qualname__, error.strerror or str(error))

    def _save(self, sig: Any, data: Any) -> None:
        """Raises OSError where the kernel cannot be written."""
        if self._files is None:
            raise OSError("its folder cannot be made")
        try:
            self._files.save_overload(sig, data)
        except OSError:
            raise
        except Exception:  # Numba reads the index before it adds to it; a damaged one makes room for a new one
            self._files.flush()
            self._files.save_overload(sig, data)

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        if self._files is not None:
            self._files.flush()


def dispatcher(function: Callable[..., Any]) -> Any:
    """Numba's own, which compiles ``function`` for the types of each call."""
    kernel = numba.njit(**OPTIONS)(function)
    if not numba.config.DISABLE_JIT:
        kernel._cache = _Cache(function)
    return kernel
