"""A trained network, from the file that Keras saved to its answers: ``tests/data``, made by ``tests/train_digits.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npresnet
from npresnet.verify import oracle
from npresnet.verify.compare import compare

DATA = Path(__file__).parents[1] / "data"
WEIGHTS = DATA / "digits.keras"


@pytest.fixture(scope="module")
def recording() -> dict[str, np.ndarray]:
    """pictures uint8[60, 32, 32, 3], labels int64[60], predictions float32[60, 10] of TensorFlow."""
    with np.load(DATA / "digits.npz") as found:
        return dict(found)


def test_the_recording_can_tell_right_from_wrong(recording):
    """Good answers, not all of them alike, on pictures whose channels differ."""
    predictions, labels = recording["predictions"], recording["labels"]
    assert predictions.shape == (60, 10)
    assert set(labels) == set(range(10))
    assert np.mean(predictions.argmax(axis=1) == labels) > 0.9
    assert (recording["pictures"][..., 0] != recording["pictures"][..., 2]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "reference"])
def test_answers_are_tensorflows(recording, algorithm):
    net = npresnet.load(WEIGHTS, algorithm=algorithm)
    assert net.architecture.name == "keras-resnet/resnet18"
    found = net.predict(net.prepare(recording["pictures"], "none"))
    assert found.argmax(axis=1).tolist() == recording["predictions"].argmax(axis=1).tolist()
    difference = compare(found, recording["predictions"])
    assert difference.agrees(), difference


def test_wrong_preprocessing_is_noticed(recording):
    """The test above sees an order of channels, or a mean, that is not the family's."""
    net = npresnet.load(WEIGHTS)
    for wrong in (recording["pictures"][..., ::-1], recording["pictures"].astype(np.float32) * 0.99):
        found = net.predict(net.prepare(wrong, "none"))
        assert not compare(found, recording["predictions"]).agrees(relative=1e-3, worst=1e-1)


def test_live_tensorflow_agrees(tf, recording):
    """The same file, as it describes itself, of Keras's layers."""
    net = npresnet.load(WEIGHTS)
    images = net.prepare(recording["pictures"], "none")
    network = oracle.described(WEIGHTS)
    last = network.layers[-1].name
    ((_, live),) = oracle.activations(network, images, [last])
    assert compare(live, recording["predictions"]).agrees()
    assert compare(net.predict(images), live).agrees()
