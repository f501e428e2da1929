"""The machine code of native kernels as object files on disk, and its linking by LLVM alone.

A process that finds all of its kernels here needs nothing of Numba's compiler, which takes longer to get ready than most
networks to run. A file is kept under the name of its function and of the processor that it was compiled for, in a folder
whose name tells of all kernels' sources (``cache.py``):

    sha256 of all that follows, 32 bytes
    the kernel's name, that of the function to call, and those of Numba's own that it calls for errors alone, each in a line; an
    empty line
    an object file
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import functools
import hashlib
import re
import sys
import threading
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from .cache import kernel_cache, write_whole
from .processor import SETTINGS, identity
from .simd import LANES

__all__ = ["KIND", "keep", "load"]

KIND = (f"lanes{LANES}", f"{SETTINGS.rows}x{SETTINGS.vectors}x{SETTINGS.unroll}")
"""What makes other machine code of the same sources; part of the folder's name."""

_FOR_ERRORS = {
    "NRT_Free", "NRT_MemInfo_call_dtor", "numba_do_raise", "numba_gil_ensure", "numba_gil_release",
    "numba_runtime_build_excinfo_struct", "numba_unpickle",
}  # fmt: skip
"""Numba's own functions that machine code calls where Python would raise an error. Kernels are written so that it never does."""

_IN_PLACE = {"NRT_incref", "NRT_decref"}
"""Those that an object file has itself; they count references to arrays that Numba has made, of which kernels have none."""

_lock = threading.Lock()


def _path(name: str) -> Path | None:
    folder = kernel_cache(*KIND)
    return None if folder is None else Path(folder) / f"{name}.{identity()}.o"


def load(name: str) -> int | None:
    """The address of the kernel that was kept under ``name``; None where there is none, or the file is damaged."""
    path = _path(name)
    with contextlib.suppress(OSError, ValueError):
        content = path.read_bytes() if path else b""
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            head, _, code = content[32:].partition(b"\n\n")
            whose, symbol, *errors = head.decode().split("\n")
            if whose == name:
                return _linked(code, symbol, errors)
    return None


def keep(name: str, symbol: str, code: bytes) -> None:
    """Keep an object file, whose function to call is ``symbol``. Raises OSError where it cannot be written."""
    path = _path(name)
    if path is None:
        raise OSError("its folder cannot be made")
    errors = sorted({found.decode() for found in re.findall(rb"(?<=\0)(?:numba|NRT)_\w+(?=\0)", code)} - _IN_PLACE)
    assert _FOR_ERRORS.issuperset(errors), f"{name} needs Numba: {errors}"
    content = "\n".join([name, symbol, *errors]).encode() + b"\n\n" + code
    write_whole(path, hashlib.sha256(content).digest() + content)


@functools.cache
def _engine() -> Any:
    """LLVM's linker for this process; it keeps all that it has linked."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            llvm.add_symbol(f"PyExc_{kind.__name__}", id(kind))
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _linked(code: bytes, symbol: str, errors: list[str]) -> int:
    """The address of ``symbol`` in an object file. What only errors would call ends the process."""
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    end = ctypes.cast(library.abort, ctypes.c_void_p).value
    with _lock:
        engine = _engine()
        for helper in errors:
            if llvm.address_of_symbol(helper) is None:  # Numba, where it has been imported, has its own
                llvm.add_symbol(helper, end)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return int(engine.get_function_address(symbol))
