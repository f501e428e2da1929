"""The learner's own convolution: loaded from a file, and held against the awkward cases before it is timed.

A kernel that is wrong looks fast. So it is run on odd sizes, borders of every kind, strides, batches, zeros and NaN first, and
whatever fails is said, with the case; no time is shown then. And that happens in a process of its own, so that a kernel that never
ends, or writes where it must not, ends that one alone.
"""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..kernels.conv2d import conv2d_reference
from ..verify.compare import compare
from . import elsewhere
from .sources import function_of

__all__ = ["CASES", "Awkward", "check", "check_apart", "load_function"]

Array = npt.NDArray[Any]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Awkward:
    """One call: x[n, h, w, ci], w[kh, kw, ci, co], and what is special about the numbers: "", "zeros", or "NaN"."""

    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    channels: int
    stride: int = 1
    padding: str = "same"
    bias: bool = True
    special: str = ""

    def __str__(self) -> str:
        sizes = ("x".join(map(str, sizes)) for sizes in (self.shape, (*self.kernel, self.shape[3], self.channels)))
        extra = f", {self.special} in it" if self.special else ""
        bias = "" if self.bias else ", no bias"
        return "x {}, w {}, stride {}, padding {!r}{}{}".format(*sizes, self.stride, self.padding, bias, extra)

    def arrays(self) -> tuple[Array, Array, Array | None]:
        """(x, w, bias), the same in every process."""
        random = np.random.default_rng(len(str(self)) * 1009 + sum(self.shape))
        x = random.standard_normal(self.shape, np.float32)
        w = random.standard_normal((*self.kernel, self.shape[3], self.channels), np.float32)
        if self.special == "zeros":
            x[:] = 0
        if self.special == "NaN":
            x[0, self.shape[1] // 2, self.shape[2] // 2, 0] = np.nan
        return x, w, random.standard_normal(self.channels, np.float32) if self.bias else None


CASES = (
    Awkward((1, 8, 8, 4), (3, 3), 8),
    *(
        Awkward(shape, kernel, channels, stride, padding)
        for (shape, channels), kernel, stride, padding in itertools.product(
            (((1, 7, 9, 3), 5), ((2, 6, 5, 17), 33)), ((1, 1), (3, 3)), (1, 2), ("same", "valid")
        )
    ),
    Awkward((1, 15, 14, 3), (7, 7), 10, 2),
    Awkward((1, 1, 1, 5), (3, 3), 2),
    Awkward((1, 9, 6, 2), (2, 3), 3),
    Awkward((1, 13, 11, 64), (3, 3), 65),
    Awkward((1, 6, 7, 4), (3, 3), 6, bias=False),
    Awkward((1, 6, 7, 4), (3, 3), 6, bias=False, special="zeros"),
    Awkward((1, 9, 9, 4), (3, 3), 6, special="NaN"),
)
"""Odd sizes and even ones, one image and two, channels beside every multiple of a vector, every kind of border."""


def load_function(place: str) -> Function:
    """The function of "my_conv.py:conv". Raises UsageError where there is none, or its file fails."""
    path, _, name = place.rpartition(":")
    if not path or not name:
        raise UsageError(f"mine: got {place!r}; it must be FILE.py:FUNCTION, such as my_conv.py:conv")
    if not Path(path).is_file():
        raise UsageError(f"mine: {path}: there is no such file; give FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"mine: {path}: this is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the learner's own code raises
        raise UsageError(f"mine: {path} cannot be run ({type(error).__name__}: {error})") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(f"mine: {path} has no function {name!r}")
    function: Function = found
    return function


def check(function: Function, seen: Callable[[Awkward], None] = lambda case: None) -> str:
    """What is wrong with a convolution, in words, with the first case that shows it; "" where all cases agree.

    It is called as ``function(x, w, bias, stride=1, padding="same")``, bias perhaps None, and must return
    float32[n, ho, wo, co] as ``conv2d_reference`` does, NaN in the same places. ``seen`` is called with each case before.
    """
    for case in CASES:
        seen(case)
        wrong = _wrong(function, case)
        if wrong:
            return f"{case}: {wrong}"
    return ""


def _wrong(function: Function, case: Awkward) -> str:
    x, w, bias = case.arrays()
    wide = None if bias is None else bias.astype(np.float64)
    options: Any = {"stride": case.stride, "padding": case.padding}
    truth = conv2d_reference(x.astype(np.float64), w.astype(np.float64), wide, **options)
    before = x.copy(), w.copy()
    try:
        found = function(x, w, bias, **options)
    except Exception as error:  # whatever the learner's own code raises
        return f"it raises {type(error).__name__}: {error}{_where(error, function)}"
    if not isinstance(found, np.ndarray):
        return f"it returns {type(found).__name__}; it must be a NumPy array"
    difference = compare(found, truth)
    if not difference.agrees():
        far = f"relative error {difference.relative:.1e}, worst {difference.worst:.1e}"
        return difference.problem or far
    if not all(np.array_equal(old, new, equal_nan=True) for old, new in zip(before, (x, w), strict=True)):
        return "it writes into its arguments"
    return ""


def _where(error: Exception, function: Function) -> str:
    """In which of the learner's lines it was raised."""
    file = getattr(getattr(function_of(function), "__code__", None), "co_filename", "")
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f" (line {lines[-1]})" if lines else ""


def check_apart(place: str, limit: float = 60) -> str:
    """``check`` of "my_conv.py:conv" in a process of its own: one that never ends, or that takes the process with it, is refused, too.

    limit  seconds for all cases. Raises UsageError as ``load_function``
    """
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder, "case")
        note.write_text("before the first case", encoding="utf-8")
        try:
            found: str = elsewhere.call(f"mine: {place}", {}, _checked, place, note, limit=limit)
        except TimeoutError:
            return f"{note.read_text(encoding='utf-8')}: it has not come to an end after {limit:.0f} seconds"
        except elsewhere.ProcessEnded as error:
            return f"{note.read_text(encoding='utf-8')}: it ends the whole process ({error.how}): does it read or write outside of its arrays?"
    return found


def _checked(place: str, note: Path) -> str:
    return check(load_function(place), lambda case: _write(note, str(case)))


def _write(note: Path, text: str) -> None:
    note.write_text(text, encoding="utf-8")
