"""The oracle's network of a file's own description: what Keras itself computes, from the files of Keras 3 and Keras 2, in whatever
way models and layers are put together; and ``verify`` of such files."""

from __future__ import annotations

import importlib
import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import ImageError, WeightsError
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.verify import oracle
from npresnet.verify.compare import compare
from npresnet.verify.rows import against_tensorflow

from ..support.agreement import randomize
from ..support.keras2 import save_as_keras2, without_names
from ..support.networks import save, shared, thin

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


def pictures(*shape: int) -> Any:
    return np.random.default_rng(5).uniform(0, 255, shape).astype(np.float32)


def base(k: Any, channels: int = 3, name: str = "base") -> Any:
    """A small residual network, whose layers' names are the same in each."""
    L = k.layers
    image = k.Input((24, 32, channels))
    x = entry = L.ReLU(name="entry_relu")(L.Conv2D(6, 3, strides=4, padding="same", name="entry")(image))
    x = L.BatchNormalization(name="norm")(L.Conv2D(6, 3, padding="same", name="inner")(x))
    return k.Model(image, L.ReLU(name="end")(L.Add(name="sum")([x, entry])), name=name)


def head(k: Any, x: Any) -> Any:
    return k.layers.Dense(3, activation="softmax", name="top")(k.layers.GlobalAveragePooling2D(name="mean")(x))


def flat(k: Any) -> Any:
    model = base(k)
    return k.Model(model.input, head(k, model.output))


def nested(k: Any) -> Any:
    image = k.Input((24, 32, 3))
    return k.Model(image, head(k, base(k)(image, training=False)))


def chain(k: Any) -> Any:
    return k.Sequential([base(k), k.layers.GlobalAveragePooling2D(), k.layers.Dense(3, name="top")])


def augmented(k: Any) -> Any:
    L = k.layers
    return k.Sequential(
        [k.Input((24, 32, 3)), L.Rescaling(1 / 255), L.RandomFlip(), L.RandomZoom(0.1), base(k), L.Flatten()]
    )


def models_in_models(k: Any) -> Any:
    """A Sequential inside, a name in two models and outside, a model in a model in a model."""
    image = k.Input((24, 32, 3))
    front = k.Sequential([k.layers.RandomFlip(), k.layers.Conv2D(3, 1, name="inner")], name="front")
    around = k.Input((24, 32, 3))
    outer = k.Model(around, base(k)(around), name="outer")
    return k.Model(image, head(k, k.layers.Conv2D(4, 1, name="inner")(outer(front(image)))))


def used_twice(k: Any) -> Any:
    """A model and a layer that are shared: a siamese pair."""
    L, one, other, both = k.layers, k.Input((24, 32, 3), name="one"), k.Input((24, 32, 3), name="other"), base(k)
    shared = L.Dense(5, name="shared")
    a, b = (shared(L.GlobalAveragePooling2D()(both(x))) for x in (one, other))
    return k.Model([one, other], L.Dense(1, name="top")(L.Concatenate()([a, b])))


def table_and_two_outputs(k: Any) -> Any:
    L, image, numbers = k.layers, k.Input((24, 32, 3), name="image"), k.Input((4,), name="numbers")
    x = L.Concatenate()([L.GlobalAveragePooling2D()(base(k)(image)), L.Dense(3, name="read")(numbers)])
    return k.Model([image, numbers], [L.Dense(2, name="kind")(x), L.Dense(1, name="age")(x)])


def models_that_are_outputs(k: Any) -> Any:
    """A model's first use and a Sequential's are outputs, and another layer reads them."""
    L, image, both = k.layers, k.Input((24, 32, 3)), base(k)
    first, second = both(image), both(k.Sequential([L.Conv2D(3, 1)])(image))
    end = k.Sequential([L.Conv2D(2, 1)], name="chain")(second)
    return k.Model(image, [first, end, L.Dense(3)(L.GlobalAveragePooling2D()(L.Concatenate()([first, end])))])


MODELS: dict[str, Callable[[Any], Any]] = {
    f.__name__: f
    for f in (
        flat,
        nested,
        chain,
        augmented,
        models_in_models,
        models_that_are_outputs,
        used_twice,
        table_and_two_outputs,
    )
}


def operators(k: Any) -> Any:
    """Arithmetic, and channels in another order, as ``preprocess_input`` writes it into a model."""
    image = k.Input((24, 32, 3))
    x = (1.0 - image[..., ::-1] / 127.5) * 2 + 1 if k is not keras else 1.0 - k.ops.flip(image, -1)[..., 0:3] / 127.5
    x = x - np.array([0.1, 0.2, 0.3], np.float32)
    return k.Model(image, head(k, base(k)(x)))


def expected(model: Any, images: list[Any]) -> list[Any]:
    found = model(images if len(images) > 1 else images[0], training=False)
    return [x.numpy() for x in (found if isinstance(found, list | tuple) else [found])]


def check(model: Any, path: Path) -> list[str]:
    """Whether the oracle's outputs are those of Keras's own model. Returns the names of its layers."""
    images = [pictures(2, *x.shape[1:]) / (1 if len(x.shape) == 4 else 255) for x in model.inputs]
    network = oracle.described(path)
    found = dict(oracle.activations(network, images if len(images) > 1 else images[0]))
    assert list(found) == [use.name for use in network.layers]
    for truth in expected(model, images):
        near = [compare(array, truth) for array in found.values() if array.shape == truth.shape]
        assert any(one.agrees() for one in near), near
    return list(found)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("spelling", ["keras 3", "keras 2"])
@pytest.mark.parametrize("kind", MODELS)
def test_what_keras_computes(tmp_path: Path, monkeypatch: Any, kind: str, spelling: str, suffix: str) -> None:
    """By the layers of Keras 3 alone, whoever wrote the file."""
    model = MODELS[kind](keras)
    randomize(model, pixels=1)
    path = tmp_path / f"file{suffix}"
    if spelling == "keras 2":
        save_as_keras2(model, path)
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == "tf_keras" else find(name, *more)
        )
    else:
        model.save(path)
    names = check(model, path)
    if kind == "models_in_models":
        assert {"inner", "base/inner"} < set(names)
        assert sum(name.endswith("inner") for name in names) == 3
    if kind == "used_twice":
        assert {"entry", "entry@1", "shared", "shared@1"} < set(names)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_operators_of_keras_3(tmp_path: Path, suffix: str) -> None:
    model = operators(keras)
    randomize(model, pixels=1)
    model.save(tmp_path / f"file{suffix}")
    check(model, tmp_path / f"file{suffix}")


@pytest.mark.parametrize("kind", [*MODELS, "operators"])
def test_what_keras_2_writes(tmp_path: Path, kind: str) -> None:
    """Where Keras 2 is installed."""
    tf_keras = pytest.importorskip("tf_keras")
    model = {**MODELS, "operators": operators}[kind](tf_keras)
    randomize(model, pixels=1)
    for name in ("file.h5", "file.keras"):
        if kind == "operators" and name == "file.keras":
            continue  # Keras 2 cannot write that
        model.save(tmp_path / name)
        check(model, tmp_path / name)


def test_training_is_kept_by_keras_2_alone(tmp_path: Path) -> None:
    """Of a model that is called with ``training=True``: its batch-norms take the statistics of the batch."""
    image = keras.Input((24, 32, 3))
    model = keras.Model(image, base(keras)(image, training=True))
    randomize(model, pixels=1)
    images = pictures(2, 24, 32, 3)
    model.save(tmp_path / "three.keras")
    save_as_keras2(model, tmp_path / "two.keras")
    two, three = (
        dict(oracle.activations(oracle.described(tmp_path / f"{name}.keras"), images)) for name in ("two", "three")
    )
    assert compare(three["end"], expected(model, [images])[0]).agrees()
    np.testing.assert_allclose(
        two["norm"].mean((0, 1, 2)), model.get_layer("base").get_layer("norm").beta.numpy(), atol=1e-4
    )


# What is not run -----------------------------------------------------------------------------------------------------


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """The same file with another description."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


@pytest.fixture
def described(tmp_path: Path) -> Path:
    model = nested(keras)
    model.save(tmp_path / "file.h5")
    return tmp_path / "file.h5"


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}}, "Lambda is code, which is not run"),
        ({"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {}}}}, "Lambda is code"),
        ({"class_name": "Mine", "config": {"trainable": True}}, "Mine"),
        ({"class_name": "Dense", "config": {"units": 3, "activation": "x" * 9999, "trainable": True}}, "more characters left out"),
        ({"class_name": "Dense", "config": {"units": 9, "trainable": True}}, "are needed"),
        ({"class_name": "Dense", "config": {"units": 3, "trainable": True}, "rename": "other"}, "the file has no weights for other"),
    ],
    ids=["code", "code in a layer", "a class of one's own", "long words", "another shape", "no weights"],
)  # fmt: skip
def test_what_cannot_be_run_stops_only_itself(described: Path, layer: dict[str, Any], said: str) -> None:
    name = layer.pop("rename", "top")

    def change(config: Any) -> None:
        inner = config["config"]
        top = inner["layers"][-1]
        top.update(layer, name=name, config={**layer["config"], "name": name})
        inner["output_layers"][0] = name

    network = oracle.described(changed(described, change))
    images = pictures(1, 24, 32, 3)
    assert [name for name, _ in oracle.activations(network, images, ["end", "mean"])] == ["end", "mean"]
    with pytest.raises(WeightsError, match=said) as caught:
        list(oracle.activations(network, images))
    assert f"{described}: TensorFlow cannot run its layer '{name}'" in str(caught.value)
    assert "--against reference" in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(described))


def test_functions_of_tensorflow_that_do_more_than_compute(tmp_path: Path, described: Path) -> None:
    def change(config: Any) -> None:
        top = config["config"]["layers"][-1]
        top.update(class_name="TFOpLambda", config={"name": "top", "function": "io.write_file"})
        top["inbound_nodes"] = [["mean", 0, 0, {"contents": "x", "filename": str(tmp_path / "written")}]]

    changed(save_as_keras2(nested(keras), described), change)
    with pytest.raises(WeightsError, match=r"tf\.io\.write_file is not among the functions"):
        list(oracle.activations(oracle.described(described), pictures(1, 24, 32, 3)))
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("damage", ["circle", "no layers", "no outputs", "a number"])
def test_descriptions_that_are_none(described: Path, damage: str) -> None:
    def change(config: Any) -> None:
        inner = config["config"]
        if damage == "circle":
            inner["layers"][1]["inbound_nodes"] = inner["layers"][2]["inbound_nodes"]
        elif damage == "no layers":
            del inner["layers"]
        elif damage == "no outputs":
            inner["output_layers"] = [["absent", 0, 0]]
        else:
            config["config"] = 3

    with pytest.raises(WeightsError, match="the description of its network is not understood"):
        oracle.described(changed(described, change))


def test_files_without_a_description(tmp_path: Path) -> None:
    flat(keras).save_weights(tmp_path / "file.weights.h5")
    with pytest.raises(WeightsError, match="the file does not describe its network"):
        oracle.described(tmp_path / "file.weights.h5")


def test_as_many_images_as_inputs(tmp_path: Path) -> None:
    table_and_two_outputs(keras).save(tmp_path / "file.keras")
    network = oracle.described(tmp_path / "file.keras")
    image, numbers = pictures(1, 24, 32, 3), pictures(1, 4)
    named = dict(oracle.activations(network, {"numbers": numbers, "image": image}))
    listed = dict(oracle.activations(network, [image, numbers]))
    assert all(np.array_equal(named[name], listed[name]) for name in listed)
    for wrong in (image, [numbers, image], {"image": image}, [image, pictures(1, 5)]):
        with pytest.raises(ImageError, match="image"):
            oracle.activations(network, wrong)


# verify --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def verify() -> Callable[..., tuple[int, str]]:
    """The command: (exit status, output)."""
    testing = pytest.importorskip("typer.testing")
    from npresnet.cli.app import app

    def run(*arguments: str | Path) -> tuple[int, str]:
        result = testing.CliRunner().invoke(app, ["verify", *map(str, arguments)], env={"COLUMNS": "200"})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


def agrees(path: Path, images: Any) -> int:
    """How many layers were compared, all of which agree."""
    rows = list(against_tensorflow(npresnet.load(path), path, images))
    assert all(row.agrees for row in rows), [row for row in rows if not row.agrees]
    return len(rows)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("kind", ["nested", "chain", "augmented"])
def test_verify_of_keras_2_files(tmp_path: Path, kind: str, suffix: str) -> None:
    model = MODELS[kind](keras)
    randomize(model, pixels=1)
    assert agrees(save_as_keras2(model, tmp_path / f"file{suffix}"), pictures(1, 24, 32, 3)) >= 7


@pytest.mark.parametrize("name", ["three.h5", "three.keras", "two.h5", "two.keras"])
def test_verify_of_mixed_precision(tmp_path: Path, verify: Any, name: str) -> None:
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        model = nested(keras)
    finally:
        keras.config.set_dtype_policy(policy)
    randomize(model, pixels=1)
    save_as_keras2(model, tmp_path / name) if name.startswith("two") else model.save(tmp_path / name)
    status, output = verify(tmp_path / name, "--size", "32x24")
    assert status == 0, output
    assert "the file asks for mixed_float16; both sides compute in float32" in output


@pytest.mark.parametrize("channels", [1, 4])
def test_verify_of_other_channels(tmp_path: Path, verify: Any, channels: int) -> None:
    inner = base(keras, channels)
    model = keras.Model(inner.input, head(keras, inner.output))
    randomize(model, pixels=100)
    model.save(tmp_path / "file.keras")
    status, output = verify(tmp_path / "file.keras")
    assert status == 0, output
    assert f"on an input of 24x32x{channels}" in " ".join(output.split())


def test_a_recording_of_several_outputs(tmp_path: Path, verify: Any) -> None:
    """Of which one is a sum of three, and is no input of another."""
    L, image = keras.layers, keras.Input((24, 32, 3))
    x = L.Conv2D(4, 3, padding="same")(image)
    ends = [head(keras, x), L.Add(name="sum")([x, L.Conv2D(4, 1)(x), L.ReLU()(x)])]
    for outputs in (ends, ends[::-1]):
        model = keras.Model(image, outputs)
        randomize(model, pixels=100)
        model.save(tmp_path / "file.keras")
        for options in (("--record", tmp_path / "made.npz"), ("--against", tmp_path / "made.npz")):
            status, output = verify(tmp_path / "file.keras", *options)
            assert status == 0, output


def test_verify_of_three_summands(tmp_path: Path) -> None:
    """Which are added one at a time: a sum of two of them has no name in Keras."""
    L, image = keras.layers, keras.Input((24, 32, 3))
    x = L.Conv2D(4, 3, padding="same")(image)
    model = keras.Model(image, head(keras, L.Add(name="sum")([x, L.Conv2D(4, 1)(x), L.ReLU()(x)])))
    randomize(model, pixels=100)
    model.save(tmp_path / "file.keras")
    assert agrees(tmp_path / "file.keras", pictures(1, 24, 32, 3)) == 6


@pytest.mark.parametrize("layout", ["weights", "v3", "v3 without names", "v3 of two"])
def test_weights_alone_of_a_backbone_in_a_model(tmp_path: Path, layout: str) -> None:
    """Its layers are one level down, where Keras's loaders do not look."""
    network = thin("keras-resnet", 18)
    inner = shared(network)
    image = keras.Input((64, 64, 3))
    x = keras.layers.GlobalAveragePooling2D()(inner(image))
    if layout == "v3 of two":  # another model of which the file has layers of the same classes
        x = keras.layers.Concatenate()([x, keras.layers.Flatten()(base(keras)(keras.layers.CenterCrop(24, 32)(image)))])
    model = keras.Model(image, keras.layers.Dense(3)(x))
    path = tmp_path / ("file.h5" if layout == "weights" else "file.weights.h5")
    save(model, path, "weights" if layout == "weights" else "v3")
    if layout == "v3 without names":
        with h5py.File(path, "r+") as file:
            without_names(file)
    target = network.build()
    for variable in target.variables:
        variable.assign(np.zeros(variable.shape))
    oracle.load_file(target, path)
    assert all(np.array_equal(a, b) for a, b in zip(target.get_weights(), inner.get_weights(), strict=True))


def test_weights_alone_that_are_another_network(tmp_path: Path) -> None:
    image = keras.Input((64, 64, 3))
    model = keras.Model(image, shared(thin("keras-resnet", 18))(image))
    save(model, tmp_path / "file.h5")
    with pytest.raises(
        WeightsError, match=r"32 layers of keras_resnet34 are not in it \(res2b2_branch2a, .*, 20 more, "
    ):
        oracle.load_file(thin("keras-resnet", 34).build(), tmp_path / "file.h5")


@pytest.mark.parametrize(
    ("family", "depth", "setting"),
    [
        ("keras-cv", 18, "include_rescaling"),
        ("keras-cv V2", 18, "include_rescaling"),
        ("kimm", 18, "include_preprocessing"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_verify_of_networks_that_may_scale_pixels(
    tmp_path: Path, family: str, depth: int, setting: str, inside: bool
) -> None:
    """Their packages' archives describe them by a class of the package and its settings."""
    widths = [(4 << i, 4 << i) for i in range(4)]
    model = oracle.build(family, depth, stem_width=4, stage_widths=widths, inside=inside)
    randomize(model, pixels=1 if inside else 60)
    path = tmp_path / "file.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in ("metadata.json", "model.weights.h5")}
    described = {"module": "package.models", "class_name": "ResNetBackbone", "config": {setting: inside}}
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in {**members, "config.json": json.dumps(described).encode()}.items():
            archive.writestr(name, contents)
    scaling = {"rescaling", "normalization"} & set(npresnet.load(path).layers)
    assert bool(scaling) == inside
    assert agrees(path, pictures(1, 40, 48, 3)) == len(npresnet.load(path).layers) - 1


def test_verify_of_the_deepest_network(tmp_path: Path) -> None:
    graph = build_graph(Architecture.standard(FAMILIES["keras-hub vd"], 200, width=4))
    path = write_keras_file(tmp_path / "file.h5", graph, random_weights(graph))
    assert "200" in str(npresnet.load(path).architecture)
    assert agrees(path, pictures(1, 32, 32, 3) - 120) > 600
