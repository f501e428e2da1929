"""Every family of the table against live TensorFlow, layer by layer: narrow networks that Keras builds after each
family's own program and saves in each of its layouts.

``full_families.py`` does the same with the packages themselves, at full size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.keras_order import keras_order
from npresnet.verify import oracle
from npresnet.verify.compare import compare

from ..support.agreement import agreement, check_file, kind_of, pairs, randomize
from ..support.networks import save

pytest.importorskip("tensorflow")

SUFFIX = {"weights": ".h5", "model": ".h5", "v3": ".weights.h5", "archive": ".keras"}
LAYOUTS = tuple(SUFFIX)

# (family, depth, further arguments of the oracle's builder); matterport, keras-resnet and v1 are in test_backbones.py
NETWORKS: list[tuple[str, int, dict[str, Any]]] = [
    ("fchollet", 50, {"classes": 5}),
    ("fchollet", 50, {"classes": 5, "pool": "valid"}),
    ("flyyufelix", 101, {"classes": 5}),
    ("keras.applications V2", 50, {"classes": 5}),
    ("keras.applications ResNeXt", 50, {"classes": 5, "groups": 4}),
    ("keras-resnet", 200, {"classes": 5}),
    ("keras-hub", 18, {"classes": 5}),
    ("keras-hub", 26, {}),
    ("keras-hub V2", 50, {}),
    ("keras-hub V2", 18, {}),
    ("keras-hub vd", 18, {}),
    ("keras-hub vd", 50, {}),
    ("keras-cv", 18, {"inside": True}),
    ("keras-cv", 50, {}),
    ("keras-cv V2", 18, {}),
    ("keras-cv V2", 50, {}),
    ("kimm", 18, {"classes": 5, "inside": True}),
    ("kimm", 50, {}),
    ("image-classifiers", 18, {"classes": 5}),
    ("image-classifiers", 50, {}),
    ("image-classifiers SE", 18, {"classes": 5}),
    ("opennsfw2", 50, {"classes": 2}),
]
IDS = [
    f"{family}-{depth}{'-' + '-'.join(map(str, options.values())) if options else ''}"
    for family, depth, options in NETWORKS
]


def narrow(family: str, depth: int, width: int = 16, **options: Any) -> Any:
    """A Keras model of a family, a quarter as wide as published, filled with seeded numbers."""
    standard = Architecture.standard(FAMILIES[family], depth, width=width)
    model = oracle.build(family, depth, stem_width=width, stage_widths=standard.widths, **options)
    randomize(model, pixels=1.0 if options.get("inside") else 60.0)
    return model


@functools.lru_cache(maxsize=40)
def shared(family: str, depth: int, width: int = 16, **options: Any) -> Any:
    """A ``narrow`` model that other tests have, too: save it and run it, but leave its weights alone."""
    return narrow(family, depth, width, **options)


def pictures(height: int, width: int) -> Any:
    return np.random.default_rng(5).uniform(-124, 132, (1, height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The legacy weights file of a ``shared`` model, saved once."""
    folder = tmp_path_factory.mktemp("legacy")

    def saved(family: str, depth: int, options: dict[str, Any]) -> Path:
        path = folder / f"{IDS[NETWORKS.index((family, depth, options))]}.h5"
        if not path.exists():
            save(shared(family, depth, **options), path)
        return path

    return saved


@functools.cache
def loaded(path: Path, asked: str | None) -> Any:
    """A network of such a file, which several tests look at."""
    return npresnet.load(path, asked)


def asked_for(family: str, depth: int, options: dict[str, Any]) -> str:
    variant = "".join(f" {key}={value}" for key, value in options.items() if key == "pool")
    return Architecture(FAMILIES[family], depth).name + variant


@pytest.mark.parametrize(("family", "depth", "options"), NETWORKS, ids=IDS)
def test_every_layer_agrees_with_tensorflow(
    legacy: Callable[..., Path], family: str, depth: int, options: dict[str, Any]
) -> None:
    model = shared(family, depth, **options)
    # an even and an odd size: the borders of strided windows depend on it
    images = pictures(64, 77)
    name = asked_for(family, depth, options)
    path = legacy(family, depth, options)
    outputs = dict(oracle.activations(model, images))
    given = loaded(path, name if "pool" in options else None)
    found = agreement(given, model.operations, outputs.items(), images, truth=True)
    assert not found.failures, "\n".join(found.failures)
    assert not found.unpaired
    assert found.architecture.split(",")[0] == name.split()[0]
    # by plan, folded and fused where it can be, the features are the same
    net = npresnet.load(path, name)
    features = dict(zip(("C1", "C2", "C3", "C4", "C5"), map(np.asarray, net(images)), strict=True))
    named = pairs(net, model.operations)
    theirs = {named[name]: array for name, array in outputs.items() if name in named}
    for feature, layer in net.graph.features.items():
        assert compare(features[feature], theirs[layer]).agrees(), feature
    less = "pool" in options or family == "flyyufelix"  # one pixel, without a border around the pool
    assert [features[f].shape[1:3] for f in ("C2", "C3", "C4", "C5")] == [
        (16 - less, 20 - less),
        (8, 10),
        (4, 5),
        (2, 3),
    ]


# the tree of objects for all that Keras can save whole; whole models, whose description must say the same, for a few
_WHOLE = {"fchollet", "keras.applications V2", "keras-hub vd", "image-classifiers SE"}
_LAYOUTS = [
    (*entry, layout)
    for entry in NETWORKS
    if entry[0] not in ("flyyufelix", "keras.applications ResNeXt") and entry[1] < 200
    for layout in ("v3", *(("model", "archive") if entry[0] in _WHOLE else ()))
]


@pytest.mark.parametrize(("family", "depth", "options", "layout"), _LAYOUTS, ids=lambda value: str(value))
def test_every_layout_reads_the_same(
    legacy: Callable[..., Path], tmp_path: Path, family: str, depth: int, options: dict[str, Any], layout: Any
) -> None:
    """The tensors of a legacy weights file, which the test above has run, to the bit."""
    path = tmp_path / f"other{SUFFIX[layout]}"
    save(shared(family, depth, **options), path, layout)
    asked = asked_for(family, depth, options) if "pool" in options else None
    one, other = loaded(legacy(family, depth, options), asked), npresnet.load(path)
    assert dict(one.graph.features.items()) == dict(other.graph.features)
    for layer, tensors in one.weights.items():
        for role, array in tensors.items():
            assert np.array_equal(array, other.weights[layer][role]), f"{layer}/{role}"


@pytest.mark.parametrize(("family", "depth", "options"), NETWORKS, ids=IDS)
def test_order_of_layers_is_that_of_keras(family: str, depth: int, options: dict[str, Any]) -> None:
    """By which layers without names are counted, see ``keras_order``."""
    model = shared(family, depth, **options)
    standard = Architecture.standard(FAMILIES[family], depth, classes=options.get("classes"))
    graph = build_graph(replace(standard, pool=options.get("pool"), inside="inside" in options))
    skipped = {"input_image", "input", "avg_pool", "pooler"}
    theirs = [layer.name for layer in model.layers if layer.name not in skipped and kind_of(layer)]
    ours = [name for name in keras_order(graph) if name not in skipped]
    known = set(theirs)
    assert [name for name in ours if name in known] == [name for name in theirs if name in set(ours)]
    assert len(known & set(ours)) > 0.9 * len(ours)


def test_the_check_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros instead of minus infinity around a signed max-pool look plausible; the comparison must see it."""
    model = narrow("keras-hub V2", 18)
    save(model, tmp_path / "weights.h5")
    wrong = replace(FAMILIES["keras-hub V2"], pool="explicit")
    monkeypatch.setattr("npresnet.network.by_names.FAMILIES", {**FAMILIES, "keras-hub V2": wrong})
    found = check_file(model, tmp_path / "weights.h5", pictures(64, 48))
    assert found.failures
    assert found.failures[0].startswith("pool1_pool")
