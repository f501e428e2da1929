"""What the operators' tests share: awkward cases as data, the arrays that fill them, and the yardstick.

A case says everything about one call: shapes, parameters, and what kind of numbers the arrays hold. ``case.run(f)``
calls any version of the operator with it; the numbers are drawn from a seed made of the case's own text, which is also
what a failing test prints.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from npresnet.kernels import LADDER
from npresnet.kernels.combine import JOINS
from npresnet.kernels.functions import FUNCTIONS
from npresnet.kernels.gemm import KC, block_rows
from npresnet.kernels.tile import MR, NR
from npresnet.verify.compare import Difference, compare

Array = npt.NDArray[Any]
Two = tuple[int, int]

CHANNELS = (1, 3, 5, 16, 63, 64, 65, 130)

# Numbers -------------------------------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
LOWEST = np.finfo(np.float32).min


def _with(*specials: float) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    """Normal numbers with special ones in the first and last element and in the middle."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        array = rng.normal(size=shape)
        for place, special in zip((0, -1, array.size // 2), specials, strict=True):
            array.flat[place] = special
        return array

    return draw


VALUES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "negative": lambda rng, shape: -100 * rng.random(size=shape),
    "large": lambda rng, shape: 1e18 * rng.normal(size=shape),
    "spread": lambda rng, shape: rng.normal(size=shape) * 10.0 ** rng.integers(-18, 18, size=shape),
    "denormal": lambda rng, shape: 1e-39 * rng.normal(size=shape),
    "zeros": lambda rng, shape: np.zeros(shape),
    "NaN": _with(NAN, NAN, NAN),
    "+inf": _with(INF, INF, INF),
    "-inf": _with(-INF, -INF, -INF),
    "NaN and infs": _with(INF, NAN, -INF),
    "all NaN": lambda rng, shape: np.full(shape, NAN),
    "all -inf": lambda rng, shape: np.full(shape, -INF),
    "NaN or -inf": lambda rng, shape: rng.choice([NAN, -INF], size=shape),
    # few different values: ties, both zeros, and windows in which nothing but special values stand
    "few": lambda rng, shape: rng.choice([-2.0, -0.0, 0.0, 1.0, 3e38, -3e38, NAN, INF, -INF], size=shape),
}
SPECIAL = ("NaN", "+inf", "-inf", "NaN and infs")
_WINDOWS_OF_SPECIALS = (*SPECIAL, "all NaN", "all -inf", "NaN or -inf")

# TensorFlow's operators flush denormal numbers to zero, ours keep them: there the reference alone is the judge.
FLUSHED = frozenset({"denormal"})


def numbers(seed: object, shape: tuple[int, ...], values: str = "normal") -> Array:
    """float32 numbers of one kind of ``VALUES``, the same for the same seed."""
    rng = np.random.default_rng(zlib.crc32(repr(seed).encode()))
    return np.asarray(VALUES[values](rng, shape), np.float32)


# Layouts in memory ---------------------------------------------------------------------------------------------------


def _between(array: Array) -> Array:
    """Every second element of a larger array, whose other elements are NaN."""
    every = (slice(None, None, 2),) * array.ndim
    large = np.full([2 * size for size in array.shape], NAN, array.dtype)
    large[every] = array
    return large[every]


def _backwards(array: Array) -> Array:
    return np.ascontiguousarray(np.flip(array))[(slice(None, None, -1),) * array.ndim]


def _unaligned(array: Array) -> Array:
    memory = np.empty(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran": np.asfortranarray,
    # as NCHW: a transposed view of consecutive memory
    "transposed": lambda array: np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 0)), 0, -1),
    "sliced": _between,
    "negative strides": _backwards,
    "unaligned": _unaligned,
    "read-only": _read_only,
}
"""Ways to lay the same numbers out: functions from an array to an equal one."""


# Cases ---------------------------------------------------------------------------------------------------------------


def _size(*sizes: int) -> str:
    return "x".join(map(str, sizes))


@dataclass(frozen=True)
class Case:
    """One call of an operator.

    batched   counts the leading arguments that hold one item per image or row
    any_rank  whether the operator takes arrays of any number of dimensions
    """

    operator: ClassVar[str]
    batched: ClassVar[int] = 1
    any_rank: ClassVar[bool] = False

    def arrays(self) -> tuple[Any, ...]:
        """The array arguments, new on every call; None for one that is left out."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The other arguments."""
        return {}

    def run(
        self,
        version: Callable[..., Array],
        *,
        dtype: Any = np.float32,
        layout: Callable[[Array], Array] = np.asarray,
        **further: Any,
    ) -> Array:
        """``version`` of the operator, called with this case."""
        arrays = [array if array is None else layout(array.astype(dtype)) for array in self.arrays()]
        with np.errstate(all="ignore"):  # infinity minus infinity is meant
            return version(*arrays, **self.options(), **further)


@dataclass(frozen=True)
class Pad(Case):
    operator = "pad"
    shape: tuple[int, ...]
    pads: int | tuple[int, ...]
    value: float = 0.0
    values: str = "normal"

    def __str__(self) -> str:
        return f"{_size(*self.shape)} pads {self.pads} value {self.value} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        return (numbers(self, self.shape, self.values),)

    def options(self) -> dict[str, Any]:
        return {"pads": self.pads, "value": self.value}


@dataclass(frozen=True)
class Channels(Case):
    operator = "channels"
    shape: tuple[int, int, int, int]
    order: tuple[int, ...]
    values: str = "normal"

    def __str__(self) -> str:
        order = str(self.order) if len(self.order) < 8 else f"{len(self.order)} of them"
        return f"{_size(*self.shape)} channels {order} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        return numbers(self, self.shape, self.values), np.array(self.order, np.float32)


@dataclass(frozen=True)
class Conv2d(Case):
    operator = "conv2d"
    shape: tuple[int, int, int, int]
    taps: Two
    co: int
    stride: Two = (1, 1)
    padding: Any = "valid"
    dilation: Two = (1, 1)
    bias: bool = True
    values: str = "normal"

    def __str__(self) -> str:
        kernel = _size(*self.taps, self.shape[3], self.co)
        text = f"{_size(*self.shape)} kernel {kernel} stride {_size(*self.stride)} {self.padding}"
        if self.dilation != (1, 1):
            text += f" dilation {_size(*self.dilation)}"
        return f"{text}{'' if self.bias else ' no bias'} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        x = numbers(self, self.shape, self.values)
        w = numbers((self, "w"), (*self.taps, self.shape[3], self.co))
        return x, w, numbers((self, "bias"), (self.co,)) if self.bias else None

    def options(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


@dataclass(frozen=True)
class Im2col(Conv2d):
    """The patches that a convolution would read."""

    operator = "im2col"

    def arrays(self) -> tuple[Any, ...]:
        return super().arrays()[:1]

    def options(self) -> dict[str, Any]:
        return {"kernel": self.taps, **super().options()}


@dataclass(frozen=True)
class GroupedConv2d(Conv2d):
    operator = "grouped_conv2d"
    groups: int = 1

    def __str__(self) -> str:
        return f"{super().__str__()} in {self.groups} groups"

    def arrays(self) -> tuple[Any, ...]:
        x, _, bias = super().arrays()
        return x, numbers((self, "w"), (*self.taps, self.shape[3] // self.groups, self.co)), bias

    def options(self) -> dict[str, Any]:
        return {"groups": self.groups, **super().options()}


@dataclass(frozen=True)
class Conv2dTranspose(Conv2d):
    operator = "conv2d_transpose"
    more: Two | None = None

    def __str__(self) -> str:
        return f"{super().__str__()} and {self.more} more"

    def arrays(self) -> tuple[Any, ...]:
        x, w, bias = super().arrays()
        return x, np.ascontiguousarray(w.swapaxes(2, 3)), bias

    def options(self) -> dict[str, Any]:
        return {"output_padding": self.more, **super().options()}


@dataclass(frozen=True)
class Gemm(Case):
    operator = "gemm"
    m: int
    k: int
    n: int
    bias: bool = True
    values: str = "normal"

    def __str__(self) -> str:
        return f"{self.m}x{self.k} @ {self.k}x{self.n}{'' if self.bias else ' no bias'} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        a, b = numbers(self, (self.m, self.k), self.values), numbers((self, "b"), (self.k, self.n))
        return a, b, numbers((self, "bias"), (self.n,)) if self.bias else None


@dataclass(frozen=True)
class Dense(Gemm):
    operator = "dense"


@dataclass(frozen=True)
class Batchnorm(Case):
    operator = "batchnorm"
    shape: tuple[int, int, int, int]
    epsilon: float = 1e-3
    gamma: bool = True
    beta: bool = True
    statistics: str = "usual"
    values: str = "normal"

    def __str__(self) -> str:
        without = "".join(f" no {name}" for name in ("gamma", "beta") if not getattr(self, name))
        return f"{_size(*self.shape)} epsilon {self.epsilon}{without} {self.statistics} statistics {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        gamma, beta, mean, spread = numbers((self, "parameters"), (4, self.shape[3]))
        variance = spread**2
        if self.statistics == "tiny":  # channels that are nearly always zero have such
            mean, variance = mean * np.float32(1e-8), variance * np.float32(1e-12)
        elif self.statistics == "large":
            mean, variance = mean * np.float32(100), variance * np.float32(1e6)
        x = numbers(self, self.shape, self.values)
        return x, gamma if self.gamma else None, beta if self.beta else None, mean, variance

    def options(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}


@dataclass(frozen=True)
class Relu(Case):
    operator = "relu"
    shape: tuple[int, int, int, int]
    values: str = "normal"

    def __str__(self) -> str:
        return f"{_size(*self.shape)} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        return (numbers(self, self.shape, self.values),)


@dataclass(frozen=True)
class LeakyRelu(Relu):
    operator = "leaky_relu"
    slope: float = 0.3

    def __str__(self) -> str:
        return f"{super().__str__()} {self.slope}"

    def options(self) -> dict[str, Any]:
        return {"slope": self.slope}


@dataclass(frozen=True)
class Add(Relu):
    operator = "add"
    batched = 2

    def arrays(self) -> tuple[Any, ...]:
        # the specials of the second array meet other ones than their like
        return *super().arrays(), np.flip(numbers((self, "b"), self.shape, self.values)).copy()


@dataclass(frozen=True)
class Combine(Case):
    """Of two maps of ``images`` images."""

    operator = "combine"
    batched = 2
    function: str
    a: tuple[int, int, int] = (3, 5, 7)
    b: tuple[int, int, int] = (3, 5, 7)
    images: int = 2
    values: str = "normal"

    def __str__(self) -> str:
        return f"{self.function} {self.images} of {_size(*self.a)} and {_size(*self.b)} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        a, b = (self.images, *self.a), (self.images, *self.b)
        return numbers(self, a, self.values), np.flip(numbers((self, "b"), b, self.values)).copy()

    def options(self) -> dict[str, Any]:
        return {"function": self.function}


@dataclass(frozen=True)
class Crop(Relu):
    operator = "crop"
    crops: int | tuple[int, ...] = 0

    def __str__(self) -> str:
        return f"{super().__str__()} without {self.crops}"

    def options(self) -> dict[str, Any]:
        return {"crops": self.crops}


@dataclass(frozen=True)
class Upsample(Relu):
    operator = "upsample"
    size: Any = 2
    interpolation: str = "nearest"

    def __str__(self) -> str:
        return f"{super().__str__()} times {self.size} {self.interpolation}"

    def options(self) -> dict[str, Any]:
        return {"size": self.size, "interpolation": self.interpolation}


@dataclass(frozen=True)
class Resize(Relu):
    operator = "resize"
    size: Any = 2
    interpolation: str = "nearest"

    def __str__(self) -> str:
        return f"{super().__str__()} to {self.size} {self.interpolation}"

    def options(self) -> dict[str, Any]:
        return {"size": self.size, "interpolation": self.interpolation}


@dataclass(frozen=True)
class CropAndResize(Relu):
    """``boxes`` of each map: the whole of it, one pixel, one turned round, one beyond it, and others on its edges or not."""

    operator = "crop_and_resize"
    batched = 2
    size: Any = 7
    boxes: int = 9

    def __str__(self) -> str:
        return f"{super().__str__()} {self.boxes} boxes of {self.size}"

    def arrays(self) -> tuple[Any, ...]:
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        boxes = rng.uniform(-0.2, 1.2, (self.shape[0], self.boxes, 4)).astype(np.float32)
        special = np.array([(0, 0, 1, 1), (0.5, 0.5, 0.5, 0.5), (0.9, 0.8, 0.1, 0.2), (1.1, 1.1, 2, 2)], np.float32)
        boxes[:, : len(special)] = special[: self.boxes]
        boxes[:, len(special) :: 2, 2:] = 1  # of which rounding puts the last sample on the map or beside it
        return numbers(self, self.shape, self.values), boxes

    def options(self) -> dict[str, Any]:
        return {"size": self.size}


@dataclass(frozen=True)
class Concatenate(Relu):
    """``more``: the channels of further maps of these pixels."""

    operator = "concatenate"
    more: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{super().__str__()} beside {self.more}"

    @property
    def batched(self) -> int:  # type: ignore[override]
        return 1 + len(self.more)

    def arrays(self) -> tuple[Any, ...]:
        return *super().arrays(), *(numbers((self, c), (*self.shape[:3], c), self.values) for c in self.more)


@dataclass(frozen=True)
class Scale(Relu):
    """``alike``: one factor and one offset for all channels."""

    operator = "scale"
    alike: bool = False

    def __str__(self) -> str:
        return f"{super().__str__()}{' all alike' if self.alike else ''}"

    def arrays(self) -> tuple[Any, ...]:
        factor, offset = numbers((self, "parameters"), (2, 1 if self.alike else self.shape[3]))
        return *super().arrays(), factor, offset


@dataclass(frozen=True)
class Activation(Case):
    operator = "activation"
    any_rank = True
    shape: tuple[int, ...]
    function: str
    constants: tuple[float, ...] = ()
    values: str = "normal"

    def __str__(self) -> str:
        return f"{self.function}{self.constants or ''} {_size(*self.shape)} {self.values}"

    def options(self) -> dict[str, Any]:
        return {"function": self.function, "constants": self.constants}

    def arrays(self) -> tuple[Any, ...]:
        return (numbers(self, self.shape, self.values),)


@dataclass(frozen=True)
class GlobalAvgpool(Relu):
    operator = "global_avgpool"


@dataclass(frozen=True)
class GlobalMaxpool(Relu):
    operator = "global_maxpool"


@dataclass(frozen=True)
class Pool(Case):
    shape: tuple[int, int, int, int]
    window: Two
    stride: Two | None = None
    padding: Any = "valid"
    values: str = "normal"

    def __str__(self) -> str:
        stride = "own" if self.stride is None else _size(*self.stride)
        return f"{_size(*self.shape)} window {_size(*self.window)} stride {stride} {self.padding} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        return (numbers(self, self.shape, self.values),)

    def options(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride, "padding": self.padding}


@dataclass(frozen=True)
class Maxpool(Pool):
    operator = "maxpool"


@dataclass(frozen=True)
class Avgpool(Pool):
    operator = "avgpool"


@dataclass(frozen=True)
class ChannelReduce(Relu):
    operator = "channel_reduce"
    function: str = "mean"

    def __str__(self) -> str:
        return f"{super().__str__()} {self.function}"

    def options(self) -> dict[str, Any]:
        return {"function": self.function}


@dataclass(frozen=True)
class Groupnorm(Case):
    """``parameters``: of gamma and beta; "channels", "image" for one of each number of an image, or empty for none."""

    operator = "groupnorm"
    shape: tuple[int, int, int, int]
    groups: int = 1
    epsilon: float = 1e-3
    parameters: str = "channels"
    offset: float = 0.0
    values: str = "normal"

    def __str__(self) -> str:
        about = f" around {self.offset}" if self.offset else ""
        return f"{_size(*self.shape)} in {self.groups} {self.parameters or 'none'} {self.epsilon}{about} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        x = numbers(self, self.shape, self.values) + np.float32(self.offset)
        shape = {"channels": self.shape[3:], "image": self.shape[1:]}.get(self.parameters)
        return x, *(shape and numbers((self, name), shape) for name in ("gamma", "beta"))

    def options(self) -> dict[str, Any]:
        return {"groups": self.groups, "epsilon": self.epsilon}


@dataclass(frozen=True)
class Unitnorm(Case):
    operator = "unitnorm"
    rows: int
    columns: int
    least: float = 1e-6
    values: str = "normal"

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns} {self.least} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        return (numbers(self, (self.rows, self.columns), self.values),)

    def options(self) -> dict[str, Any]:
        return {"least": self.least}


@dataclass(frozen=True)
class Softmax(Case):
    operator = "softmax"
    rows: int
    columns: int
    values: str = "normal"

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns} {self.values}"

    def arrays(self) -> tuple[Any, ...]:
        return (numbers(self, (self.rows, self.columns), self.values),)


def _all_values(case: Case, kinds: Iterable[str] = tuple(VALUES)) -> list[Any]:
    return [replace(case, values=kind) for kind in kinds if kind != "normal"]  # type: ignore[call-arg]


_FINITE = ("negative", "large", "spread", "denormal", "zeros")

CONV2D: list[Conv2d] = [
    # one pixel, one channel; kernels larger than the image
    Conv2d((1, 1, 1, 1), (1, 1), 1),
    Conv2d((1, 1, 1, 3), (3, 3), 5, padding="same"),
    Conv2d((2, 2, 3, 1), (7, 5), 4, padding="same"),
    Conv2d((1, 2, 3, 2), (4, 6), 3, (2, 2), "same"),
    Conv2d((1, 1, 7, 3), (1, 3), 4),
    Conv2d((1, 3, 3, 2), (3, 3), 2),
    # stride 2 on even and odd edges; the stem
    *(Conv2d((1, h, w, 3), (3, 3), 5, (2, 2), p) for h, w in ((8, 8), (7, 7), (8, 7)) for p in ("same", "valid")),
    Conv2d((1, 10, 9, 3), (2, 2), 4, (2, 2), "same"),
    Conv2d((2, 21, 18, 3), (7, 7), 64, (2, 2), 3),
    Conv2d((1, 21, 18, 3), (7, 7), 64, (2, 2), "same"),
    Conv2d((2, 19, 20, 1), (8, 8), 21, (2, 2), (3, 4, 1, 0)),
    Conv2d((1, 8, 251, 2), (7, 7), 16, (2, 2), (2, 3, 5, 6)),  # a row of tiles in two parts
    # steps larger than the kernel
    Conv2d((1, 7, 8, 5), (1, 1), 6, (3, 3)),
    Conv2d((1, 7, 8, 5), (1, 1), 6, (3, 3), "same"),
    Conv2d((2, 6, 7, 65), (1, 1), 16, (2, 2), "same"),
    Conv2d((1, 11, 10, 2), (2, 3), 3, (5, 4), "same"),
    # dilation, rectangles
    Conv2d((1, 9, 9, 3), (3, 3), 4, dilation=(2, 2)),
    Conv2d((1, 9, 8, 3), (3, 3), 4, padding="same", dilation=(2, 3)),
    Conv2d((1, 4, 5, 3), (3, 3), 4, padding="same", dilation=(4, 5)),
    Conv2d((1, 12, 13, 3), (3, 2), 4, (2, 1), (3, 1, 0, 2), (2, 3)),
    Conv2d((1, 6, 9, 3), (1, 5), 4, padding="same"),
    Conv2d((1, 9, 6, 3), (5, 1), 4, (2, 1), "same"),
    Conv2d((1, 9, 8, 3), (2, 4), 4, (1, 3), "same"),
    # pads in pixels, also more of them than the kernel has taps
    Conv2d((1, 5, 6, 3), (3, 3), 4, padding=1),
    Conv2d((2, 5, 6, 3), (3, 2), 4, (2, 3), (1, 2, 0, 3)),
    Conv2d((1, 5, 6, 3), (2, 2), 4, padding=(5, 0, 0, 4)),
    Conv2d((1, 2, 2, 3), (5, 5), 4, padding=(0, 3, 2, 1)),
    # a 1x1 kernel whose result has the image's size although it is not the plain product
    Conv2d((1, 3, 3, 4), (1, 1), 5, (2, 2), 1),
    Conv2d((1, 3, 5, 4), (1, 1), 5, (1, 1), (1, 0, 0, 1)),
    Conv2d((1, 1, 1, 4), (1, 1), 5, (3, 3), 1),
    # channels around the widths of registers and tiles
    *(
        Conv2d((1, 3, 5, ci), taps, co, padding="same")
        for ci, co in zip(CHANNELS, reversed(CHANNELS), strict=True)
        for taps in ((1, 1), (3, 3))
    ),
    *(Conv2d((1, 2, 4, 7), (2, 2), co) for co in (NR - 1, NR, NR + 1, 2 * NR + 1)),
    *(Conv2d((1, 1, w, 7), (1, 1), 9) for w in (MR - 1, MR, MR + 1, 2 * MR + 1)),
    # primes, batches, no bias
    Conv2d((1, 13, 11, 7), (3, 3), 17, padding="same"),
    Conv2d((3, 5, 7, 11), (3, 3), 13, (2, 2), "same", bias=False),
    Conv2d((3, 5, 7, 11), (1, 1), 13, bias=False),
    # multiples of four, which a card moves in vectors, and more than one of its tiles
    Conv2d((1, 5, 6, 4), (3, 3), 8, (2, 2), "same"),
    Conv2d((2, 4, 5, 8), (3, 3), 12, padding="same", bias=False),
    Conv2d((3, 3, 5, 12), (1, 1), 4),
    Conv2d((1, 12, 11, 4), (2, 2), 4, padding="same"),
    Conv2d((1, 3, 4, 4), (2, 3), 136, (2, 1), "same", (1, 2)),
    # more pixels than one block of rows
    Conv2d((1, 14, 14, 130), (3, 3), 16, padding="same"),
    Conv2d((1, 9, 9, 2048), (1, 1), 5),
    *(
        case
        for stride in ((1, 1), (2, 2))
        for case in _all_values(Conv2d((1, 6, 7, 5), (3, 3), 4, stride, "same"), _FINITE + SPECIAL)
    ),
    *_all_values(Conv2d((1, 4, 5, 5), (1, 1), 4), _FINITE + SPECIAL),
]

IM2COL = [
    Im2col(case.shape, case.taps, 0, case.stride, case.padding, case.dilation, False, case.values)
    for case in CONV2D
    if case.shape[3] <= 130
]
IM2COL = list(dict.fromkeys([*IM2COL, *_all_values(Im2col((2, 5, 4, 3), (3, 2), 0, (2, 1), "same", bias=False))]))

GROUPED_CONV2D = [
    GroupedConv2d((1, 1, 1, 1), (1, 1), 1),
    GroupedConv2d((1, 5, 6, 4), (3, 3), 8, padding="same", groups=2),
    GroupedConv2d((2, 7, 5, 6), (3, 3), 6, groups=6),  # depthwise
    GroupedConv2d((1, 8, 8, 3), (3, 3), 12, (2, 2), "same", groups=3),  # depthwise with a multiplier
    GroupedConv2d((1, 9, 8, 32), (3, 3), 32, (2, 2), "same", groups=8, bias=False),
    GroupedConv2d((1, 6, 7, 128), (3, 3), 128, padding="same", groups=32),  # as in ResNeXt
    GroupedConv2d((2, 5, 9, 128), (3, 3), 128, padding="same", groups=16),  # and enough groups for all lanes there are
    GroupedConv2d((1, 3, 4, 256), (3, 3), 256, padding="same", groups=16, bias=False),
    GroupedConv2d((1, 9, 6, 64), (3, 2), 64, (2, 1), (0, 2, 1, 3), groups=16),
    GroupedConv2d((1, 4, 4, 10), (1, 1), 20, groups=5, bias=False),
    GroupedConv2d((1, 11, 9, 4), (3, 2), 4, padding="same", dilation=(2, 2), groups=4),
    GroupedConv2d((1, 6, 6, 65), (2, 3), 13, groups=13),
    GroupedConv2d((1, 5, 6, 4), (3, 2), 6, (2, 3), (1, 2, 0, 3), groups=2),
    *_all_values(GroupedConv2d((1, 6, 7, 6), (3, 3), 4, (2, 2), "same", groups=2), _FINITE + SPECIAL),
    *_all_values(GroupedConv2d((1, 4, 5, 64), (3, 3), 64, padding="same", groups=16), _FINITE + SPECIAL),
]

CONV2D_TRANSPOSE = [
    Conv2dTranspose((1, 1, 1, 1), (1, 1), 1),
    Conv2dTranspose((1, 1, 1, 3), (3, 3), 5, (2, 2), "same"),
    # as U-Nets and segmentation heads have them: depth to space, four taps of sixteen, and an odd kernel
    *(
        Conv2dTranspose((2, 5, 4, 7), (k, k), 6, (2, 2), padding)
        for k in (1, 2, 3, 4, 5)
        for padding in ("same", "valid")
    ),
    Conv2dTranspose((1, 3, 5, 4), (3, 3), 5),
    Conv2dTranspose((1, 3, 5, 4), (3, 3), 5, padding="same", bias=False),
    Conv2dTranspose((1, 3, 4, 5), (2, 3), 3, (3, 2), "same"),
    Conv2dTranspose((1, 3, 4, 5), (4, 2), 3, (1, 3), "valid"),
    Conv2dTranspose((1, 4, 3, 5), (16, 16), 2, (8, 8), "same"),
    Conv2dTranspose((1, 4, 3, 5), (3, 3), 2, (2, 2), "same", more=(1, 1)),
    Conv2dTranspose((1, 4, 3, 5), (3, 3), 2, (2, 2), "same", more=(0, 1)),
    Conv2dTranspose((1, 4, 3, 5), (3, 2), 2, (3, 2), "valid", more=(2, 1)),
    *(
        Conv2dTranspose((1, 2, 3, ci), (3, 3), co, (2, 2), "same")
        for ci, co in zip(CHANNELS, CHANNELS[::-1], strict=True)
    ),
    *_all_values(Conv2dTranspose((1, 4, 3, 5), (3, 3), 4, (2, 2), "same"), _FINITE + SPECIAL),
]

_ROWS = (1, MR - 1, MR, MR + 1, 2 * MR + 1)
_COLUMNS = (1, NR - 1, NR, NR + 1, 2 * NR + 3)
GEMM = [
    Gemm(1, 1, 1),
    *(Gemm(m, 7, n) for m in _ROWS for n in _COLUMNS),
    *(Gemm(3, k, 5, bias=False) for k in (1, 2, 8, 9, 16, 31)),  # gemm_blocked takes 8 steps at once,
    *(Gemm(4, k, 6) for k in (255, 256, 257)),  # 256 rows
    *(Gemm(2, 3, n) for n in (511, 512, 513, 1025)),  # and 512 columns of B
    *(
        Gemm(MR + 1, k, NR + 2) for k in (KC, KC * 3 // 2 - 1, KC * 3 // 2, 2 * KC, 4 * KC + 1)
    ),  # gemm_packed: several passes over C
    Gemm(2 * block_rows(4608) + 1, 4608, 3),  # more rows than a block has
    Gemm(2 * block_rows(22_000) + 1, 22_000, 3),
    Gemm(block_rows(700) + 1, 700, 2, bias=False),
    Gemm(97, 61, 89),
    *_all_values(Gemm(7, 5, 9), _FINITE + SPECIAL),
    # multiples of four, which a card reads in vectors, around its tiles of 128x128 and steps of 8
    *(Gemm(*sizes) for sizes in ((1, 16, 8), (5, 20, 124), (127, 12, 4), (128, 8, 128), (129, 4, 132))),
    *_all_values(Gemm(6, 8, 12), _FINITE + SPECIAL),
]

DENSE = [
    Dense(1, 1, 1),
    Dense(1, 2048, 1000),
    Dense(3, 512, 10, bias=False),
    Dense(MR + 1, 65, NR + 1),
    Dense(2, 64, 12),
    *_all_values(Dense(2, 7, 5), _FINITE + SPECIAL),
]

PAD = [
    Pad((1, 1, 1, 1), 0),
    Pad((1, 1, 1, 1), 1),
    Pad((2, 3, 5, 3), 3),
    Pad((2, 3, 5, 3), (1, 0, 0, 0)),
    Pad((2, 3, 5, 3), (0, 1, 0, 0)),
    Pad((2, 3, 5, 3), (0, 0, 1, 0)),
    Pad((2, 3, 5, 3), (0, 0, 0, 1)),
    Pad((1, 4, 2, 65), (9, 2, 3, 7)),
    Pad((1, 4, 2, 5), (1, 2, 3, 4), -INF),
    Pad((1, 4, 2, 5), (1, 2, 3, 4), NAN),
    Pad((1, 4, 2, 5), (1, 2, 3, 4), 0.1),
    Pad((1, 4, 2, 5), (1, 2, 3, 4), -3e38),
    *_all_values(Pad((2, 3, 4, 5), (2, 1, 0, 1))),
]

CHANNEL_ORDERS = [
    Channels((1, 1, 1, 1), (0,)),
    Channels((2, 5, 7, 3), (2, 1, 0)),  # RGB to BGR
    Channels((2, 5, 7, 1), (0, 0, 0)),  # grey to RGB
    Channels((1, 4, 3, 65), (64,)),
    Channels((1, 3, 5, 130), tuple(range(129, -1, -1))),
    Channels((3, 3, 2, 5), (4, 4, 0, 2, 1, 0, 3)),
    *_all_values(Channels((2, 3, 4, 3), (2, 0, 1))),
]

BATCHNORM = [
    *(Batchnorm((1, 3, 5, c)) for c in CHANNELS),
    Batchnorm((1, 1, 1, 1)),
    Batchnorm((3, 7, 5, 13), epsilon=1.001e-5),
    Batchnorm((1, 4, 4, 6), epsilon=1e-5, gamma=False),
    Batchnorm((1, 4, 4, 6), epsilon=1e-5, beta=False),
    Batchnorm((1, 4, 4, 6), gamma=False, beta=False),
    Batchnorm((1, 9, 9, 6), epsilon=1e-10, statistics="tiny"),
    Batchnorm((1, 9, 9, 6), epsilon=1e-3, statistics="tiny"),
    Batchnorm((1, 9, 9, 6), statistics="large"),
    *_all_values(Batchnorm((2, 3, 3, 4)), _FINITE + SPECIAL),
]

RELU = [
    *(Relu(shape) for shape in ((1, 1, 1, 1), (2, 3, 5, 7), (1, 7, 9, 65), (1, 4, 4, 16))),
    *_all_values(Relu((1, 5, 3, 11))),
]
LEAKY_RELU = [
    *(LeakyRelu(case.shape, case.values) for case in RELU),
    *(LeakyRelu((1, 3, 2, 5), values, slope) for slope in (0.0, 1.5, -1.0) for values in ("normal", "NaN or -inf")),
]
ADD = [Add(case.shape, case.values) for case in RELU]
CONCATENATE = [
    *(Concatenate((2, 3, 4, c), "normal", (d,)) for c, d in zip(CHANNELS, reversed(CHANNELS), strict=True)),
    Concatenate((1, 1, 1, 1)),
    Concatenate((1, 5, 3, 7), "normal", (7, 1, 64, 2)),
    Concatenate((3, 1, 1, 5), "normal", (5, 5)),
    *_all_values(Concatenate((1, 2, 3, 4), more=(3, 5))),
]
CROP = [
    Crop((1, 1, 1, 1)),
    Crop((2, 5, 6, 3), "normal", 1),
    *(
        Crop((2, 5, 6, 3), "normal", crops)
        for crops in ((4, 0, 0, 0), (0, 4, 0, 0), (0, 0, 5, 0), (0, 0, 0, 5), (1, 2, 3, 1))
    ),
    *(Crop((1, 4, 3, c), "normal", (1, 0, 0, 1)) for c in CHANNELS),
    *_all_values(Crop((1, 4, 5, 6), crops=(1, 1, 0, 1))),
]
RESIZE = [
    *(
        Resize(shape, "normal", size, interpolation)
        for interpolation in ("nearest", "bilinear")
        for shape, size in (
            ((1, 1, 1, 1), 3),
            ((1, 4, 3, 2), 1),
            ((2, 5, 4, 3), (5, 4)),
            ((2, 5, 4, 3), (7, 5)),
            ((2, 9, 7, 3), (4, 6)),
            ((1, 6, 8, 5), (3, 2)),
            ((1, 6, 8, 5), (11, 3)),
            ((1, 61, 33, 2), (37, 50)),  # where a centre lies is no longer exact
            *(((1, 4, 3, c), (5, 2)) for c in CHANNELS),
        )
    ),
    *_all_values(Resize((1, 5, 3, 4), size=(3, 4))),
    *_all_values(Resize((1, 5, 3, 4), size=(3, 4), interpolation="bilinear"), _FINITE + SPECIAL),
]

UPSAMPLE = [
    Upsample((1, 1, 1, 1)),
    *(
        Upsample(shape, "normal", size, interpolation)
        for interpolation in ("nearest", "bilinear")
        for shape, size in (
            ((1, 1, 1, 3), (2, 3)),
            ((2, 5, 4, 3), 1),
            ((2, 5, 4, 3), (1, 2)),
            ((1, 7, 9, 5), (3, 5)),
            ((1, 1, 6, 2), (4, 7)),
            ((1, 33, 61, 2), (3, 6)),  # where a centre lies is no longer exact
            *(((1, 4, 3, c), (2, 2)) for c in CHANNELS),
        )
    ),
    *_all_values(Upsample((1, 3, 4, 5))),
    # without "few", whose largest numbers overflow on the way from one to the other
    *_all_values(Upsample((1, 3, 4, 5), interpolation="bilinear"), _FINITE + _WINDOWS_OF_SPECIALS),
]
COMBINE = [
    *(Combine(function) for function in JOINS),
    *(case for function in JOINS for case in _all_values(Combine(function, (5, 3, 11), (5, 3, 11), 1))),
    # what each of the two may have but once, of a map (h, w, c)
    *(
        Combine(function, *pair)
        for function in ("multiply", "subtract")
        for small in ((1, 1, 65), (4, 3, 1), (1, 1, 1), (1, 3, 65), (4, 1, 65), (4, 1, 1))
        for pair in ((small, (4, 3, 65)), ((4, 3, 65), small))
    ),
    Combine("add", (4, 3, 1), (1, 1, 16)),
    Combine("maximum", (4, 1, 5), (1, 3, 5)),
    Combine("minimum", (1, 3, 5), (4, 1, 1)),
    Combine("multiply", (1, 1, 1), (1, 1, 1), 1),
]
GLOBAL_MAXPOOL = [GlobalMaxpool(case.shape, case.values) for case in RELU]
CONSTANTS: dict[str, tuple[tuple[float, ...], ...]] = {
    "elu": ((1.0,), (0.25,)),
    "celu": ((1.0,), (1.5,)),
    # slope, ceiling, threshold
    "clipped_relu": ((0.0, 6.0, 0.0), (0.25, INF, 0.5), (0.125, 1.0, 0.0), (-0.5, 2.0, 1.0)),
}
"""Constants of functions that have some."""
ACTIVATION = [
    case
    for function in FUNCTIONS
    for constants in CONSTANTS.get(function, ((),))
    for case in (
        Activation((2, 3, 5, 7), function, constants),
        *_all_values(Activation((1, 5, 3, 11), function, constants), (*_FINITE, *SPECIAL, "few")),
    )
] + [
    Activation((1, 7, 9, 65), "silu"),
    Activation((1, 4, 4, 16), "silu"),
    Activation((3, 7), "tanh"),
    Activation((5,), "gelu"),
]
SCALE = [
    Scale(case.shape, case.values, alike)
    for case in RELU
    for alike in (False, True)
    if case.values != "few"  # its largest numbers overflow or not, as the factors are: float64 is no judge
]

_WINDOWS: list[tuple[Any, ...]] = [
    ((1, 1, 1, 1), (1, 1)),
    ((1, 1, 1, 3), (3, 3), (2, 2), "same"),
    ((1, 2, 3, 1), (5, 4), (1, 1), "same"),
    *(((1, h, w, 3), (3, 3), (2, 2), p) for h, w in ((8, 8), (7, 7), (8, 7)) for p in ("same", "valid", 1)),
    ((2, 6, 8, 5), (2, 2)),
    ((2, 7, 9, 5), (2, 2), (2, 2), "same"),
    ((1, 7, 8, 5), (1, 1), (3, 3), "same"),
    ((1, 7, 8, 5), (1, 1), (3, 3)),
    ((1, 11, 10, 3), (2, 3), (5, 4), "same"),
    ((1, 9, 8, 3), (1, 5), (2, 1)),
    ((1, 9, 8, 3), (4, 2), (1, 3), "same"),
    ((1, 5, 6, 3), (3, 3), (2, 2), (1, 0, 0, 1)),
    ((1, 5, 6, 3), (4, 3), (1, 2), (3, 2, 0, 2)),
    ((1, 2, 2, 3), (4, 4), (1, 1), (0, 2, 2, 1)),
    ((3, 7, 7, 65), (7, 7)),
    ((1, 13, 11, 7), (3, 3), (1, 1), "same"),
    *(((1, 5, 4, c), (3, 2), (2, 1), "same") for c in CHANNELS),
]
MAXPOOL = [
    *(Maxpool(*window) for window in _WINDOWS),
    Maxpool((1, 3, 3, 2), (2, 2), (1, 1), (4, 3, 2, 5)),  # windows of nothing but padding
    *_all_values(Maxpool((1, 6, 5, 4), (3, 3), (2, 2), "same")),
    *_all_values(Maxpool((1, 6, 5, 4), (2, 3), (1, 2), (1, 0, 2, 1))),
]
AVGPOOL = [
    *(Avgpool(*window) for window in _WINDOWS),
    *_all_values(Avgpool((1, 6, 5, 4), (3, 3), (2, 2), "same"), _FINITE + _WINDOWS_OF_SPECIALS),
    *_all_values(Avgpool((1, 6, 5, 4), (2, 3), (1, 2), (1, 0, 2, 1)), _FINITE + _WINDOWS_OF_SPECIALS),
]

GLOBAL_AVGPOOL = [
    *(GlobalAvgpool(shape) for shape in ((1, 1, 1, 1), (2, 7, 7, 65), (1, 5, 3, 130), (3, 1, 13, 3))),
    *_all_values(GlobalAvgpool((2, 3, 4, 5)), _FINITE + _WINDOWS_OF_SPECIALS),
]

CHANNEL_REDUCE = [
    ChannelReduce(case.shape, case.values, function)
    for case in [*GLOBAL_AVGPOOL, *(Relu((1, 2, 3, channels)) for channels in CHANNELS)]
    for function in ("mean", "max")
]

SOFTMAX = [
    *(Softmax(1, columns) for columns in (1, 2, 3, 1000)),
    *(Softmax(3, columns) for columns in CHANNELS),
    Softmax(17, 10),
    *_all_values(Softmax(2, 7), _FINITE),
]

_NORMED = ("negative", "spread", "denormal", "zeros", *SPECIAL)  # the squares of large numbers overflow in TensorFlow
GROUPNORM = [
    Groupnorm((1, 1, 1, 1)),
    Groupnorm((3, 1, 1, 65)),
    Groupnorm(
        (7, 1, 1, 5), epsilon=1e-6, offset=1000.0
    ),  # where the mean is large, the variance must be found around it
    Groupnorm((2, 4, 3, 12), 3),
    Groupnorm((2, 4, 3, 12), 12, parameters=""),
    Groupnorm((2, 5, 3, 7), parameters="image"),
    Groupnorm((1, 9, 8, 32), 8, 1e-5),
    *_all_values(Groupnorm((2, 3, 4, 6), 2), _NORMED),
]
UNITNORM = [
    *(Unitnorm(3, columns) for columns in CHANNELS),
    Unitnorm(17, 10, 1e-12),
    *_all_values(Unitnorm(2, 7), _NORMED),
]

CROP_AND_RESIZE = [
    CropAndResize((1, 1, 1, 1), size=1, boxes=4),
    *(CropAndResize((2, 5, 8, 3), size=size) for size in (1, 7, (2, 1), (3, 14))),
    *(CropAndResize((1, 32, 32, channels), size=7, boxes=30) for channels in (1, 16, 65)),
    CropAndResize((1, 61, 33, 2), size=14, boxes=200),
    *_all_values(CropAndResize((1, 6, 7, 3), size=5)),
]

CASES: dict[str, list[Any]] = {
    "pad": PAD,
    "channels": CHANNEL_ORDERS,
    "crop": CROP,
    "im2col": IM2COL,
    "gemm": GEMM,
    "conv2d": CONV2D,
    "grouped_conv2d": GROUPED_CONV2D,
    "conv2d_transpose": CONV2D_TRANSPOSE,
    "batchnorm": BATCHNORM,
    "scale": SCALE,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "activation": ACTIVATION,
    "add": ADD,
    "combine": COMBINE,
    "concatenate": CONCATENATE,
    "maxpool": MAXPOOL,
    "avgpool": AVGPOOL,
    "global_avgpool": GLOBAL_AVGPOOL,
    "global_maxpool": GLOBAL_MAXPOOL,
    "channel_reduce": CHANNEL_REDUCE,
    "resize": RESIZE,
    "upsample": UPSAMPLE,
    "dense": DENSE,
    "softmax": SOFTMAX,
    "groupnorm": GROUPNORM,
    "unitnorm": UNITNORM,
    "crop_and_resize": CROP_AND_RESIZE,
}
"""Every operator's cases, under the names of ``npresnet.kernels.LADDER``."""


def name_of(version: Callable[..., Array]) -> str:
    """What a test's name says of a version."""
    return version.__name__


def each(operator: str) -> Callable[[Any], Any]:
    """Runs a test with every ``case`` of an operator and every ``version`` on its ladder, the reference first."""

    def mark(test: Any) -> Any:
        test = pytest.mark.parametrize("case", CASES[operator], ids=str)(test)
        return pytest.mark.parametrize("version", LADDER[operator], ids=name_of)(test)

    return mark


# The yardstick -------------------------------------------------------------------------------------------------------

EPS = float(np.finfo(np.float32).eps)

FLOOR = 2 * EPS
"""Relative error that is always allowed: where TensorFlow happens to be exact, twice its error would be nothing."""

SEQUENTIAL = ("gemm_naive", "gemm_blocked", "conv2d_direct")
"""Versions that add term after term to one sum, as study asks for. Its rounding errors grow with the square root of
the number of terms: some 0.16 * EPS * sqrt(terms) on normal numbers. ``auto`` chooses none of these versions."""


WINOGRAD = ("conv2d_winograd", "grouped_conv2d_winograd")
"""Versions with roundings of their own, before and after the products: up to some 6 EPS more."""


def assert_close(
    actual: Array, tensorflow: Array, truth: Array, *, terms: int = 0, winograd: bool = False
) -> None:  # fmt: skip
    """``actual`` must be TensorFlow's result, and at most twice as far as TensorFlow from the float64 ``truth``.

    terms     how many numbers a version of SEQUENTIAL has added up for each result
    winograd  whether a version of WINOGRAD has made it
    """
    with np.errstate(over="ignore"):  # what is too large for a float32 must be infinite
        truth = np.where(np.isinf(truth.astype(np.float32)), truth.astype(np.float32), truth)
    against = compare(actual, tensorflow)
    assert against.agrees(), f"against TensorFlow: {against}"
    ours, theirs = compare(actual, truth), compare(tensorflow, truth)
    allowed = 2 * theirs.relative + FLOOR + 0.25 * EPS * terms**0.5 + 6 * EPS * winograd
    assert ours.agrees(allowed), f"against float64: {ours}, TensorFlow {theirs}, allowed {allowed:.2e}"


def assert_true(actual: Array, truth: Array) -> None:
    """``actual`` must be the float64 ``truth``; for numbers on which TensorFlow is no judge."""
    difference: Difference = compare(actual, truth)
    assert difference.agrees(), f"against float64: {difference}"


def assert_same_bits(actual: Array, expected: Array) -> None:
    """Equal to the last bit: shape, dtype, signs of zeros, payloads of NaNs."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    different = actual.reshape(-1).view(np.uint8) != expected.reshape(-1).view(np.uint8)
    bytewise = different.reshape(*actual.shape, actual.itemsize).any(-1)
    assert not bytewise.any(), _places(bytewise, actual, expected)


def assert_equal(actual: Array, expected: Array) -> None:
    """Equal numbers, NaN counting as equal to NaN, and both zeros as one."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    different = ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    assert not different.any(), _places(different, actual, expected)


def _places(different: Array, actual: Array, expected: Array) -> str:
    places = [tuple(map(int, place)) for place in np.argwhere(different)]
    first = [f"{actual[place]} instead of {expected[place]} at {place}" for place in places[:3]]
    return f"{len(places)} of {actual.size} numbers differ: {', '.join(first)}"


@contextlib.contextmanager
def refuses(kind: type[Exception], *said: str) -> Iterator[None]:
    """Something must raise ``kind`` with a message that holds all the texts ``said``, the given values above all."""
    with pytest.raises(kind) as error:
        yield
    for text in said:
        assert text in str(error.value)
