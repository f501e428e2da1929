"""The network of the transfer-learning tutorial, from a picture on the command line to the classes that Keras finds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npresnet.data.photograph import photograph
from npresnet.verify import oracle

from ..support.agreement import randomize
from .test_cli import cli

keras = pytest.importorskip("keras")
L = keras.layers


def tutorial() -> Any:
    """Augmentation, ``preprocess_input``, a ResNet called with training=False, a pool, dropout, a classifier."""
    widths = [(8 << i, 32 << i) for i in range(4)]  # an eighth of what it is in the tutorial
    base = oracle.build("keras.applications V2", 50, stem_width=8, stage_widths=widths)
    image = keras.Input((96, 96, 3))
    x = keras.Sequential([L.RandomFlip("horizontal"), L.RandomRotation(0.2)])(image)
    x = base(keras.applications.resnet_v2.preprocess_input(x), training=False)
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(x))
    return keras.Model(image, L.Dense(7, activation="softmax")(x))


def test_classes_of_a_picture(tmp_path: Path) -> None:
    model = tutorial()
    randomize(model)
    model.save(tmp_path / "tutorial.keras")
    picture = str(photograph())
    weights, out = str(tmp_path / "tutorial.keras"), str(tmp_path / "features.npz")
    status, text = cli("run", picture, "--weights", weights, "--top", 5, "--out", out)
    assert status == 0
    pixels = keras.utils.img_to_array(keras.utils.load_img(picture, target_size=(96, 96), interpolation="nearest"))
    expected = np.asarray(model(pixels[None], training=False))[0]
    assert np.abs(np.load(out)["probabilities"][0] - expected).max() < 1e-5
    shown = re.findall(r"photograph\S* +(\d) +(0\.\d{4}|1\.0000)", text)
    best = np.argsort(-expected)[:5]
    assert [int(number) for number, _ in shown] == best.tolist()
    assert np.abs(np.array([float(share) for _, share in shown]) - expected[best]).max() < 1e-4
