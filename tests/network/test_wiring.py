"""Models in all their forms: layers and models that are shared, several inputs and outputs, models inside models, by Keras 2 and
3, in all of their layouts, against what they themselves compute."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.errors import ImageError, UsageError
from npresnet.network.described import NotDescribed, network_from_config
from npresnet.verify.compare import compare

keras = pytest.importorskip("keras")
tf_keras = pytest.importorskip("tf_keras")

ALGORITHMS = ("auto", "direct", "im2col", "reference")
FORMS = [(keras, ".h5"), (keras, ".keras"), (tf_keras, ".h5"), (tf_keras, ".keras")]
every_form = pytest.mark.parametrize(("K", "suffix"), FORMS, ids=lambda value: getattr(value, "__name__", value))


def pixels(*shape: int) -> Any:
    return np.random.default_rng(len(shape) + sum(shape)).uniform(-1, 1, shape).astype(np.float32)


def seeded(model: Any) -> Any:
    rng = np.random.default_rng(3)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name else -0.4
        weight.assign(rng.uniform(low, 0.6, weight.shape))
    return model


def block(K: Any, channels: int, name: str = "block") -> Any:
    """A residual block as a model of its own."""
    x = K.Input((None, None, channels))
    y = K.layers.BatchNormalization(name=f"{name}_bn")(K.layers.Conv2D(channels, 3, padding="same", name="conv")(x))
    return K.Model(x, K.layers.ReLU(name="relu")(K.layers.Add(name="sum")([x, y])), name=name)


def saved(model: Any, folder: Path, suffix: str) -> Path:
    path = folder / f"model{suffix}"
    seeded(model).save(path)
    return path


def check(model: Any, path: Path, given: Any) -> None:
    """``predict`` is Keras's, by all algorithms."""
    expected = model(given, training=False)  # as ``predict``, which traces it first
    for algorithm in ALGORITHMS:
        same(npresnet.load(path, algorithm=algorithm).predict(given), expected, algorithm)


def same(found: Any, expected: Any, what: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other, what)
    else:
        assert compare(found, np.asarray(expected)).agrees(), what


@every_form
def test_a_model_that_is_used_twice(K: Any, suffix: str, tmp_path: Path) -> None:
    x = K.Input((12, 10, 3))
    inner = block(K, 4)
    y = K.layers.Conv2D(4, 1, name="entry")(x)
    model = K.Model(x, K.layers.Add(name="end")([inner(inner(y)), y]))
    path = saved(model, tmp_path, suffix)
    check(model, path, pixels(2, 12, 10, 3))
    net = npresnet.load(path)
    assert {"conv", "conv@1", "sum", "sum@1"} <= set(net.layers)


@every_form
def test_a_siamese_pair(K: Any, suffix: str, tmp_path: Path) -> None:
    """One backbone for two pictures, which may have sizes of their own."""
    first, second = K.Input((None, None, 3), name="left"), K.Input((None, None, 3), name="right")
    image = K.Input((None, None, 3))
    shared = K.Model(image, K.layers.GlobalAveragePooling2D()(block(K, 3)(image)), name="tower")
    model = K.Model(
        [first, second], K.layers.Dense(2, name="same")(K.layers.Multiply()([shared(first), shared(second)]))
    )
    path = saved(model, tmp_path, suffix)
    pair = [pixels(2, 12, 10, 3), pixels(2, 9, 14, 3)]
    check(model, path, pair)
    net = npresnet.load(path)
    assert net.graph.inputs == ("left", "right")
    assert np.array_equal(net.predict({"right": pair[1], "left": pair[0]}), net.predict(pair))
    assert net(pair, outputs=["right"])["right"].shape == (2, 9, 14, 3)
    with pytest.raises(ImageError, match=r"2 inputs: 'left' \[n, h, w, 3\], 'right' \[n, h, w, 3\]"):
        net.predict(pair[0])
    with pytest.raises(ImageError, match="2 for 'left', 1 for 'right'; give as many for each"):
        net.predict([pair[0], pair[1][:1]])
    with pytest.raises(ImageError, match="the network takes 2 inputs"):
        net.predict({"left": pair[0]})


@every_form
def test_a_picture_and_a_table(K: Any, suffix: str, tmp_path: Path) -> None:
    picture, table = K.Input((12, 10, 3), name="picture"), K.Input((5,), name="table")
    x = K.layers.GlobalAveragePooling2D()(block(K, 3)(picture))
    x = K.layers.Add()([K.layers.Dense(4, activation="relu")(table), K.layers.Dense(4)(x)])
    model = K.Model([table, picture], K.layers.Dense(2, activation="softmax", name="top")(x))
    path = saved(model, tmp_path, suffix)
    given = [pixels(3, 5), pixels(3, 12, 10, 3)]
    check(model, path, given)
    net = npresnet.load(path)
    assert net.graph.layers[0].name == "picture"
    assert net.graph.inputs == ("table", "picture")
    steps = {step.name: step.array for step in net.trace(given)}
    assert compare(steps["top"], np.asarray(model(given, training=False))).agrees()
    assert net.profile(given, outputs=["top"], repeats=1)
    with pytest.raises(ImageError, match=r"this input takes rows of numbers, \[n, 5\]"):
        net.predict([pixels(3, 4), given[1]])


@every_form
def test_several_outputs(K: Any, suffix: str, tmp_path: Path) -> None:
    x = K.Input((12, 10, 3))
    y = block(K, 3)(x)
    classes = K.layers.Dense(4, activation="softmax", name="kind")(K.layers.GlobalAveragePooling2D()(y))
    place = K.layers.Dense(2, name="place")(K.layers.GlobalMaxPooling2D()(y))
    model = K.Model(x, [place, y, classes])
    path = saved(model, tmp_path, suffix)
    check(model, path, pixels(2, 12, 10, 3))
    assert npresnet.load(path).graph.classifier in ("kind", "place")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_outputs_by_key(suffix: str, tmp_path: Path) -> None:
    x = keras.Input((12, 10, 3))
    y = block(keras, 3)(x)
    named = {"b": y, "a": keras.layers.Dense(2, name="place")(keras.layers.GlobalMaxPooling2D()(y))}
    model = keras.Model(x, named)
    check(model, saved(model, tmp_path, suffix), pixels(2, 12, 10, 3))


@every_form
def test_a_model_with_two_outputs_inside(K: Any, suffix: str, tmp_path: Path) -> None:
    a = K.Input((None, None, 3))
    two = K.Model(a, [K.layers.Conv2D(3, 1, name="p")(a), K.layers.Conv2D(3, 1, name="q")(a)], name="heads")
    x = K.Input((12, 10, 3))
    left, right = two(block(K, 3)(x))
    model = K.Model(x, K.layers.Add()([right, K.layers.ReLU()(left)]))
    check(model, saved(model, tmp_path, suffix), pixels(2, 12, 10, 3))


@every_form
def test_one_name_in_several_models(K: Any, suffix: str, tmp_path: Path) -> None:
    x = K.Input((12, 10, 3))
    y = block(K, 3, "two")(block(K, 3, "one")(x))
    model = K.Model(x, K.layers.Conv2D(3, 3, name="conv")(y))
    check(model, saved(model, tmp_path, suffix), pixels(2, 12, 10, 3))


@every_form
def test_models_inside_models(K: Any, suffix: str, tmp_path: Path) -> None:
    """Functional in Sequential in Functional, each three deep."""
    x = K.Input((12, 10, 3))
    y = K.Sequential([K.Input((12, 10, 3)), block(K, 3, "inner"), K.layers.Dropout(0.5)], name="middle")(x)
    model = K.Sequential(
        [K.Input((12, 10, 3)), K.Model(x, y, name="outer"), K.layers.GlobalAveragePooling2D(), K.layers.Dense(2)]
    )
    check(model, saved(model, tmp_path, suffix), pixels(2, 12, 10, 3))


@every_form
def test_layers_that_do_nothing_have_outputs(K: Any, suffix: str, tmp_path: Path) -> None:
    x = K.Input((12, 10, 3))
    y = K.layers.Dropout(0.5, name="drop")(block(K, 3)(x))
    model = K.Model(x, K.layers.Conv2D(2, 1, name="end")(K.layers.Activation("linear", name="line")(y)))
    net = npresnet.load(saved(model, tmp_path, suffix))
    images = pixels(2, 12, 10, 3)
    found = net(images, outputs=["drop", "relu", "line"])
    assert list(found) == ["drop", "relu", "line"]
    expected = K.Model(x, y)(images).numpy()
    for name, array in found.items():
        assert compare(array, expected).agrees(), name
    assert net.profile(images, outputs=["drop"], repeats=1)[-1].name == "relu"
    assert [step.name for step in net.trace(images, outputs=["line", "drop"])][-1] == "relu"
    found["drop"][:] = 0
    assert found["relu"].any()


def test_training_true(tmp_path: Path) -> None:
    """Keras 2 then goes by the statistics of the batch; Keras 3 does not when it predicts."""
    for K in (keras, tf_keras):
        x = K.Input((12, 10, 3))
        y = K.layers.BatchNormalization(name="bn")(K.layers.Conv2D(3, 3)(block(K, 3)(x)), training=True)
        model = K.Model(x, K.layers.ReLU(name="end")(y))
        path = saved(model, tmp_path, ".keras")
        if K is keras:
            check(model, path, pixels(2, 12, 10, 3))
        else:
            with pytest.raises(UsageError, match=r"'bn' \(BatchNormalization: it is called with training=True"):
                npresnet.load(path).predict(pixels(2, 12, 10, 3))


def test_a_model_called_with_training_true(tmp_path: Path) -> None:
    for training in (True, False):
        x = tf_keras.Input((12, 10, 3))
        y = tf_keras.layers.Conv2D(3, 3, name="before")(block(tf_keras, 3, "first")(x))
        model = tf_keras.Model(x, tf_keras.layers.ReLU(name="end")(block(tf_keras, 3, "second")(y, training=training)))
        path = saved(model, tmp_path, ".h5")
        if training:
            with pytest.raises(
                UsageError, match=r"'second' \(Functional: it is a model that is called with training=True"
            ):
                npresnet.load(path).predict(pixels(2, 12, 10, 3))
        else:
            check(model, path, pixels(2, 12, 10, 3))


# Descriptions that nobody's Keras wrote ------------------------------------------------------------------------------


def layer(name: str, *sources: str, kind: str = "ReLU", **config: Any) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def model_of(*layers: Any, outputs: Any = None) -> dict[str, Any]:
    entry = layer("image", kind="InputLayer", batch_shape=[None, 8, 8, 3])
    ends = [["image", 0, 0]] if outputs is None else outputs
    config = {"name": "odd", "layers": [entry, *layers], "input_layers": [["image", 0, 0]], "output_layers": ends}
    return {"class_name": "Functional", "config": config}


def test_a_circle_costs_what_is_in_it() -> None:
    own = network_from_config(model_of(layer("a", "b"), layer("b", "a"), layer("c", "image"), outputs=[["c", 0, 0]]))
    assert [x.name for x in own.graph.layers] == ["image", "c"]
    assert any("it reads what is computed from it" in why for why in own.unsupported.values())


@pytest.mark.parametrize(
    "config", [None, [], {}, {"class_name": "Model"}, {"class_name": "Mine", "config": {"depth": 3}}]
)
def test_no_layers_at_all(config: Any) -> None:
    with pytest.raises(NotDescribed):
        network_from_config(config)


def test_outputs_of_another_kind() -> None:
    for outputs in (7, "x", [[1, 2, 3]], {"a": 5}, [["image"]], [["image", 0]], [["image", "0", 0]]):
        try:
            own = network_from_config(model_of(outputs=outputs))
        except NotDescribed:
            continue
        assert own.graph.layers[0].name == "image"


def test_many_layers_take_time_in_proportion() -> None:
    """A chain, and one listed backwards: ten times as many layers take some ten times as long."""
    seconds: dict[int, float] = {}
    for count in (2_000, 20_000):
        chain = [layer(f"r{i}", f"r{i - 1}" if i else "image") for i in range(count)]
        for layers in (chain, chain[::-1]):
            start = time.process_time()
            own = network_from_config(model_of(*layers, outputs=[[f"r{count - 1}", 0, 0]]))
            seconds[count] = max(seconds.get(count, 0), time.process_time() - start)
            assert len(own.graph.layers) == count + 1
    assert seconds[20_000] < 40 * seconds[2_000] + 1


def test_models_that_multiply() -> None:
    """Each used twice in the next: the layers of 40 of them would be a million million."""
    inner = model_of(layer("r", "image"), outputs=[["r", 0, 0]])
    for depth in range(40):
        used = {**inner, "name": f"m{depth}", "inbound_nodes": [[["image", 0, 0, {}]], [[f"m{depth}", 0, 0, {}]]]}
        inner = model_of(used, outputs=[[f"m{depth}", 1, 0]])
    with pytest.raises(NotDescribed, match="more than 5000 models"):
        network_from_config(json.loads(json.dumps(inner)))
