"""What changes shapes, in networks, on live TensorFlow's numbers: maps side by side, larger ones, cut ones, of other ranks; layer
by layer and by plan, for every choice of outputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.network.described import network_from_config
from npresnet.verify.compare import compare

from ..support.agreement import randomize

keras = pytest.importorskip("keras")
L = keras.layers

ALGORITHMS = ("auto", "direct", "im2col", "reference")


def pictures(*shape: int) -> Any:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def check(tmp_path: Any, model: Any, images: Any, *outputs: tuple[str, ...], suffix: str = ".keras") -> None:
    """Every layer that is named in ``outputs``, by all algorithms, for each choice of outputs."""
    randomize(model, pixels=1)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    names = sorted({name for choice in outputs for name in choice})
    whole = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    made = whole([images], training=False)  # layers that prepare images would have the others train
    expected = {name: array.numpy() for name, array in zip(names, made if len(names) > 1 else [made], strict=True)}
    for algorithm in ALGORITHMS:
        net = npresnet.load(path, algorithm=algorithm)
        for choice in outputs:
            for name, array in net(images, outputs=list(choice)).items():
                assert array.shape == expected[name].shape, (algorithm, choice, name)
                difference = compare(array, expected[name])
                assert difference.agrees(), (algorithm, choice, name, difference)


def conv(x: Any, filters: int, size: int = 3, name: str | None = None, **options: Any) -> Any:
    x = L.Conv2D(filters, size, padding="same", **options)(x)
    return L.ReLU(name=name)(L.BatchNormalization()(x))


def residual(image: Any, filters: int, name: str | None = None) -> Any:
    x = L.Conv2D(filters, 3, padding="same")(image)
    return L.ReLU(name=name)(L.Add()([x, conv(x, filters)]))


def algorithms_of(path: Any, images: Any, *outputs: str) -> dict[str, str]:
    profile = npresnet.load(path).profile(images, outputs=list(outputs), repeats=1)
    return {step.name: step.algorithm for step in profile}


# Concatenation -------------------------------------------------------------------------------------------------------


def dense_block() -> Any:
    """As in DenseNet: each layer reads all before it."""
    image = keras.Input((16, 20, 3))
    x = residual(image, 32, name="entry")
    for number in (1, 2, 3):
        x = L.Concatenate(name=f"joined{number}")([x, conv(conv(x, 32, 1), 16 + number, name=f"made{number}")])
    return keras.Model(image, L.GlobalAveragePooling2D(name="mean")(L.ReLU(name="last")(x)))


def test_dense_block(tmp_path):
    model, images = dense_block(), pictures(2, 16, 20, 3)
    check(
        tmp_path, model, images,
        ("mean",), ("joined3",), ("joined1", "mean"), ("entry", "made2", "joined2", "joined3"), ("made1", "made3", "last"),
    )  # fmt: skip


def test_a_dense_block_copies_nothing(tmp_path):
    """All lies in the last concatenation; what is wanted as an output is copied."""
    model, images = dense_block(), pictures(1, 16, 20, 3)
    model.save(tmp_path / "model.keras")
    assert "copy" not in algorithms_of(tmp_path / "model.keras", images, "mean").values()
    assert "copy" not in algorithms_of(tmp_path / "model.keras", images, "joined3").values()
    steps = algorithms_of(tmp_path / "model.keras", images, "joined1", "made2", "mean")
    assert [name for name in steps if steps[name] == "copy"] == ["joined2/joined1", "joined2"]


def test_what_must_be_copied(tmp_path):
    """The images themselves, one map twice, and one that two concatenations read; constants before and behind."""
    image = keras.Input((9, 7, 3))
    a, b = residual(image, 5, name="a"), L.MaxPooling2D(3, strides=1, padding="same", name="b")(conv(image, 64))
    twice = L.Concatenate(name="twice")([a, image, a])
    other = L.Concatenate(name="other")([b, a, L.AveragePooling2D(3, strides=1, padding="same")(b)])
    whole = L.Concatenate(name="whole")([other, twice, other])
    model = keras.Model(image, L.Conv2D(4, 3, name="out")(whole))
    check(tmp_path, model, pictures(3, 9, 7, 3), ("out",), ("twice", "other"), ("whole", "a"), ("b", "out"))


def test_vectors(tmp_path):
    """Pools side by side, as heads have them; of several ranks."""
    image = keras.Input((8, 8, 3))
    x = residual(image, 32, name="x")
    mean, largest = L.GlobalAveragePooling2D(name="mean")(x), L.GlobalMaxPooling2D()(x)
    flat = L.Flatten(name="flat")(L.MaxPooling2D(4)(x))
    joined = L.Concatenate(name="joined")([mean, largest, flat])
    dense = L.Dense(7, activation="relu", name="dense")(joined)
    rows = L.Concatenate(name="rows")([L.Reshape((16, 128))(x), L.Reshape((16, -1))(x)])
    top = L.Dense(4, activation="softmax", name="top")(L.Concatenate()([dense, mean, L.GlobalMaxPooling1D()(rows)]))
    model = keras.Model(image, top)
    check(tmp_path, model, pictures(3, 8, 8, 3), ("top",), ("joined",), ("mean", "rows", "dense"), ("flat", "joined"))


def test_a_size_that_is_open(tmp_path):
    """The channels of a concatenation are known where the size of images is not."""
    image = keras.Input((None, None, 3))
    x = residual(image, 8)
    y = L.UpSampling2D(2)(conv(L.MaxPooling2D(2)(x), 5))
    z = L.Concatenate(name="z")([x, y])
    model = keras.Model(image, L.Dense(3, name="top")(L.GlobalAveragePooling2D()(L.BatchNormalization()(z))))
    check(tmp_path, model, pictures(1, 12, 16, 3), ("top",), ("z",))


# U-Net ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_u_net(tmp_path, interpolation):
    image = keras.Input((24, 32, 3))
    kept, x = [], conv(image, 32, name="entry")
    for filters in (32, 48):
        kept.append(x)
        x = conv(L.MaxPooling2D(2)(x), filters)
        x = L.Add()([x, conv(x, filters)])
    for number, skip in enumerate(reversed(kept)):
        x = L.UpSampling2D((2, 2), interpolation=interpolation, name=f"up{number}")(x)
        x = conv(L.Concatenate(name=f"joined{number}")([x, skip]), 32, name=f"merged{number}")
    x = L.Concatenate(name="cut")([L.Cropping2D(((1, 2), (0, 3)))(x), L.Cropping2D(((3, 0), (2, 1)), name="crop")(x)])
    model = keras.Model(image, L.Conv2D(1, 1, activation="sigmoid", name="mask")(x))
    check(
        tmp_path, model, pictures(2, 24, 32, 3),
        ("mask",), ("up0", "up1", "mask"), ("joined0", "merged1"), ("entry", "crop", "cut"),
    )  # fmt: skip


def test_sizes_that_differ(tmp_path):
    image = keras.Input((6, 5, 4))
    x = residual(image, 5)
    x = L.UpSampling2D((3, 2), interpolation="bilinear", name="x")(x)
    y = L.UpSampling2D((1, 4), name="y")(x)
    model = keras.Model(image, L.Cropping2D(2, name="z")(L.UpSampling2D(1)(y)))
    check(tmp_path, model, pictures(2, 6, 5, 4), ("z",), ("x", "y", "z"))


def test_sizes_that_are_given(tmp_path):
    """Larger, smaller, both at once; of images and of maps; and the middle of a map."""
    image = keras.Input((23, 17, 3))
    small = L.Resizing(12, 20, name="small")(image)
    x = residual(small, 32, name="x")
    nearest = L.Resizing(7, 31, interpolation="nearest", name="nearest")(x)
    same = L.Resizing(12, 20, name="same")(x)
    middle = L.CenterCrop(12, 15, name="middle")(L.CenterCrop(12, 20)(same))
    model = keras.Model(image, [L.Conv2D(2, 3, name="out")(nearest), L.CenterCrop(5, 8, name="end")(middle)])
    check(tmp_path, model, pictures(2, 23, 17, 3), ("out", "end"), ("small", "x"), ("nearest", "same", "middle"))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda: L.Resizing(4, 5, interpolation="bicubic"), "interpolation is 'bicubic'"),
        (lambda: L.Resizing(4, 5, crop_to_aspect_ratio=True), "crop_to_aspect_ratio is True"),
        (lambda: L.CenterCrop(9, 4), "it gets 8x8 pixels, fewer than the 9x4"),
    ],
    ids=["bicubic", "aspect ratio", "smaller"],
)
def test_sizes_that_are_refused(layer, said):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layer()(residual(image, 4)))
    found = network_from_config(json.loads(model.to_json()))
    assert said in "; ".join(found.unsupported.values())


def test_transposed_convolutions(tmp_path):
    """With what follows fused or not: a norm, an activation, a sum; beside others in a concatenation; a mask in the end."""
    image = keras.Input((12, 10, 3))
    x = residual(image, 32, name="x")
    down = conv(L.MaxPooling2D(2)(x), 48)
    up = L.ReLU(name="up")(
        L.BatchNormalization()(L.Conv2DTranspose(32, 3, strides=2, padding="same", use_bias=False)(down))
    )
    joined = L.Concatenate(name="joined")([L.Conv2DTranspose(24, 2, strides=2, name="twice")(down), x, up])
    summed = L.Add(name="sum")(
        [L.Conv2DTranspose(96, 4, strides=2, padding="same", name="four")(down), conv(joined, 96)]
    )
    y = L.Conv2DTranspose(5, (3, 2), strides=(2, 3), output_padding=(1, 2), activation="relu", name="more")(summed)
    model = keras.Model(image, L.Conv2DTranspose(1, 3, activation="sigmoid", name="mask")(y))
    check(
        tmp_path,
        model,
        pictures(2, 12, 10, 3),
        ("mask",),
        ("up", "joined", "mask"),
        ("twice", "four"),
        ("sum", "more", "x"),
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_separable_convolutions(tmp_path, suffix):
    """Two layers here, one in the file, in every layout."""
    image = keras.Input((14, 12, 3))
    x = L.SeparableConv2D(32, 3, padding="same", activation="relu", name="first")(image)
    y = L.SeparableConv2D(32, (5, 3), padding="same", dilation_rate=2, depth_multiplier=2, use_bias=False, name="wide")(
        x
    )
    x = L.Add(name="sum")([x, L.BatchNormalization()(y)])
    x = L.SeparableConv2D(8, 3, strides=2, activation="leaky_relu", name="last")(x)
    model = keras.Model(image, L.Dense(3, name="top")(L.GlobalAveragePooling2D()(x)))
    check(tmp_path, model, pictures(2, 14, 12, 3), ("top",), ("first", "wide"), ("sum", "last", "top"), suffix=suffix)


# Ranks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        (256, 6),
        (4, 4, 16, 6),
        (8, 32, 6),
        (-1, 6),
        (-1,),
        (1536,),
        (1, 1, -1),
        (1, 1, 1536),
        (2, 2, 96, -1),
        (16, -1, 3),
    ],
    ids=str,
)
def test_reshape(tmp_path, target):
    """To any rank, and on from there."""
    image = keras.Input((16, 16, 3))
    out = L.Reshape(target, name="out")(residual(image, 6))
    last = L.Reshape((16, 16, 6), name="back")(L.LeakyReLU()(L.BatchNormalization(name="norm")(out)))
    scored = L.Dense(5, activation="relu", name="dense")(out)
    model = keras.Model(image, [L.GlobalMaxPooling2D(name="largest")(last), L.Softmax(name="top")(scored)])
    check(
        tmp_path, model, pictures(2, 16, 16, 3), ("out",), ("largest", "top"), ("norm", "dense"), ("top", "back", "out")
    )


@pytest.mark.parametrize("keepdims", [False, True])
def test_pools_over_everything(tmp_path, keepdims):
    image = keras.Input((8, 6, 3))
    x = residual(image, 20)
    made = []
    for axes, shape in ((1, (-1, 20)), (2, (8, 6, 20)), (3, (2, 4, 6, 20))):
        for kind in ("Average", "Max"):
            pool = getattr(L, f"Global{kind}Pooling{axes}D")(keepdims=keepdims, name=f"{kind}{axes}")
            made.append(L.Flatten(name=f"flat{kind}{axes}")(pool(L.Reshape(shape)(x))))
    model = keras.Model(image, L.Dense(3, name="top")(L.Concatenate()(made)))
    check(
        tmp_path,
        model,
        pictures(2, 8, 6, 3),
        ("top",),
        ("Average1", "Max1", "Average2", "Max2", "Average3", "Max3"),
    )


def test_permute_of_no_effect(tmp_path):
    image = keras.Input((8, 6, 3))
    x = L.Permute((1, 2, 3))(residual(image, 20))
    y = L.Permute((2, 3, 1), name="moved")(L.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(image, L.Dense(3, name="top")(L.Flatten()(y)))
    check(tmp_path, model, pictures(2, 8, 6, 3), ("top",), ("moved",))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (L.Permute((2, 1, 3)), "moves numbers"),
        (L.Concatenate(axis=1), "along axis 1"),
        (L.UpSampling2D(2, interpolation="bicubic"), "bicubic"),
        (L.Softmax(axis=1), "along axis 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refused(tmp_path, layer, said):
    """With the reason."""
    image = keras.Input((8, 6, 3))
    x = residual(image, 4)
    model = keras.Model(image, L.Flatten()(layer([x, x] if isinstance(layer, L.Concatenate) else x)))
    model.save(tmp_path / "model.keras")
    with pytest.warns(npresnet.WeightsWarning, match=said):
        npresnet.load(tmp_path / "model.keras")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_as_keras_2_spells_it(tmp_path, suffix):
    """All of them in one network that Keras 2 has written."""
    tf_keras = pytest.importorskip("tf_keras")
    K = tf_keras.layers
    image = K.Input((16, 12, 3))
    x = K.SeparableConv2D(16, 3, padding="same", depth_multiplier=2, activation="relu")(image)
    x = K.Add()([x, K.Conv2D(16, 3, padding="same")(x)])
    y = K.UpSampling2D(2, interpolation="bilinear")(
        K.Conv2DTranspose(8, 3, strides=2, padding="same")(K.MaxPool2D(4)(x))
    )
    z = K.Concatenate()([x, y, K.Cropping2D(((1, 0), (0, 1)))(K.ZeroPadding2D(((1, 0), (0, 1)))(x))])
    rows = K.Reshape((-1, 40))(K.Permute((1, 2, 3))(z))
    head = K.Concatenate(axis=-1)([K.GlobalAveragePooling1D()(rows), K.GlobalMaxPooling2D(keepdims=False)(z)])
    model = tf_keras.Model(image, K.Dense(5, activation="softmax", name="top")(head))
    model.save(tmp_path / f"old{suffix}")
    images = pictures(2, 16, 12, 3)
    expected = model(images).numpy()
    for algorithm in ALGORITHMS:
        found = npresnet.load(tmp_path / f"old{suffix}", algorithm=algorithm).predict(images)
        assert compare(found, expected).agrees(), algorithm
