"""The weights as a plan's steps read them: batch-norm folded in, packed in the order of reading.

    y = scale * (conv(x, w) + bias) + shift  =  conv(x, w * scale) + (bias * scale + shift)

Folding is done in float64, so that it costs one rounding.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import BatchNorm, Graph
from .kernels.batchnorm import scale_and_shift
from .kernels.gemm import pack_bias
from .kernels.tile import NR
from .kernels.winograd import transform_kernel
from .memory import aligned
from .weights import Weights

__all__ = ["Constants"]

Array = npt.NDArray[Any]


class Constants:
    """The weights as steps read them: folded and packed, each made when first needed and shared by all plans."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self._graph, self._weights = graph, weights
        self._made: dict[tuple[str, str, str | None], tuple[Array, Array]] = {}
        self._lock = threading.Lock()

    def packed(self, layer: str, form: str, norm: str | None) -> tuple[Array, Array]:
        """(weights, bias) of ``layer`` with batch-norm ``norm`` folded in; ``form``: "panels", "winograd2", "winograd4"
        or "scale" (of a batch-norm by itself, or of nothing)."""
        key = (layer, form, norm)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(layer, form, norm)
            return self._made[key]

    def _norm(self, name: str) -> tuple[Array, Array]:
        w, operator = self._weights[name], self._graph.by_name[name].operator
        assert isinstance(operator, BatchNorm)
        return scale_and_shift(w.get("gamma"), w.get("beta"), w["mean"], w["variance"], operator.epsilon)

    def _make(self, layer: str, form: str, norm: str | None) -> tuple[Array, Array]:
        if form == "scale":
            scale, shift = self._norm(norm) if norm else (None, None)
            channels = int(layer) if norm is None else len(scale)  # type: ignore[arg-type]
            ones = np.ones(channels) if scale is None else scale
            zeros = np.zeros(channels) if shift is None else shift
            return ones.astype(np.float32), zeros.astype(np.float32)
        kernel = self._weights[layer]["kernel"]
        bias = self._weights[layer].get("bias")
        columns = kernel.shape[-1]
        total = np.zeros(columns) if bias is None else bias.astype(np.float64)
        scale = None
        if norm is not None:
            scale, shift = self._norm(norm)
            total = total * scale + shift
        if form == "panels":
            return _panels(kernel.reshape(1, -1, columns), scale), pack_bias(total.astype(np.float32), columns)
        wide = kernel.astype(np.float64)
        if scale is not None:
            wide *= scale
        transformed = transform_kernel(wide, int(form[-1])).astype(np.float32)
        return _panels(transformed, None), pack_bias(total.astype(np.float32), columns)


def _panels(matrices: Array, scale: Array | None) -> Array:
    """float[e, K, N] as panels float32[ceil(N / NR), e, K, NR]: all that one panel of outputs needs lies together."""
    elements, depth, columns = matrices.shape
    packed = aligned((-(-columns // NR), elements, depth, NR))
    for panel in range(len(packed)):
        part = matrices[:, :, panel * NR : (panel + 1) * NR]
        if scale is not None:
            part = part * scale[panel * NR : (panel + 1) * NR]
        packed[panel, :, :, : part.shape[2]] = part
        packed[panel, :, :, part.shape[2] :] = 0.0
    return packed
