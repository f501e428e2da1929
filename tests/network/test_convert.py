"""``npresnet convert``: the same network, the same bits, in a file that Keras loads by name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import UsageError, WeightsError
from npresnet.network import convert as module
from npresnet.network.convert import convert
from npresnet.network.weights import inspect
from npresnet.verify import oracle

from ..support.agreement import randomize
from ..support.networks import respell, save, saved, thin, write_detector
from .test_digits import DATA, WEIGHTS
from .test_families import LAYOUTS, SUFFIX, asked_for, narrow

IMAGES = np.random.default_rng(0).normal(0, 50, (2, 40, 33, 3)).astype(np.float32)
DETECTOR = thin("matterport", 50)


def same_network(first: Path, second: Path, architecture: str | None = None) -> None:
    """Both run, as the same network, to the same bits in every layer that has a name in Keras."""
    one, two = npresnet.load(first, architecture), npresnet.load(second, architecture)
    assert one.graph == two.graph
    assert one.architecture == two.architecture
    outputs = [*one.graph.features.values(), *([one.graph.classifier] if one.graph.classifier else [])]
    expected, found = one(IMAGES, outputs), two(IMAGES, outputs)
    for name in outputs:
        assert expected[name].tobytes() == found[name].tobytes(), name


def keras_takes(path: Path, model: Any) -> None:
    """Keras fills the model by name, completely, with the numbers that it had before."""
    expected = [variable.numpy() for variable in model.variables]
    oracle.load_file(model, path)  # spoils all variables first
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(expected, model.variables, strict=True))


NETWORKS = [
    ("keras-resnet", 18, {"classes": 5}),
    ("keras-resnet", 50, {"stem": "same"}),
    ("keras.applications", 50, {"classes": 5}),
    ("keras.applications V2", 50, {}),
    ("fchollet", 50, {"classes": 5, "pool": "valid"}),
    ("keras-hub vd", 18, {}),
    ("image-classifiers SE", 18, {"classes": 5}),
]


@pytest.mark.parametrize(  # the first in all layouts, the others in one each, in turns: layouts are told apart before networks
    ("family", "depth", "options", "layout"),
    [
        *((*NETWORKS[0], layout) for layout in LAYOUTS),
        *((*network, LAYOUTS[i % len(LAYOUTS)]) for i, network in enumerate(NETWORKS[1:])),
    ],
    ids=lambda value: str(value) if not isinstance(value, dict) else "-".join(map(str, value.values())),
)
def test_every_layout(tf, tmp_path, family, depth, options, layout):
    model = narrow(family, depth, **options)
    source = tmp_path / f"source{SUFFIX[layout]}"
    save(model, source, layout)
    architecture = asked_for(family, depth, options) if "pool" in options else None
    done = convert(source, tmp_path / "plain.h5", architecture)
    assert done.dropped == {}
    assert done.bytes == (tmp_path / "plain.h5").stat().st_size
    same_network(source, tmp_path / "plain.h5", architecture)
    keras_takes(tmp_path / "plain.h5", model)


def test_detector(tf, tmp_path_factory, tmp_path):
    """Its pyramid and its heads are kept, as matterport's code looks for them; what is not part of it is dropped, and said."""
    source = write_detector(saved(tmp_path_factory, DETECTOR), tmp_path / "mask_rcnn.h5")
    done = convert(source, tmp_path / "plain.h5")
    assert done.dropped == {}
    same_network(source, tmp_path / "plain.h5")
    keras_takes(tmp_path / "plain.h5", DETECTOR.build())
    with h5py.File(source, "r+") as file, h5py.File(tmp_path / "plain.h5") as plain:
        for name in ("rpn_model", "mrcnn_class_conv1"):
            assert plain[name].attrs["weight_names"].tolist() == file[name].attrs["weight_names"].tolist()
        assert "rpn_conv_shared" not in plain
        del file["mrcnn_class_bn2"]  # so that there is no class head
        file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != b"mrcnn_class_bn2"]
    done = convert(source, tmp_path / "less.h5")
    assert done.dropped == inspect(source).unused
    assert {"mrcnn_class_bn1", "mrcnn_mask"} <= done.dropped.keys()
    assert done.bytes < source.stat().st_size
    assert inspect(tmp_path / "less.h5").unused == {}
    with h5py.File(tmp_path / "less.h5") as file:
        assert not [name for name in file if re.match("mrcnn_", name)]
        assert file["res2a_branch2a"].attrs["weight_names"].tolist() == [
            b"res2a_branch2a/kernel:0", b"res2a_branch2a/bias:0",
        ]  # fmt: skip


def test_trained_network(tmp_path):
    """The optimizer's state goes, the answers stay."""
    convert(WEIGHTS, tmp_path / "digits.h5")
    assert (tmp_path / "digits.h5").stat().st_size < WEIGHTS.stat().st_size
    with np.load(DATA / "digits.npz") as found:
        old, new = (npresnet.load(path) for path in (WEIGHTS, tmp_path / "digits.h5"))
        images = old.prepare(found["pictures"], "none")
        assert old.predict(images).tobytes() == new.predict(images).tobytes()


@pytest.mark.parametrize("layout", ["weights", "v3"])
def test_grouped_convolutions(tf, tmp_path, layout):
    """ResNeXt's, which files keep as depthwise kernels."""
    model = narrow("keras.applications ResNeXt", 50, groups=4)
    source = tmp_path / f"source{SUFFIX[layout]}"
    save(model, source, layout)
    convert(source, tmp_path / "plain.h5")
    same_network(source, tmp_path / "plain.h5")
    keras_takes(tmp_path / "plain.h5", model)


def test_file_without_names_gets_them(tf, tmp_path):
    """As Keras wrote ``.weights.h5`` before 3.6: layers counted by class."""
    model = narrow("keras.applications", 50, classes=5)
    save(model, tmp_path / "source.weights.h5", "v3")
    with h5py.File(tmp_path / "source.weights.h5", "r+") as file:
        named = []
        file.visititems(lambda path, item: named.append(item) if "name" in item.attrs else None)
        for item in named:
            del item.attrs["name"]
    assert len(named) > 100
    assert "without names" in inspect(tmp_path / "source.weights.h5").layout
    convert(tmp_path / "source.weights.h5", tmp_path / "plain.h5")
    same_network(tmp_path / "source.weights.h5", tmp_path / "plain.h5")
    keras_takes(tmp_path / "plain.h5", model)


def test_layers_that_keras_has_counted_keep_their_numbers(tf, tmp_path):
    """Squeeze-and-excitation in files of qubvel's own package: by other names Keras would pass over them."""
    source = tmp_path / "gates.h5"
    save(narrow("image-classifiers SE", 18, classes=5), source)
    with h5py.File(source, "r+") as file:
        names = list(map(str, file.attrs["layer_names"]))
        gates = [name for name in names if name.endswith(("_se_reduce", "_se_expand"))]
        counted = {name: f"conv2d_{number}" for number, name in enumerate(gates, 1)}
        assert len(counted) == 16
        for before, after in counted.items():
            file.move(before, after)
        file.attrs["layer_names"] = np.array([counted.get(name, name).encode() for name in names])
    convert(source, tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5") as file:
        assert set(counted.values()) <= file.keys()
    same_network(source, tmp_path / "plain.h5")


def test_what_only_layers_without_weights_tell(tf, tmp_path):
    """The original ResNet50 without its top differs from Mask R-CNN's in the names of its activations alone."""
    source = tmp_path / "notop.h5"
    save(narrow("fchollet", 50), source)
    with h5py.File(source, "r+") as file:
        old = list(map(str, file.attrs["layer_names"]))
        new = [f"activation_{i}" if name.endswith(("_out", "_relu")) else name for i, name in enumerate(old)]
        for before, after in zip(old, new, strict=True):
            if before != after:
                file.move(before, after)
        file.attrs["layer_names"] = np.array([name.encode() for name in new])
    assert inspect(source).architecture.name == "fchollet/resnet50"
    convert(source, tmp_path / "plain.h5")
    same_network(source, tmp_path / "plain.h5")


def test_network_of_its_own(tf, tmp_path):
    """A network that is in no table goes on describing itself."""
    keras = pytest.importorskip("keras")
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu", name="first")(image)
    y = keras.layers.BatchNormalization(scale=False, name="norm")(
        keras.layers.DepthwiseConv2D(3, padding="same", name="deep")(x)
    )
    x = keras.layers.GlobalAveragePooling2D(name="mean")(keras.layers.Add(name="sum")([x, y]))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="last")(x), name="own")
    randomize(model)
    save(model, tmp_path / "own.keras", "archive")
    convert(tmp_path / "own.keras", tmp_path / "own.h5")
    same_network(tmp_path / "own.keras", tmp_path / "own.h5")
    keras_takes(tmp_path / "own.h5", model)


def test_theano_kernels_end_up_as_tensorflows(tf, tmp_path_factory, tmp_path):
    """What the old file's backend said is now in the kernels themselves."""
    source = respell(saved(tmp_path_factory, DETECTOR), tmp_path / "theano.h5", "keras2")
    with h5py.File(source, "r+") as file:
        file.attrs["backend"] = b"theano"
    convert(source, tmp_path / "plain.h5")
    same_network(source, tmp_path / "plain.h5")


def test_nothing_is_written_over_unless_asked(tmp_path):
    target = tmp_path / "plain.h5"
    target.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"exists already; .*--force"):
        convert(WEIGHTS, target)
    assert target.read_bytes() == b"precious"
    convert(WEIGHTS, target, force=True)
    assert inspect(target).problems == []


def test_a_file_may_replace_itself(tmp_path):
    convert(WEIGHTS, tmp_path / "plain.h5")
    shutil.copy(tmp_path / "plain.h5", tmp_path / "copy.h5")
    convert(tmp_path / "plain.h5", tmp_path / "plain.h5", force=True)
    same_network(tmp_path / "copy.h5", tmp_path / "plain.h5")


@pytest.mark.parametrize("name", ["plain.keras", "plain.weights.h5", "plain", "plain.npz"])
def test_names_that_keras_would_not_understand(tmp_path, name):
    with pytest.raises(UsageError, match=r"must end in \.h5 and not in"):
        convert(WEIGHTS, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_reads_back_differently_is_not_kept(tmp_path, monkeypatch):
    """A converter's mistake, one bit of it, is no file."""

    def spoilt(path, names, layers, *others):
        layers = [(name, dict(tensors)) for name, tensors in layers]
        kernel = layers[0][1]["kernel"].copy()
        kernel.view(np.uint32).flat[0] ^= 1
        layers[0][1]["kernel"] = kernel
        write(path, names, layers, *others)

    write = module.write_layers
    monkeypatch.setattr(module, "write_layers", spoilt)
    with pytest.raises(WeightsError, match="run the file as it is"):
        convert(WEIGHTS, tmp_path / "plain.h5")
    assert not list(tmp_path.iterdir())


def test_broken_file_is_refused_and_nothing_written(tmp_path):
    (tmp_path / "cut.keras").write_bytes(WEIGHTS.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match=r"cut\.keras"):
        convert(tmp_path / "cut.keras", tmp_path / "plain.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.keras"]


def test_on_the_command_line(tmp_path, monkeypatch):
    pytest.importorskip("typer")
    from ..cli.test_cli import cli

    monkeypatch.chdir(tmp_path)
    status, output = cli("convert", WEIGHTS, "digits.h5")
    assert status == 0
    assert re.search(r"^written +digits\.h5 \([\d,]+ bytes\), 43 layers with 107 tensors$", output, re.MULTILINE), (
        output
    )
    assert re.search(r"^dropped +none$", output, re.MULTILINE)
    status, output = cli("convert", WEIGHTS, "digits.h5")
    assert status == 2
    assert (
        output
        == "npresnet: digits.h5: exists already; choose another name, or write over it with --force (force=True)\n"
    )
    assert cli("convert", WEIGHTS, "digits.h5", "--force")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["digits.h5"]
