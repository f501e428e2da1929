"""Functions in the place of layers: each in networks of Keras 3 and of Keras 2, saved in both layouts, compared with Keras."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.network.described import network_from_config
from npresnet.network.dialects import LayerConfig
from npresnet.network.dialects import functions as functions_module
from npresnet.network.dialects.functions import function_of
from npresnet.network.wiring import flattened
from npresnet.verify.compare import compare

from ..support.agreement import randomize
from ..support.networks import applications

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
tf_keras = pytest.importorskip("tf_keras")
ops = keras.ops

Function = Callable[[Any], Any]

FOUR = np.array([0.5, -1.0, 2.0, 4.0], np.float32)
BORDER = [[0, 0], [1, 2], [3, 0], [0, 0]]


def mean(x: Any) -> Any:
    """One number per channel, by a layer of the Keras that x is of."""
    return (keras if isinstance(x, keras.KerasTensor) else tf_keras).layers.GlobalAveragePooling2D(keepdims=True)(x)


# {name: function of feature maps, of 8 x 12 pixels of 4 channels}
OPERATORS: dict[str, Function] = {
    "x + 1.5": lambda x: x + 1.5,
    "2 + x": lambda x: 2 + x,
    "x - 0.5": lambda x: x - 0.5,
    "1 - x": lambda x: 1 - x,
    "3 * x": lambda x: 3.0 * x,
    "x / 2": lambda x: x / 2.0,
    "-x": lambda x: -x,
    "x + constants": lambda x: x + FOUR,
    "x * constants": lambda x: x * FOUR,
    "x / constants": lambda x: x / FOUR.reshape(1, 1, 1, 4),
    "x + x": lambda x: x + x * 2.0,
    "x * x": lambda x: x * x,
    "x * gate": lambda x: x * mean(x),
    "x - y": lambda x: x - mean(x),
    "x / y": lambda x: x / mean(x),
    "x[:, :, :, :3]": lambda x: x[:, :, :, :3],
    "x[:, :, :, 1::2]": lambda x: x[:, :, :, 1::2],
    "x[:, :, :, ::-1]": lambda x: x[:, :, :, ::-1],
    "x[:]": lambda x: x[:, :],
}
ELLIPSIS: dict[str, Function] = {  # which Keras 2 cannot write into .keras
    "x[..., ::-1]": lambda x: x[..., ::-1],
    "x[..., 1:2]": lambda x: x[..., 1:2],
}
KERAS_3: dict[str, Function] = {
    "abs": lambda x: ops.abs(x),
    "add": lambda x: ops.add(x, 1.0),
    "average_pool": lambda x: ops.average_pool(x, 2),
    "cast": lambda x: ops.cast(x, "float32"),
    "clip": lambda x: ops.clip(x, 0, 0.5),
    "concatenate": lambda x: ops.concatenate([x, ops.relu(x)], axis=-1),
    "divide": lambda x: ops.divide(x, 4.0),
    "elu": lambda x: ops.elu(x),
    "exp": lambda x: ops.exp(x),
    "expand_dims": lambda x: ops.expand_dims(x[..., 1], -1),
    "flip": lambda x: ops.flip(x, axis=-1),
    "gelu": lambda x: ops.gelu(x),
    "gelu, exact": lambda x: ops.gelu(x, approximate=False),
    "hard_sigmoid": lambda x: ops.hard_sigmoid(x),
    "hard_silu": lambda x: ops.hard_silu(x),
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.1),
    "max": lambda x: ops.max(x, axis=(1, 2)),
    "max of channels": lambda x: ops.max(x, axis=3, keepdims=True),
    "max_pool": lambda x: ops.max_pool(x, (3, 2), strides=2, padding="same"),
    "maximum": lambda x: ops.maximum(x, 0),
    "maximum, turned": lambda x: ops.maximum(0.0, x),
    "maximum of two": lambda x: ops.maximum(x, mean(x)),
    "mean": lambda x: ops.mean(x, axis=(-3, -2)),
    "mean, kept": lambda x: ops.mean(x, axis=[1, 2], keepdims=True),
    "mean of channels": lambda x: ops.mean(x, axis=-1, keepdims=True),
    "minimum of two": lambda x: ops.minimum(x, mean(x)),
    "multiply": lambda x: ops.multiply(x, FOUR),
    "negative": lambda x: ops.negative(x),
    "normalize": lambda x: ops.normalize(x),
    "pad": lambda x: ops.pad(x, BORDER),
    "relu": lambda x: ops.relu(x),
    "relu6": lambda x: ops.relu6(x * 10.0),
    "repeat": lambda x: ops.repeat(x, 2, axis=-1),
    "reshape": lambda x: ops.reshape(ops.mean(x, axis=(1, 2)), (-1, 1, 1, 4)),
    "resize": lambda x: ops.image.resize(x, (5, 17)),
    "resize, nearest": lambda x: ops.image.resize(x, (5, 17), interpolation="nearest"),
    "selu": lambda x: ops.selu(x),
    "sigmoid": lambda x: ops.sigmoid(x),
    "silu": lambda x: ops.silu(x),
    "softmax": lambda x: ops.softmax(x, axis=-1),
    "softplus": lambda x: ops.softplus(x),
    "softsign": lambda x: ops.softsign(x),
    "squeeze": lambda x: ops.squeeze(ops.mean(x, axis=(1, 2), keepdims=True), axis=(1, 2)),
    "stack": lambda x: ops.stack([x[..., 2], x[..., 0]], axis=-1),
    "stop_gradient": lambda x: ops.stop_gradient(x),
    "subtract": lambda x: ops.subtract(FOUR, x),
    "take": lambda x: ops.take(x, [3, 0, -2], axis=-1),
    "tanh": lambda x: ops.tanh(x),
    "tile": lambda x: ops.tile(x, (1, 1, 1, 2)),
    "transpose": lambda x: ops.transpose(mean(x), (0, 2, 1, 3)),
    "true_divide": lambda x: ops.true_divide(x, FOUR),
}
KERAS_3_SIZED: dict[str, Function] = {"reshape to a row": lambda x: ops.reshape(x, (-1, 4 * 8 * 12))}
TENSORFLOW: dict[str, Function] = {
    "tf.add": lambda x: tf.add(x, 1.0),
    "tf.add_n": lambda x: tf.add_n([x, x]),
    "tf.bias_add": lambda x: tf.nn.bias_add(x, tf.constant(FOUR)),
    "tf.cast": lambda x: tf.cast(x, tf.float32),
    "tf.clip_by_value": lambda x: tf.clip_by_value(x, 0.0, 0.5),
    "tf.concat": lambda x: tf.concat([x, tf.nn.relu(x)], -1),
    "tf.divide": lambda x: tf.divide(x, 2.0),
    "tf.gather": lambda x: tf.gather(x, [3, 0, 2], axis=-1),
    "tf.identity": tf.identity,
    "tf.image.resize": lambda x: tf.image.resize(x, (5, 17)),
    "tf.image.resize, nearest": lambda x: tf.image.resize(x, [5, 17], method="nearest"),
    "tf.keras.activations.relu": lambda x: tf_keras.activations.relu(x, alpha=0.1),
    "tf.keras.backend.mean": lambda x: tf_keras.backend.mean(x, axis=[1, 2]),
    "tf.math.add": lambda x: tf.math.add(x, FOUR),
    "tf.math.truediv": lambda x: tf.math.truediv(x, 2.0),
    "tf.maximum": lambda x: tf.maximum(x, 0.0),
    "tf.minimum of two": lambda x: tf.minimum(x, mean(x)),
    "tf.multiply": lambda x: tf.multiply(x, FOUR),
    "tf.negative": tf.negative,
    "tf.nn.avg_pool2d": lambda x: tf.nn.avg_pool2d(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"),
    "tf.nn.elu": tf.nn.elu,
    "tf.nn.gelu": tf.nn.gelu,
    "tf.nn.l2_normalize": lambda x: tf.nn.l2_normalize(x, -1),
    "tf.nn.leaky_relu": tf.nn.leaky_relu,
    "tf.nn.leaky_relu, alpha": lambda x: tf.nn.leaky_relu(x, alpha=0.1),
    "tf.nn.max_pool2d": lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"),
    "tf.nn.relu": tf.nn.relu,
    "tf.nn.sigmoid": tf.nn.sigmoid,
    "tf.nn.softmax": tf.nn.softmax,
    "tf.nn.swish": tf.nn.swish,
    "tf.pad": lambda x: tf.pad(x, tf.constant(BORDER)),
    "tf.reduce_max": lambda x: tf.reduce_max(x, axis=(1, 2), keepdims=True),
    "tf.reduce_max of channels": lambda x: tf.reduce_max(x, axis=3, keepdims=True),
    "tf.reduce_mean": lambda x: tf.reduce_mean(x, [1, 2]),
    "tf.reduce_mean, kept": lambda x: tf.reduce_mean(x, [1, 2], True),
    "tf.reduce_mean of channels": lambda x: tf.reduce_mean(x, axis=-1, keepdims=True),
    "tf.repeat": lambda x: tf.repeat(x, 2, axis=-1),
    "tf.reshape": lambda x: tf.reshape(tf.reduce_mean(x, [1, 2]), [-1, 1, 1, 4]),
    "tf.reverse": lambda x: tf.reverse(x, axis=[-1]),
    "tf.sigmoid": tf.sigmoid,
    "tf.squeeze": lambda x: tf.squeeze(tf.reduce_mean(x, [1, 2], keepdims=True), [1, 2]),
    "tf.stop_gradient": tf.stop_gradient,
    "tf.subtract": lambda x: tf.subtract(FOUR, x),
    "tf.tile": lambda x: tf.tile(x, [1, 1, 1, 2]),
}
TENSORFLOW_ELLIPSIS: dict[str, Function] = {
    "tf.image.grayscale_to_rgb": lambda x: tf.image.grayscale_to_rgb(x[..., :1]),
    "tf.stack": lambda x: tf.stack([x[..., 2], x[..., 0]], axis=-1),
}

BOTH = {**OPERATORS, **ELLIPSIS}
SETS: dict[str, tuple[Any, str, tuple[int | None, int | None], dict[str, Function]]] = {
    "Keras 3, .keras": (keras, ".keras", (None, None), {**BOTH, **KERAS_3}),
    "Keras 3, .h5": (keras, ".h5", (16, 24), {**BOTH, **KERAS_3, **KERAS_3_SIZED}),
    "Keras 2, .keras": (tf_keras, ".keras", (16, 24), {**OPERATORS, **TENSORFLOW}),
    "Keras 2, .h5": (tf_keras, ".h5", (None, None), {**BOTH, **TENSORFLOW, **TENSORFLOW_ELLIPSIS}),
}
"""{what is saved: (Keras, suffix, size of images, functions)}."""


def network(which: Any, size: tuple[int | None, int | None], *functions: Function) -> Any:
    """A small residual network, and behind it each function of its feature maps as an output."""
    image = which.Input((*size, 3), name="image")
    x = which.layers.Conv2D(4, 3, strides=2, padding="same", name="first")(image)
    x = which.layers.Add(name="sum")([x, which.layers.Conv2D(4, 3, padding="same", name="second")(x)])
    model = which.Model(image, [function(x) for function in functions], name="functions")
    randomize(model, pixels=1)
    return model


def pictures() -> Any:
    return np.random.default_rng(3).normal(size=(2, 16, 24, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def results(tmp_path_factory: Any) -> Callable[[str], dict[str, tuple[Any, Any]]]:
    """Of what is saved: {function: (npresnet's, Keras's)}. All functions of one file are outputs of one network."""
    found: dict[str, dict[str, tuple[Any, Any]]] = {}

    def of(saved: str) -> dict[str, tuple[Any, Any]]:
        if saved not in found:
            which, suffix, size, functions = SETS[saved]
            model = network(which, size, *functions.values())
            path = tmp_path_factory.mktemp("functions") / f"functions{suffix}"
            model.save(path)
            ours, theirs = npresnet.load(path).predict(pictures()), model(pictures())
            found[saved] = dict(zip(functions, zip(ours, theirs, strict=True), strict=True))
        return found[saved]

    return of


@pytest.mark.parametrize(("saved", "name"), [(saved, name) for saved in SETS for name in SETS[saved][3]])
def test_as_keras_computes_it(results, saved, name):
    ours, theirs = results(saved)[name]
    assert compare(ours, np.asarray(theirs)).agrees()


# What is not run -----------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, Function, str]] = {
    "1 / x": (keras, lambda x: 1 / x, "divides by what the network computes"),
    "a batch's first": (tf_keras, lambda x: x[0:1], "picks images from the batch"),
    "one channel": (keras, lambda x: keras.layers.ReLU()(x[..., 0]), "of single channels only the stack"),
    "every second pixel": (keras, lambda x: x[:, ::2, ::2], "leaves out every second pixel"),
    "rows from the end": (keras, lambda x: x[:, -3:], "depends on the size of the image"),
    "a power": (keras, lambda x: x**2, "does not have the function 'keras.ops: Power'"),
    "tf.sqrt": (tf_keras, tf.sqrt, "does not have the function 'tf.math.sqrt'"),
    "a constant for each column": (keras, lambda x: x + np.ones((1, 1, 12, 1), np.float32), "not one per channel"),
    "maximum with another number": (keras, lambda x: ops.maximum(x, 1.0), "maximum of a map and 1"),
    "minimum": (keras, lambda x: ops.minimum(x, 6.0), "minimum of a map and 6"),
    "clip from below zero": (keras, lambda x: ops.clip(x, -1, 1), "clips at -1 and 1"),
    "mean of a column": (keras, lambda x: ops.mean(x, axis=1), "reduces the axes [1] of 4"),
    "mean of all": (keras, ops.mean, "reduces the axes [1, 2, 3] of 4"),
    "mean of the batch": (keras, lambda x: ops.mean(x, axis=0), "reduces the axes [0] of 4"),
    "channels that are dropped": (keras, lambda x: ops.mean(x, axis=-1), "keepdims=True"),
    "whole numbers": (tf_keras, lambda x: tf.cast(tf.cast(x, tf.uint8), tf.float32), "numbers of type 'uint8'"),
    "reflected border": (tf_keras, lambda x: tf.pad(x, BORDER, "REFLECT"), "pads by reflect"),
    "border of ones": (tf_keras, lambda x: tf.pad(x, BORDER, constant_values=1.0), "pads by constant 1"),
    "border of channels": (keras, lambda x: ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, 1]]), "pads the channels"),
    "concatenation of images": (keras, lambda x: ops.concatenate([x, x]), "works along axis 0"),
    "resize by averages": (keras, lambda x: ops.image.resize(x, (4, 6), antialias=True), "antialias is True"),
    "resize of old": (
        tf_keras,
        lambda x: tf.compat.v1.image.resize_bilinear(x, [4, 6]),
        "does not have the function 'tf.compat.v1.image.resize_bilinear'",
    ),
    "transposed map": (keras, lambda x: ops.transpose(x, (0, 2, 1, 3)), "which moves numbers"),
    "flip of columns": (keras, lambda x: ops.flip(x, axis=2), "works along axis 2"),
    "reshape of the batch": (keras, lambda x: ops.reshape(x, (2, -1)), "whose first number must be -1"),
    "axis before the images": (keras, lambda x: ops.expand_dims(x, 0), "an axis before the images"),
}


def reasons(which: Any, function: Function) -> str:
    """Why the last layer of a network is not run; empty where it is."""
    found = network_from_config(json.loads(network(which, (None, None), function).to_json()))
    return "; ".join(found.unsupported.values())


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    which, function, said = REFUSED[name]
    assert said in reasons(which, function)


def test_every_function():
    """All of the table are among those above."""
    seen = set()
    ones = [(which, function) for which, _, _, functions in SETS.values() for function in functions.values()]
    for which in (keras, tf_keras):
        functions = [function for one, function in ones if one is which]
        wiring = flattened(json.loads(network(which, (16, 24), *functions).to_json()))
        for node in wiring.nodes:
            seen.add(function_of(LayerConfig(node.kind, node.config, [], module=node.module, keras=wiring.keras)))
    assert seen >= {*functions_module._FUNCTIONS}


# Networks with functions ---------------------------------------------------------------------------------------------


MODES = ("caffe", "tf", "torch")
PREPARED = [
    *(
        pytest.param(keras, mode, suffix, id=f"Keras 3 {mode} {suffix}")
        for mode in MODES
        for suffix in (".h5", ".keras")
    ),
    *(pytest.param(tf_keras, mode, ".h5", id=f"Keras 2 {mode} .h5") for mode in MODES),
    *(
        pytest.param(tf_keras, mode, ".keras", id=f"Keras 2 {mode} .keras") for mode in MODES if mode != "caffe"
    ),  # Ellipsis
]


@pytest.mark.parametrize(("which", "mode", "suffix"), PREPARED)
def test_preprocess_input(tmp_path, which, mode, suffix):
    """Preparing pictures is part of the network: it gets pixels from 0 to 255."""
    image = which.Input((None, None, 3), name="image")
    x = which.applications.imagenet_utils.preprocess_input(image, mode=mode)
    x = which.layers.Conv2D(4, 3, strides=2, padding="same", name="first")(x)
    x = which.layers.Add(name="sum")([x, which.layers.Conv2D(4, 3, padding="same", name="second")(x)])
    model = which.Model(image, which.layers.GlobalAveragePooling2D()(x), name="prepared")
    randomize(model, pixels=60 if mode == "caffe" else 1)
    model.save(tmp_path / f"prepared{suffix}")
    pixels = np.random.default_rng(4).integers(0, 256, (2, 16, 24, 3)).astype(np.float32)
    net = npresnet.load(tmp_path / f"prepared{suffix}")
    expected = model(pixels).numpy()
    assert compare(net.predict(pixels), expected).agrees()
    plain = npresnet.load(tmp_path / f"prepared{suffix}", algorithm="im2col")
    assert compare(plain.predict(pixels), expected).agrees()


@pytest.mark.parametrize(
    ("which", "suffix"),
    [(keras, ".keras"), (keras, ".h5"), (tf_keras, ".h5")],
    ids=["Keras 3", "Keras 3, .h5", "Keras 2"],
)
def test_tutorial_of_transfer_learning(tmp_path, which, suffix):
    """TensorFlow's own: augmentation, preparing, a trained network and a new head, all in one."""
    layers = which.layers
    augment = which.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])
    base = applications("ResNet50", which, input_shape=(64, 64, 3))
    base.trainable = False
    image = which.Input((64, 64, 3))
    x = which.applications.resnet50.preprocess_input(augment(image))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base(x, training=False)))
    model = which.Model(image, layers.Dense(1)(x))
    randomize(model)
    model.save(tmp_path / f"tutorial{suffix}")
    pixels = np.random.default_rng(4).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    net = npresnet.load(tmp_path / f"tutorial{suffix}")
    assert compare(net.predict(pixels), model(pixels, training=False).numpy()).agrees()
    assert len(net.graph.features) == 5
