"""Networks that a file describes itself: a user's own residual networks, fine-tuned and modified ones, in the spellings
of Keras 1, 2 and 3, against live TensorFlow. What cannot be run is refused by name, and code is never executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.network import dialects
from npresnet.network.weights import inspect
from npresnet.verify.compare import compare
from npresnet.verify.rows import against_tensorflow

from ..support.agreement import check_file, randomize
from ..support.networks import _write, applications, read, save

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
L = keras.layers


def pictures(height: int, width: int, channels: int = 3) -> Any:
    return np.random.default_rng(5).uniform(0, 255, (2, height, width, channels)).astype(np.float32)


def residual(x: Any, filters: int, stride: int, name: str, squeeze: bool = False) -> Any:
    """A block as users write them: activations inside convolutions, few names."""
    y = L.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    y = L.BatchNormalization(scale=False)(L.Conv2D(filters, 3, padding="same")(y))
    if squeeze:
        gate = L.Reshape((1, 1, filters))(L.GlobalAveragePooling2D()(y))
        gate = L.Conv2D(max(1, filters // 4), 1, activation="relu")(gate)
        y = L.Multiply()([y, L.Conv2D(filters, 1, activation="sigmoid")(gate)])
    if stride > 1 or x.shape[-1] != filters:
        x = L.Conv2D(filters, 1)(L.AveragePooling2D(stride, padding="same")(x) if stride > 1 else x)
    return L.Activation("relu", name=name)(L.Add()([x, y]))


def own_network(
    head: Callable[[Any], Any], size: tuple[int | None, int | None] = (None, None), channels: int = 3
) -> Any:
    """A residual network that is in no table."""
    image = keras.Input((*size, channels), name="picture")
    x = L.Rescaling(1 / 127.5, offset=-1)(image)
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="entry")(L.ZeroPadding2D(((1, 2), (0, 3)))(x))
    x = L.MaxPooling2D()(x)
    for stage, filters in enumerate((8, 12, 16, 20), 2):
        x = residual(x, filters, 1 if stage == 2 else 2, f"stage{stage}", squeeze=stage % 2 == 0)
    return keras.Model(image, head(x), name="mine")


HEADS: dict[str, Callable[[Any], Any]] = {
    "average": lambda x: L.Dense(5, activation="softmax", name="top")(L.Dropout(0.5)(L.GlobalAveragePooling2D()(x))),
    "maximum": lambda x: L.Dense(1, activation="sigmoid", name="top")(L.GlobalMaxPooling2D()(x)),
    "two layers": lambda x: L.Softmax(name="top")(
        L.Dense(4, use_bias=False)(L.Dense(6, activation="relu")(L.GlobalAveragePooling2D()(x)))
    ),
    "kept dimensions": lambda x: L.Flatten(name="top")(
        L.Conv2D(3, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    ),
    "scores per pixel": lambda x: L.Conv2D(3, 1, activation="softmax", name="top")(x),
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("head", HEADS)
def test_own_network(tmp_path: Path, head: str, suffix: str) -> None:
    model = own_network(HEADS[head])
    randomize(model, pixels=1)
    model.save(tmp_path / f"mine{suffix}")
    images = pictures(61, 80)
    found = check_file(model, tmp_path / f"mine{suffix}", images)
    assert not found.failures, "\n".join(found.failures)
    net = npresnet.load(tmp_path / f"mine{suffix}")
    assert net.architecture.name == "custom/mine"
    assert list(net.graph.features.values())[1:] == ["stage2", "stage3", "stage4", "stage5"]
    assert [np.asarray(c).shape[1:3] for c in net(images)] == [(16, 21), (16, 21), (8, 11), (4, 6), (2, 3)]
    expected = model(images).numpy()
    if expected.ndim == 2:
        assert compare(net.predict(images), expected).agrees()
    assert not inspect(tmp_path / f"mine{suffix}").unused
    assert not inspect(tmp_path / f"mine{suffix}").doubts  # it rescales pixels itself: that says how pictures go in
    rows = list(against_tensorflow(net, tmp_path / f"mine{suffix}", images))
    assert all(row.agrees for row in rows)
    assert len(rows) > 45


def test_a_pyramid_behind_the_backbone(tmp_path: Path) -> None:
    """Its sums have the sizes of the stages, but are not their feature maps."""
    base = own_network(lambda x: x)
    stages = [base.get_layer(f"stage{stage}").output for stage in (4, 3, 2)]
    laterals = [L.Add()([L.Conv2D(6, 1)(x), L.Conv2D(6, 3, padding="same")(x)]) for x in stages]
    model = keras.Model(base.input, [base.output, *(L.Conv2D(6, 3, padding="same")(x) for x in laterals)], name="mine")
    randomize(model, pixels=1)
    model.save(tmp_path / "mine.keras")
    net = npresnet.load(tmp_path / "mine.keras")
    assert list(net.graph.features.values())[1:] == ["stage2", "stage3", "stage4", "stage5"]
    assert sum(layer.operator.kind == "add" for layer in net.graph.layers) == 7
    images = pictures(61, 80)
    assert compare(np.asarray(net(images).c4), keras.Model(base.input, stages[0])(images).numpy()).agrees()


def test_size_that_the_network_fixes(tmp_path: Path) -> None:
    """With a Flatten before its classifier a network takes one size of image; its features take any."""
    model = own_network(lambda x: L.Dense(3, name="top")(L.Flatten()(x)), (64, 96), channels=1)
    randomize(model, pixels=1)
    model.save(tmp_path / "mine.keras")
    net = npresnet.load(tmp_path / "mine.keras")
    images = pictures(64, 96, 1)
    assert compare(net.predict(images), model(images).numpy()).agrees()
    with pytest.raises(npresnet.UsageError, match=r"'top', for images of 96x96 pixels: .* weights take"):
        net.predict(pictures(96, 96, 1))
    assert np.asarray(net(pictures(96, 96, 1)).c5).shape == (2, 4, 4, 20)


def test_everything_else_that_is_run(tmp_path: Path) -> None:
    """Grouped, depthwise and dilated convolutions, three summands, layers that act in training only."""
    image = keras.Input((None, None, 3))
    x = L.Normalization(mean=[100, 110, 120], variance=[3000, 3100, 3200])(image)
    x = L.RandomFlip()(L.GaussianNoise(0.1)(x))
    x = L.Conv2D(8, 7, strides=4, padding="same", name="entry")(x)
    a = L.Conv2D(8, 3, padding="same", groups=4)(x)
    b = L.DepthwiseConv2D(3, padding="same", depth_multiplier=1, activation="relu")(x)
    c = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, dilation_rate=2, use_bias=False)(x)
    c = L.Conv2D(8, 3, padding="same", dilation_rate=(2, 3))(c)
    x = L.Add(name="sum")([a, b, c])
    x = L.MaxPooling2D(3, 2)(L.AveragePooling2D((2, 3), 1)(x))
    model = keras.Model(image, L.Multiply(name="end")([x, x]))
    randomize(model, pixels=1)
    for name in ("mine.h5", "mine.keras"):
        model.save(tmp_path / name)
        found = check_file(model, tmp_path / name, pictures(48, 57))
        assert not found.failures, "\n".join(found.failures)
        assert found.layers > 9


IDLE: dict[str, dict[str, Any]] = {
    "AlphaDropout": {"rate": 0.2}, "Dropout": {"rate": 0.2}, "GaussianDropout": {"rate": 0.2}, "GaussianNoise": {"stddev": 0.2},
    "RandomBrightness": {"factor": 0.2}, "RandomColorDegeneration": {"factor": 0.2}, "RandomContrast": {"factor": 0.2},
    "RandomHue": {"factor": 0.2}, "RandomPosterization": {"factor": 4}, "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.2}, "RandomSharpness": {"factor": 0.2}, "SpatialDropout2D": {"rate": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2}, "RandomZoom": {"height_factor": 0.2, "width_factor": 0.2},
}  # fmt: skip


def test_what_acts_in_training_only() -> None:
    """Keras gives back what it got."""
    images = pictures(12, 11)
    tried = [name for name in dialects.IDLE if hasattr(L, name) and name[-2:] not in ("1D", "3D")]
    assert len(tried) >= 20  # older versions have fewer
    for name in tried:
        layer = getattr(L, name)(**IDLE.get(name, {}))
        assert np.array_equal(np.asarray(layer(images, training=False)), images), name


def test_learned_normalization(tmp_path: Path) -> None:
    """Its statistics are weights of the file; Keras stores a count beside them."""
    image = keras.Input((None, None, 3))
    normalization = L.Normalization(name="statistics")
    normalization.adapt(pictures(20, 20))
    x = residual(L.Conv2D(8, 3, strides=4)(normalization(image)), 8, 1, "block")
    model = keras.Model(image, x)
    randomize(model, pixels=1)
    for name in ("mine.h5", "mine.keras"):
        model.save(tmp_path / name)
        found = check_file(model, tmp_path / name, pictures(48, 57))
        assert not found.failures, "\n".join(found.failures)


# Networks of the table, with something of their own ------------------------------------------------------------------


def test_fine_tuned_with_a_head_of_its_own(tmp_path: Path) -> None:
    base = applications("ResNet50", input_shape=(64, 64, 3))
    x = L.Dense(16, activation="relu", name="hidden")(L.GlobalAveragePooling2D(name="mean")(base.output))
    model = keras.Model(base.input, L.Dense(3, activation="softmax", name="kinds")(L.Dropout(0.3)(x)), name="tuned")
    randomize(model)
    images = pictures(64, 64) - 120
    for name in ("tuned.h5", "tuned.keras"):
        model.save(tmp_path / name)
        found = check_file(model, tmp_path / name, images)
        assert not found.failures, "\n".join(found.failures)
        net = npresnet.load(tmp_path / name)
        widths = "stem 8 and stages 32/64/128/256 channels wide"
        assert str(net.architecture) == f"keras.applications/resnet50, {widths}, as the file describes 'tuned'"
        assert net.architecture.preprocessing == "caffe"
        assert net.graph.features["C4"] == "conv4_block6_out"
        assert compare(net.predict(images), model(images).numpy()).agrees()


def test_backbone_as_a_layer_of_a_sequential_model(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            applications("ResNet50", input_shape=(64, 64, 3)),
            L.GlobalAveragePooling2D(),
            L.Dense(3),
        ]
    )
    randomize(model)
    images = pictures(64, 64) - 120
    for name in ("tuned.h5", "tuned.keras"):
        model.save(tmp_path / name)
        net = npresnet.load(tmp_path / name)
        assert compare(net.predict(images), model(images).numpy()).agrees()
        assert net.graph.features["C5"] == "conv5_block3_out"
        rows = list(against_tensorflow(net, tmp_path / name, images))
        assert all(row.agrees for row in rows)
        assert len(rows) == len(net.layers) - 1


def test_a_changed_epsilon_is_followed(tmp_path: Path) -> None:
    """Weights alone cannot tell; a whole model does, and is believed before the table."""

    def changed(layer: Any) -> Any:
        settings = layer.get_config()
        if isinstance(layer, L.BatchNormalization):
            settings["epsilon"] = 0.1
        return type(layer).from_config(settings)

    model = keras.models.clone_model(applications("ResNet50", input_shape=(64, 64, 3)), clone_function=changed)
    randomize(model)
    model.save(tmp_path / "changed.keras")
    found = check_file(model, tmp_path / "changed.keras", pictures(64, 64) - 120)
    assert not found.failures, "\n".join(found.failures)
    reasons = " ".join(inspect(tmp_path / "changed.keras").reasons)
    assert "the file's own description is followed" in reasons
    assert "epsilon=0.1" in reasons
    save(model, tmp_path / "weights.h5")
    assert check_file(model, tmp_path / "weights.h5", pictures(64, 64) - 120).failures


def test_a_table_row_is_confirmed(tmp_path: Path) -> None:
    model = applications("ResNet50", input_shape=(64, 64, 3))
    model.save(tmp_path / "plain.keras")
    found = inspect(tmp_path / "plain.keras")
    assert "the file's own description of its layers says the same" in found.reasons
    assert found.graph.layers[0].name == "input"


# What is not run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda x: L.Discretization([0.0, 1.0], name="odd")(x), "'odd' (Discretization: npresnet has no such layer)"),
        (lambda x: L.Attention(name="odd")([x, x]), "'odd' (Attention: npresnet has no such layer)"),
        (lambda x: L.Activation("log_softmax", name="odd")(x), "'odd' (Activation: its activation is 'log_softmax'"),
        (lambda x: L.Softmax(axis=1, name="odd")(x), "'odd' (Softmax: it works along axis 1"),
        (lambda x: L.BatchNormalization(axis=1, name="odd")(x), "'odd' (BatchNormalization: it works along axis 1"),
        (lambda x: L.Concatenate(axis=1, name="odd")([x, x]), "'odd' (Concatenate: it works along axis 1"),
    ],
)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, build: Any, words: str, suffix: str) -> None:
    image = keras.Input((64, 64, 3))
    x = residual(L.Conv2D(8, 3, strides=4)(image), 8, 1, "block")
    keras.Model(image, build(x)).save(tmp_path / f"odd{suffix}")
    with pytest.warns(npresnet.WeightsWarning, match="is not run to its end") as warned:
        net = npresnet.load(tmp_path / f"odd{suffix}")
    assert words in str(warned[0].message)
    assert "block" in net.layers  # all before it is run
    with pytest.raises(npresnet.UsageError) as caught:
        net.predict(pictures(64, 64))
    assert words in str(caught.value)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_code_is_never_run(tmp_path: Path, suffix: str) -> None:
    image = keras.Input((64, 64, 3))
    x = L.Lambda(lambda x: open("/nowhere/npresnet-was-here") and x if False else x * 2, name="trick")(image)  # noqa: SIM115
    keras.Model(image, residual(x, 8, 1, "block")).save(tmp_path / f"odd{suffix}")
    with pytest.raises(WeightsError, match=r"'trick' \(Lambda: it is code, and nothing from a file is executed; "):
        npresnet.load(tmp_path / f"odd{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_layer_that_is_used_twice(tmp_path: Path, suffix: str) -> None:
    """It is computed each time, from the weights that are stored once."""
    image = keras.Input((64, 64, 3))
    shared = L.Conv2D(3, 3, padding="same", name="twice")
    model = keras.Model(image, L.Add(name="sum")([shared(shared(image)), image]))
    randomize(model, pixels=1)
    model.save(tmp_path / f"odd{suffix}")
    images = pictures(64, 64)
    found = npresnet.load(tmp_path / f"odd{suffix}")(images, outputs=["sum", "twice", "twice@1"])
    assert compare(found["sum"], model(images).numpy()).agrees()
    assert not np.array_equal(found["twice"], found["twice@1"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: "not JSON",
        lambda c: "[1, 2]",
        lambda c: json.dumps({"config": {"layers": 3}}),
        lambda c: json.dumps(
            {"class_name": "Functional", "config": {**c["config"], "output_layers": [["nowhere", 0, 0]]}}
        ),
        lambda c: "[" * 100_000,
    ],
)
def test_a_damaged_description_is_none(tmp_path: Path, damage: Any) -> None:
    """It is additional: a network of the table is run without it, any other refused."""
    model = applications("ResNet50", input_shape=(64, 64, 3))
    model.save(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = damage(config)
    assert npresnet.load(tmp_path / "plain.h5").architecture.name == "keras.applications/resnet50"


# Older spellings -----------------------------------------------------------------------------------------------------

_OLD_NAMES = {  # Keras 1's names of settings
    "filters": "nb_filter",
    "strides": "subsample",
    "padding": "border_mode",
    "use_bias": "bias",
    "units": "output_dim",
}


def _tensors(value: Any) -> list[str]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return [value["config"]["keras_history"][0]]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [name for item in items for name in _tensors(item)]


def respelled(config: dict[str, Any], keras_1: bool) -> dict[str, Any]:
    """A Keras 3 config as Keras 2, or Keras 1, would have written it."""
    layers = []
    for layer in config["config"]["layers"]:
        kind, settings = layer["class_name"], dict(layer["config"])
        settings.pop("dtype", None)
        if "batch_shape" in settings:
            settings["batch_input_shape"] = settings.pop("batch_shape")
        if keras_1:
            pooling = kind in ("MaxPooling2D", "AveragePooling2D")
            if kind == "Conv2D":
                kind = "Convolution2D"
                settings["nb_row"], settings["nb_col"] = settings.pop("kernel_size")
                settings.pop("groups"), settings.pop("dilation_rate")
            elif kind == "Add":
                kind, settings = "Merge", {"name": settings["name"], "mode": "sum", "concat_axis": -1}
            elif kind == "BatchNormalization":
                settings["mode"] = 0
            elif kind == "ZeroPadding2D":
                settings["padding"] = [settings["padding"][0][0], settings["padding"][1][0]]
            settings = {
                key if (pooling and key == "strides") or kind == "ZeroPadding2D" else _OLD_NAMES.get(key, key): value
                for key, value in settings.items()
                if key != "data_format"
            } | {"dim_ordering": "tf"}
        sources = _tensors(layer["inbound_nodes"])
        nodes = [[[name, 0, 0] if keras_1 else [name, 0, 0, {}] for name in sources]] if sources else []
        layers.append({"class_name": kind, "name": layer["name"], "config": settings, "inbound_nodes": nodes})
    ends = {key: [config["config"][key]] for key in ("input_layers", "output_layers")}
    return {"class_name": "Model", "config": {"name": config["config"]["name"], "layers": layers, **ends}}


@pytest.mark.parametrize("keras_1", [False, True])
def test_older_descriptions(tmp_path: Path, keras_1: bool) -> None:
    image = keras.Input((None, None, 3), name="picture")
    x = L.Activation("relu")(L.BatchNormalization(epsilon=1e-5)(L.Conv2D(8, 5, strides=2)(L.ZeroPadding2D(2)(image))))
    x = L.MaxPooling2D(3, 2, padding="same")(x)
    y = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    x = L.Activation("relu")(L.Add()([L.AveragePooling2D(1)(x), y]))
    model = keras.Model(image, L.Dense(4, activation="softmax")(L.GlobalAveragePooling2D()(x)), name="old")
    randomize(model)
    save(model, tmp_path / "new.h5")
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        config = respelled(json.loads(model.to_json()), keras_1)
        file.attrs["model_config"] = json.dumps(config).encode()
        layers = {
            name: {f"{name}/{role}:0": a for role, a in roles.items()}
            for name, roles in read(tmp_path / "new.h5").items()
        }
        _write(file.create_group("model_weights"), layers, "bytes", None if keras_1 else "2.4.0")
    found = check_file(model, path, pictures(48, 57) - 120)
    assert not found.failures, "\n".join(found.failures)
    assert not found.unpaired
    assert npresnet.load(path).architecture.name == "custom/old"


def test_images_as_theano_has_them(tmp_path: Path) -> None:
    """A model for (channels, height, width): here it takes and gives (height, width, channels), from the same kernels."""
    image = keras.Input((None, None, 3), name="picture")
    x = L.Conv2D(8, 3, strides=4, name="entry")(image)
    x = L.Add(name="sum")([x, L.BatchNormalization(name="norm")(L.Conv2D(8, 3, padding="same", name="inner")(x))])
    model = keras.Model(image, x, name="turned")
    randomize(model)
    model.save(tmp_path / "turned.h5")
    with h5py.File(tmp_path / "turned.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            settings = layer["config"]
            if "data_format" in settings:
                settings["data_format"] = "channels_first"
            if "axis" in settings:
                settings["axis"] = 1
            if "batch_shape" in settings:
                settings["batch_shape"] = [None, 3, None, None]
        file.attrs["model_config"] = json.dumps(config)
    found = check_file(model, tmp_path / "turned.h5", pictures(48, 57) - 120)
    assert not found.failures, "\n".join(found.failures)
