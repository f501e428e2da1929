"""Pictures as the network in a file wants them: its own layers, its own size, its own number of channels.

Keras is the oracle, with the whole way of its users: ``load_img`` to the size that the model takes, what was done outside of the
model, the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.network.weights import inspect
from npresnet.verify.compare import compare

from ..support.networks import applications, save

keras = pytest.importorskip("keras")
tf_keras = pytest.importorskip("tf_keras")

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 90x70 pixels whose channels differ."""
    from PIL import Image

    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8) // np.array([1, 2, 3], np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    Image.fromarray(small).resize((90, 70), Image.Resampling.BICUBIC).save(path)
    return path


def randomize(model: Any) -> None:
    """Numbers under which activations keep their size, for models of Keras 2 and 3, with models inside."""
    rng = np.random.default_rng(1)
    spread = {
        "bias": (-0.2, 0.2), "gamma": (0.8, 1.2), "beta": (-0.2, 0.2), "moving_mean": (-0.2, 0.2), "moving_variance": (0.5, 1.5),
    }  # fmt: skip
    first = True
    for weight in model.weights:
        role = weight.name.split("/")[-1].split(":")[0]
        shape = tuple(weight.shape)
        if role == "kernel":
            fan = np.prod(shape[:-1]) * (100**2 if first else 1)  # pixels are some hundreds large
            weight.assign(rng.standard_normal(shape) * np.sqrt(2 / fan))
            first = False
        elif role in spread:
            weight.assign(rng.uniform(*spread[role], shape))


def narrow(K: Any, size: tuple[int | None, int | None], channels: int = 3, top: str = "global") -> Any:
    """The first blocks of ResNet50 of keras.applications, a few channels wide, with a head of its own or none."""
    L = K.layers

    def block(x: Any, name: str, stride: int, project: bool) -> Any:
        y = x
        for number, (width, kernel, s) in enumerate(((4, 1, stride), (4, 3, 1), (16, 1, 1)), 1):
            y = L.Conv2D(width, kernel, strides=s, padding="same", name=f"{name}_{number}_conv")(y)
            y = L.BatchNormalization(epsilon=1.001e-5, name=f"{name}_{number}_bn")(y)
            y = L.Activation("relu", name=f"{name}_{number}_relu")(y) if number < 3 else y
        if project:
            x = L.Conv2D(16, 1, strides=stride, name=f"{name}_0_conv")(x)
            x = L.BatchNormalization(epsilon=1.001e-5, name=f"{name}_0_bn")(x)
        return L.Activation("relu", name=f"{name}_out")(L.Add(name=f"{name}_add")([x, y]))

    image = K.Input((*size, channels), name="picture")
    x = L.ZeroPadding2D(3, name="conv1_pad")(image)
    x = L.BatchNormalization(epsilon=1.001e-5, name="conv1_bn")(L.Conv2D(8, 7, strides=2, name="conv1_conv")(x))
    x = L.ZeroPadding2D(1, name="pool1_pad")(L.Activation("relu", name="conv1_relu")(x))
    x = L.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for number in range(1, 4):
        x = block(x, f"conv2_block{number}", 1, number == 1)
    for number in range(1, 3):
        x = block(x, f"conv3_block{number}", 2 if number == 1 else 1, number == 1)
    if top == "global":
        x = L.Dense(5, activation="softmax", name="kinds")(L.GlobalAveragePooling2D(name="mean")(x))
    elif top == "flat":
        x = L.Dense(5, activation="softmax", name="kinds")(L.Flatten(name="flat")(x))
    return K.Model(image, x, name="tuned")


def behind(K: Any, front: Callable[[Any], Any], model: Any, size: tuple[int, int], channels: int = 3) -> Any:
    """A model behind layers that change its images."""
    image = K.Input((*size, channels))
    return K.Model(image, model(front(image)))


def as_keras_does(
    model: Any, picture: Path, size: tuple[int, int] | None, outside: Callable[[Any], Any], mode: str = "rgb"
) -> Any:
    """What Keras predicts for a picture, ``outside`` of the model done before."""
    image = keras.utils.load_img(picture, target_size=size, color_mode=mode)
    # as its `predict` does, which compiles a graph first
    return np.asarray(model(outside(keras.utils.img_to_array(image)[None]), training=False))


def raw(pixels: Any) -> Any:
    return pixels


caffe = keras.applications.resnet50.preprocess_input
LAYOUTS = [(keras, ".keras"), (keras, ".h5"), (tf_keras, ".h5")]
EVERY_LAYOUT = pytest.mark.parametrize(("K", "suffix"), LAYOUTS, ids=["3.keras", "3.h5", "2.h5"])


def check(
    model: Any,
    path: Path,
    picture: Path,
    size: tuple[int, int] | None,
    outside: Callable[[Any], Any],
    mode: str = "rgb",
) -> npresnet.ResNet:
    """That ``prepare`` and ``predict`` give what Keras does, without a word about how."""
    randomize(model)
    model.save(path)
    net = npresnet.load(path)
    found = compare(net.predict(net.prepare(picture)), as_keras_does(model, picture, size, outside, mode))
    assert found.agrees(), (net.architecture.preprocessing, found)
    return net


# What the network does itself ----------------------------------------------------------------------------------------


@EVERY_LAYOUT
def test_rescaling_in_front(tmp_path: Path, picture: Path, K: Any, suffix: str) -> None:
    model = behind(K, K.layers.Rescaling(1 / 255), narrow(K, (None, None)), (96, 64))
    check(model, tmp_path / f"tuned{suffix}", picture, (96, 64), raw)
    found = inspect(tmp_path / f"tuned{suffix}")
    assert found.architecture.preprocessing == "none"
    assert "itself" in found.preprocessing
    assert not any("pictures" in doubt for doubt in found.doubts)


@EVERY_LAYOUT
@pytest.mark.parametrize("learned", [False, True])
def test_normalization_in_front(tmp_path: Path, picture: Path, K: Any, suffix: str, learned: bool) -> None:
    if learned:
        layer = K.layers.Normalization(name="statistics")
        layer.adapt(np.random.default_rng(0).uniform(0, 255, (2, 9, 9, 3)).astype(np.float32))
    else:
        layer = K.layers.Normalization(mean=[120, 110, 100], variance=[3000, 3100, 3200])
    model = behind(K, layer, narrow(K, (None, None)), (64, 64))
    net = check(model, tmp_path / f"tuned{suffix}", picture, (64, 64), raw)
    assert net.architecture.preprocessing == "none"


def test_borders_in_front_say_nothing(tmp_path: Path, picture: Path) -> None:
    front = keras.Sequential([keras.layers.ZeroPadding2D(4), keras.layers.AveragePooling2D(2)])
    image = keras.Input((72, 56, 3))
    x = image
    for layer in front.layers:
        x = layer(x)
    model = keras.Model(image, narrow(keras, (None, None))(x))
    net = check(model, tmp_path / "tuned.keras", picture, (72, 56), caffe)
    assert net.architecture.preprocessing == "caffe"


def test_a_row_of_the_table_behind_rescaling(tmp_path: Path, picture: Path) -> None:
    """A whole network of keras.applications, whose names alone would mean another preparation."""
    base = applications("ResNet50V2", input_shape=(64, 64, 3))
    image = keras.Input((64, 64, 3))
    x = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(image))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    net = check(keras.Model(image, x), tmp_path / "tuned.keras", picture, (64, 64), raw)
    assert net.architecture.name == "keras.applications/resnet50v2"


# What the family did -------------------------------------------------------------------------------------------------


@EVERY_LAYOUT
def test_a_cut_network_is_prepared_as_its_family(tmp_path: Path, picture: Path, K: Any, suffix: str) -> None:
    """The first stages of keras.applications' ResNet50, without a size of their own."""
    model = narrow(K, (None, None), top="none")
    randomize(model)
    model.save(tmp_path / f"cut{suffix}")
    net = npresnet.load(tmp_path / f"cut{suffix}")
    assert net.architecture.name == "custom/tuned"
    assert net.architecture.preprocessing == "caffe"
    assert "keras.applications" in net._inspection.preprocessing
    expected = as_keras_does(model, picture, (224, 224), caffe)
    found = net(net.prepare(picture), outputs=["conv3_block2_out"])["conv3_block2_out"]
    assert compare(found, expected).agrees()


def test_a_cut_network_of_the_second_version(tmp_path: Path, picture: Path) -> None:
    base = applications("ResNet50V2", input_shape=(64, 64, 3))
    model = keras.Model(base.input, base.get_layer("conv3_block4_out").output)
    randomize(model)
    model.save(tmp_path / "cut.keras")
    net = npresnet.load(tmp_path / "cut.keras")
    assert net.architecture.preprocessing == "tf"
    expected = as_keras_does(model, picture, (64, 64), keras.applications.resnet_v2.preprocess_input)
    (last,) = (net(net.prepare(picture), outputs=["conv3_block4_out"])).values()
    assert compare(last, expected).agrees()


def test_the_digits(tmp_path: Path) -> None:
    """The README's own example, at the size that the file says: four of four."""
    from PIL import Image

    with np.load(DATA / "digits.npz") as recording:
        pictures, labels = recording["pictures"], recording["labels"]
    chosen = [1, 3, 5, 6]  # of those that it recognises; nine of ten are
    paths = [tmp_path / f"{index}.png" for index in chosen]
    for path, index in zip(paths, chosen, strict=True):
        Image.fromarray(pictures[index]).save(path)
    net = npresnet.load(DATA / "digits.keras")
    found = net.predict(net.prepare([str(path) for path in paths]))
    model = keras.saving.load_model(DATA / "digits.keras")
    expected = np.concatenate([as_keras_does(model, path, (32, 32), caffe) for path in paths])
    assert compare(found, expected).agrees()
    assert found.argmax(axis=1).tolist() == labels[chosen].tolist()


# The size ------------------------------------------------------------------------------------------------------------


@EVERY_LAYOUT
@pytest.mark.parametrize("top", ["global", "flat"])
def test_the_size_that_the_file_fixes(tmp_path: Path, picture: Path, K: Any, suffix: str, top: str) -> None:
    net = check(narrow(K, (96, 64), top=top), tmp_path / f"tuned{suffix}", picture, (96, 64), caffe)
    assert net.graph.size == (96, 64)
    assert net.prepare(picture).shape == (1, 96, 64, 3)
    assert net.prepare(picture, "none").shape == (1, 70, 90, 3)
    assert "at 96x64" in net.summary()
    if top == "flat":
        with pytest.raises(npresnet.UsageError, match=r"weights take .*64x96 \(width x height\).*--size 64x96"):
            net.predict(net.prepare(picture, "none"))


def test_the_size_of_a_table_network(tmp_path: Path, picture: Path) -> None:
    """It is built from the table, for the file says the same; the size is the file's all the same."""
    applications("ResNet50", input_shape=(96, 64, 3)).save(tmp_path / "plain.keras")
    net = npresnet.load(tmp_path / "plain.keras")
    assert not net.architecture.own
    assert net.prepare(picture).shape == (1, 96, 64, 3)
    assert not inspect(tmp_path / "plain.keras").doubts


# Channels ------------------------------------------------------------------------------------------------------------


@EVERY_LAYOUT
def test_grey(tmp_path: Path, picture: Path, K: Any, suffix: str) -> None:
    net = check(narrow(K, (64, 64), 1), tmp_path / f"grey{suffix}", picture, (64, 64), raw, "grayscale")
    assert net.prepare(picture).shape == (1, 64, 64, 1)
    assert net.prepare(np.zeros((64, 64), np.uint8)).shape == (1, 64, 64, 1)
    with pytest.raises(npresnet.ImageError, match="one channel"):
        net.prepare(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(npresnet.UsageError, match=r"'caffe': it is for red, green and blue, .* none"):
        npresnet.load(tmp_path / f"grey{suffix}", preprocessing="caffe")
    assert npresnet.load(tmp_path / f"grey{suffix}", preprocessing="unit").prepare(picture).max() <= 1


def test_four_channels(tmp_path: Path, picture: Path) -> None:
    model = narrow(keras, (64, 64), 4)
    randomize(model)
    model.save(tmp_path / "four.keras")
    net = npresnet.load(tmp_path / "four.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 4), dtype=np.uint8)
    assert compare(net.predict(net.prepare(pixels)), model.predict(pixels.astype(np.float32), verbose=0)).agrees()
    with pytest.raises(npresnet.ImageError, match=r"4 channels.*array \[h, w, 4\]"):
        net.prepare(picture)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_of_weights_alone(tmp_path: Path, channels: int) -> None:
    """Nothing but the stem's kernel says how many there are."""
    model = applications("ResNet50", input_shape=(64, 64, channels))
    randomize(model)
    save(model, tmp_path / "weights.h5")
    net = npresnet.load(tmp_path / "weights.h5")
    assert net.graph.channels == channels
    assert f"images of {channels} channel" in str(net.architecture)
    assert net.architecture.preprocessing == "none"
    images = np.random.default_rng(0).uniform(-100, 100, (1, 64, 64, channels)).astype(np.float32)
    assert compare(np.asarray(net(images).c5), np.asarray(model(images, training=False))).agrees()


# Doubts, and what settles them ---------------------------------------------------------------------------------------


def test_who_trains_further_may_prepare_otherwise(tmp_path: Path, picture: Path) -> None:
    model = narrow(keras, (64, 64))
    check(model, tmp_path / "tuned.keras", picture, (64, 64), caffe)
    (doubt,) = inspect(tmp_path / "tuned.keras").doubts
    assert "trained further" in doubt
    assert "--preprocessing" in doubt
    found = inspect(tmp_path / "tuned.keras", preprocessing="unit")
    assert not found.doubts
    assert found.architecture.preprocessing == "unit"
    net = npresnet.load(tmp_path / "tuned.keras", preprocessing="unit")
    expected = as_keras_does(model, picture, (64, 64), lambda pixels: pixels / 255)
    assert compare(net.predict(net.prepare(picture)), expected).agrees()
    with pytest.raises(npresnet.UsageError, match="'zero to one': the conventions are"):
        npresnet.load(tmp_path / "tuned.keras", preprocessing="zero to one")
    assert "size, for the file fixes none" in _only_doubt(narrow(keras, (None, None)), tmp_path / "open.keras")


def _only_doubt(model: Any, path: Path) -> str:
    model.save(path)
    (doubt,) = inspect(path).doubts
    return doubt


def test_pixels_as_they_are_have_the_family_s_size(tmp_path: Path, picture: Path) -> None:
    """Another arithmetic is no reason for another size."""
    narrow(keras, (None, None)).save(tmp_path / "tuned.keras")
    assert npresnet.load(tmp_path / "tuned.keras", preprocessing="none").prepare(picture).shape == (1, 224, 224, 3)
