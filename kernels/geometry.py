"""Output sizes and padding of sliding windows, and where pixels lie that are resized: the only place with this arithmetic.

For one axis of ``size`` pixels, a window of ``kernel`` taps ``dilation`` pixels apart, moved by ``stride``:

    extent = (kernel - 1) * dilation + 1                       pixels from the first tap to the last
    out    = (before + size + after - extent) // stride + 1    positions
    tap k of output o reads pixel  o * stride + k * dilation - before;  outside 0..size-1 it is padding

TensorFlow's ``same`` asks for ``out = ceil(size / stride)``; the padding that takes, ``max((out - 1) * stride + extent
- size, 0)``, is split in half, the odd pixel going to the end. With stride 2 the split therefore depends on whether
the size is even or odd. Source: TensorFlow's documentation of padding in ``tf.nn``.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "Padding",
    "Pads",
    "Window",
    "out_size",
    "pair",
    "resize_axis",
    "resolve_padding",
    "transposed_window",
    "window",
    "window_geometry",
]

Pads = tuple[int, int, int, int]
"""(top, bottom, left, right), in pixels."""

Padding = Literal["same", "valid"] | int | Sequence[int]
"""``"same"``, ``"valid"``, one number for all four sides, or (top, bottom, left, right)."""


class Window(NamedTuple):
    """All that a compiled loop needs to know about a window that is moved over an image.

    kh, kw       taps            sh, sw  stride       dh, dw  dilation, all in pixels
    top, left    padding         ho, wo  positions, that is, pixels of the output
    """

    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    top: int
    left: int
    ho: int
    wo: int


def _numbers(value: object, count: int) -> tuple[int, ...]:
    """``value`` as whole numbers: one stands for ``count`` equal ones; () for anything that is not whole numbers."""
    values: Sequence[Any] = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * count
    return tuple(int(v) for v in values) if all(isinstance(v, Integral) for v in values) else ()


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """``value`` as (vertical, horizontal): a single positive integer counts for both. Raises ValueError."""
    values = _numbers(value, 2)
    if len(values) != 2 or min(values) < 1:
        raise ValueError(f"{name}: got {value!r}; it must be one positive integer or two (vertical, horizontal)")
    return values[0], values[1]


def out_size(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Number of window positions along one axis, all arguments in pixels; zero or less where no window fits."""
    extent = (kernel - 1) * dilation + 1
    return (before + size + after - extent) // stride + 1


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's ``same`` padding of one axis: (before, after)."""
    extent = (kernel - 1) * dilation + 1
    out = -(-size // stride)
    total = max((out - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def resolve_padding(
    padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Pads:
    """``padding`` in pixels, (top, bottom, left, right), for an image of ``size`` (height, width). Raises ValueError."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        top, bottom = _same(size[0], kernel[0], stride[0], dilation[0])
        left, right = _same(size[1], kernel[1], stride[1], dilation[1])
        return top, bottom, left, right
    pads = _numbers(padding, 4)
    if len(pads) != 4 or min(pads) < 0:
        raise ValueError(
            f"padding: got {padding!r}; it must be 'same', 'valid', a number of pixels >= 0, or four of them "
            "(top, bottom, left, right)"
        )
    return pads[0], pads[1], pads[2], pads[3]


def window_geometry(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
) -> tuple[Pads, int, int]:
    """(pads, output height, output width) of a window moved over an image of ``size``; ValueError where none fits."""
    if min(kernel) < 1:
        raise ValueError(f"the kernel of {kernel[0]}x{kernel[1]} taps is empty; it must have at least one")
    pads = resolve_padding(padding, size, kernel, stride, dilation)
    out_h = out_size(size[0], kernel[0], stride[0], dilation[0], pads[0], pads[1])
    out_w = out_size(size[1], kernel[1], stride[1], dilation[1], pads[2], pads[3])
    if min(size) < 1 or out_h < 1 or out_w < 1:
        raise ValueError(
            f"the input of {size[0]}x{size[1]} pixels with padding {pads} (top, bottom, left, right) is smaller than "
            f"the {kernel[0]}x{kernel[1]} window with dilation {dilation}; give a larger image or more padding"
        )
    return pads, out_h, out_w


def _transposed_size(size: int, kernel: int, stride: int, dilation: int, same: bool, output_padding: int | None) -> int:
    """How many pixels a transposed convolution makes of ``size`` along one axis, as Keras has it."""
    extent = (kernel - 1) * dilation + 1
    if output_padding is None:
        return size * stride + (0 if same else max(extent - stride, 0))
    return (size - 1) * stride + extent - (extent // 2 * 2 if same else 0) + output_padding


def transposed_window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Literal["same", "valid"],
    output_padding: tuple[int, int] | None,
    dilation: tuple[int, int],
) -> tuple[int, int, Window]:
    """(height, width, window) of what a transposed convolution makes of an image of ``size``: its window is moved over the
    result, and its positions are the image's pixels. ValueError where no convolution leads from such a result to such an image.
    """
    if padding not in ("same", "valid"):
        raise ValueError(f"padding: got {padding!r}; that of a transposed convolution must be 'same' or 'valid'")
    more = (None, None) if output_padding is None else output_padding
    height, width = (
        _transposed_size(*axis, padding == "same", extra)
        for axis, extra in zip(zip(size, kernel, stride, dilation, strict=True), more, strict=True)
    )
    pads, *positions = window_geometry((height, width), kernel, stride, padding, dilation)
    if tuple(positions) != size:
        raise ValueError(
            f"output_padding: got {output_padding}; {size[0]}x{size[1]} pixels would become {height}x{width}, of which a "
            f"convolution makes {positions[0]}x{positions[1]} again; it must lead back to the same size: give another, or None"
        )
    return height, width, Window(*kernel, *stride, *dilation, pads[0], pads[2], *size)


def window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
) -> Window:
    """A window of ``kernel`` taps over an image of ``size``, as compiled loops want it. Raises as ``window_geometry``."""
    step, gap = pair("stride", stride), pair("dilation", dilation)
    pads, ho, wo = window_geometry(size, kernel, step, padding, gap)
    return Window(*kernel, *step, *gap, pads[0], pads[2], ho, wo)


def resize_axis(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The two of ``source`` pixels around each of ``target`` pixels along one axis, and their weights: both [2, target].

    The centre of target pixel i lies at (i + 0.5) * source / target - 0.5; beyond the border is black, so of weight 0, whatever
    pixel stands in for it. Source: scikit-image's ``resize(order=1, mode="constant", anti_aliasing=False)``.
    """
    centre = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(centre)
    index, share = np.stack([first, first + 1]).astype(np.int64), centre - first
    weights = np.stack([1.0 - share, share])
    weights[(index < 0) | (index >= source)] = 0.0
    return index.clip(0, source - 1), weights
