"""Networks without C2 to C5, and of one size of image: what is told, traced, timed and saved of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.verify.compare import compare

keras = pytest.importorskip("keras")
L = keras.layers


def pixels(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def load(model: Any, path: Path, **options: Any) -> npresnet.ResNet:
    model.save(path)
    return npresnet.load(path, **options)


def one_sum() -> Any:
    image = keras.Input((None, None, 3), name="image")
    return keras.Model(
        image, L.Add(name="sum")([image, L.Conv2D(3, 3, padding="same", name="first")(image)]), name="flat"
    )


def one_size() -> Any:
    """A CIFAR network in small: one size, and a Dense layer that knows it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 24, 3), name="image")
    small = keras.initializers.RandomNormal(0, 0.002)  # pixels are not: probabilities would be 0 and 1
    x = L.Conv2D(8, 3, padding="same", kernel_initializer=small, name="first")(image)
    x = L.Add(name="sum")([x, L.Conv2D(8, 3, padding="same")(x)])
    x = L.Dense(10, activation="softmax", name="kinds")(L.Flatten()(L.AveragePooling2D(8)(x)))
    return keras.Model(image, x, name="cifar")


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "reference"])
def test_no_map_that_is_a_feature(tmp_path: Path, algorithm: str) -> None:
    model = one_sum()
    net = load(model, tmp_path / "flat.keras", algorithm=algorithm)
    images = pixels(2, 16, 16, 3)
    expected = model.predict(images, verbose=0)
    assert compare(net(images, outputs=["sum"])["sum"], expected).agrees()
    *_, last = net.trace(images)
    assert last.name == "sum"
    assert last.planned
    assert compare(last.array, expected).agrees()
    assert [step.name for step in net.trace(images, outputs=["first"])] == ["image", "first"]
    assert "at 224x224" in net.summary()
    if algorithm in ("auto", "direct"):
        assert net.profile(images, repeats=1)[-1].name == "sum"
    with pytest.raises(
        npresnet.UsageError, match=r"custom/flat has no feature maps .* outputs=\['sum'\] for instance$"
    ):
        net(images)


@pytest.mark.parametrize("algorithm", ["auto", "im2col"])
def test_an_early_layer_of_small_images(tmp_path: Path, algorithm: str) -> None:
    """What later layers would not take is no matter to those before."""
    image = keras.Input((None, None, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", name="first")(image)
    for _ in range(4):
        y = L.Conv2D(8, 3, strides=2)(x)
        x = L.Add()([y, L.Conv2D(8, 3, padding="same")(y)])
    model = keras.Model(image, x)
    net = load(model, tmp_path / "deep.keras", algorithm=algorithm)
    images = pixels(2, 16, 16, 3)
    *_, last = net.trace(images, outputs=["first"])
    expected = keras.Model(image, model.get_layer("first").output).predict(images, verbose=0)
    assert compare(last.array, expected).agrees()
    assert last.planned
    with pytest.raises(npresnet.UsageError, match="for images of 16x16 pixels"):
        net.trace(images)


def test_one_size_of_image(tmp_path: Path) -> None:
    model = one_size()
    net = load(model, tmp_path / "cifar.keras")
    assert "at 32x24" in net.summary()
    assert net.prepare(np.zeros((50, 60, 3), np.uint8)).shape == (1, 32, 24, 3)
    images = pixels(2, 32, 24, 3)
    assert compare(net.predict(images), model.predict(images, verbose=0)).agrees()
    assert net.profile(images, repeats=1)[-1].name == "kinds"
    assert [step.name for step in net.trace(images)][-1] == "kinds"
    with pytest.raises(
        npresnet.UsageError, match=r"'kinds', for images of 224x224 pixels: .*--size 24x32 or size=\(24, 32\)"
    ):
        net.summary((224, 224))
    with pytest.raises(npresnet.UsageError, match="or call predict"):
        net(images)


# On the command line -------------------------------------------------------------------------------------------------


def cli(*arguments: object) -> tuple[int, str]:
    testing = pytest.importorskip("typer.testing")
    from npresnet.cli.app import app

    result = testing.CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from PIL import Image

    one_size().save(tmp_path / "cifar.keras")
    one_sum().save(tmp_path / "flat.keras")
    Image.fromarray(pixels(40, 50, 3).astype(np.uint8)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_run_saves_nothing_where_there_is_nothing(folder: Path) -> None:
    status, output = cli("run", "picture.png", "--weights", "flat.keras")
    assert status == 2
    assert (
        "flat.keras: custom/flat has no feature maps C1 to C5, and so there is nothing to save; name layers" in output
    )
    assert not (folder / "features.npz").exists()
    assert cli("run", "picture.png", "--weights", "flat.keras", "--layers", "sum")[0] == 0
    assert "or classify with --top" in cli("run", "picture.png", "--weights", "cifar.keras")[1]


def test_run_and_verify_at_the_size_of_the_file(folder: Path) -> None:
    expected = one_size_of(folder / "cifar.keras", folder / "picture.png")
    status, output = cli("run", "picture.png", "--weights", "cifar.keras", "--top", 1, "--trace")
    assert status == 0
    assert "24x32 pixels" in output
    with np.load("features.npz") as saved:
        assert compare(saved["probabilities"], expected).agrees()
    assert cli("verify", "cifar.keras", "picture.png")[0] == 0
    assert cli("verify", "cifar.keras", "--against", "reference")[0] == 0
    status, output = cli("run", "picture.png", "--weights", "cifar.keras", "--top", 1, "--size", "32x32")
    assert status == 2
    assert "--size 24x32" in output


def one_size_of(weights: Path, picture: Path) -> Any:
    image = keras.utils.img_to_array(keras.utils.load_img(picture, target_size=(32, 24)))
    return keras.saving.load_model(weights).predict(image[None], verbose=0)


def test_preprocessing_asked_for(folder: Path) -> None:
    assert cli("run", "picture.png", "--weights", "cifar.keras", "--top", 1, "--preprocessing", "unit")[0] == 0
    image = keras.utils.img_to_array(keras.utils.load_img("picture.png", target_size=(32, 24)))
    expected = keras.saving.load_model("cifar.keras").predict(image[None] / 255, verbose=0)
    with np.load("features.npz") as saved:
        assert compare(saved["probabilities"], expected).agrees()
    status, output = cli("verify", "cifar.keras", "--preprocessing", "resnet")
    assert status == 2
    assert "the conventions are" in output
    assert cli("verify", "cifar.keras", "--against", "reference", "--preprocessing", "unit")[0] == 0


def test_info_says_how_pictures_go_in(folder: Path) -> None:
    status, output = cli("info", "cifar.keras")
    assert status == 0
    assert "picture size  24x32 (width x height): the file fixes it" in output
    assert (
        "preprocessing none: pixels go in as RGB, 0 to 255, as they are\n              nothing says how they were"
        in output
    )
    assert "feature maps  none: " in output
    assert "doubt         nothing says how pictures were prepared" in output
    assert "picture size  each picture's own: the file fixes none" in cli("info", "flat.keras")[1]
