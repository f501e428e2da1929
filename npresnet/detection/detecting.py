"""From a picture to its detections: the stages, one after another, around whatever runs the networks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, WeightsError
from ..images.conventions import subtract_mean_pixel
from ..images.prepare import read_pictures
from ..images.resizing import fit_picture
from ..kernels import softmax
from ..network.detector import CLASS_HEAD, MASK_HEAD, PYRAMID, Detector
from ..network.graph import Graph
from .boxes import Boxes, anchors, normalised
from .choosing import Chosen, choose
from .config import DetectorConfig
from .proposals import proposals
from .regions import regions
from .result import Detections, placed

__all__ = ["Molded", "Seen", "class_head", "detect", "detect_one", "look", "mask_head", "mold"]

Float32 = npt.NDArray[np.float32]

_MASKS = 25  # regions that go through the mask head at a time: their activations are some 100 MB for 256 channels


class Net(Protocol):
    """A network, whatever runs it."""

    threads: int

    @property
    def graph(self) -> Graph: ...

    @property
    def heads(self) -> Mapping[str, Any]: ...

    def __call__(self, images: Any, outputs: Sequence[str]) -> Any: ...


class Molded(NamedTuple):
    """A picture as the network takes it.

    image   float32[1, h, w, 3]
    window  which part of it is picture: y1, x1, y2, x2 in pixels
    """

    image: Float32
    window: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[1], self.image.shape[2]

    @property
    def normal_window(self) -> Boxes:
        """The window, normalised."""
        return normalised(np.array(self.window), self.size)


def mold(picture: npt.NDArray[Any], config: DetectorConfig) -> Molded:
    """A picture [h, w, 3] of values 0 to 255 resized, on black, means subtracted. Raises UsageError, ImageError for sizes that cannot
    be."""
    mode = config.IMAGE_RESIZE_MODE
    image, window = fit_picture(picture, mode, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_MIN_SCALE)
    if image.shape[0] % 64 or image.shape[1] % 64:
        raise UsageError(
            f"picture of {image.shape[1]}x{image.shape[0]} pixels with IMAGE_RESIZE_MODE={mode!r}: its sides must be multiples of 64, as "
            "the pyramid halves them six times; set the mode to 'square' or 'pad64'"
        )
    return Molded(subtract_mean_pixel(image, np.array(config.MEAN_PIXEL))[None], window)


class Seen(NamedTuple):
    """What the network itself makes of an image.

    maps    P2 to P5, float32[1, h, w, c]
    scores  float32[n], for each anchor how probably it holds something
    shifts  float32[n, 4]
    """

    maps: Sequence[Float32]
    scores: Float32
    shifts: Boxes


def look(net: Net, image: Float32) -> Seen:
    """Run the backbone, the pyramid and the region proposals."""
    outputs = net.graph.outputs
    maps = [outputs[PYRAMID][f"P{level}"] for level in (2, 3, 4, 5)]
    scores, shifts = (list(outputs[which].values()) for which in ("rpn_class", "rpn_bbox"))
    found = net(image, outputs=[*maps, *scores, *shifts])
    pairs = np.concatenate([found[name].reshape(-1, 2) for name in scores])
    probable = softmax(pairs, threads=net.threads)[:, 1]
    return Seen(
        [found[name] for name in maps],
        _finite(probable),
        np.concatenate([found[name].reshape(-1, 4) for name in shifts]),
    )


def class_head(net: Net, seen: Seen, boxes: Boxes, side: int, size: tuple[int, int]) -> tuple[Float32, Float32]:
    """(probabilities float32[k, classes], shifts float32[k, classes, 4]) of ``boxes`` float32[k, 4], normalised."""
    cut, order = regions(seen.maps, boxes, side, size, net.threads)
    found = net.heads[CLASS_HEAD](cut, outputs=["mrcnn_class", "mrcnn_bbox"])
    back = np.argsort(order)
    return _finite(found["mrcnn_class"][back]), found["mrcnn_bbox"][back]


def mask_head(net: Net, seen: Seen, chosen: Chosen, side: int, size: tuple[int, int]) -> Float32:
    """The masks of what was chosen, each of its own class: float32[n, 2 * side, 2 * side]."""
    cut, order = regions(seen.maps, chosen.boxes, side, size, net.threads)
    classes = chosen.class_ids[order]
    found = np.empty((len(cut), 2 * side, 2 * side), np.float32)
    for first in range(0, len(cut), _MASKS):
        part = slice(first, first + _MASKS)
        masks = net.heads[MASK_HEAD](cut[part], outputs=["mrcnn_mask"])["mrcnn_mask"]
        found[order[part]] = masks[np.arange(len(masks)), :, :, classes[part]]
    return found


def detect(net: Net, detector: Detector | None, pictures: Any, config: DetectorConfig) -> Iterator[Detections]:
    """What is in each of ``pictures``, as ``ResNet.detect`` takes them, one after another; errors are of the picture that is next."""
    if detector is None or not detector.classes:
        raise UsageError(
            f"detect: the file holds {'a backbone' if detector is None else detector} alone; give the weights of a whole Mask R-CNN of "
            "matterport's, with its region proposals (rpn_...) and its heads (mrcnn_...)"
        )
    config.check(detector)
    several = isinstance(pictures, (list, tuple))
    for number, item in enumerate(pictures if several else [pictures], 1):
        name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else f"picture {number}"
        for picture in read_pictures(item, name, net.graph.channels):
            yield detect_one(net, detector, picture, config)


def detect_one(net: Net, detector: Detector, picture: npt.NDArray[Any], config: DetectorConfig) -> Detections:
    """What is in a picture [h, w, 3] of values 0 to 255. Raises UsageError, ImageError for sizes that cannot be; WeightsError where
    numbers are beyond those of float32."""
    molded = mold(picture, config)
    seen, size, window = look(net, molded.image), molded.size, molded.normal_window
    places = anchors(size, config.RPN_ANCHOR_SCALES, config.RPN_ANCHOR_RATIOS)
    boxes, count = proposals(seen.scores, seen.shifts, places, config)
    # all boxes of zeros are alike: the first stands for the others
    alike = np.minimum(np.arange(len(boxes)), count)
    probabilities, shifts = class_head(net, seen, boxes[: count + 1], detector.pool, size)
    chosen = choose(boxes, probabilities[alike], shifts[alike], window, config)

    def masks_of(found: Chosen) -> Float32:
        return mask_head(net, seen, found, config.MASK_POOL_SIZE, size)

    return placed(chosen, window, picture.shape[:2], masks_of if detector.masks else None, net.threads)


def _finite(probabilities: Float32) -> Float32:
    """The same. Raises WeightsError where they are no numbers."""
    if not np.isfinite(probabilities).all():
        raise WeightsError(
            "the network's probabilities are not numbers for this picture: its sums are beyond float32; the weights are damaged, or "
            "the pixels are no picture's"
        )
    return probabilities
