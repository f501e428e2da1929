"""Activations, joins and normalisations in networks, as Keras 3 and Keras 2 describe them: layer by layer and by plan, fused and not,
on live TensorFlow's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.kernels.functions import FUNCTIONS
from npresnet.network.dialects.activations import ACTIVATIONS
from npresnet.network.operators import Activation, LeakyReLU, Normalization, ReLU
from npresnet.verify.compare import compare

from ..support.agreement import check_file, randomize

keras = pytest.importorskip("keras")
tf_keras = pytest.importorskip("tf_keras")
ALGORITHMS = ("auto", "direct", "im2col", "reference")


def named(k: Any) -> list[str]:
    """The activations that this Keras has and that are run here."""
    return [name for name in ACTIVATIONS if hasattr(k.activations, name) and name not in ("linear", "relu")]


def activations(k: Any) -> Any:
    """Each name in a convolution and alone, the layers that are activations, and a sum before some."""
    L = k.layers
    image = k.Input((12, 13, 3), name="picture")
    x = L.Conv2D(24, 3, strides=2, padding="same", name="entry")(image)
    ends = []
    for i, name in enumerate(named(k)):
        y = L.Conv2D(24, (3, 3) if i % 2 else (1, 1), padding="same", activation=name, name=f"conv_{name}")(x)
        ends.append(L.Activation(name, name=f"{name}_alone")(L.Add(name=f"add_{name}")([x, y])))
    x = L.LayerNormalization(name="norm")(L.Average(name="mean")(ends))
    layers = [
        L.ReLU(max_value=0.5, name="capped"),
        L.ReLU(6.0, 0.125, name="capped_leaky"),
        L.ReLU(threshold=0.25, name="threshold"),
        L.ELU(alpha=0.5, name="elu_layer"),
        L.PReLU(shared_axes=[1, 2], name="prelu_channels"),
        L.PReLU(name="prelu_numbers"),
        L.PReLU(shared_axes=[2], name="prelu_rows"),
    ]
    if k is tf_keras:
        layers.append(L.ThresholdedReLU(theta=0.125, name="theta"))
    for layer in layers:
        x = L.Add(name=f"around_{layer.name}")(
            [x, layer(L.DepthwiseConv2D(3, padding="same", name=f"for_{layer.name}")(x))]
        )
    x = L.Flatten(name="flat")(L.MaxPooling2D(2, name="pool")(x))
    x = L.PReLU(name="prelu_vector")(L.Dense(16, activation="tanh", name="tanh_dense")(x))
    return k.Model(image, L.Dense(4, activation="softplus", name="top")(x), name="activations")


def joins(k: Any) -> Any:
    """Maps of one shape, gates of all forms in either order; attention to channels and pixels."""
    L = k.layers
    image = k.Input((12, 13, 3), name="picture")
    a = L.Conv2D(16, 3, padding="same", activation="relu", name="a")(image)
    b = L.Conv2D(16, 1, name="b")(image)
    x = L.Subtract(name="less")([a, b])
    x = L.Maximum(name="most")([x, a, b])
    x = L.ReLU(name="relu")(L.Add(name="sum")([L.Minimum(name="least")([x, a]), b]))
    x = L.Average(name="mean")([x, a, b])
    squeezed = L.GlobalAveragePooling2D(name="squeeze")(x)
    x = L.Multiply(name="gate_first")([L.Dense(16, activation="sigmoid", name="gate")(squeezed), x])
    kept = L.GlobalMaxPooling2D(keepdims=True, name="kept")(x)
    x = L.Multiply(name="gate_last")([x, L.Conv2D(16, 1, activation="hard_sigmoid", name="gate2")(kept)])
    pixels = L.Conv2D(1, 3, padding="same", activation="sigmoid", name="pixels")(x)
    x = L.Add(name="residual")([L.Multiply(name="by_pixel")([x, pixels]), a])
    x = L.Add(name="broadcast")([x, kept])
    x = L.Subtract(name="around_mean")([x, squeezed])
    x = L.Minimum(name="capped")([pixels, x])
    return k.Model(image, L.Dense(3, name="top")(L.GlobalAveragePooling2D(name="pool")(x)), name="joins")


def norms(k: Any) -> Any:
    L = k.layers
    image = k.Input((8, 9, 3), name="picture")
    x = L.Conv2D(12, 3, padding="same", name="entry")(image)
    x = L.LayerNormalization(name="pixels")(x)
    x = L.Activation("gelu", name="gelu")(L.Conv2D(12, 1, name="one")(x))
    x = L.LayerNormalization(axis=[1, 2, 3], scale=False, name="whole")(x)
    x = L.GroupNormalization(4, name="groups")(L.Add(name="add")([x, L.Conv2D(12, 3, padding="same", name="two")(x)]))
    x = L.GroupNormalization(-1, center=False, epsilon=1e-5, name="instance")(x)
    x = L.UnitNormalization(name="unit")(x)
    x = L.BatchNormalization(name="bn")(L.Dense(10, name="dense")(L.GlobalAveragePooling2D(name="pool")(x)))
    x = L.UnitNormalization(name="embedding")(L.LayerNormalization(center=False, scale=False, name="rows")(x))
    return k.Model(image, L.Dense(3, name="top")(x), name="norms")


def pictures(model: Any) -> Any:
    _, h, w, c = model.input_shape
    return np.random.default_rng(5).uniform(-1, 1, (3, h, w, c)).astype(np.float32)


def saved(k: Any, make: Any, folder: Any, form: str) -> tuple[Any, Any]:
    """A model with its weights, and the file that it is saved in."""
    k.backend.clear_session()
    model = make(k)
    randomize(model, pixels=1)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if type(layer).__name__ == "PReLU":
            layer.set_weights([rng.uniform(-0.5, 1, array.shape).astype(np.float32) for array in layer.get_weights()])
    path = folder / f"{model.name}{form}"
    model.save(path)
    return model, path


@pytest.mark.parametrize("make", [activations, joins, norms])
def test_every_layer(make, tmp_path):
    model, path = saved(keras, make, tmp_path, ".keras")
    found = check_file(model, path, pictures(model))
    assert found.failures == ()
    assert found.layers > 12


@pytest.mark.parametrize("make", [activations, joins, norms])
@pytest.mark.parametrize("k", [keras, tf_keras], ids=["3", "2"])
@pytest.mark.parametrize("form", [".keras", ".h5"])
def test_the_whole_by_every_algorithm(k, make, form, tmp_path):
    model, path = saved(k, make, tmp_path, form)
    expected = np.array(model(pictures(model)))
    for algorithm in ALGORITHMS:
        found = npresnet.load(path, algorithm=algorithm).predict(pictures(model))
        assert compare(found, expected).agrees(), (algorithm, str(compare(found, expected)))


def test_fused(tmp_path):
    """An activation takes no step of its own behind what has an epilogue."""
    model, path = saved(keras, activations, tmp_path, ".keras")
    net = npresnet.load(path)
    steps = {step.name: step.algorithm for step in net.profile(pictures(model), outputs=["top"], repeats=1)}
    assert not [name for name in steps if name.startswith("conv_") and steps[name] == "activation"]
    assert "silu_alone" in steps
    assert steps["silu_alone"] != "activation"


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name in ACTIVATIONS])
def test_special_values(name, tmp_path):
    """One bad pixel in the second image: by plan the same NaN and infinity as layer by layer, in the first image none."""
    L = keras.layers
    image = keras.Input((14, 15, 4))
    x = L.Conv2D(32, 3, padding="same", activation=None if name in ("abs", "gelu_tanh") else name)(image)
    model = keras.Model(image, L.Conv2D(8, 1, name="out")(L.Add()([x, L.Conv2D(32, 1)(image)])))
    path = tmp_path / "one.keras"
    model.save(path)
    for value in (np.nan, np.inf, -np.inf):
        images = np.random.default_rng(5).normal(size=(2, 14, 15, 4)).astype(np.float32)
        images[1, 5, 6, 1] = value
        fast, plain = (
            npresnet.load(path, algorithm=algorithm)(images, outputs=["out"]) for algorithm in ("auto", "im2col")
        )
        assert np.isfinite(fast["out"][0]).all()
        assert compare(fast["out"], plain["out"]).agrees()


def test_hard_sigmoid_is_another_in_keras_2(tmp_path):
    operators = []
    for k in (keras, tf_keras):
        image = k.Input((4, 4, 5))
        path = tmp_path / f"{k.__name__}.keras"
        x = k.layers.Conv2D(5, 1, activation="hard_sigmoid", name="c")(image)
        k.Model(image, k.layers.Add()([x, image])).save(path)
        operators.append(npresnet.load(path).graph.by_name["c"].operator)
    assert operators == [Activation("hard_sigmoid"), Activation("hard_sigmoid_keras2")]


def test_relus_of_one_line_stay_in_registers(tmp_path):
    image = keras.Input((4, 4, 5))
    x = image
    for i, layer in enumerate(
        (keras.layers.ReLU(), keras.layers.ReLU(negative_slope=0.5), keras.layers.ReLU(max_value=6))
    ):
        x = keras.layers.Conv2D(5, 1)(x)
        layer.name = f"r{i}"
        x = layer(x)
    keras.Model(image, keras.layers.Add()([x, image])).save(tmp_path / "relus.keras")
    graph = npresnet.load(tmp_path / "relus.keras").graph
    assert [graph.by_name[f"r{i}"].operator for i in range(3)] == [
        ReLU(),
        LeakyReLU(0.5),
        Activation("clipped_relu", (0.0, 6.0, 0.0)),
    ]


@pytest.mark.parametrize("pixels", [1, 4])
def test_a_gate_first_where_the_map_is_one_pixel(pixels, tmp_path):
    """The product is a map, however small it is: what comes behind it reads maps."""
    L = keras.layers
    image = keras.Input((None, None, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", name="c")(image)
    gate = L.Dense(8, activation="sigmoid")(L.GlobalAveragePooling2D()(x))
    for operands in ([gate, x], [x, gate]):
        model = keras.Model(image, L.Conv2D(5, 1, name="out")(L.Add()([x, L.Multiply()(operands)])))
        model.save(tmp_path / "gate.keras")
        images = np.random.default_rng(1).normal(size=(2, 2 * pixels, 2 * pixels, 3)).astype(np.float32)
        expected = np.array(model(images))
        for algorithm in ALGORITHMS:
            found = npresnet.load(tmp_path / "gate.keras", algorithm=algorithm)(images, outputs=["out"])["out"]
            assert found.shape == expected.shape
            assert compare(found, expected).agrees()


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("behind", [False, True])
def test_normalization_of_what_hardly_varies(adapted, behind, tmp_path):
    """Means of many deviations: no folding, whose result would be a small difference of large numbers."""
    L = keras.layers
    rng = np.random.default_rng(2)
    image = keras.Input((6, 7, 5))
    x = L.DepthwiseConv2D(1, name="scaled")(image) if behind else image
    shape, mean = (64, 6, 7, 5), np.array([255.0, 1000.0, 0.5, 0.0, -60.0])
    data = (mean + rng.normal(size=shape) * [0, 1, 2, 1, 1]).astype(np.float32)
    layer = (
        L.Normalization(name="norm") if adapted else L.Normalization(mean=mean, variance=[0, 1, 4, 1, 1], name="norm")
    )
    if adapted:
        layer.adapt(data)
    x = layer(x)
    model = keras.Model(image, L.Conv2D(4, 1, name="out")(L.Add()([x, L.Conv2D(5, 1, name="more")(x)])))
    if behind:
        model.get_layer("scaled").set_weights([np.ones((1, 1, 5, 1)), np.zeros(5)])
    path = tmp_path / "norm.keras"
    model.save(path)
    images = data[:2].copy()
    truth = npresnet.load(path, algorithm="reference")(images.astype(np.float64), outputs=["norm"])["norm"]
    assert isinstance(npresnet.load(path).graph.by_name["norm"].operator, Normalization)
    theirs = compare(np.array(keras.Model(image, model.get_layer("norm").output)(images)), truth)
    for algorithm in ("auto", "direct", "im2col"):
        net = npresnet.load(path, algorithm=algorithm)
        ours = compare(net(images, outputs=["norm"])["norm"], truth)
        assert ours.agrees(2 * theirs.relative + 2e-7), (algorithm, str(ours), str(theirs))
        assert compare(net(images, outputs=["out"])["out"], np.array(model(images))).agrees()


@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_of_vectors_by_either_name_of_the_axis(axis, tmp_path):
    image = keras.Input((5, 5, 6))
    x = keras.layers.Add()([image, keras.layers.Conv2D(6, 1)(image)])
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Softmax(axis=axis, name="top")(x))
    model.save(tmp_path / "soft.keras")
    images = np.random.default_rng(5).normal(size=(2, 5, 5, 6)).astype(np.float32)
    assert compare(npresnet.load(tmp_path / "soft.keras").predict(images), np.array(model(images))).agrees()
