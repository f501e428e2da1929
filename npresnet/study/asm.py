"""``study asm``: the loop that the machine runs: the innermost loop of a kernel, instruction by instruction, each with what it is
there for (``listing.py``), and beside the line of Python that it comes from. Where that line makes vector instructions (``simd.py``),
it is the line that made this one.

Kernels are compiled anew for it, because machine code from the cache has no listing; and once more so that it says where it comes
from. Only if both have the same instructions is the one shown as the other's. For another width of registers that happens in a
process of its own, which compiles and runs nothing of it, so that any x86 will do.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import UsageError
from . import elsewhere
from .card_code import CARD_KERNELS, of_card
from .listing import Instruction, Listing, beside_python, roles, source_lines
from .sources import function_of
from .x86 import bytes_of, hot_loop, lanes, role_of

__all__ = ["CARD_KERNELS", "CPU_KERNELS", "WIDTHS", "asm"]

WIDTHS: Mapping[str, tuple[str, str, int]] = {
    "sse": ("4", "nehalem", 16),
    "avx2": ("8", "haswell", 16),
    "avx512": ("16", "skylake-avx512", 32),
}
"""Width -> (lanes of float32, a processor that has it and no more, vector registers)."""

CPU_KERNELS: Mapping[str, tuple[str, str, str, str]] = {
    "tile": ("tile", "multiply", "", "the micro-kernel: a tile of sums in registers"),
    "gemm_naive": ("gemm", "_gemm_naive", "mmvmii", "one sum at a time"),
    "gemm_blocked": ("gemm", "_gemm_blocked", "mmvmii", "eight steps of k per pass over a row"),
    "conv2d_direct": ("conv2d", "_conv2d_direct", "xxvwxii", "a number of x times a row of kernels"),
}
"""Kernel -> (module, the compiled function, its arguments' types: m a matrix, v a vector, x images, w a window, i a number; "" for one
that declares them; idea)."""


def asm(
    kernel: str = "tile", width: str | None = None, device: str = "cpu", arch: str = "sm_90", ptx: bool = False
) -> Listing:
    """The hot loop of a kernel.

    kernel  one of CPU_KERNELS, or of CARD_KERNELS with device="cuda"
    width   "sse", "avx2" or "avx512"; None: this processor's own
    arch    of a card: "sm_80", "sm_90", ...
    ptx     of a card: PTX, before registers are dealt out; else machine code

    Raises UsageError for what is not known; MissingExtraError where a card's compiler is not installed.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device: got {device!r}; it must be 'cpu' or 'cuda'")
    known = CPU_KERNELS if device == "cpu" else CARD_KERNELS
    if kernel not in known:
        other = " with --device cuda" if kernel in CARD_KERNELS else ""
        raise UsageError(
            f"kernel: got {kernel!r}; for {device} it must be one of {', '.join(known)}{other and f'; ask for it{other}'}"
        )
    if device == "cuda":
        return of_card(kernel, arch, ptx)
    if ptx:
        raise UsageError("ptx: a processor has none; it is of a card's kernels: device must be 'cuda'")
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UsageError(f"asm: this processor is {platform.machine()}; listings are read for x86 only, or for a card")
    if width is None:
        return _of_processor(kernel, _native_width())
    if width not in WIDTHS:
        raise UsageError(f"width: got {width!r}; it must be one of {', '.join(WIDTHS)}")
    count, processor, _ = WIDTHS[width]
    environment = {"NPRESNET_LANES": count, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    found: Listing = elsewhere.call(f"width: compiling {kernel} for {width}", environment, _of_processor, kernel, width)
    return found


def _native_width() -> str:
    from ..kernels.simd import LANES

    return next(width for width, (count, _, _) in WIDTHS.items() if int(count) == LANES)


def _of_processor(kernel: str, width: str) -> Listing:
    module, name, types, idea = CPU_KERNELS[kernel]
    made = getattr(importlib.import_module(f"..kernels.{module}", __package__), name)
    file = function_of(made).__code__.co_filename

    def compiled(debug: bool) -> str:
        return _jit_text(made, types, debug) if types else _native_text(made, debug)

    plain = hot_loop(compiled(debug=False))
    with _marks(file):
        rows, mapped = beside_python(plain, hot_loop(compiled(debug=True), file), file, role_of)
    fma = [row.text for row in rows if row.role == "FMA"]
    loads = sum(map(_reads, rows))
    spills = sum(row.role == "spill" for row in rows)
    registers = {int(n) for row in rows for n in re.findall(r"%[xyz]mm(\d+)", row.text)}
    return Listing(
        kernel, idea, "cpu", width, rows, roles(rows), source_lines(rows), len(fma), loads, len(fma) / loads if loads and fma else None,
        2 * sum(map(lanes, fma)), sum(bytes_of(row.text) for row in rows), len(registers), WIDTHS[width][2], spills, mapped,
        _verdict(len(fma), loads, spills, width), None, None, None,
    )  # fmt: skip


def _native_text(kernel: Any, debug: bool) -> str:
    from numba.core.ccallback import CFunc

    from ..kernels.numba_cache import OPTIONS
    from ..kernels.numba_later import enclosing_real, get_ready, resolved

    get_ready(kernel._function)
    signature = resolved(kernel._signature)
    options = {"nopython": True, **OPTIONS} | ({"debug": True} if debug else {})
    made: Any = CFunc(enclosing_real(kernel._function), (signature.args, signature.return_type), {}, options)
    made.compile()
    text: str = made._library.get_asm_str()
    return text


def _jit_text(kernel: Any, arguments: str, debug: bool) -> str:
    import numba
    from numba import types

    from ..kernels.numba_cache import OPTIONS
    from ..kernels.numba_later import get_ready

    function = function_of(kernel)
    get_ready(function)
    kinds = {
        "m": types.float32[:, ::1], "v": types.float32[::1], "x": types.float32[:, :, :, ::1], "i": types.int64,
        "w": types.UniTuple(types.int64, 10),
    }  # fmt: skip
    signature = tuple(kinds[word] for word in arguments)
    made: Any = numba.njit(debug=debug, **OPTIONS)(function)
    made.compile(signature)
    text: str = made.inspect_asm(made.signatures[0])
    return text


@contextmanager
def _marks(file: str) -> Iterator[None]:
    """Whatever a line of ``file`` appends to a kernel that is being compiled, with its line numbers, has that line's number: Numba
    itself knows only the line that calls an intrinsic, not those that it is made by."""
    from llvmlite.ir import IRBuilder

    insert = IRBuilder._insert

    def marked(self: Any, instruction: Any) -> None:
        before = self.debug_metadata
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != file:
            frame = frame.f_back
        if before is not None and frame is not None:
            place = {"line": frame.f_lineno, "column": 1, "scope": dict(before.operands)["scope"]}
            self.debug_metadata = self.module.add_debug_info("DILocation", place)
        insert(self, instruction)
        self.debug_metadata = before

    IRBuilder._insert = marked
    try:
        yield
    finally:
        IRBuilder._insert = insert


def _reads(row: Instruction) -> bool:
    """Whether an instruction reads numbers from memory."""
    return (row.role in ("load", "broadcast") and "(" in row.text) or (row.role == "FMA" and "(" in row.text)


def _verdict(fma: int, loads: int, spills: int, width: str) -> str:
    """In words. A core of today does two FMA and two loads in a cycle."""
    spilled = f"; {spills} vectors are moved to the stack and back" if spills else "; nothing is spilled"
    if width == "sse":
        return (
            f"this width has no FMA: products and sums are instructions of their own; {loads} reads of memory{spilled}"
        )
    if not fma:
        return f"no multiply-adds: it moves numbers, {loads} reads of memory per turn{spilled}"
    if fma > loads:
        return f"bound by the multiply-adds: {fma} of them for {loads} reads of memory{spilled}"
    return f"bound by reading: {loads} reads of memory for {fma} multiply-adds, where two of each fit into a cycle{spilled}"
