"""Sizes of pictures, and resizing: bit for bit as the programs that trained the networks did it."""

from __future__ import annotations

import operator
import re
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, UsageError
from ..kernels.geometry import resize_axis
from .reading import Picture

__all__ = [
    "MAX_SIDE",
    "Fit",
    "Interpolation",
    "Size",
    "fit",
    "parse_size",
    "resize_bilinear",
    "resize_nearest",
    "resize_picture",
]

Size = str | tuple[int, int]  # "none", "square", "pad64", or (width, height) in pixels
Interpolation = Literal["nearest", "bilinear"]

MAX_SIDE = 32768  # pixels; a side beyond it is a slip of the keyboard or a sliver of a picture, not a wish


def resize_bilinear(image: Picture, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear resize without smoothing, beyond the border black: the one Mask R-CNN was trained with.

    out[i, j] = Σ over the four neighbours of (image[y, x] · wy) · wx, added row by row, where the centre of target
    pixel i lies at (i + 0.5) · h / h' - 0.5; then clipped to the range of the image.

    image   [h, w, c] of uint8, float32 or float64, finite      shape  (h', w') in pixels, each at least 1
    result  float64[h', w', c]; cast it to the image's dtype (uint8 truncates) for what Mask R-CNN goes on with

    The clip has a visible effect: along the border a quarter or half of the weight falls on black, which darkens it,
    but never below the darkest value in the picture. Not smoothed means that a picture made much smaller aliases.
    Source: ``skimage.transform.resize(order=1, mode="constant", preserve_range=True, anti_aliasing=False)`` of
    scikit-image 0.26, which runs ``scipy.ndimage.zoom(mode="grid-constant", grid_mode=True)``. The order of the
    operations is SciPy's, so the bits are the same (compared on x86-64).
    """
    h, w, c = image.shape
    low, high = float(image.min()), float(image.max())
    (y0, y1), (wy0, wy1) = resize_axis(h, shape[0])
    columns, column_weights = resize_axis(w, shape[1])
    # Pixels and channels as one axis: the inner loops are then long instead of three values short.
    rows = image.reshape(h, w * c)
    x0, x1 = (columns[..., None] * c + np.arange(c)).reshape(2, -1)
    wx0, wx1 = np.repeat(column_weights, c, axis=1)

    out = np.empty((shape[0], shape[1] * c))
    for start in range(0, shape[0], 16):  # 16 rows of a few thousand float64 stay in the L2 cache
        part = slice(start, start + 16)
        upper = rows[y0[part]] * wy0[part, None]
        lower = rows[y1[part]] * wy1[part, None]
        block = out[part]
        np.multiply(upper[:, x0], wx0, out=block)
        block += upper[:, x1] * wx1
        block += lower[:, x0] * wx0
        block += lower[:, x1] * wx1
        np.clip(block, low, high, out=block)
    return out.reshape(*shape, c)


def resize_nearest(image: Picture, shape: tuple[int, int]) -> Picture:
    """Nearest-neighbour resize of [h, w, c] to (h', w') pixels, as Pillow and therefore Keras's ``load_img`` does it.

    Any dtype, kept. Source: Pillow's ``Image.resize(resample=NEAREST)``.
    """
    h, w = image.shape[:2]
    # Rows first, and then columns of what is left: four times faster than both at once.
    return image.take(_nearest_axis(h, shape[0]), 0).take(_nearest_axis(w, shape[1]), 1)


def _nearest_axis(source: int, target: int) -> NDArray[np.intp]:
    """The source pixel for each target pixel of one axis."""
    # Pillow adds the step up instead of multiplying, and its rounding decides where a position meets a pixel's edge.
    steps = np.full(target, source / target)
    steps[0] *= 0.5
    return np.cumsum(steps).astype(np.intp)


def parse_size(size: Size) -> Size:
    """Check a size: "none", "square", "pad64", "WIDTHxHEIGHT" or (width, height), each side 1 to 32768 pixels.

    Returns the name, or the pair (width, height). Raises UsageError for anything else.
    """
    if isinstance(size, str):
        text = size.strip().lower()
        if text in ("none", "square", "pad64"):
            return text
        match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
        sides = match and (int(match[1]), int(match[2]))
    else:
        try:
            width, height = size
            sides = operator.index(width), operator.index(height)
        except (TypeError, ValueError):
            sides = None
    if not sides or not all(1 <= side <= MAX_SIDE for side in sides):
        raise UsageError(
            f"size {size!r}: a size is none, square, pad64, or WIDTHxHEIGHT in pixels, each side 1 to {MAX_SIDE}; "
            "for example 640x480"
        )
    return sides


def resize_picture(image: Picture, size: Size, interpolation: Interpolation = "nearest") -> Picture:
    """Bring a picture [h, w, 3] to a size, dtype kept; all but "none" and a pair may add black borders.

    none             as it is
    square           Mask R-CNN's default: the short side up to 800 px but the long side at most 1024 px, centred on a
                     black square of 1024 px
    pad64            the short side up to 800 px, never down; centred on black whose sides are multiples of 64 px
    (width, height)  to exactly that, by ``interpolation``; the aspect ratio is not kept

    square and pad64 are always bilinear. Where a border cannot be split evenly the bottom and the right get more.
    Raises UsageError for a bad size; ImageError for a sliver whose sides would end below 1 or above 32768 px.
    Both are ``fit`` with matterport's default IMAGE_MIN_DIM, IMAGE_MAX_DIM and IMAGE_MIN_SCALE. (There pad64 asserts
    that the minimum is a multiple of 64, which its own default 800 is not; the arithmetic does not need it.)
    """
    size = parse_size(size)
    if size == "none":
        return image
    if not isinstance(size, str):
        return _resample(image, (size[1], size[0]), interpolation)
    full, (y1, x1, y2, x2) = fit(image.shape[:2], size, 800, 1024)
    canvas = np.zeros((*full, image.shape[2]), image.dtype)
    canvas[y1:y2, x1:x2] = _resample(image, (y2 - y1, x2 - x1), "bilinear")
    return canvas


class Fit(NamedTuple):
    """An image, and where in it the picture goes.

    size    (height, width) of the image, pixels
    window  y1, x1, y2, x2 in pixels, the last two one behind the end
    """

    size: tuple[int, int]
    window: tuple[int, int, int, int]


def fit(shape: tuple[int, int], mode: str, least: int, most: int, min_scale: float = 0) -> Fit:
    """The image that a detector takes for a picture of ``shape`` (height, width).

    mode       "square", "pad64" or "none", as for ``resize_picture``
    least      pixels of the short side, which is made larger up to that and never smaller; 0 for as it is
    most       pixels of the square's sides
    min_scale  how many times larger it becomes at least

    Raises ImageError for a sliver. Source: matterport's ``mrcnn/utils.py:resize_image``.
    """
    h, w = shape
    if mode == "none":
        return Fit((h, w), (0, 0, h, w))
    scale = max(1.0, least / min(h, w), min_scale)
    if mode == "square" and round(max(h, w) * scale) > most:
        scale = most / max(h, w)
    height, width = round(h * scale), round(w * scale)  # halves to even, as in the original
    if min(height, width) < 1 or max(height, width) > MAX_SIDE:
        raise ImageError(
            f"picture of {w}x{h} px: size {mode} makes it {width}x{height} px, and a side must be 1 to {MAX_SIDE}; "
            "crop it, or choose another size"
        )
    if mode == "square":
        full_height = full_width = most
    else:
        full_height, full_width = -(-height // 64) * 64, -(-width // 64) * 64
    top, left = (full_height - height) // 2, (full_width - width) // 2
    return Fit((full_height, full_width), (top, left, top + height, left + width))


def _resample(image: Picture, shape: tuple[int, int], interpolation: Interpolation) -> Picture:
    """The picture at (h', w') pixels, dtype kept: uint8 is truncated, not rounded, as in Mask R-CNN."""
    if image.shape[:2] == shape:
        return image
    if interpolation == "nearest":
        return resize_nearest(image, shape)
    return resize_bilinear(image, shape).astype(image.dtype)
