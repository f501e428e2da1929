"""``study asm``: the loop that the machine runs: the innermost loop of a kernel, instruction by instruction, each with what it is
there for, and beside the line of Python that it comes from.

    FMA        multiplies and adds: what all others are there for
    load       brings a vector of numbers into a register; also part of an FMA that reads memory itself
    broadcast  brings one number into all lanes of a register
    store      writes numbers back
    spill      moves a vector to the stack or from it, because there are too few registers
    prefetch   asks for memory that will be needed
    address    counts, compares, jumps, and says where the next numbers are; also where it looks that up on the stack
    other      arithmetic that is no FMA, and moves between registers

Kernels are compiled anew for it, because machine code from the cache has no listing. For another width of registers that happens
in a process of its own, which compiles and runs nothing of it, so that any x86 will do.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MissingExtraError, UsageError
from .forms import Column, Grid

__all__ = ["CARD_KERNELS", "CPU_KERNELS", "TABLES", "WIDTHS", "Instruction", "Listing", "asm", "hot_loop", "role_of"]

TABLES = (
    Grid(
        "roles",
        (Column("what", "role"), Column("instructions", "count", "count"), Column("of all", "share", "percent")),
        "The innermost loop, one turn",
    ),
    Grid(
        "instructions",
        (
            Column("what", "role"),
            Column("instruction", "text"),
            Column("line", "line", "count", wide=True),
            Column("Python", "python", wide=True),
        ),
        "",
    ),
)

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
"""Kernel -> (module, the compiled function, its arguments' types: m a matrix, v a vector, x images, w a window, i a number; idea)."""

CARD_KERNELS = {"gemm_cuda_naive": "_gemm_naive", "gemm_cuda_shared": "_gemm_shared", "gemm_cuda_tiled": "_gemm_tiled",
                "gemm_cuda_vectorized": "_gemm_vectorized"}  # fmt: skip


@dataclass(frozen=True)
class Instruction:
    """One instruction: its text, what it is there for, and the line of Python that it comes from, where that is known."""

    text: str
    role: str
    line: int | None
    python: str


@dataclass(frozen=True)
class RoleCount:
    """How many of the loop's instructions have a role."""

    role: str
    count: int
    share: float


@dataclass(frozen=True)
class Listing:
    """The innermost loop of a kernel.

    target      what it is compiled for: "avx2", "sm_90"
    fma         in one turn; fma_per_load: over all reads of memory
    flop, bytes of one turn: 2 per lane of an FMA; bytes that are read and written
    registers   vector registers that the loop uses, of ``available``; of a card: of each thread
    spills      vectors moved to the stack and back; of a card: bytes spilled in the whole kernel
    mapped      whether instructions are known to come from the lines that they stand beside
    verdict     in words, what the loop waits for
    warps       of a card's multiprocessor that there is room for, of 64; None of a processor
    """

    kernel: str
    idea: str
    device: str
    target: str
    instructions: Sequence[Instruction]
    roles: Sequence[RoleCount]
    fma: int
    loads: int
    fma_per_load: float | None
    flop: int
    bytes: int
    registers: int
    available: int
    spills: int
    mapped: bool
    verdict: str
    shared_bytes: int | None
    warps: int | None


def asm(kernel: str = "tile", width: str | None = None, device: str = "cpu", arch: str = "sm_90") -> Listing:
    """The hot loop of a kernel.

    kernel  one of CPU_KERNELS, or of CARD_KERNELS with device="cuda"
    width   "sse", "avx2" or "avx512"; None: this processor's own
    arch    of a card: "sm_80", "sm_90", ...

    Raises UsageError for what is not known; MissingExtraError where a card's compiler is not installed.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device: got {device!r}; it must be 'cpu' or 'cuda'")
    known = CPU_KERNELS if device == "cpu" else CARD_KERNELS
    if kernel not in known:
        raise UsageError(f"kernel: got {kernel!r}; for {device} it must be one of {', '.join(known)}")
    if device == "cuda":
        return _of_card(kernel, arch)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UsageError(f"asm: this processor is {platform.machine()}; listings are read for x86 only, or for a card")
    if width is None:
        return _of_processor(kernel, _native_width())
    if width not in WIDTHS:
        raise UsageError(f"width: got {width!r}; it must be one of {', '.join(WIDTHS)}")
    return _elsewhere(kernel, width)


def _native_width() -> str:
    from ..kernels.simd import LANES

    return next(width for width, (lanes, _, _) in WIDTHS.items() if int(lanes) == LANES)


def _elsewhere(kernel: str, width: str) -> Listing:
    """The same from a process that compiles for another processor."""
    lanes, processor, _ = WIDTHS[width]
    code = (
        "import json, sys; from npresnet.study.asm import _of_processor; from npresnet.study.forms import plain; "
        f"json.dump(plain(_of_processor({kernel!r}, {width!r})), sys.stdout)"
    )
    environment = os.environ | {"NPRESNET_LANES": lanes, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise UsageError(f"width: {kernel} could not be compiled for {width}: {last[0]}")
    found = json.loads(done.stdout)
    found["instructions"] = [Instruction(**row) for row in found["instructions"]]
    found["roles"] = [RoleCount(**row) for row in found["roles"]]
    return Listing(**found)


# Of a processor ------------------------------------------------------------------------------------------------------


def _of_processor(kernel: str, width: str) -> Listing:
    module, name, types, idea = CPU_KERNELS[kernel]
    function = getattr(importlib.import_module(f"..kernels.{module}", __package__), name)
    if not types:
        text, mapped = _native_text(function), False
        loop = hot_loop(text)
    else:
        text, marked = (_jit_text(function, types, debug) for debug in (False, True))
        loop, lines = hot_loop(text), hot_loop(marked)
        mapped = [line.text for line in loop] == [line.text for line in lines]
        if mapped:
            loop = lines
    return _listing(kernel, idea, width, loop, _python_of(function) if mapped else None)


def _python_of(function: Any) -> tuple[int, list[str]]:
    """(number of the first line, lines) of a kernel's text."""
    lines, first = inspect.getsourcelines(inspect.unwrap(getattr(function, "py_func", function)))
    return first, lines


def _native_text(kernel: Any) -> str:
    from numba.core.ccallback import CFunc

    from ..kernels.numba_cache import OPTIONS
    from ..kernels.numba_later import enclosing_real, get_ready, resolved

    get_ready(kernel._function)
    signature = resolved(kernel._signature)
    options = {"nopython": True, **OPTIONS}
    made: Any = CFunc(enclosing_real(kernel._function), (signature.args, signature.return_type), {}, options)
    made.compile()
    text: str = made._library.get_asm_str()
    return text


def _jit_text(kernel: Any, arguments: str, debug: bool) -> str:
    import numba
    from numba import types

    from ..kernels.numba_cache import OPTIONS
    from ..kernels.numba_later import get_ready

    function = inspect.unwrap(getattr(kernel, "py_func", kernel))
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


@dataclass(frozen=True)
class _Line:
    text: str
    line: int | None


def hot_loop(text: str) -> list[_Line]:
    """The instructions of the innermost loop with the most products, or without any the longest, from its label to the jump back."""
    lines: list[_Line] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    place: int | None = None
    for raw in text.splitlines():
        line = re.sub(r"\s+#.*$", "", raw).strip()
        if found := re.match(r"\.loc\s+\d+\s+(\d+)", line):
            place = int(found[1]) or None
        elif found := re.match(r"([.\w$]+):$", line):
            labels[found[1]] = len(lines)
        elif line and not line.startswith("."):
            if (found := re.match(r"j\w+\s+([.\w]+)$", line)) and found[1] in labels:
                loops.append((labels[found[1]], len(lines)))
            lines.append(_Line(re.sub(r"\.(?:LBB|LCPI|Ltmp)\d*_?\d*", "label", re.sub(r"\s+", " ", line)), place))
    if not loops:
        raise UsageError("asm: the kernel has no loop")

    def work(loop: tuple[int, int]) -> int:
        """Products in one turn: lanes of multiply-adds."""
        return sum(_lanes(line.text) for line in lines[loop[0] : loop[1] + 1] if role_of(line.text) == "FMA")

    busy = [loop for loop in loops if work(loop)] or loops
    inner = [a for a in busy if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in busy)]
    start, end = max(inner, key=lambda loop: (work(loop), loop[1] - loop[0]))
    return lines[start : end + 1]


_VECTOR = r"%[xyz]mm\d+"


def role_of(text: str) -> str:
    """What an instruction of x86 (AT&T's spelling) is there for, as the module says."""
    name, _, operands = text.partition(" ")
    if re.match(r"vfn?m(?:add|sub)\d*[ps]s", name):
        return "FMA"
    if name.startswith("prefetch"):
        return "prefetch"
    vector = re.search(_VECTOR, operands) is not None
    memory = "(" in operands
    if memory and vector and "(%rsp" in operands:
        return "spill"
    if not vector:
        return "store" if re.match(r"mov\w*$", name) and memory and operands.endswith(")") else "address"
    if "broadcast" in name:
        return "broadcast"
    if re.match(r"v?mov", name) and memory:
        return "store" if operands.rstrip().endswith(")") else "load"
    return "load" if memory else "other"


def _bytes_of(text: str) -> int:
    """Bytes that an instruction reads or writes in memory, outside of the stack."""
    if "(" not in text or "(%rsp" in text or role_of(text) in ("address", "prefetch"):
        return 0
    name = text.partition(" ")[0]
    if name.endswith(("ss", "d")) and "ps" not in name:
        return 4
    if "{1to" in text:  # one number, spread over all lanes
        return 4
    widths = {"z": 64, "y": 32, "x": 16}
    return max((widths[kind] for kind in re.findall(r"%([xyz])mm", text)), default=8)


def _lanes(text: str) -> int:
    if text.partition(" ")[0].endswith("ss"):
        return 1
    return {"z": 16, "y": 8, "x": 4}[re.findall(r"%([xyz])mm", text)[-1]]


def _listing(
    kernel: str, idea: str, width: str, loop: Sequence[_Line], python: tuple[int, list[str]] | None
) -> Listing:
    first, source = python or (0, [])
    rows = []
    for line in loop:
        at = (line.line or 0) - first
        known = bool(python) and 0 <= at < len(source)
        rows.append(
            Instruction(
                line.text, role_of(line.text), line.line if known else None, source[at].strip() if known else ""
            )
        )
    fma = [row.text for row in rows if row.role == "FMA"]
    loads = sum(_reads(row) for row in rows)
    spills = sum(row.role == "spill" for row in rows)
    registers = {int(n) for row in rows for n in re.findall(r"%[xyz]mm(\d+)", row.text)}
    return Listing(
        kernel, idea, "cpu", width, rows, _roles(rows), len(fma), loads, len(fma) / loads if loads and fma else None,
        2 * sum(map(_lanes, fma)), sum(_bytes_of(row.text) for row in rows), len(registers), WIDTHS[width][2], spills,
        python is not None, _verdict(len(fma), loads, spills), None, None,
    )  # fmt: skip


def _reads(row: Instruction) -> bool:
    """Whether an instruction reads numbers from memory."""
    return (row.role in ("load", "broadcast") and "(" in row.text) or (row.role == "FMA" and "(" in row.text)


def _roles(rows: Sequence[Instruction]) -> list[RoleCount]:
    counts = Counter(row.role for row in rows)
    return [RoleCount(role, count, count / len(rows)) for role, count in counts.most_common()]


def _verdict(fma: int, loads: int, spills: int) -> str:
    """In words. A core of today does two FMA and two loads in a cycle."""
    spilled = f"; {spills} vectors are moved to the stack and back" if spills else "; nothing is spilled"
    if not fma:
        return f"no multiply-adds: it moves numbers, {loads} reads of memory per turn{spilled}"
    if fma > loads:
        return f"bound by the multiply-adds: {fma} of them for {loads} reads of memory{spilled}"
    return f"bound by reading: {loads} reads of memory for {fma} multiply-adds, where two of each fit into a cycle{spilled}"


# Of a card -----------------------------------------------------------------------------------------------------------


_SHARED_KB = {
    8: 164,
    9: 228,
}  # of one multiprocessor, by the first digit of its compute capability; each block takes one more


def _of_card(kernel: str, arch: str) -> Listing:
    found = re.fullmatch(r"sm_(\d+)(\d)", arch)
    if found is None:
        raise UsageError(f"arch: got {arch!r}; it must be sm_80, sm_90 or another compute capability")
    capability = int(found[1]), int(found[2])
    try:
        from ..kernels.cuda import gemm
        from ..kernels.cuda.assembly import assemble

        made = assemble(getattr(gemm, CARD_KERNELS[kernel]), capability)
        text = made.text.splitlines()
    except (ImportError, FileNotFoundError) as error:
        raise MissingExtraError(
            f'machine code of a card takes numba-cuda and nvdisasm ({error}): pip install "npresnet[cuda]" nvidia-cuda-nvdisasm'
        ) from None
    loops = made.loops()
    loop = max(loops, key=lambda loop: (loop.count("FFMA") / loop.total(), loop.count("FFMA")))
    rows = []
    for line in text[loop.start : loop.end + 1]:
        code = re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line)
        if code:
            rows.append(Instruction(code[1].strip(), _card_role(code[1]), None, ""))
    fma, loads = loop.count("FFMA"), loop.count("LDS") + loop.count("LDG")
    declared = getattr(gemm, CARD_KERNELS[kernel])
    threads, _ = declared.bounds
    return Listing(
        kernel, "compiled for a card, without one", "cuda", arch, rows, _roles(rows), fma, loads, fma / loads if loads else None,
        2 * 32 * fma, 0, made.registers, 255, made.spills, False,
        f"{fma} of {loop.total()} instructions of a turn are multiply-adds: {fma / loop.total():.0%} of what a warp issues",
        made.shared, _warps(made.registers, threads, made.shared, capability[0]),
    )  # fmt: skip


def _card_role(text: str) -> str:
    name = re.sub(r"^@!?U?P\w+\s+", "", text).partition(" ")[0]
    if name.startswith(("FFMA", "HMMA")):
        return "FMA"
    if name.startswith(("LDL", "STL")):
        return "spill"
    if name.startswith(("LDS", "LDG", "LD.", "LDC", "ULDC")):
        return "load"
    if name.startswith(("STS", "STG")):
        return "store"
    return "other" if name.startswith(("FADD", "FMUL", "FSEL", "FSETP")) else "address"


def _warps(registers: int, threads: int, shared: int, generation: int) -> int:
    """How many warps of one multiprocessor there is room for."""
    whole = -(-registers // 8) * 8 * threads
    memory = _SHARED_KB.get(generation, 100) * 1024
    return min(65_536 // whole, 2048 // threads, memory // (shared + 1024)) * threads // 32
