"""Detections as COCO writes them down: JSON with run-length masks, which ``pycocotools`` reads.

Ours counts x and y from the picture's upper left corner: ``bbox`` is [x, y, width, height] in pixels. A category's id is the class's
number in the network, which is not COCO's own id: those have gaps.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..detection.result import Detections
from ..files.safe_write import replaced
from ..version import __version__

__all__ = ["NAMES", "CocoFile", "run_lengths"]

_COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench, bird,
cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl,
banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""

NAMES: Mapping[str, tuple[str, ...]] = {
    "coco": ("background", *(" ".join(name.split()) for name in _COCO.split(","))),
    "balloon": ("background", "balloon"),
    "nucleus": ("background", "nucleus"),
    "shapes": ("background", "square", "circle", "triangle"),
    "decimer": ("background", "molecule"),
}
"""The classes' names of the networks for which there are presets."""

_NOT_REACHED = "not looked at: the run ended before"


def run_lengths(mask: npt.NDArray[np.bool_], box: Sequence[int]) -> dict[str, Any]:
    """A mask bool[h, w], False outside of ``box`` (y1, x1, y2, x2), as COCO's {"size": [h, w], "counts": text}.

    Counts are the lengths of runs of False and True in turn, column by column, each as the difference to the one before the last, in
    digits of 5 bits.
    """
    height, width = mask.shape
    y1, x1, y2, x2 = map(int, box)
    inside = np.zeros((x2 - x1, y2 - y1 + 2), np.int8)  # with a False above and below each column
    inside[:, 1:-1] = mask[y1:y2, x1:x2].T
    change = np.diff(inside, axis=1)
    first, last = (
        (column + x1) * height + y1 + row for column, row in (np.nonzero(change == 1), np.nonzero(change == -1))
    )
    joined = first[1:] == last[:-1]  # of columns that are full
    first, last = first[np.append(True, ~joined)[: len(first)]], last[np.append(~joined, True)[: len(last)]]
    edges = np.concatenate([[0], np.stack([first, last], axis=1).ravel(), [height * width]])
    counts = np.diff(edges)
    return {"size": [height, width], "counts": _text(counts[: -1 if counts[-1] == 0 else None].tolist())}


def _text(counts: Sequence[int]) -> str:
    """Counts in the letters of COCO's ``maskApi``."""
    text = []
    for place, count in enumerate(counts):
        value = count - (counts[place - 2] if place > 2 else 0)
        more = True
        while more:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text.append(chr(48 + (digit | 32 if more else digit)))
    return "".join(text)


class CocoFile:
    """What was found in picture after picture, on its way into one file."""

    def __init__(self, about: Mapping[str, Any], names: Sequence[str]) -> None:
        """``about``: how the detections were made; ``names`` of all classes, the background's first."""
        self._info = {"npresnet": __version__, **about}
        self._categories = [{"id": number, "name": name} for number, name in enumerate(names) if number]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._errors: list[dict[str, str]] = []

    def add(self, name: str, size: tuple[int, int], found: Detections) -> None:
        """A picture of ``size`` (height, width), and what was found in it."""
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": name, "height": size[0], "width": size[1]})
        for number, (box, class_id, score) in enumerate(zip(found.boxes, found.class_ids, found.scores, strict=True)):
            y1, x1, y2, x2 = map(int, box)
            entry = {
                "id": len(self._annotations) + 1, "image_id": image, "category_id": int(class_id), "score": float(score),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
            }  # fmt: skip
            if found.masks is not None:
                mask = found.masks[:, :, number]
                entry |= {"segmentation": run_lengths(mask, box), "area": int(np.count_nonzero(mask))}
            self._annotations.append(entry)

    def fail(self, name: str, error: str) -> None:
        """A picture in which nothing could be looked for, and why."""
        self._errors.append({"file_name": name, "error": error})

    def save(self, path: str | os.PathLike[str], left: Sequence[str] = ()) -> None:
        """Write the file, which appears under its name only when it is complete. Raises UsageError where it cannot be.

        left  the pictures that are still to come: they are among the errors of a file behind which the run ends
        """
        errors = [*self._errors, *({"file_name": name, "error": _NOT_REACHED} for name in left)]
        contents = {
            "info": self._info, "images": self._images, "categories": self._categories,
            "annotations": self._annotations, "errors": errors,
        }  # fmt: skip
        with replaced(path) as temporary:  # what is no UTF-8 in a file's name becomes an escape, which is JSON's own
            temporary.write_text(json.dumps(contents, ensure_ascii=False), "utf-8", errors="backslashreplace")
