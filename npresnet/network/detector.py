"""What Mask R-CNN puts behind its backbone, as data: the feature pyramid, the region proposals, and the two heads.

    C2..C5 ── pyramid ──> P2..P6 ── proposals ──> a score and four shifts for each anchor
                            └─ regions of P2..P5, 7x7 pixels each ──> class head ──> classes, and boxes for each
                            └─ regions of P2..P5, 14x14 pixels each ─> mask head ──> a mask for each class

The first two are layers of the network itself. Each head is a graph of its own (``Graph.heads``), whose images are what was cut
from the pyramid. What lies between, anchors, the choice of boxes and the cutting, has no weights: ``npresnet/detection``.

Source of all of it: matterport/Mask_RCNN:mrcnn/model.py (``build_rpn_model``, ``fpn_classifier_graph``, ``build_fpn_mask_graph``,
``MaskRCNN.build``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..files.stored import StoredLayer
from .graph import Graph, Layer
from .operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Flatten,
    Input,
    Operator,
    ReLU,
    Reshape,
    Softmax,
    UpSample,
)

__all__ = ["CLASS_HEAD", "MASK_HEAD", "MODELS", "PYRAMID", "Detector", "detector_in", "with_detector"]

PYRAMID = "pyramid"
"""The set of outputs {"P2": layer, ...}; beside it are "rpn_class" and "rpn_bbox", {"P2": layer, ...} of the proposals."""

CLASS_HEAD, MASK_HEAD = "class", "mask"
"""The keys of ``Graph.heads``."""

MODELS: Mapping[str, str] = dict.fromkeys(("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"), "rpn_model")
"""{layer: the model in which matterport's code has it, and looks for its weights}."""

_EPSILON = 1e-3


@dataclass(frozen=True)
class Detector:
    """Sizes of what a file has behind its backbone; each part needs those before it.

    pyramid  channels of P2 to P6
    rpn      channels between the pyramid and the proposals; 0: there are none
    anchors  per pixel of a map
    classes  with the background, which is number 0; 0: there is no class head, nor a mask head
    pool     pixels along a side of what the class head sees of a region
    hidden   channels within the class head
    masks    channels within the mask head; 0: there is none
    """

    pyramid: int
    rpn: int = 0
    anchors: int = 3
    classes: int = 0
    pool: int = 7
    hidden: int = 0
    masks: int = 0

    def __str__(self) -> str:
        if not self.classes:
            return "a pyramid" + (" and region proposals" if self.rpn else "")
        return f"a detector of {self.classes} classes" + ("" if self.masks else " without masks")


class _Chain:
    """Layers one behind the other, and those that branch off."""

    def __init__(self, x: str, layers: tuple[Layer, ...] = ()) -> None:
        self.x, self.layers = x, [*layers]

    def add(self, name: str, operator: Operator, *inputs: str, stored: str = "") -> str:
        self.layers.append(Layer(name, operator, inputs or (self.x,), stored))
        self.x = name
        return name

    def activated(self, name: str, operator: Operator, activation: Operator, *inputs: str, stored: str = "") -> str:
        """One of Keras's layers that has an activation: two here."""
        self.add(f"{name}:0", operator, *inputs, stored=stored or name)
        return self.add(name, activation)

    def normed(self, conv: str, norm: str, operator: Conv2D) -> None:
        self.add(conv, operator)
        self.add(norm, BatchNorm(operator.channels, _EPSILON))
        self.add(f"{norm}_relu", ReLU())


def with_detector(graph: Graph, detector: Detector) -> Graph:
    """A backbone's graph with what a detector has behind it: further layers, sets of outputs, and heads."""
    c, p = graph.features, detector.pyramid
    shapes = {layer.name: layer for layer in graph.layers}
    chain = _Chain(graph.layers[-1].name, graph.layers)
    width = {stage: _width(shapes, c[f"C{stage}"]) for stage in range(2, 6)}
    chain.add("fpn_c5p5", Conv2D(width[5], p, (1, 1)), c["C5"])
    sums = {5: "fpn_c5p5"}
    for stage in (4, 3, 2):
        up = chain.add(f"fpn_p{stage + 1}upsampled", UpSample((2, 2)), sums[stage + 1])
        lateral = chain.add(f"fpn_c{stage}p{stage}", Conv2D(width[stage], p, (1, 1)), c[f"C{stage}"])
        sums[stage] = chain.add(f"fpn_p{stage}add", Add(), up, lateral)
    maps = {f"P{s}": chain.add(f"fpn_p{s}", Conv2D(p, p, (3, 3), padding="same"), sums[s]) for s in (2, 3, 4, 5)}
    # In Keras a max-pool of single pixels. As a mean of them it is the same numbers, and NaN shows in it, so that what it reads
    # may be computed by Winograd's algorithm (``plan/winograd.py``).
    maps["P6"] = chain.add("fpn_p6", AveragePool((1, 1), (2, 2), "valid"), maps["P5"])
    outputs = {**graph.outputs, PYRAMID: maps}
    if detector.rpn:
        outputs |= _proposals(chain, detector, maps)
    heads = {CLASS_HEAD: _class_head(detector)} if detector.classes else {}
    if detector.masks:
        heads[MASK_HEAD] = _mask_head(detector)
    return replace(graph, layers=tuple(chain.layers), outputs=outputs, heads=heads)


def _width(layers: Mapping[str, Layer], name: str) -> int:
    """Channels of a layer's output: those of the last convolution before it."""
    layer = layers[name]
    while not isinstance(layer.operator, Conv2D):
        layer = layers[layer.inputs[0]]
    return layer.operator.channels


def _proposals(chain: _Chain, detector: Detector, maps: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The model ``rpn_model``, used once for each map of the pyramid."""
    scores: dict[str, str] = {}
    shifts: dict[str, str] = {}
    for use, (level, x) in enumerate(maps.items()):
        at = f"@{use}" if use else ""
        conv = Conv2D(detector.pyramid, detector.rpn, (3, 3), padding="same")
        shared = chain.activated(f"rpn_conv_shared{at}", conv, ReLU(), x, stored="rpn_conv_shared")
        for name, each, found in (("rpn_class_raw", 2, scores), ("rpn_bbox_pred", 4, shifts)):
            operator = Conv2D(detector.rpn, each * detector.anchors, (1, 1))
            found[level] = chain.add(f"{name}{at}", operator, shared, stored=name if at else "")
    return {"rpn_class": scores, "rpn_bbox": shifts}


def _class_head(detector: Detector) -> Graph:
    chain = _Chain("roi_align_classifier")
    side, hidden, classes = (detector.pool, detector.pool), detector.hidden, detector.classes
    chain.layers.append(Layer(chain.x, Input(detector.pyramid, side)))
    chain.normed("mrcnn_class_conv1", "mrcnn_class_bn1", Conv2D(detector.pyramid, hidden, side))
    chain.normed("mrcnn_class_conv2", "mrcnn_class_bn2", Conv2D(hidden, hidden, (1, 1)))
    shared = chain.add("pool_squeeze", Flatten())
    chain.add("mrcnn_class_logits", Dense(hidden, classes, softmax=False))
    chain.add("mrcnn_class", Softmax())
    chain.add("mrcnn_bbox_fc", Dense(hidden, 4 * classes, softmax=False), shared)
    chain.add("mrcnn_bbox", Reshape((classes, 4)))
    return Graph(tuple(chain.layers), {}, "mrcnn_class", result=["mrcnn_class", "mrcnn_bbox"])


def _mask_head(detector: Detector) -> Graph:
    chain = _Chain("roi_align_mask")
    channels, masks = detector.pyramid, detector.masks
    chain.layers.append(Layer(chain.x, Input(channels)))
    for number in range(1, 5):
        conv = Conv2D(channels, masks, (3, 3), padding="same")
        chain.normed(f"mrcnn_mask_conv{number}", f"mrcnn_mask_bn{number}", conv)
        channels = masks
    chain.activated("mrcnn_mask_deconv", Conv2DTranspose(masks, masks, (2, 2), (2, 2)), ReLU())
    chain.activated("mrcnn_mask", Conv2D(masks, detector.classes, (1, 1)), Activation("sigmoid"))
    return Graph(tuple(chain.layers), {}, result="mrcnn_mask")


# ---------------------------------------------------------------------------------------------------------------------
# What a file has


def detector_in(layers: Mapping[str, StoredLayer], backbone: Graph) -> tuple[Detector | None, str | None]:
    """(what a file of ``layers`` has behind its ``backbone``, None for nothing; why a part is left out that is there).

    Parts are taken one by one, as far as each is there whole.
    """
    if not all(f"C{stage}" in backbone.features for stage in range(2, 6)):
        return None, None

    def channels(name: str) -> int:
        shape = _kernel(layers.get(name, {}))
        return shape[-1] if shape else 0

    conv1 = _kernel(layers.get("mrcnn_class_conv1", {}))
    found = Detector(pyramid=channels("fpn_c5p5"))
    if not found.pyramid:
        return None, None
    further = (
        {"rpn": channels("rpn_conv_shared"), "anchors": channels("rpn_bbox_pred") // 4},
        {"classes": channels("mrcnn_class_logits"), "pool": conv1[0] if len(conv1) == 4 else 0, "hidden": channels("mrcnn_class_conv1")},
        {"masks": channels("mrcnn_mask_conv1")},
    )  # fmt: skip
    fits: Detector | None = None
    for sizes in ({}, *further):
        found = replace(found, **sizes)
        if not all(sizes.values()):
            break
        trouble = _misfit(with_detector(backbone, found), backbone, layers)
        if trouble:
            part = {"rpn": "region proposals", "classes": "class head", "masks": "mask head"}
            name = next((text for size, text in part.items() if size in sizes), "feature pyramid")
            return fits, f"the detector's {name} is left out, with what comes behind it: {trouble}"
        fits = found
    return fits, None


def _kernel(stored: StoredLayer) -> tuple[int, ...]:
    return stored["kernel"].shape if "kernel" in stored else ()


def _misfit(graph: Graph, backbone: Graph, layers: Mapping[str, StoredLayer]) -> str | None:
    """Why a file does not hold the layers of ``graph`` behind its ``backbone``, or None."""
    for name, layer in graph.weighted.items():
        if name in backbone.by_name:
            continue
        shapes = {role: tensor.shape for role, tensor in layers.get(layer.source, {}).items()}
        if shapes != layer.operator.tensors():
            return f"{layer.source!r} has {shapes or 'no tensors'} in the file, and not {layer.operator.tensors()}"
    return None
