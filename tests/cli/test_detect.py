"""``npresnet detect``, and what the other commands say of a detector, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import npresnet
from npresnet.detection import detecting

from .test_cli import Image, cli

DATA = Path(__file__).parents[1] / "data"
WEIGHTS = DATA / "shapes.h5"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """A folder of pictures: one.png, two.png, empty.png with nothing to find, bad.png that is none; names.txt."""
    folder = tmp_path_factory.mktemp("pictures")
    with np.load(DATA / "shapes.npz") as recorded:
        for name, number in (("one", 0), ("two", 2), ("empty", 3)):
            Image.fromarray(recorded[f"{number}/image"]).save(folder / f"{name}.png")
    (folder / "bad.png").write_text("no picture")
    (folder / "names.txt").write_text("box\nball\ntent\n")
    return folder


def detect(*arguments: object) -> tuple[int, str]:
    return cli("detect", "--weights", WEIGHTS, "--config", "shapes", *arguments)


def test_a_table_and_json(folder):
    status, output = detect("one.png", "two.png", "empty.png")
    assert status == 0
    lines = output.splitlines()
    assert lines[0].split() == ["image", "class", "score", "left", "top", "width", "height", "mask"]
    assert [line.split()[:3] for line in lines[1:6]] == [
        ["one.png", "square", "0.770"], ["one.png", "square", "0.743"], ["one.png", "square", "0.702"],
        ["two.png", "triangle", "0.905"], ["two.png", "circle", "0.741"],
    ]  # fmt: skip
    text = " ".join(output.split())
    assert "in the file 4 classes with the background, 3 anchors for each pixel, regions of 7x7 pixels, masks" in text
    assert "given RPN_ANCHOR_SCALES=8,16,32,64,128; IMAGE_MIN_DIM=128; IMAGE_MAX_DIM=128" in text
    assert "assumed as for COCO: RPN_ANCHOR_RATIOS=0.5,1,2;" in text
    assert "found 5 in 3 pictures" in text
    found = json.loads(Path("detections.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["one.png", "two.png", "empty.png"]
    assert [category["name"] for category in found["categories"]] == ["square", "circle", "triangle"]
    assert found["errors"] == []
    assert found["info"]["config"]["IMAGE_MAX_DIM"] == 128
    net = npresnet.load(WEIGHTS)
    expected = [one for image in ("one.png", "two.png") for one in rows(net.detect(image, "shapes")[0])]
    assert [(a["category_id"], a["bbox"], a["area"], round(a["score"], 4)) for a in found["annotations"]] == expected


def rows(found: npresnet.Detections) -> list[tuple[int, list[int], int, float]]:
    masks = found.masks
    assert masks is not None
    return [
        (
            int(class_id),
            [int(b[1]), int(b[0]), int(b[3] - b[1]), int(b[2] - b[0])],
            int(masks[:, :, k].sum()),
            round(float(score), 4),
        )
        for k, (b, class_id, score) in enumerate(zip(found.boxes, found.class_ids, found.scores, strict=True))
    ]


def test_bad_pictures_are_noted(folder):
    """They stop nothing; the exit status tells."""
    status, output = detect("one.png", "bad.png", "nowhere.png", "two.png", "--out", "found.json", "--picture")
    assert status == 1
    assert "2 of 4 pictures failed" in output
    assert "failed        bad.png: not a picture" in output
    found = json.loads(Path("found.json").read_text())
    assert [error["file_name"] for error in found["errors"]] == ["bad.png", "nowhere.png"]
    assert [image["file_name"] for image in found["images"]] == ["one.png", "two.png"]
    assert sorted(path.name for path in Path().glob("*-detections.png")) == ["one-detections.png", "two-detections.png"]


def test_pictures_of_a_wrong_size_are_noted(folder):
    """What the config allows is looked at."""
    Image.open("one.png").crop((0, 0, 100, 77)).save("odd.png")
    status, output = detect("one.png", "odd.png", "two.png", "--set", "IMAGE_RESIZE_MODE=none")
    text = " ".join(output.split())
    assert status == 1
    assert "failed odd.png: 100x77 px, and with IMAGE_RESIZE_MODE='none' its sides must be multiples of 64" in text
    assert "found 5 in 2 pictures" in text
    found = json.loads(Path("detections.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["one.png", "two.png"]
    assert [error["file_name"] for error in found["errors"]] == ["odd.png"]


def test_a_run_that_ends_before_its_time(folder, monkeypatch):
    """What was found until then is kept, and what was not looked at is told."""
    kept = detecting.detect_one

    def short_of_memory(net, detector, pixels, config, name):
        if name == "two.png":
            raise MemoryError("for this test")
        return kept(net, detector, pixels, config, name)

    monkeypatch.setattr(detecting, "detect_one", short_of_memory)
    status, output = detect("one.png", "two.png", "empty.png")
    assert status == 2
    assert "out of memory (for this test)" in output
    found = json.loads(Path("detections.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["one.png"]
    assert len(found["annotations"]) == 3
    assert found["errors"] == [
        {"file_name": name, "error": "not looked at: the run ended before"} for name in ("two.png", "empty.png")
    ]


def test_no_picture_is_written_over(folder):
    """Neither by a drawing, of a name that one happens to have, nor by the detections."""
    Image.open("empty.png").save("one-detections.png")
    before = Path("one-detections.png").read_bytes()
    status, output = detect("one.png", "one-detections.png", "--picture")
    assert status == 0
    assert "and 2 drawings such as one-detections-2.png" in output
    assert Path("one-detections.png").read_bytes() == before
    assert Path("one-detections-detections.png").exists()
    status, output = detect("one.png", "--out", "one.png")
    assert (status, "--out: one.png is one of the pictures" in output) == (2, True)


def test_a_drawing(folder):
    """Larger than the picture, where that is small; another where anything was found."""
    status, _ = detect("one.png", "empty.png", "--picture")
    assert status == 0
    for name, changed in (("one", True), ("empty", False)):
        picture, drawn = (np.asarray(Image.open(f"{name}{end}.png")) for end in ("", "-detections"))
        enlarged = picture.repeat(6, axis=0).repeat(6, axis=1)
        assert drawn.shape == enlarged.shape
        assert (drawn != enlarged).any() == changed


def test_names_and_settings(folder):
    status, output = detect(
        "one.png", "--classes", "names.txt", "--confidence", "0.75", "--set", "DETECTION_MAX_INSTANCES=5"
    )
    assert status == 0
    assert [line.split()[1] for line in output.splitlines()[1:2]] == ["box"]
    text = " ".join(output.split())
    assert "DETECTION_MIN_CONFIDENCE=0.75; DETECTION_MAX_INSTANCES=5 assumed" in text
    assert "found 1 in 1 picture," in text
    Path("settings.json").write_text(
        '{"RPN_ANCHOR_SCALES": [8, 16, 32, 64, 128], "IMAGE_MIN_DIM": 128, "IMAGE_MAX_DIM": 128}'
    )
    status, output = cli("detect", "one.png", "--weights", WEIGHTS, "--config", "settings.json")
    assert (status, "found         3 in 1 picture" in output) == (0, True)
    assert "class 1" in output  # nobody has said what they are called


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "DETECTION_NMS_THRESHOLD"], "--set: got 'DETECTION_NMS_THRESHOLD'; it must be NAME=VALUE"),
        (["--set", "MEAN_PIXEL=1,2"], "MEAN_PIXEL: got [1, 2]; it must be 3 numbers"),
        (["--set", "SIZE=4"], "'SIZE': no such setting"),
        (
            ["--config", "cocoa"],
            "config: got 'cocoa'; it must be one of 'coco', 'balloon', 'nucleus', 'shapes', 'decimer'",
        ),
        (["--classes", "one.png"], "no names of classes"),
        (["--out", "nowhere/found.json"], "nowhere"),
    ],
)
def test_wrong_use(folder, arguments, said):
    status, output = detect("one.png", *arguments)
    assert status == 2
    assert said in " ".join(output.split())
    assert not Path("detections.json").exists()


def test_a_backbone_alone(folder):
    from .test_cli import weight_file

    weight_file(Path("backbone.h5"))
    status, output = cli("detect", "one.png", "--weights", "backbone.h5")
    assert status == 2
    assert "detect: the file holds a backbone alone; give the weights of a whole Mask R-CNN" in output


def test_info_and_convert(folder):
    status, output = cli("info", WEIGHTS)
    text = " ".join(output.split())
    assert status == 0
    assert "a detector of 4 classes" in text
    assert "unused none" in text
    assert "pyramid P2 fpn_p2, P3 fpn_p3, P4 fpn_p4, P5 fpn_p5, P6 fpn_p6" in text
    status, output = cli("convert", WEIGHTS, "plain.h5")
    assert (status, "dropped       none" in output) == (0, True)
    picture = np.asarray(Image.open("one.png"))
    one, other = (npresnet.load(path).detect(picture, "shapes")[0] for path in (WEIGHTS, "plain.h5"))
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
