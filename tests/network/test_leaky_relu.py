"""Leaky ReLU in networks: from every spelling of Keras, with its slope; layer by layer, by plan, fused and not, on live
TensorFlow's numbers."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.network.described import network_from_config
from npresnet.network.operators import LeakyReLU, ReLU
from npresnet.verify.compare import compare

from ..support.agreement import check_file, randomize

keras = pytest.importorskip("keras")
L = keras.layers


def network() -> Any:
    """A residual network with a leaky ReLU wherever one can stand."""
    image = keras.Input((None, None, 3), name="picture")
    x = L.Conv2D(32, 7, strides=2, padding="same", activation="leaky_relu", name="entry")(image)
    x = L.MaxPooling2D(3, strides=2, padding="same", name="pool")(x)
    for stage in (2, 3):
        y = L.Conv2D(32, 1, activation=L.LeakyReLU(negative_slope=0.1), name=f"a{stage}")(x)
        y = L.LeakyReLU(name=f"leaky{stage}")(
            L.BatchNormalization(name=f"bn{stage}")(L.Conv2D(32, 3, padding="same")(y))
        )
        activation = "leaky_relu" if stage == 2 else None
        y = L.DepthwiseConv2D(3, padding="same", activation=activation, name=f"depthwise{stage}")(y)
        x = L.LeakyReLU(negative_slope=0.05, name=f"out{stage}")(L.Add(name=f"add{stage}")([y, x]))
    x = L.Conv2D(48, 3, strides=2, padding="same", name="narrow")(L.LeakyReLU(name="again")(x))
    x = L.Activation("leaky_relu", name="named")(x)
    x = L.Dense(12, activation="leaky_relu", name="dense")(L.GlobalAveragePooling2D(name="mean")(x))
    return keras.Model(image, L.Dense(5, activation="softmax", name="top")(x), name="leaky")


@pytest.fixture(scope="module")
def model():
    made = network()
    randomize(made, pixels=60)
    return made


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("leaky") / "leaky.keras"
    model.save(path)
    return path


def pictures(n: int = 2) -> Any:
    return np.random.default_rng(5).uniform(-120, 130, (n, 61, 80, 3)).astype(np.float32)


def test_agrees_with_tensorflow(model, file):
    """Every layer, and the whole by every algorithm."""
    found = check_file(model, file, pictures())
    assert found.failures == ()
    assert found.layers > 15
    expected = model(pictures()).numpy()
    for algorithm in ("auto", "direct", "im2col", "reference"):
        assert compare(npresnet.load(file, algorithm=algorithm).predict(pictures()), expected).agrees(), algorithm


def test_slopes(file):
    graph = npresnet.load(file).graph
    slopes = {layer.name: layer.operator.slope for layer in graph.layers if isinstance(layer.operator, LeakyReLU)}
    assert slopes == {
        "entry": 0.2, "a2": 0.1, "leaky2": 0.3, "depthwise2": 0.2, "out2": 0.05, "a3": 0.1, "leaky3": 0.3, "out3": 0.05,
        "again": 0.3, "named": 0.2, "dense": 0.2,
    }  # fmt: skip


def test_feature_maps_are_what_follows_the_sums(file):
    assert npresnet.load(file).graph.features == {"C1": "pool", "C2": "out3"}


def test_fused_as_relu_is(file):
    """No pass of its own, but where it follows another, or a sum that does."""
    net = npresnet.load(file)
    steps = {step.name: step.algorithm for step in net.profile(pictures(1), outputs=[net.graph.classifier], repeats=1)}
    assert {name for name in steps if steps[name] == "affine"} == {"again", "out2"}
    assert {steps[name] for name in ("leaky2", "leaky3")} == {"F(4x4,3x3)"}
    assert steps["entry"] == "F(3x3,4x4)"
    assert {steps[name] for name in ("depthwise2", "out3")} == {"grouped"}
    assert steps["named"] == "im2col"
    assert steps["dense"] == "multiply"
    assert "LeakyReLU" in net.summary() or "in narrow" in net.summary()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_special_values(file, value):
    """One bad pixel in the second image: by plan the same NaN and infinity as layer by layer, in the first image none."""
    images = pictures()
    images[1, 30, 40, 1] = value
    names = ["leaky2", "out3", "named"]
    fast, plain = (npresnet.load(file, algorithm=algorithm)(images, outputs=names) for algorithm in ("auto", "im2col"))
    for name in names:
        assert np.isfinite(fast[name][0]).all()
        assert compare(fast[name], plain[name]).agrees(), name


def operator_of(kind: str, config: dict[str, Any]) -> Any:
    """What a layer of a description becomes."""
    layers = [
        {"class_name": "InputLayer", "name": "image", "config": {"batch_shape": [None, 8, 8, 4]}, "inbound_nodes": []},
        {"class_name": kind, "name": "layer", "config": config, "inbound_nodes": [[["image", 0, 0, {}]]]},
    ]
    ends = {"input_layers": [["image", 0, 0]], "output_layers": [["layer", 0, 0]]}
    found = network_from_config({"class_name": "Functional", "config": {"name": "one", "layers": layers, **ends}})
    assert found is not None
    return found.graph.by_name["layer"].operator


@pytest.mark.parametrize(
    ("kind", "config", "slope"),
    [
        ("LeakyReLU", {"alpha": 0.30000001192092896}, 0.30000001192092896),  # Keras 1 and 2
        ("LeakyReLU", {"alpha": {"type": "ndarray", "value": 0.1}}, 0.1),
        ("LeakyReLU", {"alpha": {"class_name": "__numpy__", "config": {"value": 0.1, "dtype": "float32"}}}, 0.1),
        ("LeakyReLU", {"alpha": {"class_name": "__numpy__", "config": {"value": [0.1], "dtype": "float32"}}}, 0.1),
        ("LeakyReLU", {"negative_slope": 0.25}, 0.25),  # Keras 3
        ("ReLU", {"negative_slope": {"class_name": "__numpy__", "config": {"value": 0.1, "dtype": "float32"}}}, 0.1),
        ("LeakyReLU", {}, 0.3),
        ("ReLU", {"max_value": None, "negative_slope": 0.125, "threshold": 0.0}, 0.125),
        ("Activation", {"activation": "leaky_relu"}, 0.2),
        ("Activation", {"activation": {"class_name": "function", "config": "leaky_relu"}}, 0.2),
        ("Activation", {"activation": {"class_name": "LeakyReLU", "config": {"alpha": 0.5}}}, 0.5),
        ("Activation", {"activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.5}}}, 0.5),
    ],
)
def test_every_spelling(kind, config, slope):
    assert operator_of(kind, config) == LeakyReLU(slope)


def test_no_slope_at_all_is_relu():
    assert operator_of("ReLU", {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}) == ReLU()


@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_no_slope_of_infinity(name, tmp_path):
    """NaN in Keras 3, which multiplies by 0; Keras 2 has ReLU there."""
    K = pytest.importorskip(name)
    x = K.Input((8, 8, 4))
    model = K.Model(x, K.layers.LeakyReLU(0.0, name="leaky")(K.layers.Add()([x, K.layers.Conv2D(4, 1)(x)])))
    model.save(tmp_path / "leaky.keras")
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype(np.float32)
    images[0, 2, 3, 1] = -np.inf
    for algorithm in ("auto", "reference"):
        found = npresnet.load(tmp_path / "leaky.keras", algorithm=algorithm)(images, outputs=["leaky"])["leaky"]
        assert compare(found, np.asarray(model(images))).agrees(), algorithm


def test_keras_2_file(model, file, tmp_path):
    """The legacy layout with Keras 2's spelling of the settings: the same numbers."""
    path = tmp_path / "leaky.h5"
    model.save(path)
    with h5py.File(path, "r+") as stored:
        text = stored.attrs["model_config"]
        config = json.loads(text if isinstance(text, str) else text.decode())
        for layer in config["config"]["layers"]:
            for settings in (layer["config"], layer["config"].get("activation")):
                settings = settings.get("config") if isinstance(settings, dict) and "config" in settings else settings
                if isinstance(settings, dict) and "negative_slope" in settings:
                    settings["alpha"] = settings.pop("negative_slope")
        assert json.dumps(config).count('"alpha"') == 7
        stored.attrs["model_config"] = json.dumps(config)
    one, other = npresnet.load(file), npresnet.load(path)
    assert np.array_equal(one.predict(pictures()), other.predict(pictures()))
