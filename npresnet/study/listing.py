"""A listing of machine code: the innermost loop of a kernel, instruction by instruction, each with what it is there for.

FMA        multiplies and adds: what all others are there for
load       brings numbers into a register; also part of an FMA that reads memory itself
broadcast  brings one number into all lanes of a register
store      writes numbers back
spill      moves a register to the stack or from it, because there are too few
prefetch   asks for memory that will be needed
address    counts, compares, jumps, and says where the next numbers are; also where it looks that up on the stack
other      arithmetic that is no FMA, and moves between registers
"""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from .forms import Column, Grid

__all__ = [
    "TABLES",
    "Instruction",
    "Line",
    "Listing",
    "RoleCount",
    "SourceLine",
    "beside_python",
    "innermost",
    "roles",
    "source_lines",
]

TABLES = (
    Grid(
        "roles",
        (Column("what", "role"), Column("instructions", "count", "count"), Column("of all", "share", "percent")),
        "The innermost loop, one turn",
    ),
    Grid(
        "lines",
        (Column("line", "line", "count"), Column("instructions", "count", "count"), Column("Python", "python")),
        "Which lines they come from; the compiler's own moves and jumps may be of none",
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
class SourceLine:
    """A line of Python, and how many of the loop's instructions come from it."""

    line: int
    count: int
    python: str


@dataclass(frozen=True)
class Listing:
    """The innermost loop of a kernel.

    target      what it is compiled for: "avx2", "sm_90", "sm_90, PTX"
    fma         in one turn; fma_per_load: over all reads of memory
    flop, bytes of one turn: 2 per lane of an FMA; bytes that are read and written
    registers   vector registers that the loop uses, of ``available``; of a card: of each thread
    spills      vectors moved to the stack and back; of a card: bytes spilled in the whole kernel
    mapped      whether instructions are known to come from the lines that they stand beside
    verdict     in words, what the loop waits for
    warps       that there is room for on a card's multiprocessor, of ``most_warps``; None of a processor, and where it is not known
    """

    kernel: str
    idea: str
    device: str
    target: str
    instructions: Sequence[Instruction]
    roles: Sequence[RoleCount]
    lines: Sequence[SourceLine]
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
    most_warps: int | None


@dataclass(frozen=True)
class Line:
    """One instruction's text, and the line of the source that it comes from, where the compiler says."""

    text: str
    line: int | None


def innermost(
    lines: Sequence[Line], loops: Sequence[tuple[int, int]], work: Callable[[Sequence[Line]], int]
) -> list[Line]:
    """Of ``loops``, (first, last) among ``lines``, the innermost one in which most ``work`` is done, or without any the longest.

    Raises UsageError where there is none.
    """
    if not loops:
        raise UsageError("asm: the kernel has no loop")
    worked = {loop: work(lines[loop[0] : loop[1] + 1]) for loop in loops}
    busy = [loop for loop in loops if worked[loop]] or loops
    inner = [a for a in busy if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in busy)]
    start, end = max(inner, key=lambda loop: (worked[loop], loop[1] - loop[0]))
    return list(lines[start : end + 1])


def beside_python(
    plain: Sequence[Line], marked: Sequence[Line], file: str, role: Callable[[str], str]
) -> tuple[list[Instruction], bool]:
    """(instructions, whether they stand beside their lines of ``file``): ``marked`` is the same loop, compiled so that it says which
    line each comes from. Where that has changed the code, no line is shown."""
    mapped = [line.text for line in plain] == [line.text for line in marked]
    rows = []
    for line in marked if mapped else plain:
        python = linecache.getline(file, line.line).strip() if mapped and line.line else ""
        rows.append(Instruction(line.text, role(line.text), line.line if python else None, python))
    return rows, mapped


def source_lines(rows: Sequence[Instruction]) -> list[SourceLine]:
    """Those that are known, in their own order."""
    counts = Counter((row.line, row.python) for row in rows if row.line is not None)
    return [SourceLine(line, count, python) for (line, python), count in sorted(counts.items())]


def roles(rows: Sequence[Instruction]) -> list[RoleCount]:
    """How many there are of each, the most first."""
    counts = Counter(row.role for row in rows)
    return [RoleCount(role, count, count / len(rows)) for role, count in counts.most_common()]
