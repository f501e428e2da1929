"""Networks whose layers are named after those of the Caffe files (``res2a_branch2a``), each after the program that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shorthand import BASIC, Blocks, Layers, Widths

if TYPE_CHECKING:
    import keras

__all__ = ["fchollet", "flyyufelix", "keras_resnet", "matterport", "nsfw"]


def matterport(depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None) -> keras.Model:
    """matterport/Mask_RCNN:mrcnn/model.py (``resnet_graph``): biased convolutions, batch-norm at Keras's default epsilon, stride
    on the first 1x1, pool ``same``. It stops at ResNet-101, and has no classifier.

    Past the 26th block of a stage its rule leaves the alphabet: stage 4 of 152 ends with ``{ | } ~`` and six control
    characters. Keras 3 builds, runs eagerly, saves and loads such layers. Inside a graph (``model.predict``, ``tf.function``)
    TensorFlow refuses their names; Keras 2 built nothing but graphs, so its files spell them otherwise.
    """
    b = Layers(1e-3, True)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv1", strides=2)
    x = b.pool(b.relu(b.norm(x, "bn_conv1"), "conv1_relu"), "same", "pool1")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 2):
        for i in range(count):
            label, stride = f"{stage}{chr(97 + i)}", 2 if i == 0 and stage > 2 else 1
            res, bn = f"res{label}_branch", f"bn{label}_branch"
            y = b.conv(x, inner, 1, f"{res}2a", strides=stride)
            y = b.relu(b.norm(y, f"{bn}2a"), f"{res}2a_relu")
            y = b.conv(y, inner, 3, f"{res}2b", padding="same")
            y = b.relu(b.norm(y, f"{bn}2b"), f"{res}2b_relu")
            y = b.norm(b.conv(y, outer, 1, f"{res}2c"), f"{bn}2c")
            shortcut = b.norm(b.conv(x, outer, 1, f"{res}1", strides=stride), f"{bn}1") if i == 0 else x
            x = b.relu(b.add([y, shortcut], f"res{label}_add"), f"res{label}_out")
    return b.keras.Model(image, x, name=f"matterport_resnet{depth}")


def fchollet(
    depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, pool: str = "explicit"
) -> keras.Model:
    """fchollet/deep-learning-models:resnet50.py; ``pool`` "valid" as there, "explicit" as in keras-applications 1.0.8."""
    b = Layers(1e-3, True)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv1", strides=2)
    x = b.relu(b.norm(x, "bn_conv1"), "conv1_relu")
    if pool == "explicit":
        x = b.pad(x, 1, "pool1_pad")
    x = b.pool(x, "valid", "pool1")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 2):
        for i in range(count):
            label, stride = f"{stage}{chr(97 + i)}_branch", 2 if i == 0 and stage > 2 else 1
            y = b.conv(x, inner, 1, f"res{label}2a", strides=stride)
            y = b.relu(b.norm(y, f"bn{label}2a"), f"res{label}2a_relu")
            y = b.conv(y, inner, 3, f"res{label}2b", padding="same")
            y = b.relu(b.norm(y, f"bn{label}2b"), f"res{label}2b_relu")
            y = b.norm(b.conv(y, outer, 1, f"res{label}2c"), f"bn{label}2c")
            if i == 0:
                x = b.norm(b.conv(x, outer, 1, f"res{label}1", strides=stride), f"bn{label}1")
            name = f"res{stage}{chr(97 + i)}"
            x = b.relu(b.add([y, x], f"{name}_add"), f"{name}_relu")
    return b.keras.Model(image, b.top(x, classes, "avg_pool", "fc1000", None), name="resnet50")


def keras_resnet(
    depth: int, blocks: Blocks, stem_width: int, widths: Widths, classes: int | None, stem: str = "explicit"
) -> keras.Model:
    """keras-resnet 0.1.0 and, with ``stem`` "same", 0.2.0: no biases, epsilon 1e-5, a padding layer before each 3x3, and a
    projection in every stage, basic or not."""
    b = Layers(1e-5, False)

    def basic(x: Any, inner: int, outer: int, label: str, stride: int) -> Any:
        y = b.conv(b.pad(x, 1, f"padding{label}_branch2a"), inner, 3, f"res{label}_branch2a", strides=stride)
        y = b.relu(b.norm(y, f"bn{label}_branch2a"), f"res{label}_branch2a_relu")
        y = b.conv(b.pad(y, 1, f"padding{label}_branch2b"), outer, 3, f"res{label}_branch2b")
        return b.norm(y, f"bn{label}_branch2b")

    def bottleneck(x: Any, inner: int, outer: int, label: str, stride: int) -> Any:
        y = b.conv(x, inner, 1, f"res{label}_branch2a", strides=stride)
        y = b.relu(b.norm(y, f"bn{label}_branch2a"), f"res{label}_branch2a_relu")
        y = b.conv(b.pad(y, 1, f"padding{label}_branch2b"), inner, 3, f"res{label}_branch2b")
        y = b.relu(b.norm(y, f"bn{label}_branch2b"), f"res{label}_branch2b_relu")
        return b.norm(b.conv(y, outer, 1, f"res{label}_branch2c"), f"bn{label}_branch2c")

    image = b.image()
    if stem == "same":
        x = b.conv(image, stem_width, 7, "conv1", strides=2, padding="same")
    else:
        x = b.conv(b.pad(image, 3, "padding_conv1"), stem_width, 7, "conv1", strides=2)
    x = b.pool(b.relu(b.norm(x, "bn_conv1"), "conv1_relu"), "same", "pool1")
    branch = basic if depth in BASIC else bottleneck
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 2):
        numbered = depth in BASIC or (depth > 50 and stage in (3, 4))  # a, b1, b2, ...
        for i in range(count):
            letter = f"b{i}" if numbered and i > 0 else chr(97 + i)
            label, stride = f"{stage}{letter}", 2 if i == 0 and stage > 2 else 1
            y, shortcut = branch(x, inner, outer, label, stride), x
            if i == 0:
                shortcut = b.norm(b.conv(x, outer, 1, f"res{label}_branch1", strides=stride), f"bn{label}_branch1")
            x = b.relu(b.add([y, shortcut], f"res{label}"), f"res{label}_relu")
    return b.keras.Model(image, b.top(x, classes, "pool5", "fc1000", None), name=f"keras_resnet{depth}")


def flyyufelix(depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None) -> keras.Model:
    """flyyufelix/cnn_finetune:resnet_101.py, resnet_152.py: a Scale layer after each batch-norm."""
    b = Layers(1.1e-5, False)
    scale = _scale_layer(b.keras)
    image = b.image()
    x = b.conv(b.pad(image, 3, "padding_conv1"), stem, 7, "conv1", strides=2)
    x = b.relu(scale(name="scale_conv1")(b.norm(x, "bn_conv1")), "conv1_relu")
    x = b.pool(x, "valid", "pool1")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 2):
        for i in range(count):
            letter = chr(97 + i) if stage in (2, 5) or i == 0 else f"b{i}"
            block, stride = f"{stage}{letter}", 2 if i == 0 and stage > 2 else 1

            def unit(y: Any, filters: int, size: int, branch: str, block: str = block, **options: Any) -> Any:
                y = b.conv(y, filters, size, f"res{block}_branch{branch}", **options)
                y = b.norm(y, f"bn{block}_branch{branch}")
                return scale(name=f"scale{block}_branch{branch}")(y)

            y = b.relu(unit(x, inner, 1, "2a", strides=stride), f"res{block}_branch2a_relu")
            y = b.pad(y, 1, f"padding{block}_branch2b")
            y = b.relu(unit(y, inner, 3, "2b"), f"res{block}_branch2b_relu")
            y = unit(y, outer, 1, "2c")
            if i == 0:
                x = unit(x, outer, 1, "1", strides=stride)
            x = b.relu(b.add([y, x], f"res{block}"), f"res{block}_relu")
    return b.keras.Model(image, b.top(x, classes, "avg_pool", "fc1000", None), name=f"resnet{depth}")


def _scale_layer(keras: Any) -> Any:
    """custom_layers/scale_layer.py: x * gamma + beta."""

    class Scale(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
            self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

        def call(self, x: Any) -> Any:
            return x * self.gamma + self.beta

    return Scale


def nsfw(depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None) -> keras.Model:
    """bhky/opennsfw2:_model.py."""
    b = Layers(1e-5, True)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv_1", strides=2)
    x = b.pool(b.relu(b.norm(x, "bn_1"), "activation_1"), "same", "pool1")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True)):
        for i in range(count):
            n, stride = f"stage{stage}_block{i}", 2 if i == 0 and stage > 0 else 1
            shortcut = x
            if i == 0:
                shortcut = b.conv(x, outer, 1, f"conv_{n}_proj_shortcut", strides=stride, padding="same")
                shortcut = b.norm(shortcut, f"bn_{n}_proj_shortcut")
            y = x
            for branch, size, filters, step in (("2a", 1, inner, stride), ("2b", 3, inner, 1), ("2c", 1, outer, 1)):
                y = b.conv(y, filters, size, f"conv_{n}_branch{branch}", strides=step, padding="same")
                y = b.norm(y, f"bn_{n}_branch{branch}")
                y = y if branch == "2c" else b.relu(y, f"activation_{n}_branch{branch}")
            x = b.relu(b.add([y, shortcut], f"add_{n}"), f"activation_{n}")
    top = b.top(x, classes, "global_average_pooling2d", "fc_nsfw", "predictions")
    return b.keras.Model(image, top, name="opennsfw2")
