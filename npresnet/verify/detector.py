"""A detector beside an oracle: its pyramid and proposals from the image on, its heads on the same few regions for all, and its choices
on the oracle's own numbers.

What is chosen hangs on the last bit of what it is chosen from. So it is compared where both sides choose from the same: then the
results must be the same, too. Everything else is a smooth function of the image, and is compared as any layer is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cpu import by_layer
from ..detection.boxes import anchors, normalised
from ..detection.choosing import choose
from ..detection.config import DetectorConfig
from ..detection.regions import regions
from ..kernels import crop_and_resize_reference, nms
from ..model import ResNet
from ..network.detector import CLASS_HEAD, MASK_HEAD, PYRAMID
from ..network.graph import Layer
from ..plan.times import LayerStep

__all__ = ["by_reference", "by_tensorflow", "choices", "compared", "traced"]

Array = npt.NDArray[Any]

REGIONS = np.array(
    [
        (0, 0, 1, 1), (0, 0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.75), (0.4, 0.1, 0.6, 0.9), (0.8, 0.8, 0.9, 0.9),
        (0.05, 0.5, 0.1, 0.55), (0, 0.9, 0.3, 1), (0, 0, 0, 0),
    ],
    np.float32,
)  # fmt: skip
"""Boxes of every size and on every edge, by which the heads are compared."""


def compared(net: ResNet, images: Array) -> dict[str, Layer]:
    """{name: layer} of all that are compared for such images, inputs included."""
    own = net.graph.needed_for(_ends(net, images))
    heads = (layer for name in _heads(net, images) for layer in net.graph.heads[name].layers)
    return {layer.name: layer for layer in (*own, *heads)}


def _ends(net: ResNet, images: Array) -> tuple[str, ...]:
    return net.graph.ends_for(images.shape[1], images.shape[2])


def _fits(net: ResNet, images: Array) -> bool:
    """Whether there is a detector, and it takes images of this size."""
    return net.architecture.detector is not None and _ends(net, images) == net.graph.ends


def _heads(net: ResNet, images: Array) -> Mapping[str, int]:
    """{head that is compared: pixels along a side of its regions}."""
    detector = net.architecture.detector
    if detector is None or not _fits(net, images):
        return {}
    sides = {CLASS_HEAD: detector.pool, MASK_HEAD: DetectorConfig().MASK_POOL_SIZE}
    return {name: sides[name] for name in net.graph.heads}


class _Maps:
    """P2 to P5 of the first image, picked up on the way."""

    def __init__(self, net: ResNet) -> None:
        self._names = [net.graph.outputs.get(PYRAMID, {}).get(f"P{level}") for level in (2, 3, 4, 5)]
        self._found: dict[str, Array] = {}

    def see(self, name: str, array: Array) -> None:
        if name in self._names:
            self._found[name] = array[:1]

    @property
    def found(self) -> list[Array]:
        return [self._found[name] for name in self._names if name]


def traced(net: ResNet, images: Array) -> Iterator[LayerStep]:
    """Every layer as ``net.trace`` gives it, those of the heads on ``REGIONS`` of the first image's own maps."""
    maps = _Maps(net)
    for step in net.trace(images, _ends(net, images)):
        maps.see(step.name, step.array)
        yield step
    for name, side in _heads(net, images).items():
        cut, order = regions(maps.found, REGIONS, side, images.shape[1:3], net.threads)
        head = net.heads[name]
        yield from (
            replace(step, kind="roi align") if step.kind == "input" else step
            for step in head.trace(cut[np.argsort(order)])
        )


def by_reference(net: ResNet, images: Array) -> Iterator[tuple[str, Array]]:
    """The same by NumPy in float64: (layer, array)."""
    maps = _Maps(net)

    def run(graph: Any, batch: Array, outputs: Any) -> Iterator[tuple[str, Array]]:
        steps = by_layer.run(graph, net.weights, batch, outputs, algorithm="reference", threads=1)
        yield from ((step.name, step.array) for step in steps)

    for name, array in run(net.graph, images.astype(np.float64), _ends(net, images)):
        maps.see(name, array)
        yield name, array

    def cut(x: Array, boxes: Array, *, size: int, out: Array, threads: int) -> None:
        out[:] = crop_and_resize_reference(x, boxes, size=size)

    for name, side in _heads(net, images).items():
        found, order = regions(maps.found, REGIONS, side, images.shape[1:3], 1, cut)
        graph = net.graph.heads[name]
        yield from run(graph, found[np.argsort(order)].astype(np.float64), graph.ends)


def by_tensorflow(
    net: ResNet, backbone: Any, weights: Path, images: Array, seen: dict[str, Array]
) -> Iterable[tuple[str, Array]]:
    """The same by TensorFlow, whose model of the ``backbone`` is at hand; ``seen`` gets what ``choices`` are made from."""
    from . import oracle

    detector = net.architecture.detector
    if detector is None or not _fits(net, images):
        oracle.load_file(backbone, weights)
        return oracle.activations(backbone, images)
    return _by_tensorflow(net, oracle.detector.with_pyramid(backbone, detector.pyramid), weights, images, seen)


def _by_tensorflow(
    net: ResNet, model: Any, weights: Path, images: Array, seen: dict[str, Array]
) -> Iterator[tuple[str, Array]]:
    from . import oracle

    detector = net.architecture.detector
    assert detector is not None
    oracle.load_file(model, weights)
    names = [*net.graph.outputs[PYRAMID].values()]
    for name, array in oracle.activations(model, images):
        if name in names:
            seen[name] = array
        yield name, array
    if detector.rpn:
        rpn = oracle.detector.region_proposals(detector.pyramid, detector.rpn, detector.anchors)
        oracle.load_file(rpn, weights)
        for number, level in enumerate(names):
            for name, array in oracle.activations(rpn, seen[level]):
                seen[name + (f"@{number}" if number else "")] = array
                yield name + (f"@{number}" if number else ""), array
    for name, side in _heads(net, images).items():
        cut = oracle.detector.regions([seen[level][:1] for level in names[:4]], REGIONS, side, images.shape[1:3])
        yield net.graph.heads[name].layers[0].name, cut
        yield from oracle.activations(_head(net, name, weights), cut)


def _head(net: ResNet, name: str, weights: Path) -> Any:
    """A head in Keras, with its weights."""
    from . import oracle

    detector = net.architecture.detector
    assert detector is not None
    if name == CLASS_HEAD:
        model = oracle.detector.class_head(detector.pyramid, detector.pool, detector.hidden, detector.classes)
    else:
        model = oracle.detector.mask_head(detector.pyramid, detector.masks, detector.classes)
    oracle.load_file(model, weights)
    return model


def choices(net: ResNet, weights: Path, images: Array, seen: Mapping[str, Array]) -> Iterator[tuple[str, Array, Array]]:
    """(what is chosen, our choice, TensorFlow's) from what TensorFlow has ``seen`` in the first image: proposals and detections, with
    the settings for COCO but for the least score."""
    from . import oracle

    detector = net.architecture.detector
    if detector is None or not detector.classes or not _fits(net, images):
        return
    config, size = DetectorConfig(DETECTION_MIN_CONFIDENCE=0), images.shape[1:3]
    if detector.anchors != len(config.RPN_ANCHOR_RATIOS):
        config = config.changed(RPN_ANCHOR_RATIOS=np.linspace(0.5, 2, detector.anchors))
    scores, shifts = (
        np.concatenate([seen[name][0].reshape(-1, numbers) for name in net.graph.outputs[which].values()])
        for which, numbers in (("rpn_class", 2), ("rpn_bbox", 4))
    )
    probable = oracle.detector.probabilities(scores)[:, 1]
    places = anchors(size, config.RPN_ANCHOR_SCALES, config.RPN_ANCHOR_RATIOS)
    count, threshold = config.POST_NMS_ROIS_INFERENCE, config.RPN_NMS_THRESHOLD
    boxes, best, rois = oracle.detector.proposals(
        probable, shifts, places, config.PRE_NMS_LIMIT, count, threshold, config.RPN_BBOX_STD_DEV
    )
    kept = nms(boxes, best, most=count, threshold=threshold)
    yield "ROI", np.pad(boxes[kept], [(0, count - len(kept)), (0, 0)]), rois
    maps = [seen[name][:1] for name in [*net.graph.outputs[PYRAMID].values()][:4]]
    cut = oracle.detector.regions(maps, rois, detector.pool, size)
    found = dict(oracle.activations(_head(net, CLASS_HEAD, weights), cut, ["mrcnn_class", "mrcnn_bbox"]))
    window = normalised(np.array([0, 0, *size]), size)
    theirs = oracle.detector.detections(
        rois, found["mrcnn_class"], found["mrcnn_bbox"], window, config.DETECTION_MIN_CONFIDENCE, config.DETECTION_NMS_THRESHOLD,
        config.DETECTION_MAX_INSTANCES, config.BBOX_STD_DEV,
    )  # fmt: skip
    ours = choose(rois, found["mrcnn_class"], found["mrcnn_bbox"], window, config)
    yield "mrcnn_detection", np.column_stack([ours.boxes, ours.class_ids, ours.scores]).astype(np.float32), theirs
