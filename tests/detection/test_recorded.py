"""Everything beside matterport's own code: what it chose, computed and detected; and that a mistake in any of it shows."""

from __future__ import annotations

import numpy as np
import pytest

import npresnet
from npresnet.detection import detecting
from npresnet.detection.boxes import anchors
from npresnet.detection.choosing import choose
from npresnet.detection.config import DetectorConfig
from npresnet.detection.proposals import proposals
from npresnet.verify.compare import compare

from ..support.choices import CONFIG, KINDS, detection_case, proposal_case

PICTURES = range(5)
SHAPES = DetectorConfig.preset("shapes")


def same(found: npresnet.Detections, recorded, number: int) -> bool:
    """Whether what was found in a picture is what matterport's code found: the same boxes and classes, the same masks but for some
    pixels in ten thousand."""
    rois, class_ids, scores, masks = (recorded[f"{number}/{name}"] for name in ("rois", "class_ids", "scores", "masks"))
    return (
        np.array_equal(found.boxes, rois)
        and np.array_equal(found.class_ids, class_ids)
        and np.allclose(found.scores, scores, rtol=0, atol=1e-5)
        and np.count_nonzero(found.masks != masks) <= 5e-4 * max(masks.sum(), 1)
    )


def all_same(net, recorded, config=SHAPES) -> bool:
    found = net.detect([recorded[f"{number}/image"] for number in PICTURES], config)
    return all(same(one, recorded, number) for number, one in enumerate(found))


def test_detections(net, recorded):
    found = net.detect([recorded[f"{number}/image"] for number in PICTURES], "shapes")
    assert [len(one.scores) for one in found] == [3, 2, 2, 0, 1]
    for number, one in enumerate(found):
        assert same(one, recorded, number), number
        assert [part.dtype for part in one] == [np.int32, np.int32, np.float32, np.bool_]
        assert one.masks.shape == (128, 128, len(one.scores))


@pytest.mark.parametrize("kind", KINDS)
def test_choices(recorded, kind):
    """Ties, saturated scores, rows of zeros, boxes without an area: what is chosen, and in which order."""
    found = choose(*detection_case(kind), CONFIG)
    rows = np.zeros_like(recorded[f"detections/{kind}"])
    rows[: len(found.scores)] = np.column_stack([found.boxes, found.class_ids, found.scores])
    assert np.abs(rows - recorded[f"detections/{kind}"]).max() < 1e-6
    boxes, count = proposals(*proposal_case(kind), CONFIG)
    assert np.abs(boxes - recorded[f"proposals/{kind}"]).max() < 1e-6
    assert 0 < count <= CONFIG.POST_NMS_ROIS_INFERENCE
    assert not boxes[count:].any()


def test_stages(net, recorded):
    """Each on matterport's own input."""
    molded = detecting.mold(recorded["0/image"], SHAPES, 1)
    seen = detecting.look(net, molded.image)
    assert np.abs(seen.scores - recorded["rpn_class"][:, 1]).max() < 1e-5
    assert compare(seen.shifts, recorded["rpn_bbox"]).agrees()
    places = anchors(molded.size, SHAPES.RPN_ANCHOR_SCALES, SHAPES.RPN_ANCHOR_RATIOS)
    rois, _ = proposals(np.ascontiguousarray(recorded["rpn_class"][:, 1]), recorded["rpn_bbox"], places, SHAPES)
    assert np.abs(rois - recorded["ROI"]).max() < 1e-6
    probable, shifts = detecting.class_head(net, seen, recorded["ROI"], 7, molded.size)
    assert np.abs(probable - recorded["mrcnn_class"]).max() < 1e-5
    assert compare(shifts, recorded["mrcnn_bbox"]).agrees()
    found = choose(recorded["ROI"], recorded["mrcnn_class"], recorded["mrcnn_bbox"], molded.normal_window, SHAPES)
    rows = np.column_stack([found.boxes, found.class_ids, found.scores])
    assert np.abs(rows - recorded["mrcnn_detection"][: len(rows)]).max() < 1e-6
    assert not recorded["mrcnn_detection"][len(rows) :].any()


# Checks that can fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"DETECTION_MIN_CONFIDENCE": 0.69},
        {"DETECTION_MIN_CONFIDENCE": 0.71},
        {"RPN_ANCHOR_SCALES": (8, 16, 32, 64, 129)},
        {"BBOX_STD_DEV": (0.1, 0.1, 0.2, 0.21)},
        {"MEAN_PIXEL": (123.7, 116.8, 104.9)},
        {"MASK_POOL_SIZE": 13},
        {"IMAGE_MIN_DIM": 64, "IMAGE_MAX_DIM": 64},
    ],
    ids=str,
)
def test_another_setting_shows(net, recorded, changes):
    assert not all_same(net, recorded, SHAPES.changed(**changes))


def test_regions_that_are_shifted_by_a_pixel_show(net, recorded, monkeypatch):
    kept = detecting.regions

    def shifted(maps, boxes, *rest, **more):
        pixel = np.array([0, 1 / 31, 0, 1 / 31], np.float32)  # of P2
        return kept(maps, boxes + pixel, *rest, **more)

    monkeypatch.setattr(detecting, "regions", shifted)
    assert not all_same(net, recorded)


def test_shifts_of_another_class_show(net, recorded, monkeypatch):
    kept = detecting.class_head

    def swapped(*arguments):
        probable, shifts = kept(*arguments)
        return probable, shifts[:, [0, 2, 1, 3]]

    monkeypatch.setattr(detecting, "class_head", swapped)
    assert not all_same(net, recorded)


def test_masks_of_another_class_show(net, recorded, monkeypatch):
    kept = detecting.mask_head
    monkeypatch.setattr(
        detecting,
        "mask_head",
        lambda net, seen, chosen, *rest: kept(net, seen, chosen._replace(class_ids=chosen.class_ids % 3 + 1), *rest),
    )
    assert not all_same(net, recorded)


def test_maps_before_their_last_convolution_show(net, recorded, monkeypatch):
    kept = detecting.look

    def before(net, image):
        seen = kept(net, image)
        return seen._replace(maps=[*net(image, outputs=["fpn_p2add"]).values(), *seen.maps[1:]])

    monkeypatch.setattr(detecting, "look", before)
    assert not all_same(net, recorded)
