"""Networks whose images are (channels, height, width): right, as TensorFlow has it, or refused with the reason.

TensorFlow convolves no such images on a processor; what is not a convolution it computes, and that is where axes are mistaken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.verify.compare import compare

from ..support.agreement import randomize

keras = pytest.importorskip("keras")
L = keras.layers
FIRST = {"data_format": "channels_first"}
C, H, W = 4, 6, 5


def network(layer: Any) -> Any:
    """A residual network of what TensorFlow computes either way, with ``layer`` at its end, called "out"."""
    image = keras.Input((C, H, W))
    y = L.BatchNormalization(axis=1)(L.ZeroPadding2D(1, **FIRST)(image))
    y = L.ReLU()(L.Cropping2D(1, **FIRST)(y))
    return keras.Model(image, layer(L.Add()([y, image])))


RIGHT = {
    "softmax along the channels": lambda: L.Softmax(axis=1, name="out"),
    "norm along the channels": lambda: L.BatchNormalization(axis=-3, name="out"),
    "normalization along the channels": lambda: L.Normalization(axis=1, mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2, 3, 4], name="out"),
    "one factor": lambda: L.Rescaling(0.5, offset=-1, name="out"),
    "mean": lambda: L.GlobalAveragePooling2D(**FIRST, name="out"),
    "mean that is kept": lambda: L.GlobalAveragePooling2D(**FIRST, keepdims=True, name="out"),
    "largest": lambda: L.GlobalMaxPooling2D(**FIRST, name="out"),
    "larger": lambda: L.UpSampling2D((2, 3), **FIRST, name="out"),
    "cut": lambda: L.Cropping2D(((1, 0), (2, 1)), **FIRST, name="out"),
    "activation": lambda: L.LeakyReLU(name="out"),
    "softmax of a vector": lambda: lambda x: L.Softmax(name="out")(L.GlobalAveragePooling2D(**FIRST)(x)),
    "dense": lambda: lambda x: L.Dense(3, activation="softmax", name="out")(L.GlobalMaxPooling2D(**FIRST)(x)),
    "flatten one pixel": lambda: lambda x: L.Dense(3, name="out")(L.Flatten()(L.GlobalMaxPooling2D(**FIRST, keepdims=True)(x))),
    "gate": lambda: lambda x: L.Multiply(name="out")([x, L.Reshape((C, 1, 1))(L.Dense(C)(L.GlobalMaxPooling2D(**FIRST)(x)))]),
    "side by side": lambda: lambda x: L.Concatenate(axis=1, name="out")([x, L.ReLU()(x)]),
    "vectors side by side": lambda: lambda x: L.Concatenate(name="out")(
        [L.GlobalMaxPooling2D(**FIRST)(x), L.GlobalAveragePooling2D(**FIRST)(x)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right(tmp_path, name):
    model = network(RIGHT[name]())
    randomize(model, pixels=1)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).standard_normal((2, H, W, C)).astype(np.float32)
    expected = model(images.transpose(0, 3, 1, 2)).numpy()
    expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
    for algorithm in ("auto", "im2col", "reference"):
        found = npresnet.load(tmp_path / "model.keras", algorithm=algorithm)(images, outputs=["out"])["out"]
        assert compare(found, np.ascontiguousarray(expected)).agrees(), algorithm


REFUSED = {
    "softmax along the width": (lambda: L.Softmax(), "along axis -1"),
    "softmax by name": (lambda: L.Activation("softmax"), "along axis -1"),
    "dense along the width": (lambda: L.Dense(3), "along the width"),
    "norm along the width": (lambda: L.BatchNormalization(), "along axis"),
    "normalization along the width": (
        lambda: L.Normalization(axis=-1, mean=[0.0] * W, variance=[1.0] * W),
        "along axis",
    ),
    "a factor for each column": (lambda: L.Rescaling([1.0, 2, 3, 4, 5]), "numbers for 4 channels|each column"),
    "flatten": (lambda: L.Flatten(), "channels before pixels"),
    "side by side along the width": (lambda: lambda x: L.Concatenate()([x, x]), "along axis -1"),
    "reshape": (lambda: L.Reshape((H, W, C)), "channels first"),
    "rows": (lambda: L.Reshape((C, H * W)), "channels first"),
    "permute": (lambda: L.Permute((2, 3, 1)), "dims is"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    make, said = REFUSED[name]
    network(make()).save(tmp_path / "model.keras")
    with pytest.warns(npresnet.WeightsWarning, match=said):
        npresnet.load(tmp_path / "model.keras")


def test_columns_as_many_as_channels(tmp_path):
    """Where sizes agree by chance, nothing but the axis tells."""
    image = keras.Input((C, H, C))
    y = L.BatchNormalization(axis=1)(L.ZeroPadding2D(0, **FIRST)(image))
    model = keras.Model(image, L.Rescaling([1.0, 2, 3, 4])(L.Add()([y, image])))
    model.save(tmp_path / "model.keras")
    with pytest.warns(npresnet.WeightsWarning, match="each column"):
        npresnet.load(tmp_path / "model.keras")
