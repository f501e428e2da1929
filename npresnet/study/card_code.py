"""A card's kernels as machine code (SASS) and as PTX, compiled without a card: the innermost loop that multiplies."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from ..errors import MissingExtraError, UsageError
from .listing import Line, Listing, beside_python, innermost, roles, source_lines

__all__ = ["CARD_KERNELS", "of_card", "ptx_loop", "sass_lines"]

CARD_KERNELS = {"gemm_cuda_naive": "_gemm_naive", "gemm_cuda_shared": "_gemm_shared", "gemm_cuda_tiled": "_gemm_tiled",
                "gemm_cuda_vectorized": "_gemm_vectorized"}  # fmt: skip


def of_card(kernel: str, arch: str, ptx: bool) -> Listing:
    """The listing of a card's kernel; ``asm`` says what is raised."""
    found = re.fullmatch(r"sm_(\d+)(\d)", arch)
    if found is None:
        raise UsageError(f"arch: got {arch!r}; it must be sm_80, sm_90 or another compute capability")
    capability = int(found[1]), int(found[2])
    try:
        from ..kernels.cuda import gemm
        from ..kernels.cuda.assembly import capabilities, intermediate
        from ..kernels.cuda.launch import SIMULATED
        from ..kernels.cuda.occupancy import multiprocessor, resident_warps
    except ImportError as error:
        raise MissingExtraError(
            f'machine code of a card takes numba-cuda ({error}): pip install "npresnet[cuda]"'
        ) from None
    if SIMULATED:
        raise UsageError("asm: Numba's simulator has no compiler for cards; unset NUMBA_ENABLE_CUDASIM")
    if capability not in capabilities():
        some = ", ".join(f"sm_{major}{minor}" for major, minor in capabilities())
        raise UsageError(f"arch: got {arch!r}; the CUDA that is installed compiles for {some}")
    declared = getattr(gemm, CARD_KERNELS[kernel])
    file, (threads, _) = declared.function.__code__.co_filename, declared.bounds
    made = _assembled(declared, capability, lines=False)
    try:
        if ptx:
            texts = [str(intermediate(declared, capability, lines=lines)) for lines in (False, True)]
            plain, marked = ptx_loop(texts[0]), ptx_loop(texts[1])
        else:
            loops = made.loops()
            loop = max(loops, key=lambda loop: (loop.count("FFMA") / loop.total(), loop.count("FFMA")))
            plain = sass_lines(made.text.splitlines()[loop.start : loop.end + 1])
            again = _assembled(declared, capability, lines=True)
            same = again.loops()[loops.index(loop)]
            marked = sass_lines(again.text.splitlines()[: same.end + 1])[-len(plain) :]
    except FileNotFoundError as error:
        raise MissingExtraError(f"{error}: pip install nvidia-cuda-nvdisasm") from None
    rows, mapped = beside_python(plain, marked, file, _ptx_role if ptx else _sass_role)
    counts = {row.role: row.count for row in roles(rows)}
    fma, loads = counts.get("FMA", 0), counts.get("load", 0)
    sm = multiprocessor(capability)
    return Listing(
        kernel, "compiled for a card, without one", "cuda", f"{arch}, PTX" if ptx else arch, rows, roles(rows), source_lines(rows), fma, loads,
        fma / loads if loads else None, 2 * 32 * fma, 0, made.registers, 255, made.spills, mapped,
        _verdict(fma, len(rows), ptx),
        made.shared, resident_warps(sm, made.registers, threads, made.shared) if sm else None, sm.warps if sm else None,
    )  # fmt: skip


@functools.cache
def _assembled(kernel: Any, capability: tuple[int, int], lines: bool) -> Any:
    """``assemble``, which takes seconds, once: PTX is asked for beside what becomes of it."""
    from ..kernels.cuda.assembly import assemble

    return assemble(kernel, capability, lines)


def _verdict(fma: int, count: int, ptx: bool) -> str:
    """In words."""
    share = f"{fma} of {count} instructions of a turn are multiply-adds"
    return (
        f"{share}; a card runs what the assembler makes of it, which joins many of the others: ask without PTX"
        if ptx
        else f"{share}: {fma / count:.0%} of what a warp issues"
    )


def sass_lines(text: Sequence[str]) -> list[Line]:
    """The instructions of nvdisasm's listing, with the lines that it may say they are of."""
    found, place = [], None
    for raw in text:
        if said := re.match(r'\s*//## File ".*", line (\d+)', raw):
            place = int(said[1])
        elif code := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", raw):
            found.append(Line(code[1], place))
    return found


def ptx_loop(text: str) -> list[Line]:
    """The instructions of the innermost loop of PTX that multiplies."""
    lines: list[Line] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    place: int | None = None
    for raw in text.splitlines():
        line = re.sub(r"\s+", " ", raw).strip()
        if found := re.match(r"\.loc \d+ (\d+)", line):
            place = int(found[1]) or None
        elif found := re.match(r"(\$\w+):", line):
            labels[found[1]] = len(lines)
        elif line.endswith(";") and not line.startswith("."):
            if (found := re.search(r"\bbra(?:\.uni)? (\$\w+);", line)) and found[1] in labels:
                loops.append((labels[found[1]], len(lines)))
            lines.append(Line(line.rstrip(";"), place))
    return innermost(lines, loops, lambda loop: sum(_ptx_role(line.text) == "FMA" for line in loop))


def _ptx_role(text: str) -> str:
    name = re.sub(r"^@!?%p\d+ ", "", text).partition(" ")[0]
    if name.startswith(("ld.local", "st.local")):
        return "spill"
    if name.startswith("fma.rn.f32"):
        return "FMA"
    if name.startswith("ld."):
        return "load"
    if name.startswith("st."):
        return "store"
    return "other" if re.match(r"(?:add|sub|mul|selp|setp)\S*\.f32", name) else "address"


def _sass_role(text: str) -> str:
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
