"""Layer by layer: each operator by the kernel of its name, to the last bit, whatever its input's shape."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet import kernels
from npresnet.cpu import by_layer
from npresnet.errors import NpResNetError
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import (
    Activation,
    Add,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Input,
    Multiply,
    Normalization,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    Softmax,
)
from npresnet.plan.layer_calls import CALLS, DEFINITIONS, as_maps, as_rows

from ..support import cases

X = cases.numbers("x", (2, 5, 6, 4), "spread")
FILLED = {
    role: cases.numbers(role, (4,)) ** 2 + np.float32(0.1) for role in ("gamma", "beta", "mean", "variance")
}  # fmt: skip


def result(algorithm, operators, images=X, weights=None):
    """What comes out of ``operators``, one after another; each is fed by the one before, twice if it takes two."""
    layers = [Layer("0", Input(images.shape[-1]))]
    for index, operator in enumerate(operators, 1):
        layers.append(Layer(str(index), operator, (str(index - 1),) * (2 if operator.commutative else 1)))
    last = layers[-1].name
    steps = by_layer.run(
        Graph(tuple(layers), {}), {last: weights or {}}, images, [last], algorithm=algorithm, threads=1
    )  # fmt: skip
    return list(steps)[-1].array


def both(operator, weights=None):
    return result("reference", [operator], weights=weights), result("im2col", [operator], weights=weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [True, False])
def test_batchnorm(dtype, scale):
    """By its definition in the reference; elsewhere by the two numbers per channel to which it comes."""
    weights = {role: values for role, values in FILLED.items() if scale or role not in ("gamma", "beta")}
    arguments = [weights.get(role) for role in FILLED]
    operator = BatchNorm(4, 1e-3, scale, scale)
    cases.assert_same_bits(
        result("im2col", [operator], weights=weights), kernels.batchnorm(X, *arguments, 1e-3)
    )  # fmt: skip
    wide = [None if values is None else values.astype(dtype) for values in arguments]
    expected = kernels.batchnorm_reference(X.astype(dtype), *wide, 1e-3)
    cases.assert_same_bits(result("reference", [operator], X.astype(dtype), weights), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variance", [1.0, 1e-3, 3e7, 1e-20, 0.0])
def test_normalization(dtype, variance):
    """The reference divides by the deviation, and so exactly; the others multiply by one over it, after subtracting."""
    mean = FILLED["mean"]
    weights = {"mean": mean, "variance": (FILLED["variance"] * variance).astype(np.float32)}
    wide = weights["variance"].astype(dtype)
    deviation = np.maximum(np.sqrt(wide), dtype(1e-7))
    expected = (X.astype(dtype) - mean) / deviation
    cases.assert_same_bits(result("reference", [Normalization(4)], X.astype(dtype), weights), expected)
    if dtype == np.float32:
        expected = (X - mean) * (1 / deviation)
        cases.assert_same_bits(result("im2col", [Normalization(4)], weights=weights), expected)


def test_constants_are_of_the_input_s_dtype():
    operator = Rescale((0.1,), (0.3, 0.7, -0.1, 1e-9))
    wide = X.astype(np.float64)
    cases.assert_same_bits(result("reference", [operator], wide), wide * 0.1 + np.array(operator.offset))
    for array in both(operator):
        assert array.dtype == np.float32


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(bias, groups):
    w = {"kernel": cases.numbers("w", (3, 2, 4 // groups, 6)), "bias": cases.numbers("b", (6,))}
    if not bias:
        del w["bias"]
    operator = Conv2D(4, 6, (3, 2), (2, 1), "same", bias, groups)
    options = {"stride": (2, 1), "padding": "same"}
    reference, im2col = both(operator, w)
    if groups == 1:
        cases.assert_same_bits(reference, kernels.conv2d_reference(X, *w.values(), **options))
        cases.assert_same_bits(im2col, kernels.conv2d_im2col(X, *w.values(), **options))
    else:  # the direct sum: the tiled version is for plans
        cases.assert_same_bits(reference, kernels.grouped_conv2d_reference(X, *w.values(), groups=groups, **options))
        cases.assert_same_bits(im2col, kernels.grouped_conv2d_cpu(X, *w.values(), groups=groups, **options))


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_dense(softmax, bias):
    """Over the channels of each pixel, too."""
    w = {"kernel": cases.numbers("w", (4, 3)), "bias": cases.numbers("b", (3,))}
    if not bias:
        del w["bias"]
    small = (X / np.abs(X).max()).astype(np.float32)
    for algorithm, ending in (("reference", "_reference"), ("im2col", "")):
        expected = getattr(kernels, f"dense{ending}")(small.reshape(-1, 4), *w.values())
        if softmax:
            expected = getattr(kernels, f"softmax{ending}")(expected)
        found = result(algorithm, [Dense(4, 3, softmax, bias)], small, w)
        cases.assert_same_bits(found, expected.reshape(2, 5, 6, 3))


@pytest.mark.parametrize("algorithm", ["reference", "im2col"])
@pytest.mark.parametrize("pool", [GlobalAveragePool, GlobalMaxPool])
@pytest.mark.parametrize("keep", [True, False])
def test_behind_a_global_pool(algorithm, pool, keep):
    """[n, c] and [n, 1, 1, c] alike: what takes maps gets one pixel."""
    pooled = result(algorithm, [pool(keep)])
    assert pooled.shape == ((2, 1, 1, 4) if keep else (2, 4))
    for operator, weights in (
        (ReLU(), {}),
        (Activation("sigmoid"), {}),
        (Softmax(), {}),
        (Add(), {}),
        (Multiply(), {}),
        (Scale(4), FILLED),
        (BatchNorm(4, 1e-3), FILLED),
        (Normalization(4), FILLED),
        (Rescale((2.0,), (1.0,)), {}),
        (Dense(4, 3, True), {"kernel": cases.numbers("w", (4, 3)), "bias": cases.numbers("b", (3,))}),
    ):
        found = result(algorithm, [pool(keep), operator], weights=weights)
        alone = result(algorithm, [operator], pooled.reshape(2, 1, 1, 4), weights)
        cases.assert_same_bits(found, alone.reshape(*pooled.shape[:-1], -1))


@pytest.mark.parametrize("algorithm", ["reference", "im2col"])
def test_other_shapes(algorithm):
    """Shapes that only Reshape makes: the last axis has the channels."""
    for shape in ((30, 4), (5, 3, 2, 4)):
        reshaped = [Reshape(shape)]
        expected = result(algorithm, [Scale(4)], weights=FILLED).reshape(2, *shape)
        cases.assert_same_bits(result(algorithm, [*reshaped, Scale(4)], weights=FILLED), expected)
    cases.assert_same_bits(result(algorithm, [Flatten()]), X.reshape(2, -1))


def test_views():
    for shape, seen in (
        ((2, 4), (2, 1, 1, 4)),
        ((2, 5, 4), (2, 1, 5, 4)),
        ((2, 3, 5, 4), (2, 3, 5, 4)),
        ((0, 4), (0, 1, 1, 4)),
    ):
        assert as_maps(np.zeros(shape)).shape == seen
        assert as_rows(np.zeros(shape)).shape == (int(np.prod(shape[:-1])), 4)


def test_kernels_are_looked_up_when_they_are_called(monkeypatch):
    """Whoever puts another function in a kernel's place has it run."""
    monkeypatch.setattr(kernels, "relu", lambda x, threads: np.full_like(x, 7))
    assert (result("im2col", [ReLU()]) == 7).all()


def test_a_kernel_s_complaint_names_the_layer(monkeypatch):
    def fail(x, threads):
        raise ValueError("it is Monday")

    monkeypatch.setattr(kernels, "relu", fail)
    with pytest.raises(NpResNetError, match="layer '1': it is Monday"):
        result("im2col", [ReLU()])


def test_tables_name_kernels():
    for table in (CALLS, DEFINITIONS):
        for calls in table.values():
            assert all(call.kernel in kernels.__all__ for call in calls)
            assert all(f"{call.kernel}_reference" in kernels.__all__ for call in calls)
