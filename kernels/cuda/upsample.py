"""Up-sampling on a card; what it is says the CPU's ``upsample.py``. upsample_cuda: by the kernels of ``resize.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..geometry import pair
from ..resize import Interpolation, is_bilinear
from .launch import Call
from .resize import launch_resize

__all__ = ["upsample_cuda"]


def upsample_cuda(
    x: Any, size: int | Sequence[int], *, interpolation: Interpolation = "nearest", out: Any = None, stream: Any = None
) -> Any:
    """Make maps larger: arguments, result and errors as ``upsample_cpu``."""
    call = Call(stream)
    x = call.images("upsample: x", x)
    (a, b), bilinear = pair("size", size), is_bilinear("upsample", interpolation)
    n, h, w, c = x.shape
    out = call.result("upsample", out, (n, a * h, b * w, c))
    launch_resize(call.stream, x, bilinear, out)
    return call.finish()
