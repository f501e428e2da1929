"""Mask R-CNN at full size beside matterport's own, unchanged code: a table, not a test.

    python -m tests.full_mask_rcnn [--mrcnn FOLDER] [--only resnet101-512 ...]

``bench/matterport.py`` says what it needs, and what FOLDER is. Weights are random, but for the first of the cases. Each stage
gets matterport's own input; at last both sides detect what is in the same picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import npresnet
from bench.matterport import Matterport
from npresnet.data.photograph import photograph
from npresnet.detection import boxes as own_boxes
from npresnet.detection.choosing import choose
from npresnet.detection.config import PRESETS, DetectorConfig
from npresnet.detection.detecting import look, mold
from npresnet.detection.proposals import proposals
from npresnet.detection.regions import regions
from npresnet.images.reading import load_picture

Array = npt.NDArray[Any]

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "resnet50-256": ("resnet50", 5, {"IMAGE_MIN_DIM": 256, "IMAGE_MAX_DIM": 256, "DETECTION_MIN_CONFIDENCE": 0.3}),
    "resnet101-512": ("resnet101", 81, {"IMAGE_MIN_DIM": 400, "IMAGE_MAX_DIM": 512, "DETECTION_MIN_CONFIDENCE": 0}),
    "molecule-1024": ("resnet101", 2, {"IMAGE_MIN_DIM": 1024, "IMAGE_MAX_DIM": 1024, "DETECTION_MIN_CONFIDENCE": 0.75}),
    "nucleus-pad64": (
        "resnet50",
        2,
        {**PRESETS["nucleus"], "IMAGE_MIN_SCALE": 0, "IMAGE_MIN_DIM": 256, "IMAGE_MAX_DIM": 256},
    ),
}


def relative(ours: Array, theirs: Array) -> float:
    """Norm of the difference over the norm."""
    wide = theirs.astype(np.float64)
    return float(np.linalg.norm(ours - wide)) / max(float(np.linalg.norm(wide)), 1e-30)


def stages(
    net: npresnet.ResNet, config: DetectorConfig, theirs: dict[str, Array], picture: Array
) -> Iterator[tuple[str, str, bool]]:
    """(stage, how far it is, whether that is near enough), each on matterport's own input."""
    molded = mold(picture, config, 1)
    size = molded.size
    yield "molded image", "bits equal", np.array_equal(molded.image[0], theirs["image"])
    yield "window", "equal", tuple(molded.window) == tuple(theirs["window"])
    anchors = own_boxes.anchors(size, config.RPN_ANCHOR_SCALES, config.RPN_ANCHOR_RATIOS)
    yield "anchors", "bits equal", np.array_equal(anchors, theirs["anchors"])
    pyramid = net(molded.image, outputs="pyramid")
    for level, array in zip((2, 3, 4, 5, 6), pyramid, strict=True):
        error = relative(array[0], theirs[f"fpn_p{level}"])
        yield f"P{level}", f"{error:.1e}", error < 1e-5
    seen = look(net, molded.image)
    error = float(np.abs(seen.scores - theirs["rpn_class"][:, 1]).max())
    yield "rpn_class", f"{error:.1e} at most", error < 1e-4
    error = relative(seen.shifts, theirs["rpn_bbox"])
    yield "rpn_bbox", f"{error:.1e}", error < 1e-5
    rois, _ = proposals(theirs["rpn_class"][:, 1], theirs["rpn_bbox"], anchors, config)
    error = float(np.abs(rois - theirs["ROI"]).max())
    yield "proposals", f"{error:.1e} at most", error < 1e-6
    maps = [theirs[f"fpn_p{level}"][None] for level in (2, 3, 4, 5)]
    for name, boxes, side in (
        ("roi_align_classifier", theirs["ROI"], net.architecture.detector.pool),  # type: ignore[union-attr]
        ("roi_align_mask", theirs["mrcnn_detection"][:, :4], config.MASK_POOL_SIZE),
    ):
        cut, order = regions(maps, np.ascontiguousarray(boxes), side, size, 1)
        yield name, "bits equal", np.array_equal(cut[np.argsort(order)], theirs[name])
    found = net.heads["class"](theirs["roi_align_classifier"], outputs=["mrcnn_class", "mrcnn_bbox"])
    error = float(np.abs(found["mrcnn_class"] - theirs["mrcnn_class"]).max())
    yield "mrcnn_class", f"{error:.1e} at most", error < 1e-4
    error = relative(found["mrcnn_bbox"], theirs["mrcnn_bbox"])
    yield "mrcnn_bbox", f"{error:.1e}", error < 1e-5
    chosen = choose(theirs["ROI"], theirs["mrcnn_class"], theirs["mrcnn_bbox"], molded.normal_window, config)
    rows = np.column_stack([chosen.boxes, chosen.class_ids, chosen.scores])
    padded = np.zeros_like(theirs["mrcnn_detection"])
    padded[: len(rows)] = rows
    error = float(np.abs(padded - theirs["mrcnn_detection"]).max())
    yield "mrcnn_detection", f"{error:.1e} at most", error < 1e-6
    masks = net.heads["mask"](theirs["roi_align_mask"], outputs=["mrcnn_mask"])["mrcnn_mask"]
    error = relative(masks, theirs["mrcnn_mask"])
    yield "mrcnn_mask", f"{error:.1e}", error < 1e-5


def end_to_end(found: npresnet.Detections, theirs: dict[str, Array]) -> Iterator[tuple[str, str, bool]]:
    """The same of what both sides detect in a picture."""
    ours, other = ({(*map(int, box), int(one)) for box, one in zip(boxes, ids, strict=True)} for boxes, ids in (
        (found.boxes, found.class_ids), (theirs["rois"], theirs["class_ids"])
    ))  # fmt: skip
    same = len(ours & other)
    yield "detections", f"{same} of {len(other)}", len(ours) == len(other) == same
    if len(found.scores) == len(theirs["scores"]):
        error = float(np.abs(np.sort(found.scores) - np.sort(theirs["scores"])).max(initial=0))
        yield "scores", f"{error:.1e} at most", error < 1e-4
        assert found.masks is not None
        places = {
            (*map(int, box), int(one)): k
            for k, (box, one) in enumerate(zip(theirs["rois"], theirs["class_ids"], strict=True))
        }
        wrong = sum(
            np.count_nonzero(found.masks[:, :, k] != theirs["masks"][:, :, places[key]])
            for k, (box, one) in enumerate(zip(found.boxes, found.class_ids, strict=True))
            if (key := (*map(int, box), int(one))) in places
        )
        total = int(found.masks.sum())
        yield "masks", f"{wrong} of {total:,} pixels", bool(wrong <= 1e-3 * max(total, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mrcnn", metavar="FOLDER")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    picture = load_picture(photograph())
    failed = 0
    for name in options.only:
        backbone, classes, settings = CASES[name]
        config = DetectorConfig(**settings)
        oracle = Matterport(classes, backbone, options.mrcnn, **settings)
        oracle.randomize(7)
        with tempfile.TemporaryDirectory() as folder:
            net = npresnet.load(oracle.save(Path(folder) / "mask_rcnn.h5"))
            rows = [*stages(net, config, oracle.stages(picture), picture)]
            rows += end_to_end(net.detect(picture, config)[0], oracle.detect(picture))
        print(f"\n{name}: {net.architecture}")
        for stage, text, good in rows:
            print(f"  {stage:<22}{text:<28}{'ok' if good else 'FAILS'}", flush=True)
            failed += not good
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
