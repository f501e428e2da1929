"""Layers by name and by path: names with slashes, names that several models share, wrapped layers, roles by name and by order,
as Keras 2 and 3 write them in each of their layouts."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from npresnet.files.layers import read_layers
from npresnet.files.opening import open_weights
from npresnet.files.stored import StoredFile

keras3 = pytest.importorskip("keras")
keras2 = pytest.importorskip("tf_keras")
KERAS = {"Keras 2": keras2, "Keras 3": keras3}
LAYOUTS = (".h5", ".weights.h5", ".keras")

Arrays = dict[str, list[np.ndarray]]


def arrays_of(path: Path) -> tuple[StoredFile, Arrays]:
    """What a file holds, and {path of names: numbers in the order of roles}."""
    with open_weights(path) as root:
        file = read_layers(root)
        read = {key: [tensor.read() for tensor in tensors.values()] for key, tensors in file.layers.items()}
        return file, {path: read[key] for path, key in file.paths.items()}


def leaves(model: Any, outer: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(path of names, layer) of the layers with weights in a model and in what it contains."""
    for layer in model.layers:
        path = (*outer, layer.name)
        inner = getattr(layer, "layer", layer)  # a wrapper's
        path = path if inner is layer else (*path, inner.name)
        if hasattr(inner, "layers"):
            yield from leaves(inner, path)
        elif inner.weights:
            yield "/".join(path), inner


def fill(model: Any) -> None:
    rng = np.random.default_rng(3)
    model.set_weights([rng.uniform(0.5, 1, array.shape).astype(array.dtype) for array in model.get_weights()])


def conv(keras: Any, name: str, size: int = 3) -> Any:
    return keras.layers.Conv2D(3, size, padding="same", name=name)


def inside(keras: Any, name: str, *layers: Any) -> Any:
    """A model that adds what some layers in a row make to what they get."""
    x = image = keras.Input((None, None, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, keras.layers.Add(name="sum")([image, x]), name=name)


def twins(keras: Any) -> Any:
    """``conv`` in two models and outside, and ``deep`` in a model inside a model."""
    first = inside(keras, "first", conv(keras, "conv"), keras.layers.BatchNormalization(name="bn", scale=False))
    second = inside(keras, "second", conv(keras, "conv", 1), inside(keras, "third", conv(keras, "deep")))
    image = keras.Input((8, 8, 3))
    return keras.Model(image, conv(keras, "conv", 5)(second(first(image))), name="outermost")


def dense(keras: Any) -> Any:
    """DenseNet's names, outside a model and in two."""
    one = inside(keras, "one", conv(keras, "conv1/conv"), keras.layers.BatchNormalization(name="conv1/bn"))
    two = inside(keras, "two", conv(keras, "conv2/conv", 1), keras.layers.PReLU(name="conv2", shared_axes=[1, 2]))
    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="conv0/bn")(conv(keras, "conv0")(two(one(image))))
    return keras.Model(image, conv(keras, "conv0/conv")(x), name="outermost")


def wrapped(keras: Any) -> Any:
    """Layers and a model in ``TimeDistributed``."""
    layers, image = keras.layers, keras.Input((2, 8, 8, 3))
    x = layers.TimeDistributed(conv(keras, "single"), name="wrapper")(image)
    x = layers.TimeDistributed(layers.BatchNormalization(name="norm"), name="other")(x)
    x = layers.TimeDistributed(inside(keras, "model", conv(keras, "conv"), conv(keras, "more")), name="third")(x)
    return keras.Model(image, x, name="outermost")


def saved(model: Any, folder: Path, layout: str) -> Path:
    path = folder / f"file{layout}"
    fill(model)
    (model.save_weights if layout == ".weights.h5" else model.save)(path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", KERAS)
@pytest.mark.parametrize("build", [twins, dense, wrapped])
def test_by_path(tmp_path: Path, build: Any, version: str, layout: str) -> None:
    """Each layer is found by the names on the way to it, with its own numbers."""
    if build is dense and version == "Keras 3":
        with pytest.raises(ValueError, match="cannot contain"):
            build(KERAS[version])
        return
    model = build(KERAS[version])
    path = saved(model, tmp_path, layout)
    file, found = arrays_of(path)
    if version == "Keras 2" and layout == ".weights.h5":
        assert not found
        assert file.unnamed
        return
    expected = dict(leaves(model))
    assert len(expected) >= 4
    for place, layer in expected.items():
        for ours, theirs in zip(found[place], layer.get_weights(), strict=True):
            assert np.array_equal(ours, theirs), place
    assert len(file.layers) == len(expected)
    if build is twins:
        assert file.paths["conv"] == "conv"
        assert {"first/conv", "second/conv", "deep", "bn"} < file.layers.keys()
    if build is wrapped:
        assert file.paths["wrapper"] == file.paths["wrapper/single"]
        assert file.paths["other"] == file.paths["other/norm"]


def test_keras_3_in_the_words_of_a_nested_model(tmp_path: Path) -> None:
    """The first of two nested layers of one name goes by it where none outside has it."""
    image = keras3.Input((8, 8, 3))
    second = inside(keras3, "second", conv(keras3, "conv", 1))
    model = keras3.Model(image, second(inside(keras3, "first", conv(keras3, "conv"))(image)))
    file, found = arrays_of(saved(model, tmp_path, ".h5"))
    assert file.layers.keys() == {"conv", "second/conv"}
    assert file.paths == {"first": "conv", "first/conv": "conv", "second": "second/conv", "second/conv": "second/conv"}
    assert found["first/conv"][0].shape == (3, 3, 3, 3)


# Roles ---------------------------------------------------------------------------------------------------------------


def every_role(keras: Any) -> tuple[Any, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """A model, and the roles of each layer by name and where only their order is known."""
    layers, image = keras.layers, keras.Input((8, 8, 1))
    x = layers.DepthwiseConv2D(3, depth_multiplier=4, name="depthwise")(image)
    x = layers.SeparableConv2D(4, 3, name="separable")(x)
    x = layers.SeparableConv2D(4, 1, use_bias=False, name="separable_plain")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.PReLU(name="prelu_everywhere")(x)
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.GroupNormalization(2, center=False, name="group_norm")(x)
    x = layers.Conv2DTranspose(3, 2, name="transpose")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.BatchNormalization(scale=False, name="norm_without_scale")(x)
    x = layers.BatchNormalization(scale=False, center=False, name="norm_of_two")(x)
    normalization = layers.Normalization(axis=None, name="data")
    normalization.build((None, 5, 5, 3))
    x = layers.Dense(2, name="dense")(layers.Conv2D(2, 1, use_bias=False, name="plain")(normalization(x)))
    depthwise = "depthwise_kernel" if keras is keras2 else "kernel"
    kernel, separable = ("kernel", "bias"), ("depthwise_kernel", "pointwise_kernel", "bias")
    four, three = ("gamma", "beta", "mean", "variance"), ("0", "1", "2")
    return keras.Model(image, x), {
        "depthwise": ((depthwise, "bias"), kernel),
        "separable": (separable, three),
        "separable_plain": (separable[:2], three[:2]),
        "prelu": (("alpha",), ("0",)),
        "prelu_everywhere": (("alpha",), ("0",)),
        "layer_norm": (("gamma", "beta"), three[:2]),
        "group_norm": (("gamma",), ("0",)),
        "transpose": (kernel, kernel),
        "norm": (four, four),
        "norm_without_scale": (four[1:], three),
        "norm_of_two": (four[2:], three[:2]),
        "data": (("mean", "variance", "count"), three),
        "plain": (("kernel",), ("kernel",)),
        "dense": (kernel, kernel),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", KERAS)
def test_roles(tmp_path: Path, version: str, layout: str) -> None:
    model, roles = every_role(KERAS[version])
    path = saved(model, tmp_path, layout)
    file, _ = arrays_of(path)
    if version == "Keras 2" and layout == ".weights.h5":
        return  # no names, so no layers by name
    found = {name: tuple(tensors) for name, tensors in file.layers.items()}
    assert found == {name: both[0 if layout == ".h5" else 1] for name, both in roles.items()}
    for layer in model.layers:
        for tensor, array in zip(file.layers.get(layer.name, {}).values(), layer.get_weights(), strict=True):
            assert tensor.shape == array.shape


@pytest.mark.parametrize(
    ("written", "role"),
    [
        ("fixed_batch_normalization_47_gamma:0", "gamma"),
        ("fixed_batch_normalization_47_running_std:0", "variance"),
        ("convolution2d_3_W:0", "kernel"),
        ("layer_running_mean:0", "mean"),
        ("renorm_mean:0", "renorm_mean"),
        ("block_2_depthwise_kernel:0", "depthwise_kernel"),
        ("layer_b:0", "bias"),
    ],
)
def test_the_role_of_a_wrapped_layer(tmp_path: Path, written: str, role: str) -> None:
    """A class of the user's own, and Keras 1, put the name of the layer inside a wrapper in front of the role."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs["layer_names"] = [b"layer"]
        file[f"layer/layer/{written}"] = np.zeros(3, np.float32)
    found, _ = arrays_of(tmp_path / "file.h5")
    assert {name: [*tensors] for name, tensors in found.layers.items()} == {"layer": [role]}


# Odd files -----------------------------------------------------------------------------------------------------------


def test_a_path_that_two_layers_have(tmp_path: Path) -> None:
    """A slash in a name, and a model whose layer it could be: both are kept, the first under the path."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs["layer_names"] = [b"a/b", b"a", b"b"]
        for place in ("a/b/a/b", "a/b", "b/b"):
            file[f"{place}/kernel:0"] = np.full(3, len(place), np.float32)
        for group, written in (("a/b", b"a/b/kernel:0"), ("a", b"b/kernel:0"), ("b", b"b/kernel:0")):
            file[group].attrs["weight_names"] = np.array([written])
    found, arrays = arrays_of(tmp_path / "file.h5")
    assert found.layers.keys() == {"a/b", "a/b (2)", "b"}
    assert arrays["a/b"][0][0] == len("a/b/a/b")


CONFIGS = [
    {},
    {"config": []},
    {"config": {"layers": {"a": 1}}},
    {
        "config": {
            "layers": [None, 3, "x", [], {}, {"name": 5}, {"name": "conv"}, {"name": "m", "config": {"layers": 7}}]
        }
    },
    {"config": {"layer": {"class_name": "Conv2D", "config": None}}},
    {"class_name": [], "config": {"layers": [{"class_name": {}, "config": {"name": "conv", "layer": []}}]}},
]


@pytest.mark.parametrize("kind", ["h5", "keras"])
@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_odd_configs(tmp_path: Path, config: Any, kind: str) -> None:
    """A config names layers, and is not trusted to be one."""
    path = tmp_path / f"file.{kind}"
    place = "model_weights/conv/conv/kernel:0" if kind == "h5" else "layers/conv2d/vars/0"
    inside = io.BytesIO()
    with h5py.File(path if kind == "h5" else inside, "w") as file:
        file[place] = np.zeros((3, 3, 3, 3), np.float32)
        if kind == "h5":
            file["model_weights"].attrs["layer_names"] = [b"conv"]
            file.attrs["model_config"] = json.dumps(config)
    if kind == "keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", inside.getvalue())
    found, _ = arrays_of(path)
    assert [[*tensors] for tensors in found.layers.values()] == [["kernel"]]


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_a_config_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file["conv/conv/kernel:0"] = np.zeros((3, 3, 3, 3), np.float32)
        file.attrs["model_config"] = text
    found, _ = arrays_of(tmp_path / "file.h5")
    assert found.config is None
    assert [doubt for doubt in found.doubts if "the description cannot be read (the model's config is no JSON" in doubt]
