"""What each family subtracts from pixels and divides them by, and the size of its pictures.

The arithmetic takes RGB 0..255 of any dtype, [..., w, 3], and returns float32[..., w, 3], C-contiguous; where it treats all
channels alike, of any number of channels. A new convention is one function and one row of ``CONVENTIONS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .reading import Float32, Picture
from .resizing import Interpolation, Size

if TYPE_CHECKING:  # what prepares pictures in a process of its own need not know of networks
    from ..network.architecture import Architecture
    from ..network.graph import Graph

__all__ = ["CONVENTIONS", "Convention", "convention_for", "default_size", "subtract_mean_pixel"]

MEAN_PIXEL = np.array([123.7, 116.8, 103.9])  # RGB; float64, see subtract_mean_pixel
CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # BGR
NSFW_MEAN = np.array([104, 117, 123], np.float32)  # BGR
TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # RGB, of values 0..1
TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def subtract_mean_pixel(image: Picture) -> Float32:
    """RGB minus (123.7, 116.8, 103.9). Source: matterport's ``mrcnn/model.py:mold_image``.

    The original subtracts a float64 mean, so in float64, and feeds the result to a float32 network: rounding the mean
    to float32 first would change last bits.
    """
    values: Float32 = (image.astype(np.float32) - _row(MEAN_PIXEL, image)).astype(np.float32, order="C")
    return values


def _row(channels: NDArray[Any], image: Picture) -> NDArray[Any]:
    """A number for each channel as [w, c], for each pixel of a row: NumPy's inner loops are then long instead of three values short."""
    return np.tile(channels, (image.shape[-2], 1))


def _bgr(image: Picture) -> Float32:
    """RGB to BGR, as float32, channel by channel, for the same reason."""
    values = np.empty(image.shape, np.float32)
    for channel in range(3):
        values[..., channel] = image[..., 2 - channel]
    return values


def caffe(image: Picture) -> Float32:
    """RGB to BGR, minus (103.939, 116.779, 123.68). Source: Keras ``preprocess_input(mode="caffe")``."""
    values = _bgr(image)
    values -= _row(CAFFE_MEAN, image)
    return values


def torch(image: Picture) -> Float32:
    """RGB / 255, minus the mean, over the deviation of ImageNet. Source: Keras ``preprocess_input(mode="torch")``."""
    values = image.astype(np.float32, order="C")
    values /= np.float32(255)
    values -= _row(TORCH_MEAN, image)
    values /= _row(TORCH_DEVIATION, image)
    return values


def tf(image: Picture) -> Float32:
    """RGB / 127.5 - 1, so -1..1. Source: Keras ``preprocess_input(mode="tf")``."""
    values = image.astype(np.float32, order="C")
    values /= np.float32(127.5)
    values -= np.float32(1)
    return values


def unit(image: Picture) -> Float32:
    """RGB / 255, so 0..1. Source: KerasCV's ``Rescaling`` layer."""
    return image.astype(np.float32, order="C") * np.float32(1 / 255)


def nsfw(image: Picture) -> Float32:
    """RGB to BGR, minus (104, 117, 123). Source: opennsfw2's ``preprocess_image``."""
    values = _bgr(image)
    values -= _row(NSFW_MEAN, image)
    return values


def frcnn(image: Picture) -> Float32:
    """RGB minus (103.939, 116.779, 123.68), the means of BGR. Source: keras-frcnn's ``format_img_channels``."""
    values = image.astype(np.float32, order="C")
    values -= _row(CAFFE_MEAN, image)
    return values


def unchanged(image: Picture) -> Float32:
    """RGB 0..255 as float32: for networks that scale inside."""
    return image.astype(np.float32, order="C")


@dataclass(frozen=True)
class Convention:
    """How a family of networks was fed: its arithmetic, and what it does about size when nothing is asked for."""

    meaning: str  # the arithmetic in words
    arithmetic: Callable[[Picture], Float32]
    default_size: str
    interpolation: Interpolation  # for an explicit WIDTHxHEIGHT
    colours: bool = True  # means or an order of red, green and blue: for three channels alone

    def in_words(self, channels: int) -> str:
        """The arithmetic in words, for pictures of so many channels."""
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        return self.meaning.replace("RGB", kind)


CONVENTIONS = {
    "matterport": Convention("RGB, 0 to 255, minus (123.7, 116.8, 103.9)", subtract_mean_pixel, "square", "bilinear"),
    "caffe": Convention("BGR, 0 to 255, minus (103.939, 116.779, 123.68)", caffe, "224x224", "nearest"),
    "torch": Convention(
        "RGB, 0 to 1, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)", torch, "224x224", "nearest"
    ),
    "tf": Convention("RGB, -1 to 1", tf, "224x224", "nearest", colours=False),
    "unit": Convention("RGB, 0 to 1", unit, "224x224", "nearest", colours=False),
    "nsfw": Convention("BGR, 0 to 255, minus (104, 117, 123)", nsfw, "224x224", "bilinear"),
    "frcnn": Convention("RGB, 0 to 255, minus (103.939, 116.779, 123.68)", frcnn, "none", "nearest"),
    "none": Convention("RGB, 0 to 255, as they are", unchanged, "none", "nearest", colours=False),
}


def convention_for(preprocessing: str, channels: int = 3) -> Convention:
    """The convention of this name for pictures of so many channels. Raises UsageError for a name that is none, and where the
    arithmetic is one of colours that the pictures have not."""
    convention = CONVENTIONS.get(preprocessing)
    if convention is None:
        raise UsageError(f"preprocessing {preprocessing!r}: the conventions are {', '.join(CONVENTIONS)}; choose one")
    if convention.colours and channels != 3:
        others = ", ".join(name for name, other in CONVENTIONS.items() if not other.colours)
        raise UsageError(
            f"preprocessing {preprocessing!r}: it is for red, green and blue, but the network takes {channels} "
            f"{'channel' if channels == 1 else 'channels'}; choose one of {others}"
        )
    return convention


def default_size(architecture: Architecture, graph: Graph) -> Size:
    """The size that a network's pictures are given where none is asked for: (width, height) if the file fixes it, else what is
    usual in its family, whatever is done to the pixels."""
    if graph.size is not None:
        height, width = graph.size
        return width, height
    return CONVENTIONS[architecture.family.preprocessing].default_size
