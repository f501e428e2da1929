"""Run-length masks as COCO's own ``maskApi`` writes them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from npresnet.detection.result import Detections
from npresnet.results.coco import NAMES, CocoFile, run_lengths


def decoded(coded) -> np.ndarray:
    """By the definition: letters to counts, counts to runs, column by column."""
    counts: list[int] = []
    place = 0
    text = coded["counts"]
    while place < len(text):
        value, digits, more = 0, 0, True
        while more:
            letter = ord(text[place]) - 48
            value |= (letter & 31) << 5 * digits
            more = bool(letter & 32)
            place, digits = place + 1, digits + 1
            if not more and letter & 16:
                value |= -1 << 5 * digits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return runs.reshape(coded["size"][::-1]).T


@pytest.mark.parametrize(
    ("mask", "box", "text"),
    [  # from pycocotools 2.0.11
        ([[0, 0], [0, 0]], (0, 0, 0, 0), "4"),
        ([[1, 1], [1, 1]], (0, 0, 2, 2), "04"),
        ([[0, 1, 0], [1, 1, 0]], (0, 0, 2, 2), "132"),
        ([[0] * 40, [1] * 40], (1, 0, 2, 40), "111" + "0" * 77),
    ],
)
def test_known_texts(mask, box, text):
    coded = run_lengths(np.array(mask, bool), box)
    assert coded["counts"] == text
    assert coded["size"] == [len(mask), len(mask[0])]


def test_there_and_back():
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 0.95, 1) * 12:
        height, width = rng.integers(1, 60, 2)
        (y1, y2), (x1, x2) = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < share
        assert np.array_equal(decoded(run_lengths(mask, (y1, x1, y2, x2))), mask)


def test_file(tmp_path):
    """Without masks, with what could not be read, and with what has not been looked at yet."""
    file = CocoFile({"weights": "w.h5"}, NAMES["balloon"])
    one = Detections(np.array([[1, 2, 5, 9]], np.int32), np.array([1], np.int32), np.array([0.5], np.float32), None)
    file.add("a.png", (20, 30), one)
    file.fail("b.png", "no picture")
    file.save(tmp_path / "found.json", ["later.png", "\udcff.png"])
    errors = json.loads((tmp_path / "found.json").read_text("utf-8"))["errors"]
    assert [error["file_name"] for error in errors] == ["b.png", "later.png", "\udcff.png"]  # the last is no UTF-8
    file.save(tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "score": 0.5, "bbox": [2, 1, 7, 4], "area": 28, "iscrowd": 0}
    ]
    assert found["categories"] == [{"id": 1, "name": "balloon"}]
    assert found["errors"] == [{"file_name": "b.png", "error": "no picture"}]
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_names():
    assert [len(names) for names in NAMES.values()] == [81, 2, 2, 4, 2]
    assert NAMES["coco"][1:4] + NAMES["coco"][-2:] == ("person", "bicycle", "car", "hair drier", "toothbrush")
