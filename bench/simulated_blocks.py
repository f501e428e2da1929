"""A block of threads in Numba's simulator, without threads of the operating system.

Numba's own manager of a block starts one of those for each of the card's, and asks them again and again whether they have
ended or wait at a barrier. To start them, and to wait, takes many times what most kernels compute. Here all run in the thread
that is there: one after another where they have nothing to do with each other; else a kernel becomes a generator that yields
at each barrier, and those that may go on do so in a random order, the same in each run, so that a barrier that is missing
shows. What the threads do is the simulator's.
"""

from __future__ import annotations

import ast
import functools
import inspect
import random
import textwrap
import threading
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.cuda.simulator import kernel
from numba.cuda.simulator.cudadrv.devicearray import FakeWithinKernelCUDAArray
from numba.cuda.simulator.kernelapi import Dim3

from npresnet.kernels.cuda import gemm, implicit, ptx

__all__ = ["Manager", "quicken", "together"]


NUMBERS = {
    id(each): getattr(np, each.name) for each in (types.int32, types.int64, types.uint32, types.float32, types.float64)
}
"""NumPy's types by Numba's, which make the same numbers, but through imports and abstract classes each time: kernels write
``int32(...)`` around nearly every index."""


def quicken() -> None:
    """Let the simulator run blocks so, from now on in this process; and the innermost loops of products of matrices as one
    addition of NumPy's each, which rounds as they do."""
    kernel.BlockManager = Manager
    for module, quick in QUICK.items():
        module.multiply_add = quick


def _of_factors(left: Any, right: Any, tm: int, tn: int, sums: Any) -> None:
    sums += np.multiply.outer(left, right).reshape(tm * tn)


def _of_vectors(tile_a: Any, at_a: int, tile_b: Any, at_b: int, left: Any, right: Any, sums: Any) -> None:
    left[:4], left[4:] = ptx.load4(tile_a, at_a), ptx.load4(tile_a, at_a + 4)
    right[:4], right[4:] = ptx.load4(tile_b, at_b), ptx.load4(tile_b, at_b + gemm.BN // 2)
    _of_factors(left, right, gemm.TM, gemm.TN, sums)


def _of_tiles(tile_a: Any, tile_b: Any, k: int, row: int, column: int, tm: int, tn: int, sums: Any) -> None:
    _of_factors(tile_a[k, row : row + tm], tile_b[k, column : column + tn], tm, tn, sums)


QUICK: dict[Any, Callable[..., None]] = {gemm: _of_vectors, implicit: _of_factors}
"""{module: what stands for its ``multiply_add``}."""

AS_WRITTEN = {module: module.multiply_add for module in QUICK}

LOOP = """\
for i in range(_TM):
    for j in range(_TN):
        sums[i * _TN + j] += tile_a[k, row + i] * tile_b[k, column + j]"""
QUICK_LOOP = "_of_tiles(tile_a, tile_b, k, row, column, _TM, _TN, sums)"
"""What stands for that loop in a kernel that has it in its own lines."""


@functools.cache
def together(function: Any) -> bool:
    """Whether threads that run ``function`` wait for each other: it, or what it calls, has a barrier."""
    return any(name.startswith("sync") or name == "wait" for name, _ in _names(function, set()))


def _names(function: Any, seen: set[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All names in the code of a function, and of those that it may call; with what is global there."""
    if function in seen:
        return
    seen.add(function)
    codes = [function.__code__]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        yield from ((name, function.__globals__) for name in code.co_names)
    for called in _known(function).values():
        yield from _names(called, seen)


@functools.cache
def _with_numbers_of_numpy(function: Any) -> None:
    """Exchange the types by whose names a function, and those that it may call, make numbers."""
    for name, known in _names(function, set()):
        if (numbers := NUMBERS.get(id(known.get(name)))) is not None:
            known[name] = numbers


def _known(function: Any) -> dict[str, Any]:
    """{name: function} of those that a function may call."""
    known = inspect.getclosurevars(function)
    values = {name: getattr(value, "fn", value) for name, value in {**known.globals, **known.nonlocals}.items()}
    return {name: value for name, value in values.items() if isinstance(value, FunctionType)}


class _Yielding(ast.NodeTransformer):
    """Barriers become ``yield``: of None for that of the block, of the barrier itself for others; and calls of what has some,
    ``yield from``. ``LOOP`` becomes ``QUICK_LOOP``."""

    def __init__(self, function: Any) -> None:
        self.called = {name for name, called in _known(function).items() if together(called)}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(attr="syncthreads"):
                return ast.Yield(None)
            case ast.Attribute(attr="wait", value=barrier):
                return ast.Yield(barrier)
            case ast.Name(id=name) if name in self.called:
                node.func = ast.Call(ast.Name("_generator", ast.Load()), [node.func], [])
                return ast.YieldFrom(node)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        if ast.unparse(node) == LOOP:
            return ast.copy_location(ast.parse(QUICK_LOOP).body[0], node)
        return self.generic_visit(node)


@functools.cache
def _generator(function: Any) -> Callable[..., Iterator[Any]]:
    """A function with barriers as a generator, with the same variables around it and the same lines."""
    function = getattr(function, "fn", function)  # what Numba has wrapped
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (made,) = tree.body
    assert isinstance(made, ast.FunctionDef)
    made.decorator_list = []
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells |= {each.__name__: CellType(each) for each in (_generator, _of_tiles)}
    around = ast.parse(f"def around({', '.join(cells)}): pass")
    around.body[0].body = [_Yielding(function).visit(made)]  # type: ignore[attr-defined]
    ast.increment_lineno(ast.fix_missing_locations(around), function.__code__.co_firstlineno - 1)
    code = compile(around, function.__code__.co_filename, "exec", dont_inherit=True)
    for name in ("around", made.name):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return FunctionType(
        code, function.__globals__, made.name, function.__defaults__, tuple(cells[name] for name in code.co_freevars)
    )


class _Thread:
    """What a kernel asks of its thread, in the place of the one that is there; and what the simulator keeps with it."""

    def __init__(self, block: Dim3, place: tuple[int, ...], number: int) -> None:
        self.blockIdx, self.threadIdx, self.thread_id = block, Dim3(*place), number

    def syncthreads(self) -> None:
        raise AssertionError("a barrier that was not seen in a kernel: see together()")


class Manager(kernel.BlockManager):  # type: ignore[misc]
    """In the place of Numba's ``BlockManager``; a barrier is passed when all threads that have not ended are there."""

    def run(self, grid_point: tuple[int, ...], *args: Any) -> None:
        """Run all threads of one block. Raises what the first of them raised."""
        block, (width, height, _) = Dim3(*grid_point), self._block_dim
        threads = (_Thread(block, (x, y, z), x + width * (y + height * z)) for x, y, z in np.ndindex(*self._block_dim))
        # NumPy's arrays themselves: what the simulator puts around them makes three calls of each number that is read
        args = tuple(arg._item._ary if isinstance(arg, FakeWithinKernelCUDAArray) else arg for arg in args)
        here, active = threading.get_ident(), threading._active  # type: ignore[attr-defined]
        outside = active[here]

        def run(thread: _Thread, function: Callable[..., Any], *given: Any) -> Any:
            active[here] = thread  # a kernel asks Python which one it is in
            try:
                return function(*given)
            except Exception as error:  # in the simulator's words
                place = f"tid={list(thread.threadIdx)} ctaid={list(block)}"
                raise type(error)(f"{place}: {error}") from error

        _with_numbers_of_numpy(self._f)
        try:
            if not together(self._f):
                for thread in threads:
                    run(thread, self._f, *args)
            else:
                make = _generator(self._f)
                self._run_together([(thread, make(*args)) for thread in threads], run)
        finally:
            active[here] = outside

    def _run_together(self, ready: list[tuple[_Thread, Iterator[Any]]], run: Callable[..., Any]) -> None:
        """Each one to the next barrier, until all have ended."""
        live, ended, order = len(ready), object(), random.Random(0)
        waiting: dict[Any, list[tuple[_Thread, Iterator[Any]]]] = {}  # by barrier; that of the block is None
        while ready:
            order.shuffle(ready)
            for thread, rest in ready:
                barrier = run(thread, next, rest, ended)
                if barrier is ended:
                    live -= 1
                else:
                    waiting.setdefault(barrier, []).append((thread, rest))
            ready = []
            for barrier, there in list(waiting.items()):
                if len(there) == (live if barrier is None else barrier.parties):
                    ready += waiting.pop(barrier)
        if waiting:
            places = [sorted(thread.thread_id for thread, _ in there) for there in waiting.values()]
            raise RuntimeError(f"threads wait for others that never come to the same barrier: {places}")
