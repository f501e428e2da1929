"""From a picture to its detections: the stages, one after another, around whatever runs the networks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, UsageError, WeightsError
from ..images.prepare import read_pictures
from ..images.resizing import fit
from ..kernels import mold_picture, mold_picture_reference, softmax
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

_AT_A_TIME = {CLASS_HEAD: 250, MASK_HEAD: 25}
"""Regions that go through a head at a time. Of 256 channels they are 13 and 5 MB, which are used again for those that follow: 1000 at
once are 50 MB of new memory with each picture, whose pages the system clears first, and take 1.2 times as long."""


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


def mold(picture: npt.NDArray[Any], config: DetectorConfig, threads: int) -> Molded:
    """A picture [h, w, 3] of values 0 to 255 resized, on black, means subtracted. Raises ImageError for sizes that cannot be."""
    mode = config.IMAGE_RESIZE_MODE
    size, window = fit(picture.shape[:2], mode, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_MIN_SCALE)
    if size[0] % 64 or size[1] % 64:
        raise ImageError(
            f"{size[1]}x{size[0]} px, and with IMAGE_RESIZE_MODE={mode!r} its sides must be multiples of 64, as the pyramid halves "
            "them six times; crop it, or set the mode to 'square' or 'pad64'"
        )
    how: Any = {"window": window, "size": size, "mean": config.MEAN_PIXEL}
    if picture.dtype == np.uint8:
        return Molded(mold_picture(picture, **how, threads=threads)[None], window)
    return Molded(mold_picture_reference(picture, **how)[None], window)


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
    places, found = zip(*_through(net, CLASS_HEAD, ["mrcnn_class", "mrcnn_bbox"], seen, boxes, side, size), strict=True)
    back = np.argsort(np.concatenate(places))
    probable, shifts = (np.concatenate([some[name] for some in found])[back] for name in ("mrcnn_class", "mrcnn_bbox"))
    return _finite(probable), shifts


def mask_head(net: Net, seen: Seen, chosen: Chosen, side: int, size: tuple[int, int]) -> Float32:
    """The masks of what was chosen, each of its own class: float32[n, 2 * side, 2 * side]."""
    masks = np.empty((len(chosen.boxes), 2 * side, 2 * side), np.float32)
    for places, found in _through(net, MASK_HEAD, ["mrcnn_mask"], seen, chosen.boxes, side, size):
        masks[places] = found["mrcnn_mask"][np.arange(len(places)), :, :, chosen.class_ids[places]]
    return masks


def _through(
    net: Net, head: str, outputs: Sequence[str], seen: Seen, boxes: Boxes, side: int, size: tuple[int, int]
) -> Iterator[tuple[npt.NDArray[np.intp], Mapping[str, Float32]]]:
    """What a head makes of ``boxes``, some at a time: (which of all they are, {output: array})."""
    most = _AT_A_TIME[head]
    room = np.empty((min(most, len(boxes)), side, side, seen.maps[0].shape[-1]), np.float32)
    for first in range(0, len(boxes), most):
        some = boxes[first : first + most]
        cut, order = regions(seen.maps, some, side, size, net.threads, out=room[: len(some)])
        yield first + order, net.heads[head](cut, outputs=outputs)


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
            yield detect_one(net, detector, picture, config, name)


def detect_one(
    net: Net, detector: Detector, picture: npt.NDArray[Any], config: DetectorConfig, name: str = "picture"
) -> Detections:
    """What is in a picture [h, w, 3] of values 0 to 255; ``name`` is what errors call it. Raises ImageError for sizes that cannot be,
    WeightsError where numbers are beyond those of float32."""
    try:
        return _detected(net, detector, picture, config)
    except (ImageError, WeightsError) as error:
        raise type(error)(f"{name}: {error}") from None


def _detected(net: Net, detector: Detector, picture: npt.NDArray[Any], config: DetectorConfig) -> Detections:
    molded = mold(picture, config, net.threads)
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
