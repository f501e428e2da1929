"""Reading weight files: every layout and spelling gives the right tensors, the network in a file is found, and what
looks plausible but is wrong is refused, with everything that is wrong about it.

Networks are thin (4 channels in the stem) where names and shapes are all that matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from npresnet.errors import UsageError, WeightsError
from npresnet.network.detector import Detector
from npresnet.network.weights import inspect, load_weights

from ..support.networks import Network, read, respell, save, saved, shared, thin, write_detector

keras = pytest.importorskip("keras")  # every tensor here comes from Keras

MATTERPORT = thin("matterport", 50)
APPLICATIONS = Network("keras.applications", 50, classes=7)  # Keras needs long to make a thin one
KERAS_RESNET = thin("keras-resnet", 18, classes=7)
FAMILIES = {network.family: network for network in (MATTERPORT, APPLICATIONS, KERAS_RESNET)}

Layers = dict[str, dict[str, Any]]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.h5"


@pytest.fixture
def layers(tmp_path_factory) -> Layers:
    """{layer: {role: array}} of a thin matterport ResNet-50, to be changed and written."""
    return read(saved(tmp_path_factory, MATTERPORT))


def _hole() -> h5py.h5p.PropDCID:
    """For a dataset that has its place in the file without being written: zeros, which take no time and no disk."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def write(
    path: Path, layers: Mapping[str, Mapping[str, Any]], weightless: Iterable[str] = (), **attributes: str
) -> Path:
    """Write a weights-only file as Keras 2 spells it. A tuple in place of an array is a shape of zeros."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in [*layers, *weightless]])
        for name, value in {"backend": "tensorflow", "keras_version": "2.2.4", **attributes}.items():
            file.attrs[name] = value
        for layer in [*layers, *weightless]:
            file.require_group(layer)
        for layer, roles in layers.items():
            for role, value in roles.items():
                if isinstance(value, tuple):
                    file.create_dataset(f"{layer}/{layer}/{role}:0", value, "f4", dcpl=_hole())
                else:
                    file[f"{layer}/{layer}/{role}:0"] = value
    return path


def assert_read(path: Path, network: Network, **facts: object) -> None:
    """The file is this network, each of its tensors is the one that Keras has, to the bit, and there are no others."""
    found = load_weights(path)
    assert (found.architecture.family.name, found.architecture.depth) == (network.family, network.depth)
    expected = {
        layer.name: {variable.name.replace("moving_", ""): variable.numpy() for variable in layer.variables}
        for layer in shared(network).layers
        if layer.variables
    }
    assert found.weights.keys() == expected.keys()
    for layer, tensors in expected.items():
        assert found.weights[layer].keys() == tensors.keys()
        for role, array in tensors.items():
            assert found.weights[layer][role].dtype == np.float32
            assert np.array_equal(found.weights[layer][role], array), f"{layer}/{role}"
    assert set(found.matched) == expected.keys()
    assert not found.problems
    for name, value in facts.items():
        assert getattr(found, name) == value


def problems(path: Path, architecture: str | None = None) -> dict[str, list[str]]:
    """What ``inspect`` finds wrong. ``load_weights`` must refuse the file and say the first of each kind."""
    found = inspect(path, architecture)
    wrong = {kind: list(getattr(found, kind)) for kind in ("missing", "misshaped", "unsound")}
    wrong = {kind: items for kind, items in wrong.items() if items}
    with pytest.raises(WeightsError) as caught:
        load_weights(path, architecture)
    for items in wrong.values():
        assert all(item in str(caught.value) for item in items[:12]), caught.value
    return wrong


# Layouts and spellings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["weights", "model"])
@pytest.mark.parametrize("family", FAMILIES)
def test_keras_own_files(tmp_path_factory, family, layout):
    title = {"weights": "legacy HDF5, weights only", "model": "legacy HDF5, whole model"}[layout]
    assert_read(
        saved(tmp_path_factory, FAMILIES[family], layout),
        FAMILIES[family],
        layout=title,
        keras_version=keras.__version__,
        backend="tensorflow",
        unused={},
    )


def test_whole_model_with_its_optimizer(path):
    network = thin("keras-resnet", 18)
    model = network.build()
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    save(model, path, "model")
    with h5py.File(path) as file:
        assert "optimizer_weights" in file
    assert_read(path, network)


@pytest.mark.parametrize(
    ("layout", "encoding"), [("weights", "bytes"), ("weights", "str"), ("weights", "split"), ("model", "split")]
)
@pytest.mark.parametrize("dialect", ["keras1", "keras2", "keras3.0", "keras3.3"])
def test_older_spellings(tmp_path_factory, path, layout, dialect, encoding):
    respell(saved(tmp_path_factory, MATTERPORT, layout), path, dialect, encoding)
    assert_read(path, MATTERPORT)
    version = {"keras1": None, "keras2": "2.2.4", "keras3.0": "3.0.5", "keras3.3": "3.3.3"}[dialect]
    if layout == "weights":
        found = inspect(path)
        assert (found.keras_version, found.backend) == (version, "tensorflow" if version else None)


@pytest.mark.parametrize("family", FAMILIES)
def test_unnamed_variables(tmp_path_factory, path, family):
    """``param_0``, ``param_1``, ...: the roles follow from the number of variables, and with them the family."""
    with h5py.File(path, "w") as file:
        tensors = read(saved(tmp_path_factory, FAMILIES[family]))
        file.attrs["layer_names"] = list(tensors)
        for layer, roles in tensors.items():
            group = file.create_group(layer)
            for position, array in enumerate(roles.values()):
                group[f"param_{position}"] = array
    assert_read(path, FAMILIES[family])


def test_scope_with_a_counter(path, layers):
    """The second model built in one session of TensorFlow 1 has ``conv1_1/kernel:0`` in the group ``conv1``."""
    write(path, layers)
    with h5py.File(path, "r+") as file:
        for layer in layers:
            if layers[layer]:
                file.move(f"{layer}/{layer}", f"{layer}/{layer}_1")
    assert_read(path, MATTERPORT)


def test_slash_in_a_name(path, layers):
    """Keras 2 allowed it; HDF5 makes groups within groups of it."""
    write(path, {**layers, "head/dense": {"kernel": np.zeros((2, 2), np.float32)}})
    assert_read(path, MATTERPORT, unused={"head/dense": 1})


def test_order_of_layers_does_not_matter(path, layers):
    write(path, dict(sorted(layers.items(), reverse=True)))
    assert_read(path, MATTERPORT)


@pytest.mark.parametrize(("stored", "exact"), [("f2", np.float16), ("f8", np.float32), (">f4", np.float32)])
def test_other_float_types(path, layers, stored, exact):
    write(path, {layer: {role: a.astype(stored) for role, a in roles.items()} for layer, roles in layers.items()})
    found = load_weights(path)
    for layer, roles in layers.items():
        for role, array in roles.items():
            ours = found.weights[layer][role.replace("moving_", "")]
            assert ours.dtype == np.float32
            assert np.array_equal(ours, array.astype(exact).astype(np.float32))


@pytest.mark.parametrize(
    "filters", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf", "fletcher32": True}]
)
def test_recompressed(path, layers, filters):
    """What h5repack makes of a file, in chunks that do not divide the shape."""
    write(path, layers)
    with h5py.File(path, "r+") as file:
        for layer, roles in layers.items():
            for role, array in roles.items():
                del file[f"{layer}/{layer}/{role}:0"]
                chunks = tuple(max(1, size * 2 // 3) for size in array.shape)
                file.create_dataset(f"{layer}/{layer}/{role}:0", data=array, chunks=chunks, **filters)
    assert_read(path, MATTERPORT)


# More in the file than the backbone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["bytes", "str", "split"])
def test_detector(tmp_path_factory, path, encoding):
    """A file like ``mask_rcnn_coco.h5``: what is behind the backbone is read, each tensor of it."""
    write_detector(saved(tmp_path_factory, MATTERPORT), path, encoding=encoding)
    found = load_weights(path)
    assert found.architecture.detector == Detector(16, 32, 3, 81, 7, 64, 16)
    assert not found.unused
    assert not found.problems
    with h5py.File(path) as file:
        for name, tensors in found.weights.items():
            source = found.graph.weighted[name].source
            group = file[source if source in file else "rpn_model"]
            for role, array in tensors.items():
                stored = {"mean": "moving_mean", "variance": "moving_variance"}.get(role, role)
                assert np.array_equal(group[f"{source}/{stored}:0"], array), name


@pytest.mark.parametrize("layout", ["weights", "model"])
def test_network_as_one_layer_of_another(path, layout):
    """Transfer learning: the ResNet is a layer of a bigger model, partly frozen, which stores it in another order."""
    network = thin("keras-resnet", 18)
    inner = network.build()
    for layer in inner.layers[::3]:
        layer.trainable = False
    x = inner(inputs := keras.Input((None, None, 3)))
    x = keras.layers.Dense(6, name="hidden")(keras.layers.GlobalAveragePooling2D()(x))
    x = keras.layers.Dense(5, name="fc1000")(x)  # named as the family's classifier, but it follows another layer
    save(keras.Model(inputs, x), path, layout)
    found = inspect(path)
    if layout == "weights":  # then nobody knows what becomes of the backbone's output, nor how its stem is padded
        assert_read(path, network, unused={"hidden": 2, "fc1000": 2})
        assert found.architecture.classes is None
        assert found.architecture.stem == "explicit"
        assert any("stem padded by 3" in doubt and "assumed" in doubt for doubt in found.doubts)
    else:
        assert not found.problems
        assert not found.unused
        (doubt,) = found.doubts
        assert "nothing says how pictures were prepared" in doubt
        assert found.graph.classifier == "fc1000"
        assert list(found.graph.features.values())[-1] == "res5b1_relu"
        assert found.weights["hidden"]["kernel"].shape == (32, 6)


def test_two_networks_in_one(path, layers):
    """The first of two layers of one name is taken; the second is reported with its path."""
    write(path, layers)
    with h5py.File(path, "r+") as file:
        file["twin/conv1/kernel:0"] = layers["conv1"]["kernel"] + 1
        file.attrs["layer_names"] = np.append(file.attrs["layer_names"], b"twin")
    assert_read(path, MATTERPORT, unused={"twin/conv1": 1})


# Which network is it? ------------------------------------------------------------------------------------------------

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BRANCHES = ("1", "2a", "2b", "2c")  # the shortcut's, then those of the main path


def published(
    family: str,
    depth: int,
    *,
    stem: int = 64,
    widths: Iterable[tuple[int, int]] | None = None,
    stage5: bool = True,
    classes: int | None = None,
) -> dict[str, dict[str, tuple[int, ...]]]:
    """{layer: {role: shape}}, written down from the programs that made the files, not from npresnet's own table."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}

    def conv(name: str, norm: str, *kernel: int) -> None:
        found[name] = {"kernel": kernel} if family == "keras-resnet" else {"kernel": kernel, "bias": kernel[-1:]}
        found[norm] = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), kernel[-1:])

    conv(*(("conv1_conv", "conv1_bn") if family == "keras.applications" else ("conv1", "bn_conv1")), 7, 7, 3, stem)
    channels = stem
    expansion = 1 if depth < 50 else 4
    widths = widths or [(64 << i, (64 << i) * expansion) for i in range(4)]
    for stage, blocks, (inner, outer) in zip(
        (2, 3, 4, 5) if stage5 else (2, 3, 4), BLOCKS[depth], widths, strict=False
    ):
        for block in range(blocks):
            letter = chr(ord("a") + block)
            if family == "keras-resnet" and block and (depth < 50 or (depth > 50 and stage in (3, 4))):
                letter = f"b{block}"
            first, *rest = [(f"res{stage}{letter}_branch{b}", f"bn{stage}{letter}_branch{b}") for b in BRANCHES]
            if family == "keras.applications":
                start = f"conv{stage}_block{block + 1}"
                first, *rest = [(f"{start}_{b}_conv", f"{start}_{b}_bn") for b in range(4)]
            kernels = [(3, 3, channels, inner), (3, 3, inner, outer)]
            if depth >= 50:
                kernels = [(1, 1, channels, inner), (3, 3, inner, inner), (1, 1, inner, outer)]
            for names, kernel in zip(rest, kernels, strict=False):
                conv(*names, *kernel)
            if block == 0:
                conv(*first, 1, 1, channels, outer)
            channels = outer
    if classes is not None:
        top = "predictions" if family == "keras.applications" else "fc1000"
        found[top] = {"kernel": (channels, classes), "bias": (classes,)}
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_published_names_are_those_of_keras(tmp_path_factory, family):
    network = FAMILIES[family]
    options: dict[str, Any] = {"stem": network.stem_width, "widths": network.stage_widths, "classes": network.classes}
    files = read(saved(tmp_path_factory, network))
    shapes = {layer: {role: a.shape for role, a in roles.items()} for layer, roles in files.items() if roles}
    assert published(network.family, network.depth, **options) == shapes


@pytest.mark.parametrize(
    ("family", "depth", "classes", "parameters"),
    [  # published counts
        ("matterport", 50, None, 23_587_712),
        ("matterport", 101, None, 42_658_176),
        ("matterport", 152, None, 58_370_944),
        ("keras.applications", 50, 1000, 25_636_712),
        ("keras.applications", 101, 1000, 44_707_176),
        ("keras.applications", 152, 1000, 60_419_944),
        ("keras.applications", 50, None, 23_587_712),
        ("keras-resnet", 18, 1000, 11_703_464),
        ("keras-resnet", 34, 1000, 21_819_048),
        ("keras-resnet", 50, 1000, 25_610_152),
        ("keras-resnet", 101, 1000, 44_654_504),
        ("keras-resnet", 152, 1000, 60_344_232),
        ("keras-resnet", 18, None, 11_190_464),
    ],
)
def test_standard_networks(path, family, depth, classes, parameters):
    write(path, published(family, depth, classes=classes), ["padding_conv1", "padding2a_branch2b"])
    found = load_weights(path)
    architecture = found.architecture
    assert (architecture.name, architecture.stage5, architecture.classes) == (f"{family}/resnet{depth}", True, classes)
    assert str(architecture) == f"{family}/resnet{depth}" + (f", {classes} classes" if classes else "")
    assert found.parameters == parameters
    assert found.graph.classifier == (None if classes is None else list(published(family, depth, classes=classes))[-1])


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_without_stage_5(path, depth):
    write(path, published("matterport", depth, stage5=False))
    found = load_weights(path)
    assert str(found.architecture) == f"matterport/resnet{depth} without stage 5"
    assert list(found.graph.features) == ["C1", "C2", "C3", "C4"]


@pytest.mark.parametrize("family", ["keras.applications", "keras-resnet"])
def test_without_stage_5_where_no_such_files_are_known(path, family):
    """It may have been cut on purpose, and that is said."""
    write(path, published(family, 50, stage5=False), ["padding_conv1"])
    found = load_weights(path)
    assert str(found.architecture) == f"{found.architecture.name} up to stage 4"
    assert list(found.graph.features) == ["C1", "C2", "C3", "C4"]
    (doubt,) = found.doubts
    assert "up to 4 alone, so feature maps end there" in doubt


@pytest.mark.parametrize(
    ("family", "depth", "stem", "widths"),
    [
        ("matterport", 101, 32, [(32 << i, 128 << i) for i in range(4)]),  # half of everything
        ("keras.applications", 50, 10, [(3, 7), (5, 11), (2, 13), (17, 1)]),  # no rule at all
        ("keras-resnet", 34, 12, [(6, 14), (1, 2), (9, 3), (8, 8)]),
    ],
)
@pytest.mark.parametrize("classes", [None, 5])
def test_other_widths(path, family, depth, stem, widths, classes):
    if family == "matterport" and classes:
        pytest.skip("matterport's networks have no classifier")
    tensors = published(family, depth, stem=stem, widths=widths, classes=classes)
    write(path, tensors, ["padding_conv1"])
    found = load_weights(path)
    architecture = found.architecture
    assert (architecture.name, architecture.classes) == (f"{family}/resnet{depth}", classes)
    assert (architecture.stem_width, list(architecture.widths)) == (stem, widths)
    outer = "/".join(str(width) for _, width in widths)
    assert f", stem {stem} and stages {outer} channels wide" in str(architecture)


@pytest.mark.parametrize("depth", [18, 50, 101])
def test_stem_of_keras_resnet(path, depth):
    """The two releases differ in one layer without weights, which only the list of layers tells."""
    tensors = published("keras-resnet", depth, stem=4, widths=[(4, 8)] * 4)
    for listed, stem in ((["padding_conv1", "padding2a_branch2b"], "explicit"), (["padding2a_branch2b"], "same")):
        assert load_weights(write(path, tensors, listed)).architecture.stem == stem


@pytest.mark.parametrize("stem", ["explicit", "same"])
def test_stem_of_keras_resnet_in_files_by_keras(tmp_path_factory, stem):
    found = load_weights(saved(tmp_path_factory, thin("keras-resnet", 18, stem=stem)))
    assert found.architecture.stem == stem


@pytest.mark.parametrize("name", ["predictions", "probs", "fc1000"])
def test_names_of_the_classifier(path, name):
    tensors = published("keras.applications", 50, stem=4, widths=[(4, 8)] * 4, classes=3)
    tensors[name] = tensors.pop("predictions")
    assert load_weights(write(path, tensors)).graph.classifier == name


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("resnet50", MATTERPORT),
        ("matterport/resnet50", MATTERPORT),
        ("Matterport/ResNet50", MATTERPORT),
        ("keras.applications/resnet50", APPLICATIONS),
        ("keras-resnet/resnet18", KERAS_RESNET),
    ],
    ids=lambda value: value if isinstance(value, str) else value.family,
)
def test_asked_for_what_is_there(tmp_path_factory, asked, given):
    found = load_weights(saved(tmp_path_factory, given), asked)
    assert found.architecture == load_weights(saved(tmp_path_factory, given)).architecture


# Plausible, but wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "depth", "asked", "words"),
    [
        (
            "matterport",
            101,
            "resnet50",
            r"holds matterport/resnet101 \(3/4/23/3 blocks .*\), but 'resnet50' was asked for",
        ),
        ("matterport", 101, "matterport/resnet50", "but 'matterport/resnet50' was asked for"),
        ("matterport", 50, "resnet152", r"holds matterport/resnet50 \(3/4/6/3 .*; leave the architecture out, or give"),
        (
            "matterport",
            50,
            "keras.applications/resnet50",
            "names its layers as matterport does, but 'keras.app.*asked for",
        ),
        ("keras.applications", 50, "matterport/resnet50", "names its layers as keras.applications does, but"),
        ("matterport", 101, "keras-resnet/resnet101", "matterport does|which is no known depth"),
        ("matterport", 50, "keras-resnet/resnet50", "53 tensors: conv1/bias: in the file, but the network has no such"),
        ("keras-resnet", 50, "matterport/resnet50", r"lacks 53 tensors: conv1/bias \(4,\); res2a_branch2a/bias"),
        ("keras-resnet", 34, "resnet18", "holds keras-resnet/resnet34"),
    ],
)
def test_asked_for_something_else(path, family, depth, asked, words):
    write(path, published(family, depth, stem=4, widths=[(4, 8)] * 4), ["padding_conv1"])
    with pytest.raises(WeightsError, match=words):
        load_weights(path, asked)


@pytest.mark.parametrize(
    "asked", ["resnet", "resnet51", "vgg16", "matterport", "matterport/resnet18", "torch/resnet50", ""]
)
def test_asked_for_nonsense(tmp_path_factory, asked):
    if asked == "":
        assert inspect(saved(tmp_path_factory, MATTERPORT), asked).architecture.depth == 50  # nothing was asked
        return
    with pytest.raises(UsageError, match=f"architecture: got {asked!r}; .*matterport/resnet50"):
        inspect(saved(tmp_path_factory, MATTERPORT), asked)


def test_one_layer_missing(path, layers):
    del layers["res4c_branch2b"]
    write(path, layers)
    assert problems(path) == {"missing": ["res4c_branch2b/kernel (3, 3, 16, 16)", "res4c_branch2b/bias (16,)"]}
    assert "res4c_branch2b" not in inspect(path).matched


@pytest.mark.parametrize("layer", ["res2a_branch2c", "res5c_branch2c", "res3a_branch1", "bn2b_branch2a"])
def test_any_layer_missing(path, layers, layer):
    """Whichever it is, the network is still recognised, and nothing else is complained about."""
    roles = layers.pop(layer)
    write(path, layers)
    found = problems(path)
    assert list(found) == ["missing"]
    assert [item.split(" ")[0] for item in found["missing"]] == [
        f"{layer}/{role.replace('moving_', '')}" for role in roles
    ]


@pytest.mark.parametrize("block", ["3b", "4a", "5a"])
def test_one_block_missing_in_the_middle(path, layers, block):
    gone = [layer for layer in layers if f"{block}_branch" in layer and layers[layer]]
    tensors = {f"{layer}/{role.replace('moving_', '')}" for layer in gone for role in layers[layer]}
    shapes = {str(layers[layer][role].shape) for layer in gone for role in layers[layer]}
    for layer in gone:
        del layers[layer]
    write(path, layers)
    found = problems(path)
    assert list(found) == ["missing"]
    assert {item.split(" ", 1)[0] for item in found["missing"]} == tensors
    assert {item.split(" ", 1)[1] for item in found["missing"]} == shapes
    with pytest.raises(
        WeightsError, match=rf"lacks {len(tensors)} tensors: .*; and {len(tensors) - 12} more; `npresnet info"
    ):
        load_weights(path)


@pytest.mark.parametrize(("gone", "counts"), [("5c", "3/4/6/2"), ("4f", "3/4/5/3"), ("3", "3/0/6/3")])
def test_blocks_missing_at_the_end(path, layers, gone, counts):
    """Then it is no known network; a cut in the last stage must not pass for "without stage 5"."""
    write(path, {name: roles for name, roles in layers.items() if not name.startswith((f"res{gone}", f"bn{gone}"))})
    with pytest.raises(
        WeightsError, match=f"holds {counts} blocks .*no known depth .*ResNet-50: 3/4/6/3.*; the file is inc"
    ):
        inspect(path)


def test_blocks_beyond_the_end(path, layers):
    extra = {name.replace("5c", "5d"): roles for name, roles in layers.items() if "5c_" in name}
    write(path, layers | extra)
    with pytest.raises(WeightsError, match="holds 3/4/6/4 blocks"):
        inspect(path)


@pytest.mark.parametrize(
    ("layer", "shape", "needed"),
    [
        ("res3a_branch2a", (1, 1, 16, 11), (1, 1, 16, 8)),  # the first of its stage, which could tell the width
        ("res3c_branch2b", (8, 8, 3, 3), (3, 3, 8, 8)),  # transposed
        ("res5b_branch2c", (32, 128), (1, 1, 32, 128)),  # flattened
    ],
)
def test_mis_shaped_kernel(path, layers, layer, shape, needed):
    layers[layer]["kernel"] = shape
    write(path, layers)
    assert problems(path) == {"misshaped": [f"{layer}/kernel: {shape} in the file, {needed} needed"]}


def test_extra_role(path, layers):
    layers["res3a_branch2a"]["depthwise_kernel"] = layers["bn_conv1"]["renorm_mean"] = (4,)
    write(path, layers)
    assert problems(path) == {
        "misshaped": [
            "bn_conv1/renorm_mean: in the file, but the network has no such tensor",
            "res3a_branch2a/depthwise_kernel: in the file, but the network has no such tensor",
        ]
    }


@pytest.mark.parametrize("missing", ["gamma", "beta"])
def test_batch_norm_without_scale_or_center(path, layers, missing):
    """Three unnamed tensors could be either, so nothing is guessed."""
    del layers["bn_conv1"][missing]
    write(path, layers)
    assert problems(path) == {"missing": [f"bn_conv1/{missing} (4,)"]}


def test_one_bias_missing(path, layers):
    """That alone does not make it a network of the family without biases."""
    del layers["conv1"]["bias"]
    write(path, layers)
    assert problems(path) == {"missing": ["conv1/bias (4,)"]}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite(path, layers, value):
    layers["res3a_branch2b"]["kernel"] = layers["res3a_branch2b"]["kernel"].astype(np.float64)
    layers["res3a_branch2b"]["kernel"][1, 1, 0, :2] = value
    write(path, layers)
    assert problems(path) == {"unsound": ["res3a_branch2b/kernel: 2 of 576 numbers are NaN or infinite"]}


def test_negative_variance(path, layers):
    layers["bn3a_branch2b"]["moving_variance"][3] = -0.25
    write(path, layers)
    assert problems(path) == {"unsound": ["bn3a_branch2b/variance: a variance is negative (-0.25)"]}
    layers["bn3a_branch2b"]["moving_variance"][3] = -1e-4  # epsilon is 1e-3: TensorFlow computes with it, too
    load_weights(write(path, layers))


def test_integers(path, layers):
    layers["conv1"]["kernel"] = np.ones(layers["conv1"]["kernel"].shape, np.int8)
    layers["counter"] = {"count": np.int64(3)}  # other layers may hold them
    write(path, layers)
    assert problems(path) == {"unsound": ["conv1/kernel: stored as int8, not as floating-point numbers"]}


def test_everything_at_once(path, layers):
    """All problems of all kinds in one message, so that one look is enough."""
    del layers["res2b_branch2a"]
    layers["res3b_branch2a"]["kernel"] = (1, 1, 5, 8)
    layers["bn4b_branch2a"]["gamma"][0] = np.nan
    layers["bn4b_branch2b"]["moving_variance"][0] = -1
    layers["conv1"]["W_2"] = (3,)
    write(path, layers)
    assert problems(path) == {
        "missing": ["res2b_branch2a/kernel (1, 1, 16, 4)", "res2b_branch2a/bias (4,)"],
        "misshaped": [
            "conv1/W_2: in the file, but the network has no such tensor",
            "res3b_branch2a/kernel: (1, 1, 5, 8) in the file, (1, 1, 32, 8) needed",
        ],
        "unsound": [
            "bn4b_branch2a/gamma: 1 of 16 numbers are NaN or infinite",
            "bn4b_branch2b/variance: a variance is negative (-1)",
        ],
    }


# Other networks ------------------------------------------------------------------------------------------------------


def test_original_keras_resnet50(path):
    """Its names are matterport's, but not its pool and its epsilon: the classifier, or unnamed activations, tell."""
    tensors = published("matterport", 50, stem=4, widths=[(4, 8)] * 4)
    top = {"fc1000": {"kernel": (8, 1000), "bias": (1000,)}}
    for layers, others in ((tensors | top, ()), (tensors, ("activation_1", "activation_2"))):
        write(path, layers, others)
        for asked in (None, "resnet50", "fchollet/resnet50"):
            assert load_weights(path, asked).architecture.name == "fchollet/resnet50"
    write(path, tensors, ["activation_1", "fpn_c5p5"])
    assert load_weights(path).architecture.name == "matterport/resnet50"
    cut = published("matterport", 50, stem=4, widths=[(4, 8)] * 4, stage5=False)
    for listed, name in (
        ("activation_1", "fchollet/resnet50 up to stage 4"),
        ("res2a_out", "matterport/resnet50 without"),
    ):
        assert str(load_weights(write(path, cut, [listed])).architecture).startswith(name)
    write(path, tensors | top)
    assert load_weights(path, "matterport/resnet50").architecture.classes == 1000


def test_the_border_of_the_original_pool(path):
    """The list of layers tells, where it is that of the network itself and names layers without weights."""
    tensors = published("matterport", 50, stem=4, widths=[(4, 8)] * 4, classes=5)
    for others, pool, doubts in (
        (["activation_1", "max_pooling2d_1"], "valid", 0),  # Keras 2.0, and any program that follows it
        (["activation_1", "conv1_pad", "pool1_pad"], None, 0),
        ([], None, 1),
    ):
        found = load_weights(write(path, tensors, others))
        assert found.architecture.pool == pool
        assert sum("pool" in doubt for doubt in found.doubts) == doubts
    assert any("architecture='fchollet/resnet50 pool=valid'" in doubt for doubt in found.doubts)
    assert not any("pool" in doubt for doubt in load_weights(path, "fchollet/resnet50 pool=valid").doubts)
    assert load_weights(path, "fchollet/resnet50 pool=valid").architecture.pool == "valid"
    write(path, {}, ["activation_1"])  # a head's, around the network
    with h5py.File(path, "r+") as file:
        for layer, roles in tensors.items():
            for role, shape in roles.items():
                file.create_dataset(f"resnet50/{layer}/{role}:0", shape, "f4", dcpl=_hole())
        file.attrs["layer_names"] = [b"resnet50", b"activation_1"]
    assert load_weights(path).architecture.pool is None
    assert any("pool" in doubt for doubt in load_weights(path).doubts)


def test_names_that_two_families_share(path):
    """Nothing tells: Mask R-CNN's is assumed, and that is said."""
    write(path, published("matterport", 50, stem=4, widths=[(4, 8)] * 4))
    found = load_weights(path)
    assert found.architecture.name == "matterport/resnet50"
    assert any("architecture='fchollet/resnet50'" in doubt for doubt in found.doubts)
    assert not load_weights(path, "fchollet/resnet50 pool=valid epsilon=1e-5").doubts


def _perceptron() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])


def _vgg() -> Any:
    blocks = [keras.layers.Conv2D(4, 3, name=f"block{i}_conv1") for i in (1, 2)]
    return keras.Sequential([keras.Input((32, 32, 3)), *blocks, keras.layers.Flatten(), keras.layers.Dense(2)])


def _mobilenet() -> Any:
    """Its first layers are called conv1 and conv1_bn, one name of either family."""
    first = keras.layers.Conv2D(4, 3, name="conv1"), keras.layers.BatchNormalization(name="conv1_bn")
    return keras.Sequential([keras.Input((32, 32, 3)), *first, keras.layers.Conv2D(4, 1, name="conv_pw_1")])


def _weightless() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])


@pytest.mark.parametrize("layout", ["weights", "model"])
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (_perceptron, "among the 2 layers with weights .*'hidden'"),
        (_vgg, "among the 3 layers with weights .*'block1_conv1', 'block2_conv1'"),
        (_mobilenet, "among the 3 layers with weights .*'conv1', 'conv1_bn', 'conv_pw_1'"),
        (_weightless, r"among the 0 layers with weights \(none\)"),
    ],
)
def test_no_resnet(path, build, layout, words):
    save(build(), path, layout)
    for asked in (None, "resnet50", "matterport/resnet50"):
        with pytest.raises(WeightsError, match=f"no ResNet is recognised {words}.*; the file holds another network"):
            inspect(path, asked)


def test_densenet(path):
    """Keras names the first layers of its DenseNet as those of its ResNet, but they have no bias."""
    tensors = published("keras.applications", 50, stem=4, widths=[(4, 8)] * 4)
    write(path, {layer: {r: s for r, s in roles.items() if r != "bias"} for layer, roles in tensors.items()})
    with pytest.raises(WeightsError, match="no ResNet is recognised"):
        inspect(path)


# Layouts that are not read -------------------------------------------------------------------------------------------


def test_no_keras_file(path):
    with h5py.File(path, "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(WeightsError, match=r"not written by Keras: .*; load the model in Keras and write `model\.save"):
        inspect(path)


def test_keras_before_1(path):
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = 1
        file["layer_0/param_0"] = np.zeros(3)
    with pytest.raises(WeightsError, match=r"Keras before 1\.0, which holds no layer names; .*`model\.save"):
        inspect(path)


# Theano --------------------------------------------------------------------------------------------------------------


def _as_theano(layers: Layers, *, outer: bool, flipped: bool) -> Layers:
    def turn(kernel: Any) -> Any:
        kernel = kernel[::-1, ::-1] if flipped else kernel
        return kernel.transpose(3, 2, 0, 1) if outer else kernel

    return {
        layer: {role: turn(a) if role == "kernel" and a.ndim == 4 else a for role, a in roles.items()}
        for layer, roles in layers.items()
    }


@pytest.mark.parametrize(
    ("name", "backend", "outer", "flipped"),
    [
        ("weights.h5", "theano", False, True),  # Keras 2 on Theano
        ("resnet50_weights_th_dim_ordering_th_kernels_notop.h5", None, True, True),
        ("resnet50_weights_th_dim_ordering_tf_kernels_notop.h5", None, True, False),
        ("resnet50_weights_tf_dim_ordering_th_kernels_notop.h5", None, False, True),
        ("resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", None, False, False),
        ("weights.h5", None, True, True),
        ("weights.h5", "tensorflow", True, False),
    ],
)
def test_theano_kernels(tmp_path, layers, name, backend, outer, flipped):
    path = write(tmp_path / name, _as_theano(layers, outer=outer, flipped=flipped))
    with h5py.File(path, "r+") as file:
        del file.attrs["backend"]
        if backend:
            file.attrs["backend"] = backend
    assert_read(path, MATTERPORT)
    found = inspect(path)
    assert any("kernels are" in reason for reason in found.reasons) == (outer or flipped)
    told = backend is not None or (name != "weights.h5" and outer == flipped)  # by more than a name, or than an order
    assert any("flipped" in doubt for doubt in found.doubts) == (not told)
