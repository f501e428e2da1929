"""Drawings of detections: what may be drawn, and that names can be read."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.detection.result import Detections
from npresnet.results import detected
from npresnet.results.detected import save_detected_picture

Image = pytest.importorskip("PIL.Image")

NAMES = ("background", "cat", "traffic light")


def detections(boxes, height: int, width: int, masks: bool = True) -> Detections:
    found = np.zeros((height, width, len(boxes)), bool)
    for number, (y1, x1, y2, x2) in enumerate(boxes):
        found[y1:y2, x1:x2, number] = True
    count = len(boxes)
    scores = np.linspace(1, 0.7, count, dtype=np.float32)
    box = np.array(boxes, np.int32).reshape(-1, 4)
    return Detections(box, np.arange(count, dtype=np.int32) % 2 + 1, scores, found if masks else None)


def drawn(path, found: Detections, height: int, width: int) -> np.ndarray:
    save_detected_picture(path / "drawn.png", np.full((height, width, 3), 90, np.uint8), found, NAMES)
    return np.asarray(Image.open(path / "drawn.png"))


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(1, 1, (720, 720)), (1, 100, (80, 800)), (100, 1, (800, 240)), (30, 900, (80, 900)), (800, 721, (800, 721))],
)
def test_sizes(tmp_path, height, width, shape):
    """Small ones are enlarged by whole numbers; slivers get a margin; others stay as they are."""
    for masks in (True, False):
        found = detections([(0, 0, height, width)], height, width, masks)
        assert drawn(tmp_path, found, height, width).shape == (*shape, 3)


def test_nothing_found(tmp_path):
    image = drawn(tmp_path, detections([], 800, 800), 800, 800)
    assert (image == 90).all()


def test_names_do_not_overlap(tmp_path, monkeypatch):
    """Each stands within the picture, at its box; where better ones are everywhere, there is none."""
    kept, places = detected._place, []

    def seen(edges, width, height, size, taken):
        place = kept(edges, width, height, size, taken)
        places.append((edges, place))
        return place

    monkeypatch.setattr(detected, "_place", seen)
    drawn(tmp_path, detections([(300, 300, 500, 500)] * 30, 800, 800), 800, 800)
    placed = [(edges, place) for edges, place in places if place]
    assert len(places) == 30
    assert 4 <= len(placed) < 30
    for number, ((x1, y1, x2, y2), (left, top, right, bottom)) in enumerate(placed):
        assert 0 <= left < right < 800
        assert 0 <= top < bottom < 800
        assert left <= x2
        assert x1 <= right
        assert bottom >= y1
        assert top <= y2
        for _, other in placed[:number]:
            assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom
