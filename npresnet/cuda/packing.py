"""The weights as a card's kernels read them: batch-norms folded in, channels filled up to multiples of four.

The forms of a constant (``Constant.form``): "direct" [kh, kw, ci, co], "transposed" [co, kh, kw, ci], "tf32" (the same,
rounded), "winograd" [36, ci, co], "stem" [7, 7, 3, co], and "scale" for what has no kernel. Zeros fill the channels up, but for
the stem's three.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..network.graph import Graph, Layer
from ..plan.folding import Constant, cancels, fold
from .card import Card

__all__ = ["Constants", "fours"]


Array = npt.NDArray[Any]


def fours(channels: int) -> int:
    """``channels`` up to a multiple of four: kernels read and write four at a time."""
    return -(-channels // 4) * 4


class Constants:
    """Weights with batch-norms folded in, brought to the card once, when first needed; shared by all programs."""

    def __init__(self, card: Card, graph: Graph, weights: Mapping[str, Mapping[str, Array]]) -> None:
        self._card, self._graph, self._weights = card, graph, weights
        self._made: dict[Constant, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def of(self, constant: Constant) -> tuple[Any, Any]:
        """(weights, bias) as flat arrays on the card, which must be the current one. Raises DeviceError."""
        with self._lock:
            if constant not in self._made:
                pair = self.host(constant)
                self._made[constant] = self._card.upload(pair[0].reshape(-1)), self._card.upload(pair[1])
            return self._made[constant]

    def cancels(self, layer: Layer) -> bool:
        """Whether a layer must not be folded into others, see ``plan/folding.py``."""
        return cancels(layer, self._weights)

    def host(self, constant: Constant) -> tuple[Array, Array]:
        """The same as NumPy arrays, float32."""
        from ..kernels.cuda.tensor import tf32_weights
        from ..kernels.winograd import transform_kernel

        form, channels = constant.form, constant.channels
        stored, scale, bias = fold(self._graph, self._weights, constant)
        if stored is None:
            fill = (0, fours(channels) - channels)
            return np.pad(scale, fill).astype(np.float32), np.pad(bias, fill).astype(np.float32)
        kernel = stored.astype(np.float64) * scale
        if kernel.ndim == 2:  # a dense layer is a convolution of one pixel
            kernel = kernel[None, None]
        ci, co = kernel.shape[2:]
        fill = (0, 0 if form == "stem" else fours(ci) - ci)
        kernel = np.pad(kernel, ((0, 0), (0, 0), fill, (0, fours(co) - co)))
        bias = np.pad(bias, (0, fours(co) - co)).astype(np.float32)
        if form == "winograd":
            return transform_kernel(kernel, 4).astype(np.float32), bias
        if form in ("transposed", "tf32"):
            kernel = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[3]).T)
        single = kernel.astype(np.float32)
        return (tf32_weights(single) if form == "tf32" else single), bias
