"""A detector is verified stage by stage: beside TensorFlow, NumPy and a recording; and what is wrong shows."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.verify.recording import Recording
from npresnet.verify.rows import against_recording, against_reference, against_tensorflow

WEIGHTS = Path(__file__).parents[1] / "data" / "shapes.h5"
HEADS = ("roi_align_classifier", "mrcnn_class", "mrcnn_bbox", "roi_align_mask", "mrcnn_mask_deconv", "mrcnn_mask")


def network(path: Path = WEIGHTS) -> npresnet.ResNet:
    return npresnet.load(path, algorithm="im2col", threads=1)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(0, 50, (2, 64, 64, 3)).astype(np.float32)


def changed(path: Path, layer: str) -> Path:
    """A copy of the weights with one channel changed."""
    path.write_bytes(WEIGHTS.read_bytes())
    with h5py.File(path, "r+") as file:
        file[f"{layer}/kernel:0"][0, 0, :, 0] += 0.01
    return path


def test_beside_tensorflow(tf, images):
    rows = list(against_tensorflow(network(), WEIGHTS, images))
    assert all(row.agrees for row in rows)
    names = [row.name for row in rows]
    assert len(names) == len(set(names)) == 232
    assert {*HEADS, "fpn_p2", "fpn_p6", "rpn_conv_shared", "rpn_bbox_pred@4"} <= set(names)
    assert names[-2:] == ["ROI", "mrcnn_detection"]


@pytest.mark.parametrize("layer", ["rpn_model/rpn_class_raw", "mrcnn_mask/mrcnn_mask"])
def test_what_differs_shows(tf, images, tmp_path, layer):
    net, first = network(changed(tmp_path / "other.h5", layer)), layer.rpartition("/")[2]
    wrong = [row.name for row in against_tensorflow(net, WEIGHTS, images) if not row.agrees]
    assert wrong[0] == first
    assert all(name.startswith(first) for name in wrong)


def test_beside_numpy_and_a_recording(images, tmp_path):
    recording = Recording(WEIGHTS, images, "reference")
    rows = list(against_reference(network(), images, recording))
    assert all(row.agrees for row in rows)
    assert {*HEADS, "fpn_p2", "rpn_bbox_pred@4"} <= {row.name for row in rows}
    recording.save(tmp_path / "recording.npz")
    again = list(against_recording(network(), WEIGHTS, Recording.open(tmp_path / "recording.npz")))
    assert all(row.agrees for row in again)
    assert {row.name for row in rows} - {row.name for row in again} <= {"roi_align_classifier", "roi_align_mask"}


def test_images_for_which_there_is_no_pyramid():
    images = np.zeros((1, 50, 70, 3), np.float32)
    rows = list(against_reference(network(), images))
    assert all(row.agrees for row in rows)
    assert not [row.name for row in rows if not row.name.startswith(("conv1", "bn", "pool1", "res"))]
