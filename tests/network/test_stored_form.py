"""What a file keeps in another form than a network needs, against Keras: kernels that may be turned round, depthwise and
separable convolutions, statistics of all channels, tensors of which only the order is known, layers by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.network import recognise
from npresnet.network.convert import convert
from npresnet.network.described import NotDescribed, OwnNetwork
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import Add, Conv2D, Input, Normalization
from npresnet.network.weights import inspect
from npresnet.verify.compare import compare

keras3 = pytest.importorskip("keras")
keras2 = pytest.importorskip("tf_keras")
KERAS = {"Keras 2": keras2, "Keras 3": keras3}


def fill(model: Any) -> None:
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(0, 0.4, array.shape).astype(array.dtype) for array in model.get_weights()])


def pictures(channels: int = 3) -> Any:
    return np.random.default_rng(4).uniform(-1, 1, (2, 9, 11, channels)).astype(np.float32)


def agrees(model: Any, path: Path, *, channels: int = 3) -> bool:
    """Whether the layer ``out`` of the network in a file gives what Keras's model gives."""
    images = pictures(channels)
    ours = npresnet.load(path)(images, outputs=["out"])["out"]
    return compare(np.asarray(ours), np.asarray(model(images))).agrees()


def residual(keras: Any, *layers: Any, channels: int = 3) -> Any:
    x = image = keras.Input((None, None, channels))
    for layer in layers:
        x = layer(x)
    if x.shape[-1] != channels:
        image_too = keras.layers.Conv2D(x.shape[-1], 1, name="shortcut")(image)
        return keras.Model(image, keras.layers.Add(name="out")([x, image_too]), name="mine")
    return keras.Model(image, keras.layers.Add(name="out")([x, image]), name="mine")


# Which way round -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with_kernels", "smooth_kernels", "th_kernels", "a_th_kernels", "tf_kernels"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_name_does_not_turn_kernels(tmp_path: Path, name: str, suffix: str) -> None:
    for keras in KERAS.values():
        model = residual(keras, keras.layers.Conv2D(3, 3, padding="same"))
        fill(model)
        model.save(tmp_path / f"{name}{suffix}")
        assert agrees(model, tmp_path / f"{name}{suffix}")


@pytest.mark.parametrize("published", ["th_dim_ordering_th", "tf_dim_ordering_th", "th_dim_ordering_tf"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_even_a_published_name_turns_no_file_that_says_better(tmp_path: Path, published: str, suffix: str) -> None:
    path = tmp_path / f"resnet50_weights_{published}_kernels{suffix}"
    model = residual(keras3, keras3.layers.Conv2D(3, 3, padding="same"))
    fill(model)
    model.save(path)
    assert agrees(model, path)
    if suffix == ".h5":  # a file that notes no backend: its kernels are those of its own description
        with h5py.File(path, "r+") as file:
            del file["model_weights"].attrs["backend"]
            file.attrs.pop("backend", None)
        if published != "tf_dim_ordering_th":  # what could be, and is said
            assert agrees(model, path)
        else:
            assert any("because of the name under which" in doubt for doubt in inspect(path).doubts)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("channels", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, (1, 3), (7, 3)])
def test_kernels_that_only_look_like_theanos(tmp_path: Path, size: Any, channels: int, suffix: str) -> None:
    conv = keras3.layers.Conv2D(channels, size, padding="same", use_bias=False)
    model = residual(keras3, conv, channels=channels)
    fill(model)
    model.save(tmp_path / f"mine{suffix}")
    assert agrees(model, tmp_path / f"mine{suffix}", channels=channels)
    assert not any("kernels" in text for text in inspect(tmp_path / f"mine{suffix}").reasons)


def test_theanos_kernels_that_do_not_look_it(tmp_path: Path) -> None:
    """Of 3x3 pixels from 3 to 3 channels, and of 1x3: what the description needs tells, by the others."""
    layers = keras3.layers
    model = residual(
        keras3, layers.Conv2D(3, 3, padding="same"), layers.Conv2D(3, (1, 3), padding="same"), layers.Conv2D(4, 1)
    )
    fill(model)
    path = tmp_path / "mine.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = "theano"
        for layer in model.layers:
            if layer.weights:
                place = f"model_weights/{layer.name}/{layer.name}/kernel"
                kernel = file[place][()]
                del file[place]
                file[place] = kernel[::-1, ::-1].transpose(3, 2, 0, 1)
    assert agrees(model, path)


# Depthwise, and of all channels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("version", KERAS)
@pytest.mark.parametrize(("channels", "multiplier"), [(1, 1), (1, 4), (3, 1), (3, 2)])
def test_depthwise(tmp_path: Path, channels: int, multiplier: int, version: str, suffix: str) -> None:
    keras = KERAS[version]
    layer = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier, name="depthwise")
    model = residual(keras, layer, channels=channels)
    fill(model)
    model.save(tmp_path / f"mine{suffix}")
    assert agrees(model, tmp_path / f"mine{suffix}", channels=channels)


def followed(monkeypatch: Any, *layers: Layer) -> None:
    """Let every file describe this network."""
    own = OwnNetwork(Graph(layers, {"C": {}}), ("out",), {}, (), "mine")
    monkeypatch.setattr(recognise, "network_from_config", lambda *config: own)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("version", KERAS)
@pytest.mark.parametrize(("channels", "multiplier", "size"), [(3, 2, 3), (1, 1, 1), (1, 3, 3)])
def test_separable(
    tmp_path: Path, monkeypatch: Any, channels: int, multiplier: int, size: int, version: str, suffix: str, bias: bool
) -> None:
    """One layer of the file is two of the graph, each with its share."""
    keras = KERAS[version]
    layer = keras.layers.SeparableConv2D(
        channels, size, padding="same", depth_multiplier=multiplier, use_bias=bias, name="separable"
    )
    model = residual(keras, layer, channels=channels)
    fill(model)
    path = tmp_path / f"mine{suffix}"
    model.save(path)
    many, held = channels * multiplier, 3 if bias else 2
    depthwise = Conv2D(channels, many, (size, size), (1, 1), "same", False, channels)
    followed(
        monkeypatch,
        Layer("image", Input(channels)),
        Layer("separable:0", depthwise, ("image",), stored="separable", share=(0, held)),
        Layer("separable", Conv2D(many, channels, (1, 1), bias=bias), ("separable:0",), share=(1, held)),
        Layer("out", Add(), ("separable", "image")),
    )
    assert agrees(model, path, channels=channels)
    assert not inspect(path).unused
    convert(path, tmp_path / "plain.h5")
    assert agrees(model, tmp_path / "plain.h5", channels=channels)
    if suffix == ".h5":
        with h5py.File(path, "r+") as file:
            group = next(iter(file["model_weights/separable"].values()))
            del group[next(name for name in group if "pointwise" in name)]
        assert list(inspect(path).missing) == [f"separable/kernel {(1, 1, many, channels)}"]


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("version", KERAS)
def test_statistics_of_all_channels(tmp_path: Path, monkeypatch: Any, version: str, suffix: str, axis: Any) -> None:
    keras = KERAS[version]
    layer = keras.layers.Normalization(axis=axis, name="data")
    layer.adapt(pictures() * 3 + 1)
    model = residual(keras, layer)
    model.save(tmp_path / f"mine{suffix}")
    followed(
        monkeypatch,
        Layer("image", Input()),
        Layer("data", Normalization(3), ("image",)),
        Layer("out", Add(), ("data", "image")),
    )
    assert agrees(model, tmp_path / f"mine{suffix}")


# By path -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("version", KERAS)
def test_layers_of_one_name(tmp_path: Path, monkeypatch: Any, version: str, suffix: str) -> None:
    """In two models, in one of them deeper, and outside: each by the names on the way to it."""
    keras = KERAS[version]

    def conv(name: str) -> Any:
        return keras.layers.Conv2D(3, 3, padding="same", name=name)

    def model(name: str, *layers: Any) -> Any:
        x = image = keras.Input((None, None, 3))
        for layer in layers:
            x = layer(x)
        return keras.Model(image, x, name=name)

    image = keras.Input((None, None, 3))
    one, two = model("one", model("deep", conv("conv")), conv("more")), model("two", conv("conv"))
    whole = keras.Model(image, keras.layers.Add(name="out")([one(image), conv("conv")(two(image))]), name="mine")
    fill(whole)
    path = tmp_path / f"mine{suffix}"
    whole.save(path)
    operator = Conv2D(3, 3, (3, 3), (1, 1), "same")
    followed(
        monkeypatch,
        Layer("image", Input()),
        Layer("conv", operator, ("image",), stored="one/deep/conv"),
        Layer("more", operator, ("conv",)),
        Layer("two/conv", operator, ("image",), stored="two/conv"),
        Layer("/conv", operator, ("two/conv",), stored="conv"),
        Layer("out", Add(), ("more", "/conv")),
    )
    assert agrees(whole, path)
    found = inspect(path)
    assert not found.unused
    assert len(found.matched) == 4
    convert(path, tmp_path / "plain.h5")
    assert agrees(whole, tmp_path / "plain.h5")


# Descriptions that are not followed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_description_that_is_not_understood(tmp_path: Path, monkeypatch: Any, suffix: str) -> None:
    """It is not dropped in silence: it is named where nothing else is known of the network, too."""
    model = residual(keras3, keras3.layers.Conv2D(3, 3, padding="same"))
    model.save(tmp_path / f"mine{suffix}")

    def refuse(*config: Any) -> Any:
        raise NotDescribed("of a reason")

    monkeypatch.setattr(recognise, "network_from_config", refuse)
    with pytest.raises(npresnet.WeightsError, match=r"no ResNet .*; the file describes .* not understood: of a reason"):
        inspect(tmp_path / f"mine{suffix}")


def test_a_description_that_cannot_be_read(tmp_path: Path) -> None:
    model = residual(keras3, keras3.layers.Conv2D(3, 3, padding="same"))
    model.save(tmp_path / "mine.h5")
    with h5py.File(tmp_path / "mine.h5", "r+") as file:
        file.attrs["model_config"] = "{"
    with pytest.raises(
        npresnet.WeightsError, match=r"no ResNet .*; the file describes its model, but .* cannot be read"
    ):
        inspect(tmp_path / "mine.h5")
