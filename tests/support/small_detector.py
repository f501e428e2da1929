"""The smallest Mask R-CNN that there can be: what stands in for one where each launch, or each thread, is dear."""

from __future__ import annotations

from dataclasses import replace

import npresnet
from npresnet.detection.config import DetectorConfig
from npresnet.model import assemble
from npresnet.network.architecture import Architecture
from npresnet.network.detector import Detector, with_detector
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import Conv2D, Input, ReLU
from npresnet.network.seeded import random_weights, seeded

__all__ = ["CONFIG", "small_detector"]

DETECTOR = Detector(pyramid=4, rpn=4, anchors=3, classes=3, pool=2, hidden=4, masks=4)

CONFIG = DetectorConfig.preset(
    "shapes", IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=64, POST_NMS_ROIS_INFERENCE=6, DETECTION_MAX_INSTANCES=3,
    DETECTION_MIN_CONFIDENCE=0, MASK_POOL_SIZE=2,
)  # fmt: skip


def small_detector(device: str, seed: int = 1) -> npresnet.ResNet:
    """Behind a backbone of four convolutions everything that a detector has; by a ``seed`` with which something is detected."""
    layers = (
        Layer("input", Input(3)),
        Layer("c2", Conv2D(3, 4, (4, 4), (4, 4)), ("input",)),
        Layer("relu2", ReLU(), ("c2",)),
        Layer("c3", Conv2D(4, 4, (2, 2), (2, 2)), ("relu2",)),
        Layer("c4", Conv2D(4, 4, (2, 2), (2, 2)), ("c3",)),
        Layer("c5", Conv2D(4, 4, (2, 2), (2, 2)), ("c4",)),
    )
    features = {"C1": "c2", "C2": "relu2", "C3": "c3", "C4": "c4", "C5": "c5"}
    graph = with_detector(Graph(layers, {"C": features}), DETECTOR)
    architecture = replace(Architecture.named("matterport/resnet50", width=4), detector=DETECTOR)
    return assemble(replace(seeded(architecture), graph=graph, weights=random_weights(graph, seed)), device, threads=1)
