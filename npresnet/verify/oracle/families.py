"""The oracle's builders for the families of weight files that others publish, each after the program that made them.

They complete ``oracle.py``, know nothing of ``architecture.py``, and take channel widths as arguments, so that tests can
be small. Layers that upstream leaves to Keras's counters have names here in the style of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

__all__ = ["BUILDERS"]

Widths = Sequence[tuple[int, int]]

_BLOCKS = {
    18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)
}  # fmt: skip


class _Layers:
    """Keras's layers, called by short names; ``epsilon`` and ``bias`` are a family's own."""

    def __init__(self, epsilon: float, bias: bool) -> None:
        import keras

        self.keras, self.k = keras, keras.layers
        self.epsilon, self.bias = epsilon, bias

    def conv(self, x: Any, filters: int, size: int, name: str, bias: bool | None = None, **options: Any) -> Any:
        bias = self.bias if bias is None else bias
        return self.k.Conv2D(filters, size, use_bias=bias, name=name, **options)(x)

    def norm(self, x: Any, name: str, **options: Any) -> Any:
        return self.k.BatchNormalization(epsilon=self.epsilon, name=name, **options)(x)

    def relu(self, x: Any, name: str) -> Any:
        return self.k.Activation("relu", name=name)(x)

    def pad(self, x: Any, pixels: int, name: str) -> Any:
        return self.k.ZeroPadding2D(pixels, name=name)(x)

    def pool(self, x: Any, padding: str, name: str) -> Any:
        return self.k.MaxPooling2D(3, strides=2, padding=padding, name=name)(x)

    def add(self, inputs: list[Any], name: str) -> Any:
        return self.k.Add(name=name)(inputs)

    def image(self) -> Any:
        return self.keras.Input((None, None, 3), name="input_image")

    def top(self, x: Any, classes: int | None, pool: str, dense: str, softmax: str | None) -> Any:
        """A classifier whose softmax is in its layer (None) or a layer of its own."""
        if classes is None:
            return x
        x = self.k.GlobalAveragePooling2D(name=pool)(x)
        x = self.k.Dense(classes, activation=None if softmax else "softmax", name=dense)(x)
        return self.k.Activation("softmax", name=softmax)(x) if softmax else x


def _fchollet(depth: int, stem: int, widths: Widths, classes: int | None, pool: str = "explicit") -> keras.Model:
    """fchollet/deep-learning-models:resnet50.py; ``pool`` "valid" as there, "explicit" as in keras-applications 1.0.8."""
    b = _Layers(1e-3, True)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv1", strides=2)
    x = b.relu(b.norm(x, "bn_conv1"), "conv1_relu")
    if pool == "explicit":
        x = b.pad(x, 1, "pool1_pad")
    x = b.pool(x, "valid", "pool1")
    for stage, ((inner, outer), blocks) in enumerate(zip(widths, _BLOCKS[depth], strict=True), 2):
        for i in range(blocks):
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


def _flyyufelix(depth: int, stem: int, widths: Widths, classes: int | None) -> keras.Model:
    """flyyufelix/cnn_finetune:resnet_101.py, resnet_152.py: a Scale layer after each batch-norm."""
    b = _Layers(1.1e-5, False)
    scale = _scale_layer(b.keras)
    image = b.image()
    x = b.conv(b.pad(image, 3, "padding_conv1"), stem, 7, "conv1", strides=2)
    x = b.relu(scale(name="scale_conv1")(b.norm(x, "bn_conv1")), "conv1_relu")
    x = b.pool(x, "valid", "pool1")
    for stage, ((inner, outer), blocks) in enumerate(zip(widths, _BLOCKS[depth], strict=True), 2):
        for i in range(blocks):
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


def _resnext(depth: int, stem: int, widths: Widths, classes: int | None, groups: int = 32) -> keras.Model:
    """keras-applications:resnet_common.py (block3): the grouped convolution is a depthwise one and a sum in groups."""
    b = _Layers(1.001e-5, False)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv1_conv", strides=2)
    x = b.relu(b.norm(x, "conv1_bn"), "conv1_relu")
    x = b.pool(b.pad(x, 1, "pool1_pad"), "valid", "pool1_pool")
    for stage, ((inner, outer), blocks) in enumerate(zip(widths, _BLOCKS[depth], strict=True), 2):
        for i in range(blocks):
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


def _hub(
    depth: int, stem: int, widths: Widths, classes: int | None, kind: str = "", blocks: Sequence[int] | None = None
) -> keras.Model:
    """keras-hub:resnet_backbone.py; ``kind`` "v2" with pre-activation, "vd" with deep stem and average-pooled shortcuts."""
    b = _Layers(1e-5, False)
    basic, pre, vd = depth in (18, 34), kind == "v2", kind == "vd"
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
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks or _BLOCKS[depth], strict=True)):
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


def _keras_cv(depth: int, stem: int, widths: Widths, classes: int | None, kind: str = "") -> keras.Model:
    """keras-cv:resnet_v1_backbone.py and, with ``kind`` "v2", resnet_v2_backbone.py. Neither has a classifier."""
    b = _Layers(1.001e-5, False)
    basic, pre = depth in (18, 34), kind == "v2"
    image = b.image()
    x = b.conv(image, stem, 7, "conv1_conv", pre, strides=2, padding="same")
    x = x if pre else b.relu(b.norm(x, "conv1_bn"), "conv1_relu")
    x = b.pool(x, "same", "pool1_pool")
    for stage, ((inner, outer), count) in enumerate(zip(widths, _BLOCKS[depth], strict=True)):
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


def _kimm(depth: int, stem: int, widths: Widths, classes: int | None, inside: bool = False) -> keras.Model:
    """kimm:models/resnet.py; ``inside`` with the layers that scale pixels."""
    b = _Layers(1e-5, False)
    basic = depth in (18, 34)

    def block(x: Any, filters: int, size: int, name: str, stride: int = 1, relu: bool = False) -> Any:
        if stride > 1:
            x = b.pad(x, size // 2, f"{name}_pad")
        padding = "valid" if stride > 1 else "same"
        x = b.norm(b.conv(x, filters, size, f"{name}_conv2d", strides=stride, padding=padding), f"{name}_bn")
        return b.relu(x, name) if relu else x

    x = image = b.image()
    if inside:
        x = b.k.Rescaling(1 / 255, name="rescaling")(x)
        mean, variance = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        x = b.k.Normalization(mean=mean, variance=variance, name="normalization")(x)
    x = block(x, stem, 7, "conv_stem", 2, relu=True)
    x = b.pool(b.pad(x, 1, "pool_pad"), "valid", "pool")
    for stage, ((inner, outer), count) in enumerate(zip(widths, _BLOCKS[depth], strict=True), 1):
        for i in range(count):
            n, stride = f"layer{stage}_{i}", 2 if i == 0 and stage > 1 else 1
            if basic:
                y = block(x, inner, 3, f"{n}_conv1", stride, relu=True)
                y = block(y, outer, 3, f"{n}_conv2")
            else:
                y = block(x, inner, 1, f"{n}_conv1", relu=True)
                y = block(y, inner, 3, f"{n}_conv2", stride, relu=True)
                y = block(y, outer, 1, f"{n}_conv3")
            if i == 0 and not (basic and stage == 1):
                x = block(x, outer, 1, f"{n}_downsample", stride)
            x = b.relu(b.add([y, x], f"{n}_add"), n)
    return b.keras.Model(image, b.top(x, classes, "avg_pool", "classifier", None), name=f"resnet{depth}")


def _classifiers(depth: int, stem: int, widths: Widths, classes: int | None, squeeze: bool = False) -> keras.Model:
    """qubvel/classification_models:models/resnet.py; ``squeeze`` for its SE-ResNet-18 and -34."""
    b = _Layers(2e-5, False)
    basic = depth in (18, 34)

    def gate(x: Any, channels: int, n: str) -> Any:
        y = b.k.GlobalAveragePooling2D(keepdims=True, name=f"{n}_se_pool")(x)
        y = b.relu(b.conv(y, max(1, channels // 16), 1, f"{n}_se_reduce", True), f"{n}_se_relu")
        y = b.conv(y, channels, 1, f"{n}_se_expand", True)
        return b.k.Multiply(name=f"{n}_se_multiply")([x, b.k.Activation("sigmoid", name=f"{n}_se_sigmoid")(y)])

    image = b.image()
    x = b.pad(b.norm(image, "bn_data", scale=False), 3, "conv0_pad")
    x = b.relu(b.norm(b.conv(x, stem, 7, "conv0", strides=2), "bn0"), "relu0")
    x = b.pool(b.pad(x, 1, "pooling0_pad"), "valid", "pooling0")
    for stage, ((inner, outer), count) in enumerate(zip(widths, _BLOCKS[depth], strict=True), 1):
        for i in range(count):
            n, stride = f"stage{stage}_unit{i + 1}", 2 if i == 0 and stage > 1 else 1
            y = b.relu(b.norm(x, f"{n}_bn1"), f"{n}_relu1")
            shortcut = b.conv(y, outer, 1, f"{n}_sc", strides=stride) if i == 0 else x
            if basic:
                y = b.conv(b.pad(y, 1, f"{n}_conv1_pad"), inner, 3, f"{n}_conv1", strides=stride)
                y = b.relu(b.norm(y, f"{n}_bn2"), f"{n}_relu2")
                y = b.conv(b.pad(y, 1, f"{n}_conv2_pad"), outer, 3, f"{n}_conv2")
            else:
                y = b.relu(b.norm(b.conv(y, inner, 1, f"{n}_conv1"), f"{n}_bn2"), f"{n}_relu2")
                y = b.conv(b.pad(y, 1, f"{n}_conv2_pad"), inner, 3, f"{n}_conv2", strides=stride)
                y = b.relu(b.norm(y, f"{n}_bn3"), f"{n}_relu3")
                y = b.conv(y, outer, 1, f"{n}_conv3")
            x = b.add([gate(y, outer, n) if squeeze else y, shortcut], f"{n}_add")
    x = b.relu(b.norm(x, "bn1"), "relu1")
    return b.keras.Model(image, b.top(x, classes, "pool1", "fc1", "softmax"), name=f"resnet{depth}")


def _nsfw(depth: int, stem: int, widths: Widths, classes: int | None) -> keras.Model:
    """bhky/opennsfw2:_model.py."""
    b = _Layers(1e-5, True)
    image = b.image()
    x = b.conv(b.pad(image, 3, "conv1_pad"), stem, 7, "conv_1", strides=2)
    x = b.pool(b.relu(b.norm(x, "bn_1"), "activation_1"), "same", "pool1")
    for stage, ((inner, outer), count) in enumerate(zip(widths, _BLOCKS[depth], strict=True)):
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


BUILDERS: Mapping[str, tuple[Callable[..., Any], Mapping[str, Any], tuple[int, ...]]] = {
    "fchollet": (_fchollet, {}, (50,)),
    "flyyufelix": (_flyyufelix, {}, (101, 152)),
    "keras.applications ResNeXt": (_resnext, {}, (50, 101)),
    "keras-hub": (_hub, {}, (18, 26, 34, 50, 101, 152)),
    "keras-hub V2": (_hub, {"kind": "v2"}, (18, 26, 34, 50, 101, 152)),
    "keras-hub vd": (_hub, {"kind": "vd"}, (18, 34, 50, 101, 152)),
    "keras-cv": (_keras_cv, {}, (18, 34, 50, 101, 152)),
    "keras-cv V2": (_keras_cv, {"kind": "v2"}, (18, 34, 50, 101, 152)),
    "kimm": (_kimm, {}, (18, 34, 50, 101, 152)),
    "image-classifiers": (_classifiers, {}, (18, 34, 50, 101, 152)),
    "image-classifiers SE": (_classifiers, {"squeeze": True}, (18, 34)),
    "opennsfw2": (_nsfw, {}, (50,)),
}
"""{family: (builder, its further arguments, depths)}; a builder takes depth, stem width, stage widths and classes."""
