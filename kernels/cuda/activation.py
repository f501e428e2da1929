"""Activations on a card; what they are says the CPU's ``activation.py``. activation_cuda: one thread per element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from numba import cuda, float64

from ..activation import function_of
from ..functions import FUNCTIONS
from .launch import ELEMENTS, Call, Kernel, device_function, grid_1d, kernel

__all__ = ["activation_cuda"]


@device_function
def _exp(x):
    return math.inf if x > 709.782712893384 else math.exp(x)  # the simulator's, Python's, raises an error there


_ELEMENTARY = {"exp": _exp, "log1p": math.log1p, "erfc": math.erfc}


def _kernel(name: str, formula: Callable[..., Any]) -> Kernel:
    """The kernel of a function: the processor's formula with the card's own elementary functions."""
    assert isinstance(formula, FunctionType)
    formula = device_function(FunctionType(formula.__code__, {**formula.__globals__, **_ELEMENTARY}, name))

    def each(x, a, b, c, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = formula(float64(x[i]), a, b, c)

    each.__name__ = each.__qualname__ = name
    return kernel("vector float float float vector", threads=ELEMENTS)(each)


_KERNELS = {name: _kernel(name, function.formula) for name, function in FUNCTIONS.items()}


def activation_cuda(
    x: Any, *, function: str, constants: Sequence[float] = (), out: Any = None, stream: Any = None
) -> Any:
    """``function`` of each number: arguments, result and errors as ``activation_cpu``."""
    call = Call(stream)
    x = call.floats("activation: x", x)
    function_of(function, constants)
    out = call.result("activation", out, x.shape)
    told = (*constants, 0.0, 0.0, 0.0)[:3]
    _KERNELS[function].launch(grid_1d(x.size), call.stream, x.reshape(x.size), *told, out.reshape(x.size))
    return call.finish()
