"""The larger pieces of random networks: what comes first, residual blocks of all kinds, heads. Tables as in ``random_layers.py``.

``FRONTS`` make a map of images, ``BLOCKS`` a map of a map, ``HEADS`` an output of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .random_layers import ACTIVATIONS, JOINS, NORMS, OPERATORS, Draft, Row

__all__ = ["BLOCKS", "FRONTS", "HEADS", "TABLES", "missing"]

Tensor = Any

# ---------------------------------------------------------------------------------------------------------------------
# Blocks


def _basic(d: Draft, x: Tensor) -> Tensor:
    filters, stride = d.width(x), d.stride(x)
    y = d.activation(d.norm(d.conv(x, filters, 3, stride)))
    y = d.norm(d.conv(y, filters, 3))
    return d.activation(d.join(y, d.shortcut(x, filters, stride)))


def _kept(d: Draft, x: Tensor) -> Tensor:
    """A basic block that keeps its shape: two of 3x3, wide enough for Winograd's algorithm where the map is."""
    channels = d.shape(x)[-1]
    y = d.norm(d.conv(d.activation(d.norm(d.conv(x, channels))), channels))
    return d.activation(d("Add", d.one([x, y], [y, x])))


def _wide(d: Draft, x: Tensor) -> Tensor:
    """Winograd's algorithm takes 32 channels, and lets NaN spread, which what is behind must not hide."""
    x = _kept(d, d.conv(x, 32, 1))
    return d.draw([row for row in OPERATORS if row.name == "Cropping2D" and d.allowed(row)], x) if d.maybe(0.3) else x


def _bottleneck(d: Draft, x: Tensor) -> Tensor:
    narrow, stride = d.one(2, 3, 4, 8), d.stride(x)
    y = d.activation(d.norm(d.conv(x, narrow, 1, *([stride] if d.maybe() else []))))
    left = stride if d.shape(y)[:2] == d.shape(x)[:2] else 1
    if d.maybe(0.3):  # keras.applications pads by itself
        y = d.conv(d("ZeroPadding2D", y, 1), narrow, 3, left, padding="valid")
    else:
        y = d.conv(y, narrow, 3, left)
    y = d.norm(d.conv(d.activation(d.norm(y)), narrow * 4, 1))
    return d.activation(d.join(y, d.shortcut(x, narrow * 4, stride)))


def _pre_activation(d: Draft, x: Tensor) -> Tensor:
    filters, stride = d.width(x), d.stride(x)
    before = d.activation(d.norm(x))
    y = d.conv(d.activation(d.norm(d.conv(before, filters, 3, stride))), filters, d.one(1, 3))
    return d.join(y, d.shortcut(d.one(x, before), filters, stride))


def _grouped_block(d: Draft, x: Tensor) -> Tensor:
    channels = d.one(4, 6, 8, 12)
    groups = d.one(*(n for n in range(2, channels + 1) if channels % n == 0))
    y = d.activation(d.norm(d.conv(x, channels, 1)))
    y = d.activation(d.norm(d.conv(y, channels, 3, groups=groups, dilation_rate=d.one(1, 1, 2))))
    return d.activation(d.join(d.norm(d.conv(y, d.shape(x)[-1], 1)), x))


def _inverted(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    y = d.activation(d.norm(d.conv(x, min(channels * 2, 24), 1)))
    y = d.activation(d.norm(d("DepthwiseConv2D", y, d.one(3, 5), padding="same", use_bias=d.maybe())))
    return d.join(d.norm(d.conv(y, channels, 1)), x)


def _dilated(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    y = d.activation(d.norm(d.conv(x, channels, 3, dilation_rate=d.one(2, 3, (1, 2)))))
    return d.activation(d.join(d.conv(y, channels, d.one(1, (1, 3))), x))


def _gate(d: Draft, x: Tensor) -> Tensor:
    """Squeeze and excitation, in every form that these blocks have."""
    channels = d.shape(x)[-1]
    few, form = max(1, channels // 2), d.one("keepdims", "reshape", "row")
    gate = d("GlobalAveragePooling2D", x, keepdims=form == "keepdims")
    if form == "reshape":
        gate = d("Reshape", gate, (1, 1, channels))
    squeeze = (lambda g, n, a: d.conv(g, n, 1, activation=a)) if form != "row" and d.maybe() else (
        lambda g, n, a: d("Dense", g, n, activation=a)
    )  # fmt: skip
    gate = squeeze(squeeze(gate, few, "relu"), channels, "sigmoid")
    order = [x, gate] if d.maybe() else [gate, x]
    if form == "row" and (d.shape(x)[:2] == (1, 1) or d.version == 3):
        gate = d("Reshape", gate, (1, 1, channels))
        order = [x, gate] if d.maybe() else [gate, x]
    return d("Multiply", order)


def _excited(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    y = d.norm(d.conv(d.activation(d.norm(d.conv(x, channels))), channels))
    return d.activation(d.join(_gate(d, y), x))


def _attention(d: Draft, x: Tensor) -> Tensor:
    """CBAM's: which pixels count, by the mean and the maximum over channels."""
    mean = d.function(x, "mean", "reduce_mean", axis=-1, keepdims=True)
    most = d.function(x, "max", "reduce_max", axis=-1, keepdims=True)
    gate = d.conv(d("Concatenate", [mean, most]), 1, 7, activation="sigmoid")
    return d("Multiply", d.one([x, gate], [gate, x]))


def _one_gate(d: Draft, x: Tensor) -> Tensor:
    """One number for each pixel."""
    gate = d.conv(x, 1, 1, activation="sigmoid")
    return d("Multiply", d.one([x, gate], [gate, x]))


def _dense_block(d: Draft, x: Tensor) -> Tensor:
    for _ in range(d.one(1, 2)):
        y = d.conv(d.activation(d.norm(x)), 4, 3)
        x = d("Concatenate", d.one([x, y], [y, x]))
    return x


def _branches(d: Draft, x: Tensor) -> Tensor:
    """Inception's."""
    ways = [
        d.conv(x, 4, 1),
        d.conv(d.conv(x, 3, 1), 5, (1, 3)),
        d.conv(d("MaxPooling2D", x, 3, strides=1, padding="same"), 3, 1),
        d("AveragePooling2D", x, 3, strides=1, padding="same"),
    ]
    return d("Concatenate", d.random.sample(ways, d.one(2, 3, 4)))


def _scaled(d: Draft, x: Tensor) -> Tensor:
    y = d.conv(d.activation(d.norm(d.conv(x, d.shape(x)[-1]))), d.shape(x)[-1], 1)
    y = d("Rescaling", y, 0.3) if d.maybe() else d.like(y, y * 0.3)
    return d.activation(d.join(y, x))


def _shared(d: Draft, x: Tensor) -> Tensor:
    """Layers that are used again."""
    conv, norm = d.layer("Conv2D", d.shape(x)[-1], 3, padding="same"), d.layer("BatchNormalization")
    y = d.activation(d.apply(norm, d.apply(conv, x)))
    return d.join(d.apply(norm, d.apply(conv, y)), x)


def _two_outputs(d: Draft, x: Tensor) -> Tensor:
    """A nested model of two outputs."""
    channels = d.shape(x)[-1]
    model = d.model(lambda i, a: [i.conv(a, channels, 1), i.norm(i.conv(a, channels, 3))], x)
    left, right = d.apply(model, x)
    return d.join(*(d.like(x, y) for y in d.one((left, right), (right, left))))


def _sequential(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    chain = [
        d.K.Input(tuple(x.shape)[1:]),
        d.layer("Conv2D", channels, 3, padding="same", activation=d.one(None, "relu")),
        d.layer("BatchNormalization"),
        d.layer("Dropout", 0.1),
        d.layer("ReLU"),
    ]
    model = d.K.Sequential(chain, name=d.name("sequential"))
    d.inside |= {layer.name for layer in chain[1:]}
    return d.join(d.apply(model, d.apply(model, x) if d.maybe(0.3) else x), x)


BLOCKS: tuple[Row, ...] = (
    Row("basic", _basic, (), 8),
    Row("kept", _kept, (), 4, keeps=True),
    Row("wide", _wide, ("Cropping2D",), 5),
    Row("bottleneck", _bottleneck, (), 6),
    Row("pre-activation", _pre_activation, (), 4),
    Row("grouped", _grouped_block, (), 2),
    Row("inverted", _inverted, ("DepthwiseConv2D",), 3),
    Row("dilated", _dilated, (), 2),
    Row("squeeze and excitation", _excited, ("Multiply",), 5),
    Row("spatial attention", _attention, ("Concatenate", "ChannelReduce", "Subtract"), 2),
    Row("gate for each pixel", _one_gate, ("Multiply", "Subtract"), 2, keeps=True),
    Row("dense", _dense_block, ("Concatenate",), 3),
    Row("branches", _branches, ("Concatenate",), 2),
    Row("scaled", _scaled, (), 2),
    Row("shared", _shared, (), 3),
    Row("two outputs", _two_outputs, (), 2),
    Row("sequential", _sequential, (), 2),
)

# ---------------------------------------------------------------------------------------------------------------------
# What comes first


def _normalization(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    if d.maybe():
        return d("Normalization", x)  # its statistics are weights
    mean, variance = ([d.number(low, high) for _ in range(channels)] for low, high in ((90, 130), (2000, 5000)))
    return d("Normalization", x, mean=mean, variance=variance)


def _prepared(d: Draft, x: Tensor) -> Tensor:
    """keras.applications' own arithmetic of pixels."""
    family = d.one("resnet50", "resnet_v2", "densenet")
    if d.shape(x)[-1] != 3:
        family = "resnet_v2"
    return d.like(x, getattr(d.K.applications, family).preprocess_input(x))


def _turned(d: Draft, x: Tensor) -> Tensor:
    y = d.like(x, x[:, :, :, ::-1])
    return d.like(y, (y - 110.0) / 60.0)


def _augmented(d: Draft, x: Tensor) -> Tensor:
    y = d("RandomFlip", x, d.one("horizontal", "vertical"))
    return d(d.one("RandomRotation", "RandomZoom", "RandomContrast"), y, 0.1)


def _grey(d: Draft, x: Tensor) -> Tensor:
    """One channel as three."""
    return d("Concatenate", [x] * 3) if d.shape(x)[-1] == 1 else x


def _two_pictures(d: Draft, x: Tensor) -> Tensor:
    other = d.input(*d.shape(x))
    conv = d.layer("Conv2D", 4, 3, padding="same")
    return d.join(d.apply(conv, x), d.apply(conv, other))


def _siamese(d: Draft, x: Tensor) -> Tensor:
    """One tower for two pictures."""
    other = d.input(*d.shape(x))
    tower = d.model(lambda i, a: _kept(i, i.conv(a, 4, 3)), x)
    return d.join(*(d.like(x, d.apply(tower, one)) for one in d.one((x, other), (other, x))))


FRONTS: tuple[Row, ...] = (
    Row("images", lambda d, x: x, (), 12),
    Row(
        "images that are scaled",
        lambda d, x: d("Rescaling", x, d.one(1 / 127.5, 1 / 255), offset=d.one(-1, 0)),
        (),
        3,
        pixels=True,
    ),
    Row("images that are normalised", _normalization, ("Normalization",), 3, pixels=True),
    Row("images, function arithmetic", lambda d, x: d.like(x, x / 127.5 - 1.0), (), 2, pixels=True),
    Row("images, preprocess_input", _prepared, (), 2, pixels=True),
    Row("images, turned channels", _turned, (), 1, pixels=True),
    Row("images, batch-norm", lambda d, x: d("BatchNormalization", x), (), 2),
    Row("images that are augmented", _augmented, ("RandomFlip",), 2),
    Row("images with a border", lambda d, x: d("ZeroPadding2D", x, d.one(1, 3)), (), 2),
    Row("grey images", _grey, ("Concatenate",), 1),
    Row("images, resized", lambda d, x: d("Resizing", x, d.one(14, 17), d.one(13, 20)), ("Resizing",), 1, fixed=True),
    Row("two pictures", _two_pictures, (), 2),
    Row("siamese", _siamese, (), 2),
)


def stem(d: Draft, x: Tensor) -> Tensor:
    """The first convolution, and a pool at times."""
    x = d.conv(x, d.one(3, 4, 6, 8, 16, 32), d.one(1, 3, 5, 7), d.one(1, 2) if min(d.shape(x)[:2]) > 12 else 1)
    x = d.activation(d.norm(x))
    if min(d.shape(x)[:2]) > 9 and d.maybe(0.4):
        x = d("MaxPooling2D", x, d.one(2, 3), strides=2, padding="same")
    return x


# ---------------------------------------------------------------------------------------------------------------------
# Heads


def _row(d: Draft, x: Tensor) -> Tensor:
    """A map as a row of numbers."""
    form = d.one("GlobalAveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "flat", "function")
    if form == "function":
        return d.function(x, "mean", "reduce_mean", axis=[1, 2])
    if form == "flat":
        return d("Flatten", d("GlobalAveragePooling2D", x, keepdims=True))
    return d(form, x)


def _layers(d: Draft, x: Tensor) -> Tensor:
    """Dense layers, each with what people put behind one."""
    for _ in range(d.one(0, 0, 1, 2)):
        x = d("Dense", x, d.one(4, 7, 16), use_bias=d.maybe(0.8), activation=d.one(None, "relu", d.named()))
        x = d("Dropout", x, 0.3) if d.maybe(0.3) else d.draw(d.one(NORMS, ACTIVATIONS), x)
    return x


def _classes(d: Draft, x: Tensor) -> Tensor:
    x = _layers(d, x)
    return d("Dense", x, d.one(1, 2, 5, 10), activation=d.one("softmax", "softmax", "sigmoid", None))


def _pooled_head(d: Draft, x: Tensor) -> Tensor:
    return _classes(d, _row(d, x))


def _flat_head(d: Draft, x: Tensor) -> Tensor:
    if min(d.shape(x)[:2]) > 6:
        x = d("AveragePooling2D", x, d.one(2, 3, 5))
    return _classes(d, d("Flatten", x))


def _two_pools(d: Draft, x: Tensor) -> Tensor:
    pools = [d("GlobalAveragePooling2D", x), d("GlobalMaxPooling2D", x)]
    return _classes(d, d(d.one("Concatenate", "Concatenate", "Add"), pools))


def _map_head(d: Draft, x: Tensor) -> Tensor:
    return d("Conv2D", x, d.one(1, 2, 4), d.one(1, 3), padding="same", activation=d.one("sigmoid", "softmax", None))


def _coarse(d: Draft, x: Tensor) -> Tensor:
    """A pool that leaves a rest of the map, where the map is large enough."""
    return d("AveragePooling2D", x, min(*d.shape(x)[:2], d.one(2, 3, 5, 7)))


def _one_pixel(d: Draft, x: Tensor) -> Tensor:
    """A classifier that is a convolution."""
    x = d.conv(d("GlobalAveragePooling2D", x, keepdims=True), 5, 1)
    x = d("Flatten", x) if d.maybe() else d("Reshape", x, (5,))
    return d("Activation", x, "softmax") if d.maybe() else d("Softmax", x)


def _embedding(d: Draft, x: Tensor) -> Tensor:
    return d("UnitNormalization", d.norm(d("Dense", _row(d, x), 6)))


def _table(d: Draft, x: Tensor) -> Tensor:
    """With numbers beside the picture."""
    numbers = d("Dense", d.input(d.one(1, 3, 5)), 4, activation=d.one("relu", None))
    row = d("Dense", _row(d, x), 4)
    return _classes(d, d(d.one("Add", "Multiply"), [row, numbers]))


def _wide_table(d: Draft, x: Tensor) -> Tensor:
    return _classes(d, d("Concatenate", [_row(d, x), d.input(d.one(1, 3, 5))]))


def _decoder(d: Draft, x: Tensor) -> Tensor:
    """U-Net's: up again, beside the maps of the way down."""
    for early in reversed(d.taps):
        (h, w, _), (small_h, small_w, channels) = d.shape(early), d.shape(x)
        if h <= small_h or w <= small_w or h > 2 * small_h or w > 2 * small_w:
            continue
        if d.maybe():
            x = d("UpSampling2D", x, 2, interpolation=d.one("nearest", "bilinear"))
        else:
            x = d("Conv2DTranspose", x, channels, d.one(2, 3), strides=2, padding="same")
        if (2 * small_h, 2 * small_w) != (h, w):
            x = d("Cropping2D", x, ((0, 2 * small_h - h), (0, 2 * small_w - w)))
        x = d.activation(d.norm(d.conv(d("Concatenate", [x, early]), 4)))
    return _map_head(d, x)


HEADS: tuple[Row, ...] = (
    Row("pooled", _pooled_head, (), 10),
    Row("the map", lambda d, x: d("Activation", x, "linear"), (), 2),
    Row("flattened", _flat_head, ("Flatten",), 4, fixed=True),
    Row("two pools", _two_pools, ("Concatenate",), 3),
    Row("classes of pixels", _map_head, (), 3),
    Row("coarse", _coarse, (), 3),
    Row("one pixel", _one_pixel, (), 2),
    Row("embedding", _embedding, ("UnitNormalization",), 2),
    Row("a row", _row, (), 2),
    Row("a table beside", _table, (), 2),
    Row("a table behind", _wide_table, ("Concatenate",), 2),
    Row("decoder", _decoder, ("Concatenate", "UpSampling2D", "Conv2DTranspose", "Cropping2D"), 4, fixed=True),
)

TABLES: tuple[Sequence[Row], ...] = (FRONTS, BLOCKS, OPERATORS, ACTIVATIONS, NORMS, JOINS, HEADS)


def missing() -> list[str]:
    """The rows that are left out because of what npresnet does not know, and what that is."""
    return sorted({f"{row.name}: {', '.join(lacks)}" for table in TABLES for row in table if (lacks := row.lacks())})
