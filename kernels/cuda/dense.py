"""Dense layer on a card; what it is says the CPU's ``dense.py``. dense_cuda: ``gemm.py``'s vectorised product."""

from __future__ import annotations

from typing import Any

from .gemm import gemm_cuda

__all__ = ["dense_cuda"]


def dense_cuda(x: Any, w: Any, bias: Any = None, *, out: Any = None, stream: Any = None) -> Any:
    """x float32[n, k] @ w float32[k, m] + bias float32[m] or None: float32[n, m]. Errors as ``gemm_cuda``."""
    return gemm_cuda(x, w, bias, out=out, stream=stream)
