"""Pictures as a detector takes them: resized into a window of an image, black around it, means subtracted.

    image[y, x, c] = whole(resized[y - y1, x - x1, c]) - mean[c]          0 - mean[c] outside of the window

The resize is bilinear between the centres of pixels, in float64, and black beyond the picture's border, but never darker or lighter
than the picture is anywhere; ``whole`` cuts off what is behind the point, as storing it in the picture's own dtype does. Means are
subtracted in float64, and the result is rounded to float32.

The ladder: mold_picture_reference (NumPy), mold_picture_cpu (Numba, rows in parallel, pictures uint8 alone); mold_picture is
mold_picture_cpu. Source: matterport's ``utils.resize_image`` and ``model.mold_image``, on scikit-image, whose ``resize`` adds up in
this order, so that images have the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array
from .geometry import pair, resize_axis
from .numba_later import carray
from .steps.intrinsics import byte_pointer, double_pointer, float_pointer, int_pointer
from .steps.loop import run
from .steps.records import Address, Step, view_of
from .threads import resolve_threads

__all__ = ["MoldStep", "mold_picture", "mold_picture_cpu", "mold_picture_reference"]

Window = tuple[int, int, int, int]


def _checked(picture: Array, window: Window, size: int | Sequence[int], mean: Sequence[float]) -> tuple[int, int]:
    """``size`` as (height, width). ValueError for a picture without pixels, a window that is empty or not within the image, and
    means that are not one for each channel."""
    height, width = pair("size", size)
    y1, x1, y2, x2 = window
    if picture.ndim != 3 or picture.size == 0 or len(mean) != picture.shape[2]:
        raise ValueError(
            f"mold_picture: got a picture of shape {tuple(picture.shape)} and {len(mean)} means; they must be [h, w, c] with "
            "a pixel, and c"
        )
    if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
        raise ValueError(
            f"mold_picture: got the window {tuple(window)}; it must have pixels, and lie within the image of {height}x{width} "
            "pixels"
        )
    return height, width


def mold_picture_reference(
    picture: Array, *, window: Window, size: int | Sequence[int], mean: Sequence[float]
) -> Array:
    """A picture dtype[h, w, c] in the ``window`` (y1, x1, y2, x2) of an image float32[*size, c]."""
    height, width = _checked(picture, window, size, mean)
    y1, x1, y2, x2 = window
    (upper, lower), (above, below) = resize_axis(picture.shape[0], y2 - y1)
    (left, right), (before, behind) = resize_axis(picture.shape[1], x2 - x1)
    top, bottom = picture[upper] * above[:, None, None], picture[lower] * below[:, None, None]
    before, behind = before[:, None], behind[:, None]
    resized = top[:, left] * before + top[:, right] * behind
    resized += bottom[:, left] * before
    resized += bottom[:, right] * behind
    image = np.zeros((height, width, picture.shape[2]), picture.dtype)
    image[y1:y2, x1:x2] = resized.clip(picture.min(), picture.max()).astype(picture.dtype)
    return (image.astype(np.float32) - np.asarray(mean, np.float64)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class MoldStep(Step):
    """A picture into an image, which is written over; an item is one of its rows.

    picture         address of uint8[height, width, channels]
    out             address of float32[rows, columns, channels]
    y1, x1, y2, x2  the window
    y, x            addresses of int64[2, y2 - y1] and int64[2, x2 - x1], see ``resize_axis``
    y_share, x_share  addresses of float64 likewise
    mean            address of float64[channels]
    least, most     of all the picture's values
    """

    picture: Address
    out: Address
    y: Address
    x: Address
    y_share: Address
    x_share: Address
    mean: Address
    height: int
    width: int
    channels: int
    rows: int
    columns: int
    y1: int
    x1: int
    y2: int
    x2: int
    least: int
    most: int

    @property
    def items(self) -> int:
        return self.rows

    @property
    def scratch_bytes(self) -> int:
        return 8 * 2 * self.width * self.channels


_view = view_of(MoldStep)


@MoldStep.rounding_each
def _mold_item(step, item, scratch):
    s = _view(step)
    channels, length = s.channels, s.width * s.channels
    mean = carray(double_pointer(s.mean), (channels,))
    out = carray(float_pointer(s.out + 4 * item * s.columns * channels), (s.columns, channels))
    inside = s.y1 <= item and item < s.y2
    for x in range(s.columns):
        if not inside or x < s.x1 or x >= s.x2:
            for c in range(channels):
                out[x, c] = np.float32(0.0 - mean[c])
    if not inside:
        return
    tall, wide = s.y2 - s.y1, s.x2 - s.x1
    y, y_share = carray(int_pointer(s.y), (2, tall)), carray(double_pointer(s.y_share), (2, tall))
    columns, shares = carray(int_pointer(s.x), (2, wide)), carray(double_pointer(s.x_share), (2, wide))
    rows = carray(double_pointer(scratch), (2, length))
    for which in range(2):  # the two rows of the picture around this one, by their weights
        seen = carray(byte_pointer(s.picture + y[which, item - s.y1] * length), (length,))
        share = y_share[which, item - s.y1]
        for place in range(length):
            rows[which, place] = np.float64(seen[place]) * share
    least, most = np.float64(s.least), np.float64(s.most)
    for x in range(wide):
        left, right = columns[0, x] * channels, columns[1, x] * channels
        before, behind = shares[0, x], shares[1, x]
        for c in range(channels):
            value = rows[0, left + c] * before + rows[0, right + c] * behind
            value += rows[1, left + c] * before
            value += rows[1, right + c] * behind
            whole = np.float64(np.int32(min(max(value, least), most)))
            out[s.x1 + x, c] = np.float32(whole - mean[c])


def mold_picture_cpu(
    picture: Array, *, window: Window, size: int | Sequence[int], mean: Sequence[float], threads: int | None = 1
) -> Array:
    """A picture in an image, as a detector was trained on it.

    picture  uint8[h, w, c]
    window   (y1, x1, y2, x2) in pixels of the image, the last two one behind the end: where the picture goes
    size     (height, width) of the image
    mean     c numbers, which are subtracted

    Returns float32[height, width, c]. Raises TypeError for another dtype; ValueError for shapes that do not fit, and a window that is
    empty or not within the image.
    """
    if picture.dtype != np.uint8:
        raise TypeError(f"mold_picture: got a picture of dtype {picture.dtype}; this kernel takes uint8")
    height, width = _checked(picture, window, size, mean)
    picture = np.ascontiguousarray(picture)
    (y1, x1, y2, x2), (h, w, c) = window, picture.shape
    (y, y_share), (x, x_share) = resize_axis(h, y2 - y1), resize_axis(w, x2 - x1)
    means = np.array(mean, np.float64)
    out = np.empty((height, width, c), np.float32)
    step = MoldStep(
        picture=picture.ctypes.data, out=out.ctypes.data, y=y.ctypes.data, x=x.ctypes.data, y_share=y_share.ctypes.data,
        x_share=x_share.ctypes.data, mean=means.ctypes.data, height=h, width=w, channels=c, rows=height, columns=width,
        y1=y1, x1=x1, y2=y2, x2=x2, least=int(picture.min()), most=int(picture.max()),
    )  # fmt: skip
    run(step, resolve_threads(threads), picture, out, y, y_share, x, x_share, means)
    return out


mold_picture = mold_picture_cpu
