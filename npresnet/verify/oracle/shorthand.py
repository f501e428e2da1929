"""Keras's layers by short names, for the builders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .backend import tensorflow_and_keras

__all__ = ["BASIC", "Blocks", "Layers", "Widths"]

Blocks = Sequence[int]
"""Residual blocks in the stages that exist, from stage 2 on."""

Widths = Sequence[tuple[int, int]]
"""(inner, outer) channels of the blocks in each of them."""

BASIC = (18, 34)
"""Depths of two 3x3 convolutions per block."""


class Layers:
    """Keras's layers, called by short names; ``epsilon`` and ``bias`` are a family's own."""

    def __init__(self, epsilon: float, bias: bool) -> None:
        _, keras = tensorflow_and_keras()
        self.keras, self.k = keras, keras.layers
        self.epsilon, self.bias = epsilon, bias

    def conv(self, x: Any, filters: int, size: int, name: str, bias: bool | None = None, **options: Any) -> Any:
        bias = self.bias if bias is None else bias
        return self.k.Conv2D(filters, size, use_bias=bias, name=name, **options)(x)

    def norm(self, x: Any, name: str, **options: Any) -> Any:
        return self.k.BatchNormalization(epsilon=self.epsilon, name=name, **options)(x)

    def relu(self, x: Any, name: str) -> Any:
        return self.k.Activation("relu", name=name)(x)

    def pad(self, x: Any, pixels: int, name: str) -> Any:
        return self.k.ZeroPadding2D(pixels, name=name)(x)

    def pool(self, x: Any, padding: str, name: str) -> Any:
        return self.k.MaxPooling2D(3, strides=2, padding=padding, name=name)(x)

    def add(self, inputs: list[Any], name: str) -> Any:
        return self.k.Add(name=name)(inputs)

    def image(self) -> Any:
        return self.keras.Input((None, None, 3), name="input_image")

    def top(self, x: Any, classes: int | None, pool: str, dense: str, softmax: str | None) -> Any:
        """A classifier whose softmax is in its layer (None) or a layer of its own."""
        if classes is None:
            return x
        x = self.k.GlobalAveragePooling2D(name=pool)(x)
        x = self.k.Dense(classes, activation=None if softmax else "softmax", name=dense)(x)
        return self.k.Activation("softmax", name=softmax)(x) if softmax else x
