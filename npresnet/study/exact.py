"""Exact numbers a + b √2 with rational a and b: enough for all points that Winograd's algorithm is used with, so that its
matrices can be written down, and its identity proved, without any rounding."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from ..errors import UsageError

__all__ = ["ONE", "ZERO", "Surd", "parse_surd"]


@dataclass(frozen=True)
class Surd:
    """a + b √2."""

    a: Fraction
    b: Fraction = Fraction(0)

    def __add__(self, other: Surd) -> Surd:
        return Surd(self.a + other.a, self.b + other.b)

    def __sub__(self, other: Surd) -> Surd:
        return Surd(self.a - other.a, self.b - other.b)

    def __mul__(self, other: Surd) -> Surd:
        return Surd(self.a * other.a + 2 * self.b * other.b, self.a * other.b + self.b * other.a)

    def __truediv__(self, other: Surd) -> Surd:
        """Raises ZeroDivisionError."""
        norm = other.a**2 - 2 * other.b**2  # zero for zero alone: √2 is irrational
        return self * Surd(other.a / norm, -other.b / norm)

    def __float__(self) -> float:
        return float(self.a) + float(self.b) * math.sqrt(2)

    def __str__(self) -> str:
        if not self.b:
            return str(self.a)
        times = "" if abs(self.b.numerator) == 1 else str(abs(self.b.numerator))
        over = "" if self.b.denominator == 1 else f"/{self.b.denominator}"
        root = f"{times}√2{over}"
        if not self.a:
            return root if self.b > 0 else f"-{root}"
        return f"{self.a} {'+' if self.b > 0 else '-'} {root}"


ZERO, ONE = Surd(Fraction(0)), Surd(Fraction(1))


_RATIONAL = r"(\d+)(?:/(\d+))?"


def parse_surd(text: str) -> Surd:
    """ "0", "-2", "1/2", "sqrt2", "-sqrt2/2", "3sqrt2/4" as a number, "1/sqrt2" as well. Raises UsageError."""
    compact = text.replace(" ", "").replace("√2", "sqrt2")
    sign = -1 if compact.startswith("-") else 1
    body = compact[1:] if compact[:1] in ("+", "-") else compact
    if (found := re.fullmatch(_RATIONAL, body)) and int(found[2] or 1):
        return Surd(Fraction(sign * int(found[1]), int(found[2] or 1)))
    if body == "1/sqrt2":
        return Surd(Fraction(0), Fraction(sign, 2))
    if (found := re.fullmatch(r"(\d*)sqrt2(?:/(\d+))?", body)) and int(found[2] or 1):
        return Surd(Fraction(0), Fraction(sign * int(found[1] or 1), int(found[2] or 1)))
    raise UsageError(f"points: got {text!r}; a point must be a whole number, a fraction such as 1/2, or sqrt2, sqrt2/2")
