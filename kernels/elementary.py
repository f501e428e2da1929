"""Functions in float64 that compilers turn into vectors: the C library's, which take one number at a time, would be most of what
an activation costs.

    exp(x) = 2**n * exp(r)           n the whole number nearest to x / log(2), r = x - n * log(2), |r| <= log(2) / 2
    log1p(x) = 2 * atanh(s)          s = x / (2 + x), for x from 0 to 1: s is at most 1/3
    erfc(x) = t * exp(p(t) - x * x)  t = 1 / (1 + x / 2), for x from 0 on; erfc(-x) = 2 - erfc(x)

exp(r) and atanh(s) are Taylor's polynomials, 2**n is made of its bits, and p is a polynomial of degree 14, fitted to its values at
4,001 of Chebyshev's points: the form is Press et al., "Numerical recipes", 6.2. Relative errors are below 3e-16, 1e-12 and 4e-10.
A float32's rounding is 6e-8; so what becomes one in the end is as good as exact.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir

from .jit import jit
from .numba_later import intrinsic, types

__all__ = ["erfc", "exp", "log1p"]

_PER_LOG2 = 1 / math.log(2)
# log(2) in two parts, the first with so few bits that its products with any n are exact
_HIGH, _LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_WHOLE = 1.5 * 2.0**52  # a number so large that what is added to it is rounded to a whole one, found in its lowest bits
_HIGHEST, _LOWEST = (
    709.782712893384,
    -708.3964185322641,
)  # beyond them infinity, and zero: smaller ones no float32 can tell


@intrinsic
def _power_of_two(typingctx, rounded):
    """2**n of n + _WHOLE."""

    def codegen(context, builder, signature, arguments):
        kind = ir.IntType(64)
        bits = builder.bitcast(arguments[0], kind)
        exponent = builder.add(builder.shl(bits, kind(52)), kind(0x3FF << 52))
        return builder.bitcast(exponent, ir.DoubleType())

    return types.float64(types.float64), codegen


@jit
def exp(x):
    """exp(x) of a float64; NaN stays NaN, and what is below the smallest normal number is zero."""
    rounded = x * _PER_LOG2 + _WHOLE
    n = rounded - _WHOLE
    r = x - n * _HIGH - n * _LOW
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    # 2**1024 is no float64, but half of it is
    power = p * 2.0 * _power_of_two(rounded - 1.0)
    power = np.inf if x > _HIGHEST else power
    return 0.0 if x < _LOWEST else power


@jit
def log1p(x):
    """log(1 + x) of a float64 from 0 to 1; NaN stays NaN."""
    s = x / (2.0 + x)
    square = s * s
    p = 1 / 23
    p = p * square + 1 / 21
    p = p * square + 1 / 19
    p = p * square + 1 / 17
    p = p * square + 1 / 15
    p = p * square + 1 / 13
    p = p * square + 1 / 11
    p = p * square + 1 / 9
    p = p * square + 1 / 7
    p = p * square + 1 / 5
    p = p * square + 1 / 3
    return 2.0 * (p * square * s + s)


@jit
def erfc(x):
    """1 - erf(x) of a float64, with the same relative error where it is tiny; NaN stays NaN."""
    z = abs(x)
    t = 1.0 / (1.0 + 0.5 * z)
    p = -0.13305261806060387
    p = p * t + 1.1011279772348264
    p = p * t - 3.9591936962109147
    p = p * t + 8.020373549406077
    p = p * t - 9.899483796844397
    p = p * t + 7.549428825414781
    p = p * t - 3.6187696181666635
    p = p * t + 1.336367514581747
    p = p * t - 0.40596256548412335
    p = p * t - 0.09267056613246327
    p = p * t - 0.09131449526449739
    p = p * t + 0.08367265528287877
    p = p * t + 0.3749888127712044
    p = p * t + 1.0000001454035954
    p = p * t - 1.265512123797603
    y = t * exp(p - z * z)
    return 2.0 - y if x < 0 else y
