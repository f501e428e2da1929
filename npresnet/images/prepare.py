"""From a picture to the array a network takes: reading, resizing, and each family's colour arithmetic.

    file ── load_picture ──> uint8[h, w, c] ── resize_picture ──> same dtype ── arithmetic ──> float32[h, w, c]
                                               none | square |                 matterport | caffe | torch
                                               pad64 | (width, height)         tf | unit | nsfw | none

Size and arithmetic are independent: ``CONVENTIONS`` says which size and interpolation a family uses when none is asked
for, and ``prepare`` runs the whole line. Every step gives the bits that the original Python gives: Keras's ``load_img``
and ``preprocess_input``, and Mask R-CNN's ``resize_image`` and ``mold_image`` on scikit-image. NumPy does all of it;
only reading a picture file needs Pillow. Arrays are RGB, height before width; a size written as text or as a pair is
width before height, as pictures are usually described. For networks of one channel pictures are grey; those of another
number take arrays alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, UsageError
from ..network.inputs import transpose_hint
from .conventions import Convention, convention_for
from .reading import Float32, Picture, load_picture, load_prepared
from .resizing import Size, parse_size, resize_picture

__all__ = ["prepare", "read_pictures"]


def prepare(source: object, preprocessing: str, size: Size | None = None, channels: int = 3) -> Float32:
    """Pictures as the float32[n, h, w, channels] that a network of the given convention takes.

    source         one of these, or a list or tuple of them that end at the same size:
                   a path to a picture file;
                   a path to a .npy of float32[n, h, w, channels] or [h, w, channels], prepared before: taken as it is,
                   whatever the other arguments say;
                   an array [h, w, 3] or [n, h, w, 3] of RGB values 0..255, integer or floating point: a picture;
                   grey [h, w] or [h, w, 1] is repeated to RGB, of [h, w, 4] the alpha is dropped
    preprocessing  a name in ``CONVENTIONS``
    size           "none", "square", "pad64", "WIDTHxHEIGHT" or (width, height); None for the convention's own
    channels       how many the network takes. 3: RGB. 1: picture files are read as grey; arrays are [h, w], [h, w, 1] or
                   [n, h, w, 1]. Any other number: arrays of just so many, with the same range of values

    Raises UsageError for an unknown convention, one of colours where there are none, a bad size or a source of another type;
    ImageError for whatever is wrong with a picture; MissingExtraError when a picture file is given and Pillow is not there.
    """
    convention = convention_for(preprocessing, channels)
    size = parse_size(convention.default_size if size is None else size)
    sources: Sequence[object] = source if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise ImageError("no picture given: the list is empty; give at least one")

    batches: list[Float32] = []
    for number, item in enumerate(sources, 1):
        name = f"picture {number} of {len(sources)}" if len(sources) > 1 else "picture"
        if isinstance(item, (str, os.PathLike)):
            name = os.fspath(item)
        batch = _prepare_one(item, name, convention, size, channels)
        if batches and batch.shape[1:] != batches[0].shape[1:]:
            raise ImageError(
                f"{name}: {batch.shape[2]}x{batch.shape[1]} px, but the first is "
                f"{batches[0].shape[2]}x{batches[0].shape[1]} px; one batch has one size: "
                "choose one with --size square or --size WIDTHxHEIGHT, or run them one by one"
            )
        batches.append(batch)
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


def _prepare_one(item: object, name: str, convention: Convention, size: Size, channels: int) -> Float32:
    """One source of ``prepare`` as float32[n, h, w, channels]."""
    if name.lower().endswith(".npy") and isinstance(item, (str, os.PathLike)):
        return load_prepared(item, channels)
    prepared = [
        convention.arithmetic(resize_picture(picture, size, convention.interpolation))
        for picture in read_pictures(item, name, channels)
    ]
    return prepared[0][None] if len(prepared) == 1 else np.stack(prepared)


def read_pictures(item: object, name: str, channels: int) -> Picture:
    """A picture file, or an array of one picture or several, as [n, h, w, channels] of values 0 to 255; ``name`` is what errors
    call it. Raises as ``prepare``."""
    if isinstance(item, (str, os.PathLike)):
        if channels not in (1, 3):
            raise ImageError(
                f"{name}: the network takes {channels} channels, and a picture file has no such colours (alpha is none); give "
                f"an array [h, w, {channels}], or a .npy of prepared input"
            )
        if name.lower().endswith(".npy"):
            raise ImageError(
                f"{name}: an array, where a picture is asked for; load it with numpy.load, and give the array"
            )
        return load_picture(item, grey=channels == 1)[None]
    if isinstance(item, np.ndarray):
        try:
            return _pictures(item, channels)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
    raise UsageError(
        f"{name}: {type(item).__name__}; a picture is a path or a numpy array; for anything else that holds pixels "
        "give numpy.asarray of it"
    )


def _pictures(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """An array of picture values as [n, h, w, channels]: uint8, float32 or float64, finite, at least one pixel.

    Raises ImageError for any other shape, for dtypes that are not numbers, NaN, infinity, and values beyond 0..255 or, where
    they may have fractions, within 0..1.
    """
    described = f"array {list(array.shape)} of {array.dtype}"
    if array.dtype.kind not in "uif":
        raise ImageError(f"{described}: pixels are integers or floating-point numbers 0..255; convert them")
    if array.ndim == 2:
        array = array[..., None]
    allowed = (1, 3, 4) if channels == 3 else (channels,)
    if array.ndim not in (3, 4) or array.shape[-1] not in allowed:
        raise ImageError(
            f"{described}: {_SHAPES.get(channels, _SHAPE).format(channels)}" + transpose_hint(array.shape, allowed)
        )
    if array.size == 0:
        raise ImageError(f"{described}: a picture has at least one pixel; an empty slice, perhaps?")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ImageError(f"{described}: holds NaN or infinity; a picture's values are 0..255: repair them first")
        # float16 is widened as scikit-image and Keras do; anything wider than float64 has no counterpart there.
        array = array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32, copy=False)
    if array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ImageError(
                f"{described}: values from {low:g} to {high:g}; a picture's are 0..255: scale them first, or call the network "
                "itself with what is prepared already"
            )
        if array.dtype.kind == "f" and 0 < high <= 1:
            raise ImageError(
                f"{described}: values from {low:g} to {high:g}; a picture's are 0..255, and this looks like 0..1: multiply it by "
                "255 (a picture that really is this dark is taken as uint8)"
            )
        array = array if array.dtype.kind == "f" else array.astype(np.uint8)
    if channels == 3:
        array = array[..., :3] if array.shape[-1] == 4 else np.broadcast_to(array, (*array.shape[:-1], 3))
    return array.reshape(-1, *array.shape[-3:])


_SHAPES = {
    3: "a picture is [h, w, 3] or [n, h, w, 3], grey [h, w] or [h, w, 1], or with alpha [h, w, 4]",
    1: "the network takes one channel: a picture for it is [h, w], [h, w, 1] or [n, h, w, 1]; make it grey first",
}
_SHAPE = "the network takes {0} channels: a picture for it is [h, w, {0}] or [n, h, w, {0}]"
