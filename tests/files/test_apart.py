"""A model in several files: an archive that was unpacked, and weights beside the JSON text that describes their model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.files import opening
from npresnet.network.weights import inspect
from npresnet.verify.compare import compare

keras3 = pytest.importorskip("keras")
keras2 = pytest.importorskip("tf_keras")
KERAS = {"Keras 2": keras2, "Keras 3": keras3}


def small(keras: Any) -> Any:
    """A network that no table knows, with a model inside."""
    layers = keras.layers
    a = keras.Input((None, None, 3))
    inner = keras.Model(a, layers.Conv2D(3, 3, padding="same", name="deep")(a), name="inner")
    image = keras.Input((None, None, 3))
    x = layers.Add(name="sum")([image, inner(layers.BatchNormalization(name="norm")(image))])
    model = keras.Model(image, layers.Dense(4, name="top")(layers.GlobalAveragePooling2D()(x)), name="small")
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1, array.shape) for array in model.get_weights()])
    return model


def assert_agrees(model: Any, path: Path) -> None:
    images = np.random.default_rng(2).normal(size=(2, 9, 8, 3)).astype(np.float32)
    assert compare(npresnet.load(path).predict(images), np.asarray(model(images))).agrees()
    assert not inspect(path).unused


def unpacked(model: Any, folder: Path) -> Path:
    model.save(folder / "packed.keras")
    with zipfile.ZipFile(folder / "packed.keras") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.parametrize("version", KERAS)
def test_an_unpacked_archive(tmp_path: Path, version: str) -> None:
    model = small(KERAS[version])
    folder = unpacked(model, tmp_path)
    assert_agrees(model, folder)
    packed, found = inspect(tmp_path / "packed.keras"), inspect(folder)
    assert found.layout == packed.layout
    assert found.bytes == sum(file.stat().st_size for file in folder.iterdir())
    (folder / "metadata.json").unlink()  # it says nothing that is needed
    assert_agrees(model, folder)


def test_an_unpacked_archive_of_other_members(tmp_path: Path) -> None:
    folder = unpacked(small(keras3), tmp_path)
    (folder / "config.json").write_bytes(b" " * (opening._MOST_JSON + 1))
    with pytest.raises(WeightsError, match=r"unpacked: 'config\.json' has \d+ bytes"):
        inspect(folder)
    (folder / "config.json").write_text("{}")
    (folder / "model.weights.h5").write_bytes((tmp_path / "packed.keras").read_bytes())
    with pytest.raises(WeightsError, match=r"'model\.weights\.h5' in it is not an HDF5 file"):
        inspect(folder)
    (folder / "model.weights.h5").unlink()
    with pytest.raises(WeightsError, match="this is a directory"):
        inspect(folder)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.parametrize("version", KERAS)
def test_weights_beside_their_description(tmp_path: Path, version: str, suffix: str) -> None:
    """``model.to_json`` and ``model.save_weights``, as tutorials have it."""
    model = small(KERAS[version])
    if version == "Keras 3" and suffix == ".h5":
        model.save(tmp_path / "model.h5")  # which describes itself, too: Keras 3 writes no other of that name
    else:
        model.save_weights(tmp_path / f"model{suffix}")
    (tmp_path / "model.json").write_text(model.to_json())
    assert_agrees(model, tmp_path / "model.json")


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(small(keras3).to_json())
    with pytest.raises(WeightsError, match=r"in 'model\.weights\.h5' and 'model\.h5', and neither is there"):
        inspect(path)
    for name in ("model.h5", "model.weights.h5"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="and both are there: give its weights one of these names"):
        inspect(path)
    (tmp_path / "model.h5").unlink()
    with pytest.raises(WeightsError, match=r"model\.json: this is not an HDF5 file"):
        inspect(path)
    path.write_text(json.dumps({"class_name": "Functional"}))
    with pytest.raises(WeightsError, match="no index of sharded weights"):
        inspect(path)
