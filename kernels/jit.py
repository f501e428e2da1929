"""``jit``: Numba's njit as every kernel here uses it, lazy, free of the GIL, and cached where ``cache.py`` says.

Nothing is compiled at import: a kernel is compiled, or its machine code is read from the cache, on its first call.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numba
from llvmlite import ir
from numba import types
from numba.core import caching, cgutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from . import machine_code
from .cache import NOWHERE, kernel_cache, lasting_directory

__all__ = [
    "Keyed", "Locator", "Native", "call", "compiled", "compiling", "jit", "native", "not_kept", "unkept",
]  # fmt: skip

# Multiplication and addition may fuse into one rounding (FMA); NaN, infinity, signed zero and the order of sums stay
# as written, because results must follow TensorFlow's and must not depend on the machine's vector width.
#
# Division follows NumPy: a check for zero would carry an exception's handling through every loop.
_OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


compiled: list[str] = []
"""The names of the kernels that this process has compiled, not found in the cache."""

unkept: list[str] = []
"""Those among them that could not be written to the cache."""

_log = logging.getLogger("npresnet")


def compiling(name: str, into: list[str], machine: str) -> None:
    """Note in ``into`` that a kernel is about to be compiled; before the first one, say what takes so long."""
    if not into:
        directory = lasting_directory()
        kept = f"once, for they are kept in {directory}" if directory else f"each time, for {NOWHERE}"
        _log.warning("npresnet: compiling kernels for this %s, some seconds; %s", machine, kept)
    into.append(name)


def not_kept(name: str, reason: str) -> None:
    """Note that a kernel could not be written to the cache; of the first one, say so. Where no cache lasts, that was said."""
    if not unkept and (directory := lasting_directory()):
        _log.warning(
            "npresnet: kernels cannot be kept in %s (%s): the next process compiles them again", directory, reason
        )
    unkept.append(name)


class Locator(caching._CacheLocator):
    """Tells Numba to keep a kernel's machine code in our own private folder, that of ``settings``."""

    settings: tuple[str, ...] = machine_code.SETTINGS

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


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` in nopython mode on its first call, without the GIL, with its machine code cached."""
    kernel = numba.njit(**_OPTIONS)(function)
    if not numba.config.DISABLE_JIT:
        kernel._cache = _Cache(function)
    return kernel


class Native:
    """A kernel that other kernels call by its ``address``: see ``native``."""

    declared: ClassVar[list[Native]] = []
    """All of those in the modules that have been imported, but for those whose machine code is not kept."""

    def __init__(self, function: Callable[..., Any], signature: Any, kept: bool = True) -> None:
        self._function, self._signature, self._kept = function, signature, kept
        self._address: int | None = None
        self._call: Callable[..., None] | None = None
        self._lock = threading.Lock()
        if kept:
            self.declared.append(self)
        self.__doc__ = function.__doc__

    @property
    def address(self) -> int:
        """Where the machine code is; compiled, or read from the cache, when first asked for, and once however many ask."""
        if self._address is None:
            with self._lock:
                if self._address is None:
                    self._address = self._made()
        return self._address

    @property
    def call(self) -> Callable[..., None]:
        """The same for Python: a function of whole numbers, free of the GIL."""
        if self._call is None:
            self._call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(self._signature.args))(self.address)
        return self._call

    def _made(self) -> int:
        function = self._function
        name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        address = machine_code.load(name) if self._kept else None
        if address is not None:
            return address
        compiling(function.__qualname__, compiled, "processor")
        arguments = (self._signature.args, self._signature.return_type)
        made: Any = CFunc(function, arguments, {}, {"nopython": True, **_OPTIONS})
        made.compile()
        if self._kept:
            try:
                _, _, (code, _) = made._library.serialize_using_object_code()
                machine_code.keep(name, made._wrapper_name, code)
            except OSError as error:
                not_kept(function.__qualname__, error.strerror or str(error))
        self._compiled = made  # keeps the machine code alive
        return int(made.address)


def native(signature: Any, kept: bool = True) -> Callable[[Callable[..., Any]], Native]:
    """Compile the decorated function, with C's calling convention, when its address is first asked for; its machine code is
    ``kept`` on disk.

    Numba compiles a kernel again inside each of its callers, and theirs. Kernels that are several levels deep, or have
    several callers, therefore ``call`` each other by address.
    """
    return lambda function: Native(function, signature, kept)


@intrinsic
def call(typingctx, address, arguments):
    """Call the native function at ``address`` with a tuple of arguments, of exactly its types."""

    def codegen(context, builder, signature, given):
        values = cgutils.unpack_tuple(builder, given[1], len(arguments))
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen
