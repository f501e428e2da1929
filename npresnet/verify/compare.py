"""The one comparison: how far an array is from what it should be. Tests, ``verify`` and benchmarks all use it.

Two numbers, both relative, so that they mean the same for every layer:

    relative   norm of the difference / norm of what was expected        (L2 norms, in float64)
    worst      largest single difference / root mean square of what was expected

The first says how good a layer is, the second catches one wrong pixel in a million. A checker that cannot fail is
worse than none: wrong shape, wrong dtype, NaN in one place only, all zeros and a single bad corner are all rejected,
and ``tests/verify/test_compare.py`` proves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RELATIVE", "WORST", "Difference", "compare"]

RELATIVE = 1e-5
"""Largest accepted relative error of a layer against TensorFlow, which itself is some 1e-6 from the truth."""

WORST = 1e-3
"""Largest accepted single difference, in units of the layer's root mean square."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How two arrays differ. ``problem`` says in words why they cannot agree at all, or is None."""

    relative: float
    worst: float
    problem: str | None = None

    def agrees(self, relative: float = RELATIVE, worst: float = WORST) -> bool:
        """Whether both numbers are within bounds; never with a problem. NaN is never within bounds."""
        return self.problem is None and self.relative <= relative and self.worst <= worst


def compare(actual: Array, expected: Array, *, dtype: Any = np.float32) -> Difference:
    """How far ``actual`` is from ``expected``.

    Both must have one shape, ``actual`` must have ``dtype`` and ``expected`` any float dtype. NaN and infinity must
    stand in the same places (and with the same sign) in both; the finite rest is measured.
    """
    if actual.shape != expected.shape:
        return Difference(np.inf, np.inf, f"shape {actual.shape} instead of {expected.shape}")
    if actual.dtype != np.dtype(dtype):
        return Difference(np.inf, np.inf, f"dtype {actual.dtype} instead of {np.dtype(dtype)}")
    finite = np.isfinite(expected)
    if not finite.all():
        odd = ~finite
        # NaN equals no NaN; comparing the texts of both kinds of special value keeps the sign of infinity
        if np.isfinite(actual[odd]).any() or not np.array_equal(actual[odd], expected[odd], equal_nan=True):
            return Difference(np.inf, np.inf, "NaN or infinity in other places")
        actual, expected = actual[finite], expected[finite]
    if not np.isfinite(actual).all():
        bad = int(np.count_nonzero(~np.isfinite(actual)))
        return Difference(np.inf, np.inf, f"NaN or infinity in {bad} places that should be finite")
    if expected.size == 0:
        return Difference(0.0, 0.0)
    error = np.abs(actual.astype(np.float64) - expected)
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    if size == 0:
        return Difference(0.0, 0.0) if not error.any() else Difference(np.inf, np.inf, "not zero where all should be")
    return Difference(float(np.sqrt(np.mean(np.square(error)))) / size, float(error.max()) / size)
