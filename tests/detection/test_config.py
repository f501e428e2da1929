"""Settings: presets, JSON, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import npresnet
from npresnet import DetectorConfig
from npresnet.detection.config import PRESETS, config_for
from npresnet.network.detector import Detector


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    assert config_for(name) == DetectorConfig.preset(name) == DetectorConfig(**PRESETS[name])


def test_decimer():
    """What DECIMER Segmentation 1.6.0 runs ``mask_rcnn_molecule.h5`` with; small pictures are not made larger than COCO's."""
    config = DetectorConfig.preset("decimer")
    assert config == DetectorConfig(DETECTION_MIN_CONFIDENCE=0.75, POST_NMS_ROIS_INFERENCE=500)
    assert (config.IMAGE_RESIZE_MODE, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM) == ("square", 800, 1024)
    config.check(Detector(pyramid=256, rpn=512, anchors=3, classes=2, pool=7, hidden=1024, masks=256))


def test_ways_to_say_the_same(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(
        json.dumps(
            {"NAME": "mine", "LEARNING_RATE": 1, "RPN_ANCHOR_SCALES": [8, 16, 32, 64, 128], "IMAGE_MAX_DIM": 512}
        )
    )
    expected = DetectorConfig(RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128), IMAGE_MAX_DIM=512)
    for config in (
        path,
        str(path),
        {"RPN_ANCHOR_SCALES": np.array([8, 16, 32, 64, 128.0]), "IMAGE_MAX_DIM": 512.0},
        expected,
    ):
        assert config_for(config) == expected
    assert DetectorConfig.read(path, PRE_NMS_LIMIT=7) == expected.changed(PRE_NMS_LIMIT=7)
    assert config_for(None) == DetectorConfig.preset("coco") == DetectorConfig()
    assert hash(expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MEAN_PIXEL": 3}, "MEAN_PIXEL: got 3; it must be 3 numbers from"),
        ({"RPN_ANCHOR_SCALES": [1, 2]}, r"RPN_ANCHOR_SCALES: got \[1, 2\]; it must be 5 numbers"),
        ({"PRE_NMS_LIMIT": 1.5}, "PRE_NMS_LIMIT: got 1.5; it must be a whole number"),
        ({"PRE_NMS_LIMIT": [5]}, "must be a whole number"),
        ({"DETECTION_MIN_CONFIDENCE": "high"}, "DETECTION_MIN_CONFIDENCE: got 'high'; it must be a number from 0 to 1"),
        ({"DETECTION_MIN_CONFIDENCE": 1.01}, "from 0 to 1"),
        ({"DETECTION_NMS_THRESHOLD": float("nan")}, "from 0 to 1"),
        ({"DETECTION_MAX_INSTANCES": True}, "whole number"),
        ({"IMAGE_RESIZE_MODE": "crop"}, "IMAGE_RESIZE_MODE: got 'crop'"),
        ({"IMAGE_MAX_DIM": 1000}, "IMAGE_MAX_DIM: got 1000; it must be a multiple of 64"),
        ({"RPN_ANCHOR_STRIDE": 2}, "RPN_ANCHOR_STRIDE: got 2"),
        ({"CONFIDENCE": 1}, "'CONFIDENCE': no such setting; the settings are RPN_ANCHOR_SCALES, "),
    ],
    ids=str,
)
def test_what_cannot_be(changes, said):
    with pytest.raises(npresnet.UsageError, match=said):
        config_for(changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no JSON"), ("[1]", "holds a list"), (None, "cannot be read"), ('{"A": 1}', "'A': no such")],
)
def test_files_that_are_none(tmp_path, text, said):
    path = tmp_path / "settings.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(npresnet.UsageError, match=said):
        config_for(path)
    with pytest.raises(npresnet.UsageError, match="must be one of 'coco'"):
        config_for("cocoa")
