"""Files of seeded weights: npresnet reads them back as the same network, and Keras loads them by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.convert import convert
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.network.weights import load_weights
from npresnet.verify import oracle
from npresnet.verify.compare import compare
from npresnet.verify.rows import keras_model


def same_tensors(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        one[name].keys() == other[name].keys()
        and all(np.array_equal(array, other[name][role]) for role, array in tensors.items())
        for name, tensors in one.items()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_back(tmp_path, family):
    row = FAMILIES[family]
    architecture = Architecture.standard(row, row.depths[0], width=16)
    graph = build_graph(architecture)
    weights = random_weights(graph)
    found = load_weights(write_keras_file(tmp_path / "seeded.h5", graph, weights), architecture.name)
    assert found.graph == graph
    assert same_tensors(found.weights.read(), weights)


def test_grouped_convolutions_are_written_as_keras_has_them(tf, tmp_path):
    """keras-applications' ResNeXt: depthwise kernels, in layers that are called otherwise."""
    architecture = replace(Architecture.standard(FAMILIES["keras.applications ResNeXt"], 50, width=8), groups=4)
    graph = build_graph(architecture)
    weights = random_weights(graph)
    path = write_keras_file(tmp_path / "seeded.h5", graph, weights)
    convert(path, tmp_path / "plain.h5")
    images = np.random.default_rng(0).normal(0, 50, (1, 40, 33, 3)).astype(np.float32)
    model = keras_model(architecture)
    for file in (path, tmp_path / "plain.h5"):
        net = npresnet.load(file)
        assert net.architecture.groups == 4
        assert same_tensors(net.weights.read(), weights)
        oracle.load_file(model, file)  # refuses a file that leaves anything as it was
        assert compare(net(images)[-1], np.asarray(model(images))).agrees()
