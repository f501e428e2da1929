"""NaN and infinity in images: by plan they come out where they do layer by layer, whatever the outputs, and where TensorFlow has
them. What is behind an output may hide them again: cuts, strides, windows that end before the map does, pools."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.verify.compare import compare

keras = pytest.importorskip("keras")
L = keras.layers

BEHIND = {
    "average": lambda x, name: L.AveragePooling2D(7, name=name)(x),
    "largest": lambda x, name: L.MaxPooling2D(7, name=name)(x),
    "stride": lambda x, name: L.Conv2D(8, 1, strides=2, name=name)(x),
    "long stride": lambda x, name: L.Conv2D(8, 2, strides=3, name=name)(x),
    "cut": lambda x, name: L.Cropping2D(((2, 0), (0, 2)), name=name)(x),
    "put back": lambda x, name: L.Add(name=name)([L.ZeroPadding2D(2)(L.Cropping2D(2)(x)), x]),
    "kept": lambda x, name: L.UpSampling2D(2, interpolation="bilinear", name=name)(L.Concatenate()([x, L.ReLU()(x)])),
    "over all": lambda x, name: L.GlobalMaxPooling2D(name=name)(L.LeakyReLU()(x)),
}
NAMES = ("first", "second", *BEHIND)


def images(value: float, *places: tuple[int, int]) -> Any:
    """Two images; the second has ``value`` at these places."""
    made = np.random.default_rng(0).standard_normal((2, 10, 11, 32)).astype(np.float32)
    for row, column in places:
        made[1, row, column, 5] = value
    return made


@pytest.fixture(scope="module")
def model() -> Any:
    image = keras.Input((10, 11, 32))
    first = L.Add(name="first")([L.Conv2D(32, 3, padding="same")(image), image])
    second = L.Conv2D(32, 3, padding="same", activation="relu", name="second")(first)
    behind = [make(second, name) for name, make in BEHIND.items()]
    return keras.Model(image, [first, second, *behind])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("places", [[(0, 8)], [(9, 10)], [(5, 5)], [(1, 1), (8, 3)]], ids=str)
def test_for_every_two_outputs(model, tmp_path, value, places):
    model.save(tmp_path / "model.keras")
    fast, plain = (npresnet.load(tmp_path / "model.keras", algorithm=algorithm) for algorithm in ("auto", "im2col"))
    given = images(value, *places)
    expected = plain(given, outputs=list(NAMES))
    for choice in combinations(NAMES, 2):
        for name, array in fast(given, outputs=list(choice)).items():
            assert compare(array, expected[name]).agrees(), (choice, name)
            assert np.isfinite(array[0]).all()


@pytest.mark.parametrize("places", [[(0, 8)], [(9, 10)]], ids=str)
def test_where_tensorflow_has_it(model, tmp_path, places):
    model.save(tmp_path / "model.keras")
    net, given = npresnet.load(tmp_path / "model.keras"), images(np.nan, *places)
    expected = {name: np.isnan(array.numpy()) for name, array in zip(NAMES, model(given), strict=True)}
    for choice in combinations(NAMES, 2):
        for name, array in net(given, outputs=list(choice)).items():
            assert np.array_equal(np.isnan(array), expected[name]), (choice, name)
