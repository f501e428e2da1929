"""A user's own activation: a Python function of one number, compiled into the table of functions (``functions.py``).

Its machine code is not kept on disk: another process may mean another function by the same name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from .functions import FUNCTIONS, Function, block_of

__all__ = ["register"]

_numbers = itertools.count()


def register(name: str, formula: Callable[[float], float]) -> str:
    """Add ``formula`` to the table of functions, and return what it is called there, which no other one ever is.

    formula  of one number, made of arithmetic, comparisons and the functions of ``math``; NaN for NaN

    Raises ValueError where it is something else.
    """
    if not callable(formula):
        raise ValueError(f"{name!r}: got {type(formula).__name__}; it must be a function of one number")
    try:
        compiled = numba.njit(formula)
        found = [compiled(value) for value in (0.5, math.nan)]
    except Exception as error:  # Numba has many, and the function may raise its own
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{name!r}: it cannot be compiled, or not called with a number ({text[0][:200]}); it must be a function of one number, "
            "made of arithmetic, comparisons and functions of the module math"
        ) from None
    if not all(isinstance(value, int | float) for value in found) or not math.isnan(found[1]):
        raise ValueError(
            f"{name!r}: it gives {found[0]!r} for 0.5 and {found[1]!r} for NaN; it must give a number, and NaN for NaN"
        )

    def of_one_number(x: Any, a: Any, b: Any, c: Any) -> Any:
        return compiled(x)

    unique = f"{name} #{next(_numbers)}"
    reference = np.vectorize(formula, otypes=[np.float64])
    FUNCTIONS[unique] = Function(reference, of_one_number, 0, block_of("custom", numba.njit(of_one_number), kept=False))
    return unique
