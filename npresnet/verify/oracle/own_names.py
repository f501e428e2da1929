"""Networks whose layers are named in a way of their own, each after the program that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shorthand import BASIC, Blocks, Layers, Widths

if TYPE_CHECKING:
    import keras

__all__ = ["classifiers", "kimm"]


def kimm(
    depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, inside: bool = False
) -> keras.Model:
    """kimm:models/resnet.py; ``inside`` with the layers that scale pixels."""
    b = Layers(1e-5, False)
    basic = depth in BASIC

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
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 1):
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


def classifiers(
    depth: int, blocks: Blocks, stem: int, widths: Widths, classes: int | None, squeeze: bool = False
) -> keras.Model:
    """qubvel/classification_models:models/resnet.py; ``squeeze`` for its SE-ResNet-18 and -34."""
    b = Layers(2e-5, False)
    basic = depth in BASIC

    def gate(x: Any, channels: int, n: str) -> Any:
        y = b.k.GlobalAveragePooling2D(keepdims=True, name=f"{n}_se_pool")(x)
        y = b.relu(b.conv(y, max(1, channels // 16), 1, f"{n}_se_reduce", True), f"{n}_se_relu")
        y = b.conv(y, channels, 1, f"{n}_se_expand", True)
        return b.k.Multiply(name=f"{n}_se_multiply")([x, b.k.Activation("sigmoid", name=f"{n}_se_sigmoid")(y)])

    image = b.image()
    x = b.pad(b.norm(image, "bn_data", scale=False), 3, "conv0_pad")
    x = b.relu(b.norm(b.conv(x, stem, 7, "conv0", strides=2), "bn0"), "relu0")
    x = b.pool(b.pad(x, 1, "pooling0_pad"), "valid", "pooling0")
    for stage, ((inner, outer), count) in enumerate(zip(widths, blocks, strict=True), 1):
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
