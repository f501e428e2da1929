"""Record what matterport's own Mask R-CNN makes of a few pictures, for the tests: a narrow network that was trained.

    python -m tests.record_mask_rcnn WEIGHTS PICTURES [--mrcnn FOLDER]

Writes ``tests/data/shapes.h5`` (the weights, kernels rounded to float16) and ``tests/data/shapes.npz``. WEIGHTS is a file of weights that
matterport's training left, for its sample "shapes"; PICTURES an ``.npz`` of ``0_image``, ``1_image``, ..., uint8[128, 128, 3].
``bench/matterport.py`` says what it needs, and what FOLDER is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.matterport import Matterport
from npresnet.detection.config import PRESETS

from .support import choices

DATA = Path(__file__).parent / "data"
PICTURES = ((2, 0), (2, 1), (3, 0), (5, 0), (8, 0))
"""(number, quarter turns): three detections; two, and one with a score of 0.697; two; none; one."""
STAGES = ("rpn_class", "rpn_bbox", "ROI", "mrcnn_class", "mrcnn_bbox", "mrcnn_detection")


def rounded(source: Path, target: Path) -> None:
    """The same file with kernels of float16 in place of float32, packed."""

    def copy(old: Any, new: Any) -> None:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name, child in old.items():
            if isinstance(child, h5py.Dataset):
                numbers = child[()].astype(np.float16 if child.ndim > 1 else np.float32)
                packed = {"compression": "gzip", "shuffle": True} if numbers.size > 4096 else {}
                new.create_dataset(name, data=numbers, **packed)
            else:
                copy(child, new.create_group(name))

    with h5py.File(source) as old, h5py.File(target, "w") as new:
        copy(old, new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--mrcnn", metavar="FOLDER")
    options = parser.parse_args()
    rounded(options.weights, DATA / "shapes.h5")
    settings = {"TOP_DOWN_PYRAMID_SIZE": 32, "FPN_CLASSIF_FC_LAYERS_SIZE": 64, **PRESETS["shapes"]}
    oracle = Matterport(4, "resnet50", options.mrcnn, narrow=8, **settings)
    oracle.load(DATA / "shapes.h5")
    kept: dict[str, Any] = {}
    with np.load(options.pictures) as given:
        for number, (one, turns) in enumerate(PICTURES):
            picture = np.ascontiguousarray(np.rot90(given[f"{one}_image"], turns))
            found = oracle.detect(picture)
            found["masks"] = np.packbits(found["masks"].astype(bool))
            kept |= {f"{number}/{name}": array for name, array in {"image": picture, **found}.items()}
            if number == 0:
                stages = oracle.stages(picture)
                kept |= {name: stages[name] for name in STAGES}
    for kind in choices.KINDS:
        kept[f"detections/{kind}"] = oracle.choose(choices.detection_case(kind), choices.CONFIG)
        kept[f"proposals/{kind}"] = oracle.propose(choices.proposal_case(kind), choices.CONFIG)
    np.savez_compressed(DATA / "shapes.npz", **kept)


if __name__ == "__main__":
    main()
