"""Networks that end before their last stage, as encoders of segmenters and feature extractors do: weights alone, against Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.network.weights import inspect
from npresnet.verify.compare import compare

from ..support.networks import save
from .test_families import SUFFIX, pictures, shared

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

# (family, depth, what it is cut at, the last stage, the layers of its feature maps)
CUT: list[tuple[str, int, str, int, dict[str, str]]] = [
    ("keras.applications V2", 50, "conv4_block6_out", 4, {"C3": "conv3_block3_out", "C4": "conv4_block5_out"}),
    ("keras.applications V2", 50, "conv3_block4_out", 3, {"C2": "conv2_block2_out", "C3": "conv3_block3_out"}),
    ("keras-resnet", 18, "res3b1_relu", 3, {"C2": "res2b1_relu", "C3": "res3b1_relu"}),
    ("keras-hub", 18, "stack2_block1_out", 4, {"C3": "stack1_block1_out", "C4": "stack2_block1_out"}),
    ("keras-hub V2", 18, "stack1_block1_out", 3, {"C3": "stack1_block1_out"}),
    ("keras-hub vd", 18, "stack0_block1_out", 2, {"C2": "stack0_block1_out"}),
    ("keras-cv", 18, "v2_stack_1_block2_out", 3, {"C3": "v2_stack_1_block2_out"}),
    ("kimm", 18, "layer2_1", 3, {"C3": "layer2_1"}),
    ("image-classifiers", 18, "stage3_unit1_relu1", 3, {"C2": "stage2_unit1_relu1", "C3": "stage3_unit1_relu1"}),
    ("image-classifiers SE", 18, "stage4_unit1_relu1", 4, {"C3": "stage3_unit1_relu1", "C4": "stage4_unit1_relu1"}),
]


def ended(family: str, depth: int, end: str) -> Any:
    whole = shared(family, depth, 8)
    return keras.Model(whole.input, whole.get_layer(end).output)


@pytest.mark.parametrize("layout", ["weights", "v3"])
@pytest.mark.parametrize(("family", "depth", "end", "last", "maps"), CUT, ids=[f"{c[0]}-{c[2]}" for c in CUT])
def test_cut(tmp_path: Path, family: str, depth: int, end: str, last: int, maps: dict[str, str], layout: Any) -> None:
    model = ended(family, depth, end)
    path = tmp_path / f"cut{SUFFIX[layout]}"
    save(model, path, layout)
    found = inspect(path)
    assert not found.problems
    assert not found.unused
    assert (found.architecture.family.name, found.architecture.stages[-1]) == (family, last)
    assert list(found.graph.features) == [f"C{stage}" for stage in range(1, last + 1)]
    assert any(f"up to {last} alone" in doubt for doubt in found.doubts)
    images = pictures(64, 53)
    ours = npresnet.load(path)(images)
    expected = keras.Model(model.input, [model.get_layer(name).output for name in maps.values()])(images)
    for name, theirs in zip(maps, expected if len(maps) > 1 else [expected], strict=True):
        theirs = theirs[0] if isinstance(theirs, list) else theirs
        assert compare(np.asarray(getattr(ours, name.lower())), np.asarray(theirs)).agrees(), name


def test_the_beginning_of_two_depths(tmp_path: Path) -> None:
    """It is that of the one that was asked for."""
    save(ended("keras.applications V2", 50, "conv3_block4_out"), tmp_path / "cut.h5")
    for asked, depth in ((None, 50), ("resnet101v2", 101), ("keras.applications/resnet50v2", 50)):
        assert inspect(tmp_path / "cut.h5", asked).architecture.depth == depth
    with pytest.raises(WeightsError, match=r"3/4/0/0 blocks .*, but 'resnet152v2' was asked for"):
        inspect(tmp_path / "cut.h5", "resnet152v2")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_feature_maps_behind_another_front(tmp_path: Path, suffix: str) -> None:
    """Maps mean the same in a network that was trained further: a pre-activation network's C5 is not its last sum."""
    base = shared("keras.applications V2", 50, 8)
    image = keras.Input((None, None, 3))
    x = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(image))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    model.save(tmp_path / f"tuned{suffix}")
    found = inspect(tmp_path / f"tuned{suffix}")
    assert found.architecture.own
    assert list(found.graph.features.values()) == [
        "pool1_pool", "conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"
    ]  # fmt: skip
    images = pictures(64, 53)
    ours = npresnet.load(tmp_path / f"tuned{suffix}")(images).c5
    assert compare(np.asarray(ours), base(images / 127.5 - 1).numpy()).agrees()
