"""``study window``: one output of a convolution, number by number, and the row of the im2col matrix that it comes from.

    output[oh, ow, co] = bias[co] + sum over taps and channels of patch[kh, kw, c] * kernel[kh, kw, c, co]

The patch is what the window sees of the map: what lies beyond the map's edge is zero, and said to be. The same patch, laid out
flat, is row oh * wo + ow of the im2col matrix, whose columns are the taps' channels: kh, then kw, then c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..kernels.geometry import Window
from ..model import ResNet
from .forms import Column, Grid
from .subject import StudiedLayer, subject_of

__all__ = ["TABLES", "Tap", "WindowRegion", "WindowStudy", "region", "reuse", "window"]

Array = npt.NDArray[Any]

TABLES = (
    Grid(
        "taps",
        (
            Column("tap", "tap", "list"),
            Column("reads pixel", "pixel", "list"),
            Column("padding", "padded", "yes"),
            Column("largest product", "largest", "value"),
            Column("of channel", "channel", "count"),
            Column("sum over channels", "total", "value"),
        ),
        "Each tap of the kernel multiplies all channels of one pixel; the taps' sums and the bias make the output",
    ),
)


@dataclass(frozen=True)
class Tap:
    """One position of the kernel: which pixel it reads, and what it adds to the output.

    padded   whether the pixel lies outside the map, so that it counts as zero
    largest  the largest of its products, of ``channel``
    total    of all its products
    """

    tap: tuple[int, int]
    pixel: tuple[int, int]
    padded: bool
    largest: float
    channel: int
    total: float


@dataclass(frozen=True)
class WindowStudy:
    """One output.

    at                   (oh, ow, co)
    patch, kernel        float32[kh, kw, ci]: what is multiplied
    taps                 one for each position of the kernel
    bias, total          total = bias + all products, summed in float64
    engine               what calling the network gives there
    magnitude            sum of the products' sizes: the scale against which rounding is to be judged
    matrix               (rows, columns) of the im2col matrix of the whole map; ``row``: which of them the patch is
    matrix_bytes, input_bytes  in float32; the matrix is ``blow_up`` times the map
    no_copy              whether the map is that matrix as it lies in memory: 1x1 with stride 1
    reuse_rows, reuse_columns  how many windows see each row and each column of the map: a pixel is in as many rows of the
                         matrix as the product of the two says
    """

    layer: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    at: tuple[int, int, int]
    patch: Array
    kernel: Array
    taps: list[Tap]
    bias: float
    total: float
    engine: float
    magnitude: float
    matrix: tuple[int, int]
    row: int
    matrix_bytes: int
    input_bytes: int
    blow_up: float
    no_copy: bool
    reuse_rows: Array
    reuse_columns: Array


def reuse(window: Window, size: tuple[int, int]) -> tuple[Array, Array]:
    """How many positions of a window see each row, and each column, of a map of ``size``: int[h], int[w]."""
    found = []
    for axis, (taps, stride, gap, before, count) in enumerate(
        (
            (window.kh, window.sh, window.dh, window.top, window.ho),
            (window.kw, window.sw, window.dw, window.left, window.wo),
        )
    ):
        pixels = (np.arange(count)[:, None] * stride + np.arange(taps) * gap - before).ravel()
        inside = pixels[(pixels >= 0) & (pixels < size[axis])]
        found.append(np.bincount(inside, minlength=size[axis]))
    return found[0], found[1]


def _patch(subject: StudiedLayer, oh: int, ow: int) -> tuple[Array, Array, Array, Array]:
    """(patch float32[kh, kw, ci], rows int[kh] and columns int[kw] of the map that it reads, bool[kh, kw]: inside)."""
    window, (height, width) = subject.window, subject.size
    rows = oh * window.sh - window.top + np.arange(window.kh) * window.dh
    columns = ow * window.sw - window.left + np.arange(window.kw) * window.dw
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    seen = subject.x[0, rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return np.where(inside[..., None], seen, np.float32(0)), rows, columns, inside


def window(net: ResNet, images: Array, layer: str | None = None, at: tuple[int, int, int] | None = None) -> WindowStudy:
    """One output of a convolution of ``net``, for the first of ``images``.

    layer  None: the 3x3 that costs the most
    at     (oh, ow, co); None: the middle of the map, and the channel that is largest there

    Raises UsageError for a layer that is no convolution and a place that is not in its output.
    """
    subject = subject_of(net, images, layer)
    output = net(images[:1], outputs=[subject.layer])[subject.layer][0]
    return of_subject(subject, output, at)


def of_subject(subject: StudiedLayer, output: Array, at: tuple[int, int, int] | None) -> WindowStudy:
    """The same of a convolution whose ``output``, float32[ho, wo, co], is known."""
    if at is None:
        middle = output.shape[0] // 2, output.shape[1] // 2
        at = (*middle, int(np.abs(output[middle]).argmax()))
    if len(at) != 3 or not all(0 <= index < size for index, size in zip(at, output.shape, strict=True)):
        most = ",".join(str(size - 1) for size in output.shape)
        raise UsageError(f"at: got {','.join(map(str, at))}; it must be oh,ow,co from 0,0,0 to {most}")
    oh, ow, co = at
    geometry = subject.window
    patch, rows, columns, inside = _patch(subject, oh, ow)
    kernel = np.ascontiguousarray(subject.w[..., co])
    products = patch.astype(np.float64) * kernel
    bias = 0.0 if subject.bias is None else float(subject.bias[co])
    taps = [
        Tap(
            (i, j),
            (int(rows[i]), int(columns[j])),
            not inside[i, j],
            float(products[i, j, channel]),
            int(channel),
            float(products[i, j].sum()),
        )
        for i in range(geometry.kh)
        for j in range(geometry.kw)
        for channel in [np.abs(products[i, j]).argmax()]
    ]
    depth, pixels = math.prod(subject.w.shape[:3]), geometry.ho * geometry.wo
    down, across = reuse(geometry, subject.size)
    no_copy = geometry[:6] == (1, 1, 1, 1, 1, 1) and not any(subject.pads)
    return WindowStudy(
        subject.layer, subject.x.shape[1:], output.shape, subject.stride, subject.pads, at, patch, kernel, taps, bias,
        bias + float(products.sum()), float(output[at]), abs(bias) + float(np.abs(products).sum()), (pixels, depth),
        oh * geometry.wo + ow, 4 * pixels * depth, subject.x.nbytes, 4 * pixels * depth / subject.x.nbytes, no_copy,
        down, across,
    )  # fmt: skip


@dataclass(frozen=True)
class WindowRegion:
    """The windows of some neighbouring outputs, to be stepped through: those of one channel, in the map's upper left corner.

    co               the channel of the output
    channel          the channel of the map in which there is most to see
    x                float32[rows, columns, ci] of the map that the windows see, zeros where it ends; ``first``: which row and
                     column of the map it begins with, which may be negative
    kernel, bias     of the channel
    tap_sums         float64[oh, ow, kh, kw]: what each tap adds to each output
    totals           float64[oh, ow]: bias and all products
    engine           float32[oh, ow]: what calling the network gives
    """

    layer: str
    co: int
    channel: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[int, int]
    first: tuple[int, int]
    x: Array
    kernel: Array
    bias: float
    tap_sums: Array
    totals: Array
    engine: Array


def region(subject: StudiedLayer, output: Array, co: int, most: int = 6) -> WindowRegion:
    """The first ``most`` x ``most`` outputs of channel ``co``; output float32[ho, wo, co], all of it."""
    w = subject.window
    down, across = min(most, w.ho), min(most, w.wo)
    kernel = np.ascontiguousarray(subject.w[..., co])
    bias = 0.0 if subject.bias is None else float(subject.bias[co])
    height = (down - 1) * w.sh + (w.kh - 1) * w.dh + 1
    width = (across - 1) * w.sw + (w.kw - 1) * w.dw + 1
    x = np.zeros((height, width, subject.x.shape[3]), np.float32)
    seen = subject.x[0, : max(height - w.top, 0), : max(width - w.left, 0)]
    x[w.top : w.top + seen.shape[0], w.left : w.left + seen.shape[1]] = seen
    sums = np.zeros((down, across, w.kh, w.kw))
    for oh in range(down):
        for ow in range(across):
            patch = _patch(subject, oh, ow)[0]
            sums[oh, ow] = (patch.astype(np.float64) * kernel).sum(axis=2)
    return WindowRegion(
        subject.layer, co, int((x * x).sum(axis=(0, 1)).argmax()), subject.stride, subject.dilation, subject.size, (-w.top, -w.left), x, kernel, bias, sums,
        sums.sum(axis=(2, 3)) + bias, output[:down, :across, co],
    )  # fmt: skip
