"""Kernels that are written in vector instructions (``simd.py``), run one instruction at a time, with a note of every number that they
read and write.

Nothing is written down twice for it. The Python around the instructions runs as it is, with addresses for arrays; where it calls an
intrinsic, the instructions that this makes are made, as when Numba compiles it, and worked off here, in place of a processor. A
vector counts as its numbers, one after the other. What is only asked for ahead of time is no access.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from ..errors import UsageError
from .recorded import Log, python_of
from .sources import function_of

__all__ = ["Stepwise"]

Array = npt.NDArray[Any]

_COMPARED: Mapping[str, Callable[[Any, Any], Any]] = {
    "slt": np.less, "sgt": np.greater, "sge": np.greater_equal, "sle": np.less_equal, "eq": np.equal, "olt": np.less,
}  # fmt: skip
_COMPUTED: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "and": lambda a, b: a & b,
    "sdiv": lambda a, b: int(a / b), "fadd": np.add, "fsub": np.subtract, "fmul": np.multiply,
}  # fmt: skip


class Stepwise:
    """Runs kernels of this process's width of vectors. All memory is that of NumPy arrays, at their own addresses.

    memory   {name: C-contiguous float32}: whatever else is touched is an error
    records  {name of a kernel's view: the record that it makes of whatever address}
    """

    def __init__(self, memory: Mapping[str, Array], records: Mapping[str, Any] | None = None) -> None:
        self.log = Log([*memory], [array.size for array in memory.values()], pieces=[0])
        self._memory = list(memory.values())
        self._records = records or {}
        self._emitted: dict[Any, ir.Function] = {}
        self._functions: dict[int, Callable[..., Any]] = {}

    def run(self, kernel: Any, *arguments: Any) -> None:
        """Call a kernel, or what it calls by address."""
        if id(kernel) not in self._functions:
            self._functions[id(kernel)] = self._python(kernel)
        self._functions[id(kernel)](*arguments)

    def _python(self, kernel: Any) -> Callable[..., Any]:
        from ..kernels.numba_later import get_ready

        function = function_of(kernel)
        get_ready(function)
        own: dict[str, Callable[..., Any]] = {
            "call": lambda called, arguments: self.run(called, *arguments), "carray": lambda address, _: _Numbers(self, address),
            "float_pointer": int, "zero_bytes": self._zero, "copy_bytes": self._copy,
        }  # fmt: skip
        own |= {name: lambda _, record=record: record for name, record in self._records.items()}
        names = {
            name: own.get(name) or self._intrinsic(value)
            for name, value in function.__globals__.items()
            if name in own or hasattr(value, "_defn")
        }
        return python_of(kernel, **names)

    # Memory ----------------------------------------------------------------------------------------------------------

    def touched(self, address: int, count: int, written: bool) -> Array:
        """The ``count`` numbers at an address, after a note of them."""
        for number, array in enumerate(self._memory):
            first = (address - array.ctypes.data) // 4
            if first >= 0 and first + count <= array.size:
                self.log.accesses += [(number, first + i, written) for i in range(count)]
                return array.reshape(-1)[first : first + count]
        raise UsageError(f"watch: {count} numbers at {address:#x} lie outside of all arrays")

    def _zero(self, to: int, size: int) -> None:
        self.touched(to, size // 4, True)[:] = 0

    def _copy(self, to: int, source: int, size: int) -> None:
        for at in range(0, size, 4):
            self.touched(to + at, 1, True)[:] = self.touched(source + at, 1, False)

    # Instructions ----------------------------------------------------------------------------------------------------

    def _intrinsic(self, intrinsic: Any) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            from numba import types

            kinds = [types.literal(int(a)) if isinstance(a, int | np.integer) else types.float32 for a in arguments]
            signature, codegen = intrinsic._defn(None, *kinds)
            key = intrinsic._defn, tuple(map(str, signature.args))
            if key not in self._emitted:
                self._emitted[key] = _emitted(signature.args, codegen)
            self._work_off(self._emitted[key], arguments)
            self.log.pieces.append(
                len(self.log.accesses)
            )  # with what it takes to make an intrinsic's input, that is a piece

        return run

    def _work_off(self, function: ir.Function, arguments: Sequence[Any]) -> None:
        given = (np.float32(a) if isinstance(a, float) else a for a in arguments)
        values: dict[int, Any] = {id(name): a for name, a in zip(function.args, given, strict=True)}

        def value(operand: Any) -> Any:
            return values[id(operand)] if id(operand) in values else _constant(operand)

        before, block = None, function.blocks[0]
        while True:
            phis = [instruction for instruction in block.instructions if instruction.opname == "phi"]
            joined = [value(next(v for v, origin in phi.incomings if origin is before)) for phi in phis]
            values.update(zip(map(id, phis), joined, strict=True))
            for instruction in block.instructions[len(phis) :]:
                operands, name = instruction.operands, instruction.opname
                if name in ("br", "switch", "ret void"):
                    break
                values[id(instruction)] = self._done(instruction, name, operands, value)
            if name == "ret void":
                return
            before, block = block, _next(instruction, value)

    def _done(self, instruction: Any, name: str, operands: Sequence[Any], value: Callable[[Any], Any]) -> Any:
        """The result of one instruction that is no jump."""
        if name == "call":
            return self._called(instruction.args, instruction.callee.name, value)
        given = [value(operand) for operand in operands]
        if name in _COMPUTED:
            return _COMPUTED[name](*given)
        if name in ("icmp", "fcmp"):
            return _COMPARED[instruction.op](*given)
        if name == "inttoptr":
            return given[0]
        if name == "load":
            count = instruction.type.count if isinstance(instruction.type, ir.VectorType) else None
            found = self.touched(given[0], count or 1, False)
            return found.copy() if count else found[0]
        if name == "store":
            self.touched(given[1], len(given[0]), True)[:] = given[0]
            return None
        if name == "insertelement":
            vector = given[0].copy()
            vector[given[2]] = given[1]
            return vector
        if name == "shufflevector":
            return np.concatenate(given[:2])[given[2]]
        if name == "select":
            return np.where(*given) if isinstance(given[0], np.ndarray) else given[1] if given[0] else given[2]
        raise UsageError(f"watch: the instruction {name!r} cannot be followed")

    def _called(self, operands: Sequence[Any], name: str, value: Callable[[Any], Any]) -> Any:
        if name.startswith("llvm.prefetch"):
            return None
        given = [value(operand) for operand in operands]
        if name.startswith("llvm.fmuladd"):
            return given[0] * given[1] + given[2]
        if name.startswith("llvm.masked.load"):
            address, _, mask, result = given
            for lane in np.flatnonzero(mask):
                result[lane] = self.touched(address + 4 * int(lane), 1, False)[0]
            return result
        if name.startswith("llvm.masked.store"):
            vector, address, _, mask = given
            for lane in np.flatnonzero(mask):
                self.touched(address + 4 * int(lane), 1, True)[0] = vector[lane]
            return None
        raise UsageError(f"watch: the instruction {name!r} cannot be followed")


class _Numbers:
    """What ``carray`` makes of an address, in one dimension."""

    def __init__(self, machine: Stepwise, address: int) -> None:
        self._machine, self._address = machine, address

    def __getitem__(self, index: int) -> Any:
        return self._machine.touched(self._address + 4 * index, 1, False)[0]

    def __setitem__(self, index: int, number: Any) -> None:
        self._machine.touched(self._address + 4 * index, 1, True)[0] = number


class _Context:
    """All that the kernels' intrinsics ask of Numba's."""

    @staticmethod
    def get_dummy_value() -> None:
        """What a function without a result returns."""


def _emitted(kinds: Sequence[Any], codegen: Callable[..., Any]) -> ir.Function:
    """The instructions that an intrinsic makes, as a function."""
    from numba import types

    known = {types.float32: ir.FloatType(), types.boolean: ir.IntType(1)}
    kind = ir.FunctionType(ir.VoidType(), [known.get(found, ir.IntType(64)) for found in kinds])
    function = ir.Function(ir.Module(), kind, "kernel")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    codegen(_Context, builder, None, function.args)
    builder.ret_void()
    return function


def _constant(operand: Any) -> Any:
    """The value of a constant of LLVM's."""
    if isinstance(operand.type, ir.VectorType):
        dtype = np.float32 if isinstance(operand.type.element, ir.FloatType) else np.int64
        numbers = [getattr(number, "constant", number) for number in operand.constant]
        return np.array([0 if number is ir.Undefined else number for number in numbers], dtype)  # any will do for those
    return operand.constant


def _next(jump: Any, value: Callable[[Any], Any]) -> Any:
    """The block that a jump leads to."""
    if jump.opname == "switch":
        found = value(jump.value)
        return next((block for number, block in jump.cases if value(number) == found), jump.default)
    if len(jump.operands) == 1:
        return jump.operands[0]
    condition, there, otherwise = jump.operands
    return there if value(condition) else otherwise
