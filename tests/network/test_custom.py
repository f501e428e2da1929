"""Activations of a user's own, by class, by layer and by name, beside Keras; used only where they are given."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.errors import UsageError
from npresnet.model import assemble
from npresnet.verify.compare import compare

from ..support.agreement import randomize

keras = pytest.importorskip("keras")
L = keras.layers


@keras.saving.register_keras_serializable("mine")
class Bent(keras.layers.Layer):  # type: ignore[name-defined,misc]
    def call(self, x: Any) -> Any:
        return keras.ops.sqrt(x * x + 1.0) - 1.0


@keras.saving.register_keras_serializable("mine")  # type: ignore[untyped-decorator,unused-ignore]
def wave(x: Any) -> Any:
    return keras.ops.sin(x) * 2.0


CUSTOM = {
    "Bent": lambda x: math.sqrt(x * x + 1) - 1,
    "wave": lambda x: 2 * math.sin(x),
    "cube": lambda x: x * x * x if x > 0 else -x,
}


@pytest.fixture(scope="module")
def model() -> Any:
    image = keras.Input((None, None, 3))
    x = L.Conv2D(4, 3, padding="same")(image)
    x = L.Conv2D(4, 3, padding="same", activation=wave)(L.Add()([L.ReLU()(x), x]))
    x = L.Add()([Bent()(L.Conv2D(4, 3, padding="same")(x)), x])
    x = L.Lambda(lambda x: keras.ops.where(x > 0, x * x * x, -x), name="cube", output_shape=(None, None, 4))(x)
    made = keras.Model(image, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    randomize(made, pixels=1)
    return made


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_as_keras(model: Any, suffix: str, tmp_path: Path) -> None:
    model.save(tmp_path / f"mine{suffix}")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 12, 13, 3)).astype(np.float32)
    expected = model.predict(images, verbose=0)
    net = npresnet.load(tmp_path / f"mine{suffix}", custom=CUSTOM)
    assert compare(net.predict(images), expected).agrees()
    for algorithm in ("direct", "im2col", "reference"):
        assert compare(assemble(net._inspection, algorithm=algorithm).predict(images), expected).agrees(), algorithm
    with pytest.warns(npresnet.WeightsWarning, match="is not run to its end"):
        plain = npresnet.load(tmp_path / f"mine{suffix}")
    with pytest.raises(UsageError, match="its activation is 'wave'"):
        plain.predict(images)


def test_another_function_of_the_same_name(model: Any, tmp_path: Path) -> None:
    """Each network keeps its own."""
    model.save(tmp_path / "mine.keras")
    images = np.random.default_rng(0).uniform(-1, 1, (1, 12, 13, 3)).astype(np.float32)
    one = npresnet.load(tmp_path / "mine.keras", custom=CUSTOM)
    before = one.predict(images)
    other = npresnet.load(tmp_path / "mine.keras", custom={**CUSTOM, "wave": lambda x: 3 * x})
    assert not np.array_equal(other.predict(images), before)
    assert np.array_equal(one.predict(images), before)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (7, "got int; it must be a function of one number"),
        (lambda x, y: x, "it must be a function of one number"),
        (lambda x: np.linalg.svd, "it cannot be compiled|it gives"),
        (lambda x: (x, x), r"it gives \(0.5, 0.5\)"),
        (lambda x: 1.0, "and NaN for NaN"),
        (lambda x: x if x == x else 0.0, "and NaN for NaN"),
    ],
)
def test_what_is_no_such_function(function: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        npresnet.load("nothing.h5", custom={"odd": function})


def test_not_on_a_card() -> None:
    with pytest.raises(UsageError, match="on the CPU alone"):
        npresnet.load("nothing.h5", device="cuda", custom={"odd": abs})
