"""How kernels are compiled: lazily, free of the GIL, with their machine code kept where ``cache.py`` says.

    jit      a function that Python and other kernels call: Numba's njit, compiled for the types of each call
    native   a function of addresses and numbers that is called by its own address

Nothing is compiled at import: a kernel is compiled, or its machine code is read from the cache, on its first call.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir

from . import machine_code
from .compiling import compiled, compiling, not_kept
from .numba_later import cgutils, enclosing_real, get_ready, intrinsic, jit, resolved, types

__all__ = ["Native", "call", "jit", "native"]


class Native:
    """A kernel that other kernels call by its ``address``: see ``native``."""

    declared: ClassVar[list[Native]] = []
    """All of those in the modules that have been imported, but for those whose machine code is not kept."""

    def __init__(
        self, function: Callable[..., Any], signature: Any, kept: bool = True, contracted: bool = True
    ) -> None:
        self._function, self._signature, self._kept, self._contracted = function, signature, kept, contracted
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
        get_ready(function)
        from numba.core.ccallback import CFunc

        from .numba_cache import OPTIONS

        options = OPTIONS if self._contracted else {**OPTIONS, "fastmath": False}
        signature = resolved(self._signature)
        made: Any = CFunc(
            enclosing_real(function), (signature.args, signature.return_type), {}, {"nopython": True, **options}
        )
        made.compile()
        if self._kept:
            try:
                _, _, (code, _) = made._library.serialize_using_object_code()
                machine_code.keep(name, made._wrapper_name, code)
            except OSError as error:
                not_kept(function.__qualname__, error.strerror or str(error))
        self._compiled = made  # keeps the machine code alive
        return int(made.address)


def native(signature: Any, kept: bool = True, contracted: bool = True) -> Callable[[Callable[..., Any]], Native]:
    """Compile the decorated function, with C's calling convention, when its address is first asked for; its machine code is
    ``kept`` on disk. Unless it may be ``contracted``, each of its operations is rounded by itself: no FMA.

    Numba compiles a kernel again inside each of its callers, and theirs. Kernels that are several levels deep, or have
    several callers, therefore ``call`` each other by address.
    """
    return lambda function: Native(function, signature, kept, contracted)


@intrinsic
def call(typingctx, address, arguments):
    """Call the native function at ``address`` with a tuple of arguments, of exactly its types."""

    def codegen(context, builder, signature, given):
        values = cgutils.unpack_tuple(builder, given[1], len(arguments))
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen
