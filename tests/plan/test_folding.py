"""Norms, and the bias before them, folded into two numbers per channel."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import BatchNorm, Conv2D, Input, Normalization, Operator, Rescale, Scale
from npresnet.plan.folding import Constant, fold

NORMS = {
    "bn": BatchNorm(3, 1e-3),
    "scale": Scale(3),
    "rescale": Rescale((2.0, 0.5, 1.0), (0.25,)),
    "normalize": Normalization(3),
}


def _network():
    layers = [Layer("conv", Conv2D(2, 3, (1, 1)), ("input",)), *(Layer(name, NORMS[name], ("conv",)) for name in NORMS)]
    rng = np.random.default_rng(3)
    weights = {
        layer.name: {
            role: rng.uniform(0.5, 2, shape).astype(np.float32) for role, shape in layer.operator.tensors().items()
        }
        for layer in layers
    }
    return Graph((Layer("input", Input(2)), *layers), {}), weights


def test_these_are_all():
    assert {type(norm) for norm in NORMS.values()} == {kind for kind in get_args(Operator) if kind.per_channel}


def _scale_and_shift(name, t):
    """A norm's two numbers per channel, by its definition, from its tensors in float64."""
    if name == "bn":
        root = np.sqrt(t["variance"] + 1e-3)
        return t["gamma"] / root, t["beta"] - t["mean"] * t["gamma"] / root
    if name == "scale":
        return t["gamma"], t["beta"]
    if name == "rescale":
        return np.array([2.0, 0.5, 1.0]), 0.25
    return 1 / np.sqrt(t["variance"]), -t["mean"] / np.sqrt(t["variance"])


@pytest.mark.parametrize("norms", [(), *((name,) for name in NORMS), tuple(NORMS), tuple(NORMS)[::-1]], ids=str)
def test_folding(norms):
    graph, weights = _network()
    x = np.random.default_rng(4).normal(size=(5, 2))
    alone = x[:, [0, 0, 0]]
    expected, expected_alone = x @ weights["conv"]["kernel"][0, 0] + weights["conv"]["bias"], alone
    for name in norms:
        scale, shift = _scale_and_shift(name, {role: array.astype(np.float64) for role, array in weights[name].items()})
        expected, expected_alone = expected * scale + shift, expected_alone * scale + shift
    kernel, scale, bias = fold(graph, weights, Constant("any", "conv", norms, 3))
    assert scale.dtype == bias.dtype == np.float64
    np.testing.assert_allclose(x @ (kernel[0, 0] * scale) + bias, expected, rtol=1e-9)
    kernel, scale, bias = fold(graph, weights, Constant("any", None, norms, 3))
    assert kernel is None
    np.testing.assert_allclose(alone * scale + bias, expected_alone, rtol=1e-9)
