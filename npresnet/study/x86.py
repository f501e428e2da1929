"""Machine code of x86 as a compiler writes it, in AT&T's spelling: its hottest loop, and what each instruction does there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .listing import Line, innermost

__all__ = ["bytes_of", "hot_loop", "lanes", "role_of"]


def hot_loop(text: str, file: str = "") -> list[Line]:
    """The instructions of the innermost loop with the most products, or without any the longest, from its label to the jump back.

    file  of whose lines the text may say which instruction comes from which
    """
    lines: list[Line] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    own: set[str] = set()
    place: int | None = None
    for raw in text.splitlines():
        line = re.sub(r"\s+#.*$", "", raw).strip()
        if found := re.match(r'\.file\s+(\d+) .*?"([^"]*)"(?:\s+md5.*)?$', line):
            if file and file.endswith(found[2]):
                own.add(found[1])
        elif found := re.match(r"\.loc\s+(\d+)\s+(\d+)", line):
            place = int(found[2]) or None if found[1] in own else None
        elif found := re.match(r"([.\w$]+):$", line):
            labels[found[1]] = len(lines)
        elif line and not line.startswith("."):
            if (found := re.match(r"j\w+\s+([.\w]+)$", line)) and found[1] in labels:
                loops.append((labels[found[1]], len(lines)))
            lines.append(Line(re.sub(r"\.(?:LBB|LCPI|Ltmp)\d*_?\d*", "label", re.sub(r"\s+", " ", line)), place))
    return innermost(lines, loops, _products)


def _products(loop: Sequence[Line]) -> int:
    """In one turn: lanes of multiply-adds, and of multiplications, which are all that processors without FMA have."""
    return sum(lanes(line.text) for line in loop if role_of(line.text) == "FMA" or re.match(r"v?mul[ps]s", line.text))


_VECTOR = r"%[xyz]mm\d+"


def role_of(text: str) -> str:
    """What an instruction is there for, as ``listing.py`` has it."""
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


def bytes_of(text: str) -> int:
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


def lanes(text: str) -> int:
    """Of one multiply-add."""
    if text.partition(" ")[0].endswith("ss"):
        return 1
    return {"z": 16, "y": 8, "x": 4}[re.findall(r"%([xyz])mm", text)[-1]]
