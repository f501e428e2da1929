"""``detect`` as it is called: pictures of all kinds, odd networks, what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.detection.config import DetectorConfig
from npresnet.model import assemble
from npresnet.network.architecture import Architecture
from npresnet.network.detector import CLASS_HEAD, MASK_HEAD, Detector
from npresnet.network.seeded import seeded, write_keras_file
from npresnet.network.weights import load_weights

NARROW = Detector(pyramid=16, rpn=16, anchors=3, classes=4, pool=3, hidden=16, masks=16)
SMALL = DetectorConfig.preset("shapes", IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=64, DETECTION_MIN_CONFIDENCE=0)


def narrow(detector: Detector | None, **options) -> npresnet.ResNet:
    """A network of random weights."""
    architecture = replace(Architecture.named("matterport/resnet50", width=8), detector=detector)
    return assemble(seeded(architecture, 3), threads=1, **options)


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def equal(one: npresnet.Detections, other: npresnet.Detections) -> bool:
    pairs: Any = zip(one, other, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def drawn() -> npresnet.ResNet:
    return narrow(NARROW)


# Pictures ------------------------------------------------------------------------------------------------------------


def test_pictures_of_all_kinds(net, recorded, tmp_path):
    """One or several, in files or arrays, each of its own size: a list, in their order."""
    from PIL import Image

    first, third = recorded["0/image"], recorded["2/image"]
    Image.fromarray(first).save(tmp_path / "first.png")
    (expected,), (other,) = net.detect(first, "shapes"), net.detect(third, "shapes")
    for pictures in (tmp_path / "first.png", str(tmp_path / "first.png"), [first], first[None]):
        (found,) = net.detect(pictures, "shapes")
        assert equal(found, expected)
    two = net.detect(
        [third, tmp_path / "first.png"],
        SMALL.changed(IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128, DETECTION_MIN_CONFIDENCE=0.7),
    )
    assert equal(two[0], other)
    assert equal(two[1], expected)
    assert net.detect([], "shapes") == []


@pytest.mark.parametrize("size", [(1, 1), (9, 64), (200, 40), (63, 63)])
def test_a_small_or_narrow_picture(drawn, size):
    """Boxes within it, masks of its size."""
    (found,) = drawn.detect(picture(*size, 3), SMALL)
    assert found.masks.shape == (*size, len(found.scores))
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= size).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    assert (np.diff(found.scores) <= 0).all()


def test_the_network_alone_in_batches_and_threads(drawn):
    pictures = picture(3, 50, 60, 3)
    alone = [drawn.detect(one, SMALL)[0] for one in pictures]
    threaded = narrow(NARROW)
    threaded.threads = 3
    for net in (drawn, threaded):
        assert all(map(equal, net.detect(pictures, SMALL), alone))


@pytest.mark.parametrize("mode", ["none", "pad64"])
def test_other_modes_of_size(drawn, mode):
    config = SMALL.changed(IMAGE_RESIZE_MODE=mode)
    (found,) = drawn.detect(picture(64, 128, 3), config)
    assert found.masks.shape[:2] == (64, 128)


@pytest.mark.parametrize(
    ("mode", "size", "said"),
    [
        (
            "none",
            (64, 100),
            r"picture 2: 100x64 px, and with IMAGE_RESIZE_MODE='none' its sides must be multiples of 64",
        ),
        ("square", (1, 2000), r"picture 2: .*size square makes it 64x0 px, and a side must be"),
        ("pad64", (1, 2000), r"picture 2: .*size pad64 makes it 128000x64 px, and a side must be"),
    ],
)
def test_a_picture_of_a_size_that_cannot_be(drawn, mode, size, said):
    """It is the picture that is wrong, by this config, and not the call: others may be right."""
    config = SMALL.changed(IMAGE_RESIZE_MODE=mode)
    with pytest.raises(npresnet.ImageError, match=said):
        drawn.detect([picture(64, 64, 3), picture(*size, 3)], config)


def test_an_array_in_a_file(drawn, tmp_path):
    np.save(tmp_path / "one.npy", picture(64, 64, 3))
    with pytest.raises(npresnet.ImageError, match=r"one\.npy: an array, where a picture is asked for"):
        drawn.detect(tmp_path / "one.npy", SMALL)


def test_floating_point_pictures(drawn):
    """Of whole values they are the same pictures."""
    one = picture(50, 70, 3)
    config = SMALL.changed(
        IMAGE_MIN_DIM=0, IMAGE_MAX_DIM=128
    )  # nothing is resized, so nothing cut off behind the point
    assert equal(drawn.detect(one.astype(np.float32), config)[0], drawn.detect(one, config)[0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (picture(8, 8, 2), "picture 1: array"),
        (np.zeros((8, 8, 3), bool), "pixels are integers"),
        ("nowhere.png", "nowhere.png: no such file"),
    ],
    ids=str,
)
def test_what_is_no_picture(drawn, wrong, said):
    with pytest.raises(npresnet.ImageError, match=said):
        drawn.detect(wrong, SMALL)


def test_algorithms_agree(drawn):
    """All choose nearly the same of the same numbers."""
    one = picture(64, 64, 3)
    (expected,) = drawn.detect(one, SMALL)
    for algorithm in ("direct", "im2col", "reference"):
        (found,) = narrow(NARROW, algorithm=algorithm).detect(one, SMALL)
        boxes = {tuple(box) for box in found.boxes.tolist()} & {tuple(box) for box in expected.boxes.tolist()}
        assert len(boxes) >= 0.9 * len(expected.boxes), algorithm


# Networks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 81])
def test_other_numbers_of_classes(classes):
    (found,) = narrow(replace(NARROW, classes=classes)).detect(picture(64, 64, 3), SMALL)
    assert set(found.class_ids) <= set(range(1, classes))
    assert len(found.scores)


def test_nothing_is_detected(drawn):
    (found,) = drawn.detect(picture(40, 50, 3), SMALL.changed(DETECTION_MIN_CONFIDENCE=1))
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (40, 50, 0)
    assert found.masks.dtype == np.bool_


def test_without_a_mask_head():
    net = narrow(replace(NARROW, masks=0))
    assert "without masks" in str(net.architecture)
    (found,) = net.detect(picture(40, 50, 3), SMALL)
    assert found.masks is None
    assert len(found.boxes) == len(found.scores) > 0


@pytest.mark.parametrize("detector", [None, Detector(pyramid=16), Detector(pyramid=16, rpn=16)], ids=str)
def test_a_file_without_heads(detector):
    with pytest.raises(npresnet.UsageError, match=r"detect: the file holds a .* alone; give the weights of a whole"):
        narrow(detector).detect(picture(64, 64, 3))


def test_another_number_of_anchors():
    net = narrow(replace(NARROW, anchors=2))
    with pytest.raises(npresnet.UsageError, match=r"RPN_ANCHOR_RATIOS: got 3.*2 anchors"):
        net.detect(picture(64, 64, 3), SMALL)
    assert len(net.detect(picture(64, 64, 3), SMALL.changed(RPN_ANCHOR_RATIOS=(0.5, 2)))[0].scores)


def test_weights_that_are_not_numbers(weights, tmp_path):
    """In a file they are found when it is read; numbers that grow beyond float32 when they are computed."""
    with h5py.File(weights) as old, h5py.File(tmp_path / "nan.h5", "w") as new:
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
        new["mrcnn_mask/mrcnn_mask/kernel:0"][0, 0, 0, 0] = np.nan
    with pytest.raises(npresnet.WeightsError, match=r"mrcnn_mask/kernel: 1 of 128 numbers are NaN"):
        npresnet.load(tmp_path / "nan.h5")
    found = seeded(replace(Architecture.named("matterport/resnet50", width=8), detector=NARROW), 3)
    large = {"kernel": found.weights["rpn_class_raw"]["kernel"] * np.float32(1e38)}
    found = replace(found, weights={**found.weights, "rpn_class_raw": {**found.weights["rpn_class_raw"], **large}})
    with pytest.raises(npresnet.WeightsError, match="beyond float32"):
        assemble(found, threads=1).detect(picture(64, 64, 3), SMALL)


# The pyramid, and the file -------------------------------------------------------------------------------------------


def test_pyramid(drawn):
    images = np.random.default_rng(2).normal(size=(2, 64, 128, 3)).astype(np.float32)
    found = drawn(images, outputs="pyramid")
    assert isinstance(found, npresnet.Pyramid)
    assert [array.shape for array in found] == [(2, 64 >> s, 128 >> s, 16) for s in (2, 3, 4, 5, 6)]
    named = drawn(images, outputs=list(drawn.graph.outputs["pyramid"].values()))
    slow = narrow(NARROW, algorithm="im2col")(images, outputs="pyramid")
    for one, other, by_layer in zip(found, named.values(), slow, strict=True):
        assert np.array_equal(one, other)
        assert np.allclose(one, by_layer, rtol=1e-4, atol=1e-4 * np.abs(by_layer).max())
    assert np.array_equal(found.p6, found.p5[:, ::2, ::2])
    assert all(np.array_equal(one, other) for one, other in zip(drawn(images), narrow(None)(images), strict=True))


def test_a_network_without_a_pyramid():
    with pytest.raises(npresnet.UsageError, match="no feature pyramid"):
        narrow(None)(np.zeros((1, 64, 64, 3), np.float32), outputs="pyramid")
    with pytest.raises(npresnet.UsageError, match=r"got the text 'P2'.*or 'pyramid'"):
        narrow(None)(np.zeros((1, 64, 64, 3), np.float32), outputs="P2")


def test_images_that_do_not_halve(drawn):
    with pytest.raises(npresnet.UsageError, match=r"layer 'fpn_p.add', for images of 100x100"):
        drawn(np.zeros((1, 100, 100, 3), np.float32), outputs="pyramid")
    assert drawn(np.zeros((1, 100, 100, 3), np.float32)).c5.shape[1:3] == (4, 4)


def test_heads_are_networks(drawn):
    """Images of theirs are regions of maps."""
    regions = np.random.default_rng(2).normal(size=(5, 3, 3, 16)).astype(np.float32)
    assert drawn.heads[CLASS_HEAD].predict(regions)[0].shape == (5, 4)
    assert drawn.heads[MASK_HEAD].predict(regions).shape == (5, 6, 6, 4)


@pytest.mark.parametrize(
    ("lost", "detector", "said"),
    [
        ((), NARROW, None),
        (("mrcnn_mask_deconv",), replace(NARROW, masks=0), "mask head is left out.*'mrcnn_mask_deconv' has no tensors"),
        (("mrcnn_class_bn2",), Detector(16, 16), "class head is left out"),
        (("rpn_model",), Detector(16), None),
        (("fpn_p3",), None, "feature pyramid is left out"),
        (("fpn_c5p5", "mrcnn_mask_deconv"), None, None),
    ],
    ids=str,
)
def test_parts_of_a_file(tmp_path, lost, detector, said):
    """What is there whole is found, with its sizes; of the rest a doubt is told, and the backbone runs."""
    found = seeded(replace(Architecture.named("matterport/resnet50", width=8), detector=NARROW), 3)
    path = write_keras_file(tmp_path / "mask_rcnn.h5", found.graph, found.weights)
    with h5py.File(path, "r+") as file:
        for name in lost:
            del file[name]
        names = [name for name in file.attrs["layer_names"] if name.decode() not in lost]
        file.attrs["layer_names"] = names
    again = load_weights(path)
    assert again.architecture.detector == detector
    text = " ".join(again.doubts)
    assert re.search(said, text) if said else "is left out" not in text
    assert bool(again.unused) == (detector != NARROW)
