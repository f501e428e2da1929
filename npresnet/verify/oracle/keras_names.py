"""Networks whose layers are named as in ``keras.applications`` (``conv2_block1_1_conv``), each after the program that made them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .backend import tensorflow_and_keras
from .shorthand import BASIC, Blocks, Layers, Widths

if TYPE_CHECKING:
    import keras

__all__ = ["applications", "hub", "keras_cv", "resnext"]


def applications(
    depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, version: str = ""
) -> keras.Model:
    """The model that ``keras.applications`` builds; other widths by cloning it with other numbers of filters."""
    _, keras = tensorflow_and_keras()
    # As `input_shape`, (None, None, 3) is refused together with the classifier; as a tensor it is not.
    image = keras.Input((None, None, 3), name="input_image")
    upstream = getattr(keras.applications, f"ResNet{depth}{version}")(
        weights=None, include_top=classes is not None, classes=classes or 1000, input_tensor=image
    )
    model = keras.Model(image, upstream.output, name=f"keras_applications_resnet{depth}{version.lower()}")

    def filters(name: str) -> int:
        if name == "conv1_conv":
            return stem
        stage, part = re.fullmatch(r"conv(\d)_block\d+_(\d)_conv", name).groups()  # type: ignore[union-attr]
        inner, outer = widths[int(stage) - 2]
        return inner if part in "12" else outer

    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if all(layer.filters == filters(layer.name) for layer in convolutions):
        return model

    def with_own_width(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            config["filters"] = filters(layer.name)
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=with_own_width)


def resnext(
    depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, groups: int = 32
) -> keras.Model:
    """keras-applications:resnet_common.py (block3): the grouped convolution is a depthwise one and a sum in groups."""
    b = Layers(1.001e-5, False)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv1_conv", strides=2)
    x = b.relu(b.norm(x, "conv1_bn"), "conv1_relu")
    x = b.pool(b.pad(x, 1, "pool1_pad"), "valid", "pool1_pool")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 2):
        for i in range(count):
            n, stride = f"conv{stage}_block{i + 1}", 2 if i == 0 and stage > 2 else 1
            shortcut = x
            if i == 0:
                shortcut = b.norm(b.conv(x, outer, 1, f"{n}_0_conv", strides=stride), f"{n}_0_bn")
            y = b.relu(b.norm(b.conv(x, inner, 1, f"{n}_1_conv"), f"{n}_1_bn"), f"{n}_1_relu")
            c = inner // groups
            y = b.k.DepthwiseConv2D(3, strides=stride, depth_multiplier=c, use_bias=False, name=f"{n}_2_conv")(
                b.pad(y, 1, f"{n}_2_pad")
            )
            y = _group_sum(b.keras, groups, c)(name=f"{n}_2_gconv")(y)
            y = b.relu(b.norm(y, f"{n}_2_bn"), f"{n}_2_relu")
            y = b.norm(b.conv(y, outer, 1, f"{n}_3_conv"), f"{n}_3_bn")
            x = b.relu(b.add([shortcut, y], f"{n}_add"), f"{n}_out")
    return b.keras.Model(image, b.top(x, classes, "avg_pool", "predictions", None), name=f"resnext{depth}")


def _group_sum(keras: Any, groups: int, c: int) -> Any:
    """Upstream's Reshape, Lambda, Reshape in one: the sum over each group's c inputs."""

    class GroupSum(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            shape = keras.ops.shape(x)
            x = keras.ops.reshape(x, (*shape[:3], groups, c, c))
            return keras.ops.reshape(keras.ops.sum(x, axis=4), (*shape[:3], groups * c))

        def compute_output_shape(self, shape: Any) -> Any:
            return (*shape[:3], groups * c)

    return GroupSum


def hub(depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, kind: str = "") -> keras.Model:
    """keras-hub:resnet_backbone.py; ``kind`` "v2" with pre-activation, "vd" with deep stem and average-pooled shortcuts."""
    b = Layers(1e-5, False)
    basic, pre, vd = depth in BASIC, kind == "v2", kind == "vd"
    image = b.image()
    size = 3 if vd else 7
    x = b.conv(b.pad(image, size // 2, "conv1_pad"), stem // 2 if vd else stem, size, "conv1_conv", strides=2)
    for i, filters in enumerate((stem // 2, stem) if vd else (), 2):
        x = b.relu(b.norm(x, f"conv{i - 1}_bn"), f"conv{i - 1}_relu")
        x = b.conv(x, filters, 3, f"conv{i}_conv", padding="same")
    if pre:
        infinity = float("-inf")
        x = b.keras.ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=infinity)
    else:
        last = 3 if vd else 1
        x = b.relu(b.norm(x, f"conv{last}_bn"), f"conv{last}_relu")
        x = b.pad(x, 1, "pool1_pad")
    x = b.pool(x, "valid", "pool1_pool")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True)):
        for i in range(count):
            n, stride = f"stack{stage}_block{i}", 2 if i == 0 and stage > 0 else 1
            entry = x
            if pre:
                x = b.relu(b.norm(x, f"{n}_pre_activation_bn"), f"{n}_pre_activation_relu")
            shortcut = entry
            if i == 0 and not (basic and stage == 0 and not vd):
                shortcut = x
                if vd and stride > 1:
                    shortcut = b.k.AveragePooling2D(2, stride, padding="same", name=f"{n}_0_pool")(shortcut)
                shortcut = b.conv(shortcut, outer, 1, f"{n}_0_conv", strides=1 if vd else stride)
                shortcut = shortcut if pre else b.norm(shortcut, f"{n}_0_bn")
            plan = [(3, inner), (3, outer)] if basic else [(1, inner), (3, inner), (1, outer)]
            strided = 0 if basic else 1
            for j, (window, filters) in enumerate(plan):
                step = stride if j == strided else 1
                if step > 1:
                    x = b.pad(x, window // 2, f"{n}_{j + 1}_pad")
                padding = "valid" if step > 1 else "same"
                x = b.conv(x, filters, window, f"{n}_{j + 1}_conv", strides=step, padding=padding)
                if j + 1 < len(plan):
                    x = b.relu(b.norm(x, f"{n}_{j + 1}_bn"), f"{n}_{j + 1}_relu")
                elif not pre:
                    x = b.norm(x, f"{n}_{j + 1}_bn")
            x = b.add([shortcut, x], f"{n}_out" if pre else f"{n}_add")
            x = x if pre else b.relu(x, f"{n}_out")
    if pre:
        x = b.relu(b.norm(x, "post_bn"), "post_relu")
    if classes is not None:
        x = b.k.GlobalAveragePooling2D(name="pooler")(x)
        x = b.k.Dense(classes, name="predictions")(x)
        x = b.k.Softmax(name="predictions_softmax")(x)  # not upstream's, which ends with scores
    return b.keras.Model(image, x, name="resnet_backbone")


def keras_cv(
    depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, kind: str = "", inside: bool = False
) -> keras.Model:
    """keras-cv:resnet_v1_backbone.py and, with ``kind`` "v2", resnet_v2_backbone.py. Neither has a classifier. ``inside`` with
    the layer that scales pixels."""
    b = Layers(1.001e-5, False)
    basic, pre = depth in BASIC, kind == "v2"
    x = image = b.image()
    if inside:
        x = b.k.Rescaling(1 / 255, name="rescaling")(x)
    x = b.conv(x, stem, 7, "conv1_conv", pre, strides=2, padding="same")
    x = x if pre else b.relu(b.norm(x, "conv1_bn"), "conv1_relu")
    x = b.pool(x, "same", "pool1_pool")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True)):
        for i in range(count):
            n = f"v2_stack_{stage}_block{i + 1}"
            first = i == 0 and not (basic and stage == 0)
            if pre:
                stride = 2 if i == count - 1 and stage < 3 else 1
                active = b.relu(b.norm(x, f"{n}_use_preactivation_bn"), f"{n}_use_preactivation_relu")
                shortcut = x
                if first:
                    shortcut = b.conv(active, outer, 1, f"{n}_0_conv", True, strides=stride)
                elif stride > 1:
                    shortcut = b.k.MaxPooling2D(1, strides=stride, name=f"{n}_0_max_pooling")(x)
                if basic:
                    y = b.conv(active, inner, 3, f"{n}_1_conv", padding="same")
                    y = b.relu(b.norm(y, f"{n}_1_bn"), f"{n}_1_relu")
                    y = b.conv(y, outer, 3, f"{n}_2_conv", strides=stride, padding="same")
                else:
                    y = b.relu(b.norm(b.conv(active, inner, 1, f"{n}_1_conv"), f"{n}_1_bn"), f"{n}_1_relu")
                    y = b.conv(y, inner, 3, f"{n}_2_conv", strides=stride, padding="same")
                    y = b.relu(b.norm(y, f"{n}_2_bn"), f"{n}_2_relu")
                    y = b.conv(y, outer, 1, f"{n}_3_conv", True)
                x = b.add([shortcut, y], f"{n}_out")
                continue
            stride = 2 if i == 0 and stage > 0 else 1
            shortcut = x
            if first:
                shortcut = b.norm(b.conv(x, outer, 1, f"{n}_0_conv", strides=stride), f"{n}_0_bn")
            if basic:
                y = b.conv(x, inner, 3, f"{n}_1_conv", strides=stride, padding="same")
                y = b.relu(b.norm(y, f"{n}_1_bn"), f"{n}_1_relu")
                y = b.norm(b.conv(y, outer, 3, f"{n}_2_conv", padding="same"), f"{n}_2_bn")
            else:
                y = b.conv(x, inner, 1, f"{n}_1_conv", strides=stride)
                y = b.relu(b.norm(y, f"{n}_1_bn"), f"{n}_1_relu")
                y = b.conv(y, inner, 3, f"{n}_2_conv", padding="same")
                y = b.relu(b.norm(y, f"{n}_2_bn"), f"{n}_2_relu")
                y = b.norm(b.conv(y, outer, 1, f"{n}_3_conv"), f"{n}_3_bn")
            x = b.relu(b.add([shortcut, y], f"{n}_add"), f"{n}_out")
    if pre:
        x = b.relu(b.norm(x, "post_bn"), "post_relu")
    return b.keras.Model(image, b.top(x, classes, "avg_pool", "predictions", None), name="resnet_backbone")
