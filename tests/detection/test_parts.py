"""Boxes, the best of many scores, levels: by their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.detection.boxes import anchors, clipped, in_pixels, moved, normalised
from npresnet.detection.proposals import best
from npresnet.detection.regions import levels, regions
from npresnet.kernels import crop_and_resize_reference


def test_anchors():
    """Map by map, row by row, pixel by pixel, ratio by ratio; centres at multiples of the stride."""
    found = anchors((128, 64), (32, 64, 128, 256, 512), (0.5, 1, 2))
    expected = []
    for scale, stride in zip((32, 64, 128, 256, 512), (4, 8, 16, 32, 64), strict=True):
        for row in range(128 // stride):
            for column in range(64 // stride):
                for ratio in (0.5, 1, 2):
                    h, w = scale / np.sqrt(ratio) / 2, scale * np.sqrt(ratio) / 2
                    y, x = row * stride, column * stride
                    expected.append(((y - h) / 127, (x - w) / 63, (y + h - 1) / 127, (x + w - 1) / 63))
    assert found.dtype == np.float32
    assert found.shape == (3 * (512 + 128 + 32 + 8 + 2), 4)
    assert np.allclose(found, expected, rtol=0, atol=1e-6)


def test_pixels_and_back():
    boxes = np.random.default_rng(0).integers(0, 500, (100, 4))
    assert np.array_equal(in_pixels(normalised(boxes, (480, 640)), (480, 640)), boxes)
    assert in_pixels(np.array([0.5, 0.5, 0.5, 0.5]), (2, 6)).tolist() == [0, 2, 2, 4]  # halves to even


def test_moved_and_clipped():
    box = np.array([[0.2, 0.2, 0.4, 0.6]], np.float32)
    assert np.allclose(moved(box, np.zeros((1, 4), np.float32)), box)
    shift = np.array([[0.5, -0.25, np.log(2), np.log(0.5)]], np.float32)
    assert np.allclose(moved(box, shift), [[0.2, 0.2, 0.6, 0.4]])
    huge = moved(box, np.array([[0, 0, 1000, 0]], np.float32))
    window = np.array([0.1, 0.25, 0.5, 0.5], np.float32)
    assert np.allclose(clipped(huge, window), [[0.1, 0.25, 0.5, 0.5]])


@pytest.mark.parametrize("steps", [1, 4, 10**6])
@pytest.mark.parametrize("count", [0, 1, 57, 1000])
def test_best(steps, count):
    """The best first, of equals the first first: as a stable sort of all."""
    scores = np.random.default_rng(steps).integers(0, steps + 1, 1000).astype(np.float32)
    assert np.array_equal(best(scores, count), np.argsort(-scores, kind="stable")[:count])


def test_levels():
    """224 pixels from P4, half of it from P3; from the middle between on the next; an area of nothing from P2."""
    sides = np.array([224, 112, 448, 20, 2000, 224 * 2**0.51, 224 * 2**0.49, 0]) / 1024
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1).astype(np.float32)
    assert levels(boxes, (1024, 1024)).tolist() == [4, 3, 5, 2, 5, 5, 4, 2]


def test_regions_come_from_their_own_maps():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(1, 64 >> s, 64 >> s, 5)).astype(np.float32) for s in range(4)]
    corners = rng.uniform(0, 0.6, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 0.4, (40, 2))], axis=1).astype(np.float32)
    found, order = regions(maps, boxes, 7, (1024, 1024), 2)
    level = levels(boxes, (1024, 1024))
    assert set(level) > {3, 4}
    for region, place in zip(found, order, strict=True):
        x = maps[level[place] - 2]
        assert np.array_equal(region, crop_and_resize_reference(x, boxes[None, place : place + 1], size=7)[0, 0])
