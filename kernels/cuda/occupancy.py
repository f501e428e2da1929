"""How many warps of a multiprocessor a kernel leaves room for, by what its threads take: of any card, without one."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Multiprocessor", "multiprocessor", "resident_warps"]


class Multiprocessor(NamedTuple):
    """What one has of each: shared memory in KB, of which each block takes one more; blocks and warps that are there at once."""

    shared: int
    blocks: int
    warps: int


REGISTERS = 65_536
"""Of each, on all cards since 2014; dealt out to warps, eight at a time for each thread."""

# CUDA Programming Guide, "Compute Capabilities", the table of technical specifications
_KNOWN = {
    (7, 5): Multiprocessor(64, 16, 32),
    (8, 0): Multiprocessor(164, 32, 64),
    (8, 6): Multiprocessor(100, 16, 48),
    (8, 7): Multiprocessor(164, 16, 48),
    (8, 8): Multiprocessor(100, 16, 48),
    (8, 9): Multiprocessor(100, 24, 48),
    (9, 0): Multiprocessor(228, 32, 64),
    (10, 0): Multiprocessor(228, 32, 64),
    (10, 3): Multiprocessor(228, 32, 64),
    (11, 0): Multiprocessor(228, 24, 48),
    (12, 0): Multiprocessor(100, 24, 48),
    (12, 1): Multiprocessor(100, 24, 48),
}


def multiprocessor(capability: tuple[int, int]) -> Multiprocessor | None:
    """Of a compute capability such as (9, 0); None where it is not known."""
    return _KNOWN.get(capability)


def resident_warps(sm: Multiprocessor, registers: int, threads: int, shared: int) -> int:
    """Warps that there is room for at once, of blocks of ``threads`` threads with so many registers each and ``shared`` bytes each."""
    by_registers = REGISTERS // (-(-registers // 8) * 8 * threads)
    by_memory = sm.shared * 1024 // (shared + 1024)
    return min(by_registers, by_memory, 32 * sm.warps // threads, sm.blocks) * threads // 32
