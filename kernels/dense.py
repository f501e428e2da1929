"""Dense layer: y = x @ w + bias, the classifier at a network's end.

The ladder: dense_reference (NumPy), dense_cpu (``gemm.py``'s packed product); dense is dense_cpu.
"""

from __future__ import annotations

from .arrays import Array
from .gemm import gemm_packed, gemm_reference

__all__ = ["dense", "dense_cpu", "dense_reference"]


def dense_reference(x: Array, w: Array, bias: Array | None = None) -> Array:
    """x dtype[n, k] @ w dtype[k, m] + bias dtype[m]: dtype[n, m]. A product for each row, as in ``conv2d_reference``."""
    return gemm_reference(x[:, None], w, bias)[:, 0]


def dense_cpu(
    x: Array, w: Array, bias: Array | None = None, *, out: Array | None = None, threads: int | None = 1
) -> Array:
    """x float32[n, k] @ w float32[k, m] + bias float32[m] or None: float32[n, m]. Errors as ``gemm_packed``."""
    return gemm_packed(x, w, bias, out=out, threads=threads)


dense = dense_cpu
