"""What random networks are made of: tables of makers, a row for each layer or function.

A maker gets the draft of a model and a tensor, and gives a tensor: ``OPERATORS`` a map of a map, ``ACTIVATIONS`` and ``NORMS`` the
same shape of anything, ``JOINS`` one of two. A new operator is one row; a row of what npresnet does not know is left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from npresnet.network.dialects import LAYERS
from npresnet.network.dialects.activations import ACTIVATIONS as NAMES

__all__ = [
    "ACTIVATIONS",
    "JOINS",
    "NORMS",
    "OPERATORS",
    "Draft",
    "Row",
]

Tensor = Any


@dataclass(frozen=True)
class Row:
    """One way to go on.

    name     of the row
    make     (draft, tensor) -> tensor
    needs    what npresnet must know: classes of layers, or names of activations behind "activation:"
    weight   how often it is drawn, beside others
    version  of Keras that has it: 2, 3, or both
    fixed    only where the size of images is fixed
    nan      NaN and infinity come out where Keras has them
    pixels   of a front: it takes numbers from 0 to 255
    keeps    of a block: a map's shape stays as it is
    """

    name: str
    make: Callable[[Draft, Tensor], Tensor]
    needs: tuple[str, ...] = ()
    weight: int = 2
    version: int | None = None
    fixed: bool = False
    nan: bool = True
    pixels: bool = False
    keeps: bool = False

    def lacks(self) -> list[str]:
        """What of its needs npresnet does not know."""
        return [
            need
            for need in self.needs
            if (need.removeprefix("activation:") not in NAMES if ":" in need else need not in LAYERS)
        ]


@dataclass
class Draft:
    """A model while it is made.

    K        ``keras`` or ``tf_keras``
    random   all choices come from it
    fixed    the size of images is part of the model
    names    "own": each layer has a name of its own; "again": those in nested models come again outside; "paths": with slashes
    """

    K: Any
    random: random.Random
    fixed: bool = True
    names: str = "own"
    inputs: list[Tensor] = field(default_factory=list)
    probes: dict[str, Tensor] = field(default_factory=dict)  # {layer: what it makes}
    taps: list[Tensor] = field(default_factory=list)  # maps that heads may read
    inside: set[str] = field(default_factory=set)  # names of layers in nested models
    used: set[str] = field(default_factory=set)  # names of rows
    kinds: set[str] = field(default_factory=set)  # classes of layers
    allowed: Callable[[Row], bool] = lambda row: True
    _counts: dict[str, int] = field(default_factory=dict)
    _shapes: dict[int, tuple[Tensor, tuple[int, ...]]] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return 3 if self.K.__name__ == "keras" else 2

    def name(self, kind: str) -> str:
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"part{number % 3}/{kind}{number}" if self.names == "paths" else f"{kind}{number}"

    def layer(self, kind: str, *arguments: Any, **settings: Any) -> Any:
        self.kinds.add(kind)
        return getattr(self.K.layers, kind)(*arguments, name=self.name(kind.lower()), **settings)

    def __call__(self, kind: str, x: Tensor | list[Tensor], *arguments: Any, **settings: Any) -> Tensor:
        """A new layer of this class, applied."""
        return self.apply(self.layer(kind, *arguments, **settings), x)

    def apply(self, layer: Any, x: Tensor | list[Tensor]) -> Tensor:
        y = layer(x)
        if not hasattr(layer, "layers"):
            self.probes.setdefault(layer.name, y)
        if id(layer) in self._shapes:
            return self.note(y, self._shapes[id(layer)][1])
        if not self.fixed and not isinstance(y, list):
            shapes = [(1, *self.shape(one)) for one in x] if isinstance(x, list) else (1, *self.shape(x))
            self.note(y, tuple(layer.compute_output_shape(shapes))[1:])
        return y

    def function(self, x: Tensor, keras: str, tensorflow: str, *arguments: Any, **settings: Any) -> Tensor:
        """A function of all numbers of x, each by itself, or for each pixel: by its names in ``keras.ops`` and in TensorFlow."""
        import tensorflow as tf

        home, path = (self.K.ops, keras) if self.version == 3 else (tf, tensorflow)
        y = reduce(getattr, path.split("."), home)(x, *arguments, **settings)
        return self.like(x[0] if isinstance(x, list) else x, y)

    def like(self, x: Tensor, y: Tensor) -> Tensor:
        """y, whose pixels are those of x, if it has any."""
        if not self.fixed and len(y.shape) == len(x.shape):
            self.note(y, (*self.shape(x)[:-1], y.shape[-1]))
        return y

    def note(self, x: Tensor, shape: Sequence[Any]) -> Tensor:
        self._shapes[id(x)] = x, tuple(map(int, shape))
        return x

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Without the batch; where the size is open, that for the smallest images."""
        return self._shapes[id(x)][1] if id(x) in self._shapes else tuple(x.shape)[1:]

    def input(self, *shape: int) -> Tensor:
        maps = len(shape) == 3
        given = (None, None, shape[-1]) if maps and not self.fixed else shape
        x = self.K.Input(given, name=self.name("picture" if maps else "table"))
        self.inputs.append(x)
        return self.note(x, shape)

    def model(self, make: Callable[[Draft, Tensor], Any], x: Tensor) -> Any:
        """A model of its own that takes what is like x."""
        counts = {} if self.names == "again" else self._counts
        inner = Draft(
            self.K,
            self.random,
            self.fixed,
            self.names,
            allowed=self.allowed,
            used=self.used,
            kinds=self.kinds,
            _counts=counts,
        )
        given = tuple(x.shape)[1:]
        entry = inner.note(self.K.Input(given, name=inner.name("entry")), self.shape(x))
        y = make(inner, entry)
        self.inside |= inner.inside | set(inner.probes)
        model = self.K.Model(entry, y, name=self.name("model"))
        if not isinstance(y, list):  # Keras 2 knows no shapes of functions in models
            self.note(model, inner.shape(y))
        return model

    def rows(self, table: Sequence[Row]) -> list[Row]:
        return [row for row in table if self.allowed(row)]

    def draw(self, table: Sequence[Row], x: Tensor) -> Tensor:
        """Any row of a table, applied."""
        rows = self.rows(table)
        (row,) = self.random.choices(rows, [row.weight for row in rows])
        self.used.add(row.name)
        return row.make(self, x)

    # What many rows need ---------------------------------------------------------------------------------------------

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def number(self, low: float, high: float) -> float:
        return round(self.random.uniform(low, high), 3)

    def activation(self, x: Tensor) -> Tensor:
        return self.draw(ACTIVATIONS, x)

    def norm(self, x: Tensor) -> Tensor:
        return self.draw(NORMS, x)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """Two tensors of one shape as one."""
        rows = self.rows(JOINS)
        (row,) = self.random.choices(rows, [row.weight for row in rows])
        self.used.add(row.name)
        return row.make(self, [x, y])

    def named(self) -> str | None:
        """An activation by its name."""
        names = [
            name for name in NAMED if name in NAMES and name != "softmax" and (self.version == 3 or name in _KERAS_2)
        ]
        return self.random.choice([*names, "relu", "relu", None, None])

    def conv(self, x: Tensor, filters: int, kernel: Any = 3, stride: Any = 1, **settings: Any) -> Tensor:
        settings = {"padding": "same", "use_bias": self.maybe(), **settings}
        return self("Conv2D", x, filters, kernel, strides=stride, **settings)

    def shortcut(self, x: Tensor, filters: int, stride: int) -> Tensor:
        if stride == 1 and self.shape(x)[-1] == filters and self.maybe(0.8):
            return x
        if stride > 1 and self.maybe(0.3):  # ResNet-D: the pool strides
            x, stride = self("AveragePooling2D", x, stride, padding="same"), 1
        y = self.conv(x, filters, 1, stride)
        return self("BatchNormalization", y) if self.maybe() else y

    def width(self, x: Tensor) -> int:
        """A number of channels to go on with."""
        return self.one(self.shape(x)[-1], self.shape(x)[-1], self.one(3, 4, 6, 7, 8, 12, 16, 32))

    def stride(self, x: Tensor) -> int:
        return self.one(1, 1, 2) if min(self.shape(x)[:2]) > 4 else 1


# ---------------------------------------------------------------------------------------------------------------------
# Activations, normalisations, joins

NAMED = (
    "relu", "sigmoid", "tanh", "elu", "selu", "softplus", "softsign", "swish", "silu", "gelu", "hard_sigmoid", "leaky_relu",
    "linear", "relu6", "celu", "hard_silu", "hard_swish", "hard_tanh", "log_sigmoid", "mish", "softmax",
)  # fmt: skip
_KERAS_2 = {"relu", "sigmoid", "tanh", "elu", "selu", "softplus", "softsign", "swish", "gelu", "hard_sigmoid", "linear",
            "softmax", "mish"}  # fmt: skip


def _named(name: str) -> Row:
    return Row(
        f"Activation {name}",
        lambda d, x: d("Activation", x, name),
        () if name == "softmax" else (f"activation:{name}",),
        1,
        None if name in _KERAS_2 else 3,
        nan=name != "softmax",
    )


def _functional(name: str, tensorflow: str | None, keras: str | None = None, weight: int = 1) -> Row:
    """An activation as a function on tensors."""
    return Row(
        f"function {name}",
        lambda d, x: d.function(x, keras or name, tensorflow or ""),
        (f"activation:{name}",),
        weight,
        3 if tensorflow is None else None,
    )


def _clipped(d: Draft, x: Tensor) -> Tensor:
    settings = {"max_value": d.number(0.5, 3), "negative_slope": d.one(0.0, 0.1), "threshold": d.one(0.0, 0.0, 0.3)}
    return d("ReLU", x, **settings)


def _prelu(d: Draft, x: Tensor) -> Tensor:
    return d("PReLU", x, shared_axes=list(range(1, len(x.shape) - 1)) or None)


ACTIVATIONS: tuple[Row, ...] = (
    Row("ReLU", lambda d, x: d("ReLU", x), ("ReLU",), 14),
    Row("LeakyReLU", lambda d, x: d("LeakyReLU", x, d.one(0.01, 0.1, 0.3, 0.0)), ("LeakyReLU",), 4),
    Row("ReLU, sloped", lambda d, x: d("ReLU", x, negative_slope=0.2), ("ReLU",), 2),
    Row("ReLU, clipped", _clipped, ("ReLU", "ELU"), 2, nan=False),
    Row("ReLU 6", lambda d, x: d("ReLU", x, 6.0), ("ReLU", "ELU"), 2),
    Row("ELU", lambda d, x: d("ELU", x, d.one(1.0, 0.5)), ("ELU",), 2),
    Row("PReLU", _prelu, ("PReLU",), 3),
    Row("ThresholdedReLU", lambda d, x: d("ThresholdedReLU", x, 0.4), ("ThresholdedReLU",), 1, 2, nan=False),
    Row("Softmax", lambda d, x: d("Softmax", x), ("Softmax",), 1, nan=False),
    *map(_named, NAMED),
    _functional("relu", "nn.relu", weight=2),
    _functional("relu6", "nn.relu6"),
    _functional("sigmoid", "math.sigmoid"),
    _functional("tanh", "math.tanh"),
    _functional("silu", "nn.silu"),
    _functional("gelu", "nn.gelu"),
    _functional("elu", "nn.elu"),
    _functional("selu", "nn.selu"),
    _functional("softplus", "math.softplus"),
    _functional("abs", "math.abs"),
    _functional("leaky_relu", "nn.leaky_relu"),
    _functional("hard_silu", None),
    Row(
        "exponential",
        lambda d, x: d("Activation", d("Activation", x, "tanh"), "exponential"),
        ("activation:exponential",),
        1,
    ),
    Row(
        "function gelu, by tanh",
        lambda d, x: d.function(x, "gelu", "nn.gelu", approximate=True),
        ("activation:gelu_tanh",),
        1,
    ),
    Row(
        "function gelu, exactly",
        lambda d, x: d.function(x, "gelu", "nn.gelu", approximate=False),
        ("activation:gelu",),
        1,
    ),
    Row(
        "function exp",
        lambda d, x: d.function(d("Activation", x, "tanh"), "exp", "math.exp"),
        ("activation:exponential",),
        1,
    ),
    Row("function maximum", lambda d, x: d.function(x, "maximum", "maximum", 0.0), (), 1),
    Row("function clip", lambda d, x: d.function(x, "clip", "clip_by_value", 0.0, 4.0), ("ELU",), 1),
    Row("function softmax", lambda d, x: d.function(x, "softmax", "nn.softmax"), (), 1, nan=False),
)
"""Of maps and of rows of numbers."""


def _batch_norm(d: Draft, x: Tensor) -> Tensor:
    return d("BatchNormalization", x, epsilon=d.one(1e-3, 1e-5, 1.001e-5), scale=d.maybe(0.9), center=d.maybe(0.9))


def _group_norm(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    groups = (
        d.one(*(n for n in range(1, channels + 1) if channels % n == 0 and channels // n > 1)) if channels > 1 else 1
    )
    return d("GroupNormalization", x, groups, epsilon=d.one(1e-3, 1e-5))


NORMS: tuple[Row, ...] = (
    Row("BatchNormalization", _batch_norm, ("BatchNormalization",), 20, keeps=True),
    Row("no norm", lambda d, x: x, (), 4, keeps=True),
    Row(
        "LayerNormalization",
        lambda d, x: d("LayerNormalization", x, epsilon=d.one(1e-3, 1e-6), scale=d.maybe(0.8), center=d.maybe(0.8)),
        ("LayerNormalization",),
        2,
        keeps=True,
    ),
    Row("GroupNormalization", _group_norm, ("GroupNormalization",), 2, keeps=True),
)


def _layer_of(kind: str, weight: int = 2) -> Row:
    return Row(kind, lambda d, xs: d(kind, xs), (kind,), weight)


JOINS: tuple[Row, ...] = (
    _layer_of("Add", 16),
    Row("function +", lambda d, xs: d.like(xs[0], xs[0] + xs[1]), (), 2),
    Row("function -", lambda d, xs: d.like(xs[0], xs[0] - xs[1]), ("Subtract",), 1),
    _layer_of("Subtract"),
    _layer_of("Average"),
    _layer_of("Maximum"),
    _layer_of("Minimum"),
    _layer_of("Multiply", 1),
    _layer_of("Concatenate", 3),
    Row("function /", lambda d, xs: d.like(xs[0], xs[0] / (d("Activation", xs[1], "softplus") + 1.0)), ("Divide",), 1),
    Row("function concatenate", lambda d, xs: d.function(xs, "concatenate", "concat", axis=-1), ("Concatenate",), 1),
    Row("three", lambda d, xs: d("Add", [*xs, xs[0]]), (), 1),
)
"""[tensor, tensor] of one shape -> tensor."""

# ---------------------------------------------------------------------------------------------------------------------
# Operators: one layer, map to map


def _window(d: Draft, x: Tensor, *sizes: Any) -> tuple[Any, dict[str, Any]]:
    """A window that fits, and settings."""
    h, w = d.shape(x)[:2]
    kernel = d.one(*sizes)
    pair = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = d.one("same", "valid")
    if h < pair[0] or w < pair[1] or min(h, w) < 4:
        padding = "same"
    return kernel, {"padding": padding}


def _any_conv(d: Draft, x: Tensor) -> Tensor:
    kernel, settings = _window(d, x, 1, 2, 3, 3, 5, 7, (1, 3), (3, 1), (2, 3), (3, 2))
    if d.maybe(0.2) and settings["padding"] == "same":
        settings["dilation_rate"] = d.one(2, (1, 2), 3)
    elif min(d.shape(x)[:2]) > 5:
        settings["strides"] = d.one(1, 1, 2, (1, 2), (2, 1), 3)
    return d("Conv2D", x, d.width(x), kernel, activation=d.named(), use_bias=d.maybe(), **settings)


def _depthwise(d: Draft, x: Tensor) -> Tensor:
    kernel, settings = _window(d, x, 1, 2, 3, 3, 5, (1, 3))
    if d.maybe(0.2) and settings["padding"] == "same":
        settings["dilation_rate"] = 2
    elif min(d.shape(x)[:2]) > 5:
        settings["strides"] = d.one(1, 1, 2)
    each = d.one(1, 1, 2) if d.shape(x)[-1] < 32 else 1
    return d("DepthwiseConv2D", x, kernel, depth_multiplier=each, activation=d.named(), use_bias=d.maybe(), **settings)


def _separable(d: Draft, x: Tensor) -> Tensor:
    kernel, settings = _window(d, x, 1, 3, 5)
    if min(d.shape(x)[:2]) > 5:
        settings["strides"] = d.one(1, 1, 2)
    return d("SeparableConv2D", x, d.width(x), kernel, activation=d.named(), use_bias=d.maybe(), **settings)


def _grouped(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    groups = d.one(*(n for n in range(1, channels + 1) if channels % n == 0))
    return d.conv(x, groups * d.one(1, 2, 3), d.one(1, 3), d.stride(x), groups=groups)


def _transposed(d: Draft, x: Tensor) -> Tensor:
    stride = d.one(1, 2) if max(d.shape(x)[:2]) < 30 else 1
    settings: dict[str, Any] = {"padding": d.one("same", "valid")}
    if stride == 2 and d.maybe(0.2):
        settings["output_padding"] = 1
    return d("Conv2DTranspose", x, d.one(3, 4, 8, 16), d.one(2, 3, 4), strides=stride, use_bias=d.maybe(), **settings)


def _pool(kind: str) -> Row:
    def make(d: Draft, x: Tensor) -> Tensor:
        window, settings = _window(d, x, 1, 2, 2, 3, 3, (1, 2), (3, 2))
        return d(kind, x, window, strides=d.one(None, 1, 2, (2, 1)), **settings)

    return Row(kind, make, (kind,), 3)


def _padding(d: Draft, x: Tensor) -> Tensor:
    return d("ZeroPadding2D", x, d.one(1, 3, (1, 2), ((0, 1), (0, 1)), ((2, 0), (1, 3))))


def _cropping(d: Draft, x: Tensor) -> Tensor:
    h, w = d.shape(x)[:2]
    if min(h, w) < 7:
        return x
    return d(
        "Cropping2D",
        x,
        d.one(1, (1, 2), ((0, 1), (2, 0)), ((1, 1), (0, 0)), ((0, h - 4), (0, 0)), ((0, 0), (w // 2, 0))),
    )


def _upsampling(d: Draft, x: Tensor) -> Tensor:
    if max(d.shape(x)[:2]) > 24:
        return x
    return d("UpSampling2D", x, d.one(2, (1, 2), 3, 1), interpolation=d.one("nearest", "bilinear"))


def _reshape(d: Draft, x: Tensor) -> Tensor:
    """To another rank, and to another map from there."""
    h, w, c = d.shape(x)
    between = d.one((h * w, c), (h, w * c), (-1, c), (h * w * c,), (h, 1, w, c), (-1,))
    return d("Reshape", d("Reshape", x, between), d.one((h, w, c), (w, h, c), (h, -1, c)))


def _permute(d: Draft, x: Tensor) -> Tensor:
    """Where no number moves."""
    mean = d("GlobalAveragePooling2D", x, keepdims=True)
    return d("Add", [x, d("Permute", mean, d.one((2, 1, 3), (1, 2, 3)))])


def _resizing(d: Draft, x: Tensor) -> Tensor:
    method = d.one("bilinear", "bilinear", "nearest")
    return d("Resizing", x, d.one(7, 8, 12, 15), d.one(8, 9, 14, 16), interpolation=method)


def _scaling(d: Draft, x: Tensor) -> Tensor:
    channels = d.shape(x)[-1]
    scale = [d.number(0.5, 1.5) for _ in range(channels)] if d.maybe(0.3) else d.number(0.5, 1.5)
    return d("Rescaling", x, scale, offset=d.one(0.0, d.number(-1, 1)))


def _arithmetic(d: Draft, x: Tensor) -> Tensor:
    return d.like(x, d.one(lambda: x * 0.75 + 0.5, lambda: (x - 0.25) / 1.5, lambda: 1.0 - x, lambda: -x)())


def _cut(d: Draft, x: Tensor) -> Tensor:
    if min(d.shape(x)[:2]) < 6:
        return x
    h, w, c = d.shape(x)
    return d.note(x[:, 1:-1, :-2, :], (h - 2, w - 3 + 1, c))


def _function_pad(d: Draft, x: Tensor) -> Tensor:
    h, w, c = d.shape(x)
    return d.note(d.function(x, "pad", "pad", [[0, 0], [1, 2], [0, 1], [0, 0]]), (h + 3, w + 1, c))


def _function_pool(d: Draft, x: Tensor) -> Tensor:
    kind = d.one("max_pool", "average_pool")
    tensorflow = "nn.max_pool2d" if kind == "max_pool" else "nn.avg_pool2d"
    padding = "same" if d.version == 3 else "SAME"
    return d.function(x, kind, tensorflow, 3, 1, padding)


def _function_reshape(d: Draft, x: Tensor) -> Tensor:
    """Pixels away and back, by functions."""
    h, w, c = d.shape(x)
    y = d.function(x, "reshape", "reshape", (-1, h * w, c))
    return d.function(y, "reshape", "reshape", (-1, h, w, c))


def _function_gate(d: Draft, x: Tensor) -> Tensor:
    """A gate that gets its pixels back by functions."""
    mean = d.function(x, "mean", "reduce_mean", axis=[1, 2])
    gate = d("Dense", mean, d.shape(x)[-1], activation="sigmoid")
    for _ in range(2):
        gate = d.function(gate, "expand_dims", "expand_dims", 1)
    return d("Multiply", d.one([x, gate], [gate, x]))


def _rows_of_pixels(d: Draft, x: Tensor) -> Tensor:
    """A mean or a maximum over pixels in one row, or in three dimensions, as a gate."""
    h, w, c = d.shape(x)
    kind, between = d.one(("1D", (h * w, c)), ("3D", (h, 1, w, c)))
    pooled = d(f"Global{d.one('Average', 'Max')}Pooling{kind}", d("Reshape", x, between))
    return d("Multiply", [x, d("Reshape", d("Activation", pooled, "sigmoid"), (1, 1, c))])


def _center_crop(d: Draft, x: Tensor) -> Tensor:
    h, w = d.shape(x)[:2]
    return d("CenterCrop", x, h - d.one(0, 1, 2), w - d.one(0, 1, 3)) if min(h, w) > 6 else x


def _noise(d: Draft, x: Tensor) -> Tensor:
    kind = d.one("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout")
    return d(kind, x, 0.3)


OPERATORS: tuple[Row, ...] = (
    Row("Conv2D", _any_conv, ("Conv2D",), 6),
    Row("DepthwiseConv2D", _depthwise, ("DepthwiseConv2D",), 3),
    Row("grouped Conv2D", _grouped, ("Conv2D",), 1),
    Row("SeparableConv2D", _separable, ("SeparableConv2D",), 3),
    Row("Conv2DTranspose", _transposed, ("Conv2DTranspose",), 3),
    _pool("MaxPooling2D"),
    _pool("AveragePooling2D"),
    Row("ZeroPadding2D", _padding, ("ZeroPadding2D",), 2),
    Row("Cropping2D", _cropping, ("Cropping2D",), 2),
    Row("UpSampling2D", _upsampling, ("UpSampling2D",), 2),
    Row("Reshape", _reshape, ("Reshape", "Cropping2D"), 1, fixed=True),
    Row("Permute", _permute, ("Permute",), 1),
    Row("Resizing", _resizing, ("Resizing",), 1, fixed=True),
    Row("UnitNormalization", lambda d, x: d("UnitNormalization", x), ("UnitNormalization",), 1, keeps=True),
    Row("Rescaling", _scaling, ("Rescaling",), 2, keeps=True),
    Row("dense of maps", lambda d, x: d("Dense", x, d.width(x), activation=d.named()), ("Dense",), 2),
    Row("noise", _noise, (), 2, keeps=True),
    Row("function arithmetic", _arithmetic, (), 2, keeps=True),
    Row(
        "function turned channels",
        lambda d, x: d.like(x, x[..., ::-1] if d.version == 3 else x[:, :, :, ::-1]),
        (),
        1,
        keeps=True,
    ),
    Row("function cut", _cut, ("Cropping2D",), 1),
    Row("function pool", _function_pool, ("MaxPooling2D", "AveragePooling2D"), 1, nan=False),
    Row("function reshape", _function_reshape, ("Reshape",), 1, fixed=True),
    Row("function gate", _function_gate, ("Multiply", "Reshape"), 1),
    Row(
        "rows of pixels",
        _rows_of_pixels,
        ("GlobalAveragePooling1D", "GlobalAveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling3D"),
        1,
        fixed=True,
    ),
    Row("CenterCrop", _center_crop, ("CenterCrop",), 1, fixed=True),
    Row("function pad", _function_pad, ("ZeroPadding2D",), 1),
    *NORMS,
)
