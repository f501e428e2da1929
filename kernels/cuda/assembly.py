"""What the compiler makes of a kernel: registers, spills, shared memory, and every instruction. No card is needed.

    assembly = assemble(kernel, (9, 0))
    assembly.registers, assembly.spills, assembly.count("FFMA"), assembly.count("LDG.E.128")

Kernels go the same way as when they are launched: Numba's NVVM makes LTO-IR of them, nvJitLink machine code (SASS) of
that; nvdisasm lists it, when an instruction is first asked for: to start it takes longer than to compile most kernels, which
``assemble_all`` therefore has listed together. It takes numba-cuda with its CUDA parts, and the package nvidia-cuda-nvdisasm.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from numba import cuda

from .launch import Kernel

__all__ = ["Assembly", "assemble", "assemble_all", "capabilities", "intermediate", "newest", "suffix"]


@dataclass(frozen=True)
class Assembly:
    """The machine code of one kernel for one architecture.

    registers     of each thread
    spills        bytes written to and read from local memory because there were too few registers
    stack         bytes of local memory per thread: arrays whose indices are not known at compile time
    shared        bytes of static shared memory per block
    cubin         the code itself, as a card takes it; with that of all kernels that were assembled together
    symbol        its name in there
    lines         whether it says which line of the source each instruction is of; the instructions are the same

    Its instructions raise FileNotFoundError where nvdisasm is not installed.
    """

    registers: int
    spills: int
    stack: int
    shared: int
    cubin: bytes
    symbol: str
    lines: bool = False

    @functools.cached_property
    def text(self) -> str:
        """The code as nvdisasm lists it."""
        return _disassemble(self.cubin, self.lines)[self.symbol]

    @functools.cached_property
    def instructions(self) -> Mapping[str, int]:
        """{instruction with its modifiers, "LDG.E.128" say: how many in the code}"""
        return Counter(filter(None, map(_name, self.text.splitlines())))

    def count(self, name: str) -> int:
        """How many instructions have the given name, with whatever modifiers: "LDG" counts "LDG.E.128", too."""
        return _count(self.instructions, name)

    def loops(self) -> list[Loop]:
        """Every loop: what lies between a label and a jump back to it. Inner ones come first."""
        lines = self.text.splitlines()
        labels = {found[1]: at for at, line in enumerate(lines) if (found := re.match(r"\s*(\.L_\w+):", line))}
        places = []
        for end, line in enumerate(lines):
            target = re.search(r"BRA.*\((\.L_\w+)\)", line)
            if target and labels.get(target[1], end + 1) < end:  # the padding at the end jumps to itself
                places.append((labels[target[1]], end))
        places = [(start, end) for start, end in places if end - start > 2]
        places.sort(key=lambda place: place[1] - place[0])
        return [Loop(start, end, Counter(filter(None, map(_name, lines[start : end + 1])))) for start, end in places]

    def issued(self, products: int, instruction: str = "FFMA") -> float:
        """Instructions that a warp issues in one turn of the main loop, the one with the barrier, for ``products``
        instructions of the given name in it: an inner loop that holds such ones counts as often as it takes to do those that are
        not outside of it."""
        loops = self.loops()
        main = next(loop for loop in loops if loop.count("BAR") and loop.count(instruction))
        inner = [loop for loop in loops if main.start < loop.start and loop.end < main.end and loop.count(instruction)]
        total = float(main.total())
        for loop in inner:
            total += loop.total() * (products - main.count(instruction)) / loop.count(instruction)
        return total


@dataclass(frozen=True)
class Loop:
    """A loop in machine code: its first and last line, and {instruction: how many} in one turn."""

    start: int
    end: int
    instructions: Mapping[str, int]

    def count(self, name: str) -> int:
        """How many instructions have the given name, with whatever modifiers."""
        return _count(self.instructions, name)

    def total(self) -> int:
        """How many instructions there are in one turn."""
        return sum(self.instructions.values())


def _count(instructions: Mapping[str, int], name: str) -> int:
    return sum(n for found, n in instructions.items() if f"{found}.".startswith(f"{name}."))


def _name(line: str) -> str | None:
    found = re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", line)
    return found[1] if found else None


def intermediate(kernel: Kernel, capability: tuple[int, int], output: str = "ptx", lines: bool = False) -> str | bytes:
    """PTX, or LTO-IR (``output="ltoir"``), of a kernel for a compute capability such as (9, 0); with the ``lines`` of its source."""
    code, _ = cuda.compile(
        kernel.function, kernel.signature, cc=(*capability, suffix(kernel)), device=False, abi="numba", output=output,
        launch_bounds=kernel.bounds, lineinfo=lines,
    )  # fmt: skip
    return code


def suffix(kernel: Kernel) -> str:
    """What follows an architecture's number: the letter for the instructions that no later one has, where a kernel uses them."""
    return "a" if kernel.only else ""


def capabilities() -> list[tuple[int, int]]:
    """The compute capabilities that the installed CUDA compiles for, the oldest first."""
    from numba.cuda.cudadrv import nvrtc

    return sorted(tuple(found) for found in nvrtc.get_supported_ccs())


def newest() -> tuple[int, int]:
    """The last of them."""
    return capabilities()[-1]


def assemble(kernel: Kernel, capability: tuple[int, int], lines: bool = False) -> Assembly:
    """Compile a kernel to machine code for a compute capability such as (9, 0), with the ``lines`` of its source.

    Raises Numba's and nvJitLink's errors where a kernel is wrong.
    """
    return assemble_all([kernel], capability, lines)[kernel.name]


def assemble_all(kernels: Iterable[Kernel], capability: tuple[int, int], lines: bool = False) -> dict[str, Assembly]:
    """Several kernels as ``assemble`` makes them, by name, in one piece of machine code, which is disassembled at once; those that
    need a letter behind the architecture's number (``suffix``) apart from the others."""
    from cuda.bindings import nvjitlink

    kernels = list(kernels)
    (letter,) = {suffix(kernel) for kernel in kernels}
    architecture = f"sm_{capability[0]}{capability[1]}{letter}"
    options = [f"-arch={architecture}", "-lto", "-verbose", "-O3", *(["-lineinfo"] if lines else [])]
    linker = nvjitlink.create(len(options), options)
    try:
        for kernel in kernels:
            code = intermediate(kernel, capability, "ltoir", lines)
            nvjitlink.add_data(linker, nvjitlink.InputType.LTOIR, code, len(code), kernel.name)
        nvjitlink.complete(linker)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, cubin)
    finally:
        nvjitlink.destroy(linker)
    _, *parts = re.split(r"Compiling entry function '(\S+)'", log.decode())
    reports, code = dict(zip(parts[::2], parts[1::2], strict=True)), bytes(cubin)
    made = {}
    for kernel in kernels:
        name = kernel.function.__name__  # C++'s way to write names: each with its length, and Numba's own sign behind
        (symbol,) = (symbol for symbol in reports if f"{len(name)}{name}B" in symbol)
        report = reports[symbol]
        made[kernel.name] = Assembly(
            registers=_number(r"Used (\d+) registers", report),
            spills=_number(r"(\d+) bytes spill stores", report) + _number(r"(\d+) bytes spill loads", report),
            stack=_number(r"(\d+) bytes stack frame", report),
            shared=_number(r"(\d+) bytes smem", report),
            cubin=code,
            symbol=symbol,
            lines=lines,
        )
    return made


def _number(pattern: str, report: str) -> int:
    found = re.search(pattern, report)
    if found is None and "smem" not in pattern:
        raise ValueError(f"the linker's report does not tell {pattern!r}: {report!r}")
    return int(found[1]) if found else 0


@functools.lru_cache(maxsize=4)
def _disassemble(cubin: bytes, lines: bool) -> dict[str, str]:
    """{symbol: listing of its code}"""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        # without its analysis of data flow, of which the listing shows nothing
        command = [_nvdisasm(), "-c", "-ndf", *(["-g"] if lines else []), file.name]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, *parts = re.split(r"(?m)^\s*\.section\s+\.text\.([^\s,]+)", listed)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _nvdisasm() -> str:
    """The disassembler: on the path, or in the package nvidia-cuda-nvdisasm."""
    found = shutil.which("nvdisasm")
    if found:
        return found
    import nvidia  # a namespace of NVIDIA's packages

    for root in map(Path, nvidia.__path__):
        for path in root.glob("cu*/bin/nvdisasm*"):
            return str(path)
    raise FileNotFoundError("nvdisasm: not found; `pip install nvidia-cuda-nvdisasm` brings it")
