"""What Mask R-CNN has behind its backbone, in Keras and TensorFlow: matterport/Mask_RCNN:mrcnn/model.py.

Names upstream leaves to Keras's counters (``activation_40``) are those of the batch-norm before, ``mrcnn_class_bn1_relu``. Heads are
plain layers here where upstream wraps them into ``TimeDistributed``: a region is an image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .backend import tensorflow_and_keras
from .shorthand import Layers

if TYPE_CHECKING:
    import keras

__all__ = [
    "class_head",
    "detections",
    "mask_head",
    "probabilities",
    "proposals",
    "region_proposals",
    "regions",
    "with_pyramid",
]

Array = NDArray[Any]


def with_pyramid(backbone: keras.Model, pyramid: int) -> keras.Model:
    """``MaskRCNN.build``: the model with fpn_... behind it."""
    b = Layers(1e-3, True)
    names = [layer.name for layer in backbone.layers]
    c = {s: backbone.get_layer([n for n in names if re.fullmatch(rf"res{s}._out", n)][-1]).output for s in (2, 3, 4, 5)}
    sums = {5: b.conv(c[5], pyramid, 1, "fpn_c5p5")}
    for s in (4, 3, 2):
        up = b.k.UpSampling2D((2, 2), name=f"fpn_p{s + 1}upsampled")(sums[s + 1])
        sums[s] = b.add([up, b.conv(c[s], pyramid, 1, f"fpn_c{s}p{s}")], f"fpn_p{s}add")
    maps = [b.conv(sums[s], pyramid, 3, f"fpn_p{s}", padding="same") for s in (2, 3, 4, 5)]
    maps.append(b.k.MaxPooling2D((1, 1), strides=2, name="fpn_p6")(maps[-1]))
    return b.keras.Model(backbone.input, maps, name=backbone.name)


def region_proposals(pyramid: int, rpn: int, anchors: int) -> keras.Model:
    """``rpn_graph``, for any of the maps, up to what is reshaped."""
    b = Layers(1e-3, True)
    entry = b.keras.Input((None, None, pyramid), name="input_rpn_feature_map")
    x = b.conv(entry, rpn, 3, "rpn_conv_shared", padding="same", activation="relu")
    ends = [b.conv(x, 2 * anchors, 1, "rpn_class_raw"), b.conv(x, 4 * anchors, 1, "rpn_bbox_pred")]
    return b.keras.Model(entry, ends, name="rpn_model")


def class_head(pyramid: int, pool: int, hidden: int, classes: int) -> keras.Model:
    """``fpn_classifier_graph``, from regions on."""
    b = Layers(1e-3, True)
    x = entry = b.keras.Input((pool, pool, pyramid), name="roi_align_classifier")
    x = b.relu(b.norm(b.conv(x, hidden, pool, "mrcnn_class_conv1"), "mrcnn_class_bn1"), "mrcnn_class_bn1_relu")
    x = b.relu(b.norm(b.conv(x, hidden, 1, "mrcnn_class_conv2"), "mrcnn_class_bn2"), "mrcnn_class_bn2_relu")
    x = b.k.Reshape((hidden,), name="pool_squeeze")(x)
    probable = b.k.Activation("softmax", name="mrcnn_class")(b.k.Dense(classes, name="mrcnn_class_logits")(x))
    boxes = b.k.Reshape((classes, 4), name="mrcnn_bbox")(b.k.Dense(4 * classes, name="mrcnn_bbox_fc")(x))
    return b.keras.Model(entry, [probable, boxes], name="class_head")


def mask_head(pyramid: int, masks: int, classes: int) -> keras.Model:
    """``build_fpn_mask_graph``, from regions on."""
    b = Layers(1e-3, True)
    x = entry = b.keras.Input((None, None, pyramid), name="roi_align_mask")
    for i in (1, 2, 3, 4):
        x = b.conv(x, masks, 3, f"mrcnn_mask_conv{i}", padding="same")
        x = b.relu(b.norm(x, f"mrcnn_mask_bn{i}"), f"mrcnn_mask_bn{i}_relu")
    x = b.k.Conv2DTranspose(masks, 2, strides=2, activation="relu", name="mrcnn_mask_deconv")(x)
    return b.keras.Model(entry, b.conv(x, classes, 1, "mrcnn_mask", activation="sigmoid"), name="mask_head")


def regions(maps: Sequence[Array], boxes: Array, side: int, size: tuple[int, int]) -> Array:
    """``PyramidROIAlign``: normalised boxes float32[k, 4] of an image of ``size``, cut from ``maps`` P2 to P5, float32[1, ...]."""
    tf, _ = tensorflow_and_keras()
    area = tf.cast(size[0] * size[1], tf.float32)
    h, w = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    level = tf.math.log(tf.sqrt(h * w) / (224.0 / tf.sqrt(area))) / tf.math.log(2.0)
    level = np.minimum(5, np.maximum(2, 4 + tf.cast(tf.round(level), tf.int32).numpy()))
    out = np.zeros((len(boxes), side, side, maps[0].shape[-1]), np.float32)
    for number, x in zip((2, 3, 4, 5), maps, strict=True):
        (places,) = np.nonzero(level == number)
        if len(places):
            ids = np.zeros(len(places), np.int32)
            out[places] = tf.image.crop_and_resize(x, boxes[places], ids, (side, side), method="bilinear").numpy()
    return out


def probabilities(scores: Array) -> Array:
    """Softmax over the last axis."""
    tf, _ = tensorflow_and_keras()
    found: Array = tf.nn.softmax(scores).numpy()
    return found


def _moved(boxes: Any, deltas: Any) -> Any:
    """``apply_box_deltas_graph``."""
    tf, _ = tensorflow_and_keras()
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    y, x = boxes[:, 0] + 0.5 * height, boxes[:, 1] + 0.5 * width
    y, x = y + deltas[:, 0] * height, x + deltas[:, 1] * width
    height, width = height * tf.exp(deltas[:, 2]), width * tf.exp(deltas[:, 3])
    y1, x1 = y - 0.5 * height, x - 0.5 * width
    return tf.stack([y1, x1, y1 + height, x1 + width], axis=1)


def _clipped(boxes: Any, window: Any) -> Any:
    """``clip_boxes_graph``."""
    tf, _ = tensorflow_and_keras()
    edges = [tf.maximum(tf.minimum(boxes[:, i], window[2 + i % 2]), window[i % 2]) for i in range(4)]
    return tf.stack(edges, axis=1)


def proposals(
    probable: Array,
    deltas: Array,
    anchors: Array,
    limit: int,
    count: int,
    threshold: float,
    deviations: Sequence[float],
) -> tuple[Array, Array, Array]:
    """``ProposalLayer``: (the most probable anchors moved and clipped, their scores, and those that are left)."""
    tf, _ = tensorflow_and_keras()
    scores, places = tf.nn.top_k(probable, min(limit, len(probable)), sorted=True)
    deltas = tf.gather(deltas * np.array(deviations, np.float32), places)
    boxes = _clipped(_moved(tf.gather(anchors, places), deltas), np.array([0, 0, 1, 1], np.float32))
    kept = tf.gather(boxes, tf.image.non_max_suppression(boxes, scores, count, threshold))
    return boxes.numpy(), scores.numpy(), tf.pad(kept, [(0, count - len(kept)), (0, 0)]).numpy()


def detections(
    rois: Array, probable: Array, deltas: Array, window: Array, least: float, threshold: float, most: int,
    deviations: Sequence[float],
) -> Array:  # fmt: skip
    """``refine_detections_graph``: float32[n, 6], box, class, score."""
    tf, _ = tensorflow_and_keras()
    classes = tf.argmax(probable, axis=1, output_type=tf.int32)
    pairs = tf.stack([tf.range(len(rois)), classes], axis=1)
    scores = tf.gather_nd(probable, pairs)
    boxes = _clipped(_moved(rois, tf.gather_nd(deltas, pairs) * np.array(deviations, np.float32)), window)
    wanted = (classes > 0) & (scores >= least) if least else classes > 0
    kept: set[int] = set()
    for one in np.unique(classes.numpy()[wanted.numpy()]):
        places = tf.where(wanted & (classes == one))[:, 0]
        best = tf.image.non_max_suppression(tf.gather(boxes, places), tf.gather(scores, places), most, threshold)
        kept.update(tf.gather(places, best).numpy().tolist())
    places = np.array(sorted(kept), np.int64)
    top = tf.nn.top_k(tf.gather(scores, places), min(most, len(places)), sorted=True).indices
    places = tf.gather(places, top)
    found = [
        tf.gather(boxes, places),
        tf.cast(tf.gather(classes, places), tf.float32)[:, None],
        tf.gather(scores, places)[:, None],
    ]
    result: Array = tf.concat(found, axis=1).numpy()
    return result
