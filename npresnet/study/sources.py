"""The Python that kernels are made of, whichever way they were compiled: what recordings run, and what listings stand beside."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["function_of", "lines_of", "text_of"]


def function_of(kernel: Any) -> Any:
    """The Python function of a kernel: of Numba's own dispatcher, of ``jit``, ``native``, or a card's; else ``kernel`` itself."""
    for name in ("py_func", "_function", "function"):
        kernel = getattr(kernel, name, kernel)
    return inspect.unwrap(kernel)


def lines_of(kernel: Any) -> tuple[int, list[str]]:
    """(number of the first line, lines) of a kernel's text. Raises OSError or TypeError where there is none."""
    lines, first = inspect.getsourcelines(function_of(kernel))
    return first, lines


def text_of(kernel: Any) -> str:
    """A kernel's text; "" where there is none: what was typed into a prompt, say."""
    try:
        return "".join(lines_of(kernel)[1])
    except (OSError, TypeError):
        return ""
