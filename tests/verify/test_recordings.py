"""The CPU beside the recordings of TensorFlow that machines without it check themselves against; and that such a check can
fail."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npresnet.errors import WeightsError
from npresnet.model import assemble
from npresnet.verify.recording import tensor_hash
from npresnet.verify.rows import layers_against_recording, plan_against_recording
from npresnet.verify.subjects import SUBJECTS, THIN

from ..support.recordings import FOLDER, layer_names


def failing(rows) -> list[str]:
    return [row.name for row in rows if not row.agrees]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_the_processor_agrees(subject):
    recording = subject.recording(FOLDER)
    assert recording.oracle.startswith("TensorFlow")
    assert recording.images.tobytes() == subject.images().tobytes()
    net = assemble(subject.found())
    rows = list(layers_against_recording(net, recording))
    assert {row.name for row in rows} == set(layer_names(net)) == set(recording.layers)
    assert failing(rows) == []
    planned = plan_against_recording(net, recording)
    assert len(planned) > len(net.layers) / 5
    assert failing(planned) == []


def test_they_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_500_000
    assert {path.name for path in FOLDER.iterdir()} == {f"{subject}.npz" for subject in SUBJECTS}


def test_benchmarks_need_no_tests():
    for path in (Path(__file__).parents[2] / "bench").glob("*.py"):
        assert not re.search(r"^\s*(from|import) tests\b", path.read_text(), re.MULTILINE), path.name


SUBJECT = THIN[1]


@pytest.fixture
def recording():
    return SUBJECT.recording(FOLDER)


def spoiled(layer, role, change):
    """A network whose ``layer`` has one tensor changed."""
    found = SUBJECT.found()
    tensors = {**found.weights[layer], role: change(found.weights[layer][role].copy())}
    return assemble(replace(found, weights={**found.weights, layer: tensors}))


def _one_hundredth_more(kernel):
    kernel.flat[np.abs(kernel).argmax()] *= 1.01
    return kernel


@pytest.mark.parametrize(
    ("layer", "role", "change", "first"),
    [
        ("res3b_branch2b", "kernel", _one_hundredth_more, "res3b_branch2b"),
        ("bn3a_branch2b", "variance", lambda a: a + np.float32(1e-4), "bn3a_branch2b"),
        ("res5c_branch2c", "bias", lambda a: a * np.float32(1.01), "res5c_branch2c"),
        ("bn4b_branch2a", "mean", lambda a: a * np.float32(np.nan), "bn4b_branch2a"),
    ],
)
def test_a_wrong_tensor_is_noticed(recording, layer, role, change, first):
    """At the layer that it belongs to, and in what a plan keeps after it."""
    net = spoiled(layer, role, change)
    assert failing(layers_against_recording(net, recording))[0] == first
    planned = plan_against_recording(net, recording)
    before = [row.name for row in planned if net.layers.index(row.name) < net.layers.index(layer)]
    assert [name for name in before if name in failing(planned)] == []
    assert failing(planned)


def test_wrong_images_are_noticed(recording):
    recording.images = np.ascontiguousarray(recording.images[:, :, ::-1])
    assert failing(layers_against_recording(assemble(SUBJECT.found()), recording))[:2] == ["conv1_pad", "conv1"]


def test_other_weights_are_refused(monkeypatch):
    weights = dict(SUBJECT.found().weights)
    weights["bn_conv1"] = {**weights["bn_conv1"], "mean": np.nextafter(weights["bn_conv1"]["mean"], np.float32(1))}
    other = replace(SUBJECT.found(), weights=weights)
    assert tensor_hash(weights) != tensor_hash(SUBJECT.found().weights)
    monkeypatch.setattr(type(SUBJECT), "found", lambda self: other)
    with pytest.raises(WeightsError, match="not those that were recorded"):
        SUBJECT.recording(FOLDER)


def test_the_hash_is_of_names_and_numbers():
    """Not of the order in a dictionary, or of how an array lies in memory."""
    weights = {"b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "a": {"bias": np.ones(2, np.float32)}}
    turned = {"a": weights["a"], "b": {"kernel": np.asfortranarray(weights["b"]["kernel"])}}
    assert tensor_hash(weights) == tensor_hash(turned)
    for other in (
        {**weights, "b": {"kernel": weights["b"]["kernel"].reshape(3, 2)}},
        {**weights, "b": {"bias": weights["b"]["kernel"]}},
        {"a": weights["a"]},
    ):
        assert tensor_hash(weights) != tensor_hash(other)
