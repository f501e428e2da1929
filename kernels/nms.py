"""Non-maximum suppression: of boxes that overlap those with the best scores.

Boxes are taken by their scores, the best first, of equals the one that comes first; a box is kept unless its overlap with one that is
kept already is more than ``threshold``:

    overlap(a, b) = area(a and b) / (area(a) + area(b) - area(a and b))          0 where either has no area

So a box without an area is always kept. A score that is NaN is never taken. Every operation is rounded to float32 by itself, as
TensorFlow does it: a threshold is met or it is not.

The ladder: nms_reference (NumPy), nms_cpu (Numba); nms is nms_cpu. Source: ``tf.image.non_max_suppression``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Array, floats, vector
from .jit import native
from .numba_later import carray, types
from .steps.intrinsics import float_pointer, int_pointer

__all__ = ["nms", "nms_cpu", "nms_reference"]

Indices = npt.NDArray[np.int64]


def _by_score(boxes: Array, scores: Array, most: int) -> Indices:
    """The boxes in the order in which they are taken. ValueError for what is no boxes and scores."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1] or most < 0:
        raise ValueError(
            f"nms: got boxes of shape {tuple(boxes.shape)}, scores of shape {tuple(scores.shape)} and most={most}; they must "
            "be [n, 4], [n], and at least 0"
        )
    order = np.argsort(-scores, kind="stable")
    return order[: len(order) - int(np.isnan(scores).sum())]


def nms_reference(boxes: Array, scores: Array, *, most: int, threshold: float) -> Indices:
    """Which of ``boxes`` dtype[n, 4] are kept, at ``most`` so many: int64[k], the best of ``scores`` dtype[n] first."""
    order = _by_score(boxes, scores, most)
    y1, y2 = np.minimum(boxes[:, 0], boxes[:, 2]), np.maximum(boxes[:, 0], boxes[:, 2])
    x1, x2 = np.minimum(boxes[:, 1], boxes[:, 3]), np.maximum(boxes[:, 1], boxes[:, 3])
    areas = (y2 - y1) * (x2 - x1)
    kept: list[int] = []
    for box in order:
        if len(kept) == most:
            break
        high = np.minimum(y2[box], y2[kept]) - np.maximum(y1[box], y1[kept])
        wide = np.minimum(x2[box], x2[kept]) - np.maximum(x1[box], x1[kept])
        both = np.maximum(high, 0) * np.maximum(wide, 0)
        has_area = (areas[kept] > 0) & (areas[box] > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = both / (areas[kept] + areas[box] - both)
        if not (has_area & (overlap > boxes.dtype.type(threshold))).any():
            kept.append(int(box))
    return np.array(kept, np.int64)


_i = types.int64


@native(types.void(_i, _i, _i, _i, _i, _i), contracted=False)
def _suppress(boxes, count, most, threshold, corners, kept):
    """Which of ``count`` boxes, in the order in which they are taken, are kept.

    boxes      address of float32[count, 4]
    threshold  address of a float32
    corners    address of float32[most, 5] for those that are kept: top, left, bottom, right, area
    kept       address of int64[most + 1]; the last becomes how many are kept
    """
    limit, given = carray(float_pointer(threshold), (1,))[0], carray(float_pointer(boxes), (count, 4))
    seen, found = carray(float_pointer(corners), (most, 5)), carray(int_pointer(kept), (most + 1,))
    none = np.float32(0.0)
    size = 0
    for i in range(count):
        if size == most:
            break
        y1, y2 = min(given[i, 0], given[i, 2]), max(given[i, 0], given[i, 2])
        x1, x2 = min(given[i, 1], given[i, 3]), max(given[i, 1], given[i, 3])
        area = (y2 - y1) * (x2 - x1)
        free = True
        if area > none:
            for k in range(size):
                high, wide = min(y2, seen[k, 2]) - max(y1, seen[k, 0]), min(x2, seen[k, 3]) - max(x1, seen[k, 1])
                if high <= none or wide <= none or seen[k, 4] <= none:
                    continue
                both = high * wide
                if both / (seen[k, 4] + area - both) > limit:
                    free = False
                    break
        if free:
            seen[size, 0], seen[size, 1], seen[size, 2], seen[size, 3], seen[size, 4] = y1, x1, y2, x2, area
            found[size] = i
            size += 1
    found[most] = size


def nms_cpu(boxes: Array, scores: Array, *, most: int, threshold: float) -> Indices:
    """The boxes that are left where of those that overlap the best are kept.

    boxes      float32[n, 4]: two opposite corners each
    scores     float32[n]
    most       how many are kept at most
    threshold  the largest overlap of two that are kept

    Returns their places, int64[k], the best first. Raises TypeError for another dtype; ValueError for shapes that do not fit.
    """
    boxes = floats("nms: boxes", boxes, 2, "n, 4")
    scores = vector("nms: scores", scores, len(boxes))
    order = _by_score(boxes, scores, most)
    most = min(most, len(order))
    taken, corners = boxes[order], np.empty((most, 5), np.float32)
    kept, limit = np.empty(most + 1, np.int64), np.array([threshold], np.float32)
    _suppress.call(taken.ctypes.data, len(taken), most, limit.ctypes.data, corners.ctypes.data, kept.ctypes.data)
    found: Indices = order[kept[: kept[most]]]
    return found


nms = nms_cpu
