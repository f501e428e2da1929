"""Layouts and ways of storing that are not in ``test_weights.py``: Keras 3's trees of objects with and without names, as
every release since 2.12 wrote them, archives, half precision, wrapped and nested networks, damaged and half-loaded ones."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import npresnet
from npresnet.errors import WeightsError
from npresnet.network.weights import Inspection, inspect, load_weights
from npresnet.verify.compare import compare

from ..network.test_families import SUFFIX, narrow, pictures, shared
from ..support.agreement import check_file, randomize
from ..support.networks import save, thin

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
L = keras.layers


@functools.lru_cache(maxsize=1)
def right(path: Path) -> Inspection:
    """What is in a file that others are compared with, one after the other."""
    return load_weights(path)


def assert_same_weights(one: Path, other: Path, asked: str | None = None) -> Inspection:
    """Both files hold one network, to the bit; returns what is found in the other."""
    a, b = right(one), load_weights(other, asked)
    assert a.architecture == b.architecture
    assert a.weights.keys() == b.weights.keys()
    for layer, tensors in a.weights.items():
        for role, array in tensors.items():
            assert np.array_equal(array, b.weights[layer][role]), f"{layer}/{role}"
    return b


def _vars(group: Any, path: str = "") -> Iterator[str]:
    for name, child in group.items():
        if isinstance(child, h5py.Group):
            if name == "vars":
                yield f"{path}/{name}"
            else:
                yield from _vars(child, f"{path}/{name}")


def without_names(source: Path, target: Path, release: str) -> Path:
    """A Keras 3.6+ tree as an older release would have written it: "3.5" or "2.15" without names, "2.13" under another
    root and with layers that have weights counted twice, "bare" without the groups of layers that have none."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for path in _vars(old):
            if release == "bare" and not len(old[path]):
                continue
            place = path.replace("/layers/", "/_layer_checkpoint_dependencies/", 1) if release == "2.13" else path
            if release == "2.13":
                *front, last, vars_ = place.split("/")
                kind, _, number = last.rpartition("_")
                kind, number = (kind, number) if number.isdecimal() else (last, "0")
                doubled = 2 * int(number) if len(old[path]) else int(number)
                place = "/".join([*front, f"{kind}_{doubled}" if doubled else kind, vars_])
            group = new.create_group(place)
            for name, dataset in old[path].items():
                group[name] = dataset[()]
    return target


# Without names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "depth"),
    [
        ("matterport", 50),
        ("fchollet", 50),
        ("keras.applications V2", 50),
        ("keras-resnet", 18),
        ("keras-hub", 18),
        ("keras-hub V2", 18),
        ("keras-hub vd", 50),
        ("keras-cv", 50),
        ("kimm", 50),
        ("image-classifiers", 18),
        ("image-classifiers SE", 18),
        ("opennsfw2", 50),
    ],
)
def test_layers_are_counted(tmp_path: Path, family: str, depth: int) -> None:
    model = shared(family, depth, 8, classes=5 if family == "fchollet" else None)
    named = tmp_path / "named.weights.h5"
    save(model, named, "v3")
    alike = {"matterport": "matterport/resnet50", "opennsfw2": "opennsfw2/resnet50"}  # to each other, if only counted
    asked = alike.get(family)
    for release in ("3.5", "2.13"):
        path = without_names(named, tmp_path / f"counted {release}.weights.h5", release)
        found = assert_same_weights(named, path, asked)
        assert found.layout == "Keras 3 weights, without names"
        assert any("no names in the file" in reason for reason in found.reasons)
    if asked:
        with pytest.raises(WeightsError, match=r"fits matterport/resnet50, .*opennsfw2/resnet50, which are different"):
            inspect(path)


def test_networks_that_counting_cannot_tell_apart(tmp_path: Path) -> None:
    """Without the groups of layers that have no weights, keras-hub's, kimm's and others' ResNet-50 look alike."""
    model = shared("keras-hub", 50, 8)
    save(model, tmp_path / "named.weights.h5", "v3")
    path = without_names(tmp_path / "named.weights.h5", tmp_path / "bare.weights.h5", "bare")
    with pytest.raises(
        WeightsError, match=r"fits .*keras-hub/resnet50.*different networks; say which with architecture="
    ):
        inspect(path)
    assert_same_weights(tmp_path / "named.weights.h5", path, "keras-hub/resnet50")
    assert any("taken on trust" in doubt for doubt in inspect(path, "keras-hub/resnet50").doubts)
    with pytest.raises(WeightsError, match=r"no known network .* among those that 'resnet101' allows"):
        inspect(path, "resnet101")


def test_archive_without_names(tmp_path: Path) -> None:
    """Its description gives them, for a network of the user's own too."""
    image = keras.Input((None, None, 3))
    x = L.Conv2D(8, 3, strides=4, name="entry")(image)
    inner = keras.Model(
        i := keras.Input((None, None, 8)), L.Conv2D(8, 3, padding="same", name="deep")(i), name="inside"
    )
    x = L.Add()([L.Conv2D(8, 1, use_bias=False)(x), inner(L.BatchNormalization(scale=False)(x))])
    model = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(x)), name="mine")
    randomize(model)
    model.save(tmp_path / "named.keras")
    with zipfile.ZipFile(tmp_path / "named.keras") as archive, zipfile.ZipFile(tmp_path / "counted.keras", "w") as new:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "model.weights.h5":
                (tmp_path / "part.h5").write_bytes(data)
                data = without_names(tmp_path / "part.h5", tmp_path / "other.h5", "3.5").read_bytes()
            new.writestr(name, data)
    images = pictures(40, 40)
    for name in ("named.keras", "counted.keras"):
        assert compare(npresnet.load(tmp_path / name).predict(images), model(images).numpy()).agrees()
    assert inspect(tmp_path / "counted.keras").layout == "Keras 3 archive, without names"


# Storage -------------------------------------------------------------------------------------------------------------


@functools.cache
def of_precision(dtype: str) -> Any:
    """A network in another precision: tests save it, and leave it as it is."""
    model = shared("keras-hub", 18, 4)
    keras.config.set_dtype_policy(dtype)
    try:
        other = keras.models.model_from_json(model.to_json().replace('"name": "float32"', f'"name": "{dtype}"'))
    finally:
        keras.config.set_dtype_policy("float32")
    other.set_weights(model.get_weights())
    return other


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("layout", ["weights", "model", "v3", "archive"])
def test_other_precisions(tmp_path: Path, dtype: str, layout: Any) -> None:
    """As Keras stores them: bfloat16, which HDF5 does not know, as two bytes without a meaning."""
    other = of_precision(dtype)
    path = tmp_path / f"weights{SUFFIX[layout]}"
    save(other, path, layout)
    found = load_weights(path)
    for layer in other.layers:
        for variable in layer.weights:
            ours = found.weights[layer.name][variable.name.replace("moving_", "")]
            assert ours.dtype == np.float32
            assert np.array_equal(ours, np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))))


@pytest.mark.parametrize("layout", ["v3", "archive"])
def test_saved_with_its_optimizer(tmp_path: Path, layout: Any) -> None:
    model = narrow("keras-resnet", 18, 4)
    path = tmp_path / f"plain{SUFFIX[layout]}"
    save(model, path, layout)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    trained = tmp_path / f"compiled{SUFFIX[layout]}"
    save(model, trained, layout)
    assert trained.stat().st_size > 1.5 * path.stat().st_size
    assert_same_weights(path, trained)
    assert not inspect(trained).unused


def test_recompressed(tmp_path: Path) -> None:
    model = shared("keras-hub", 18, 4)
    save(model, tmp_path / "plain.weights.h5", "v3")
    with h5py.File(tmp_path / "plain.weights.h5") as old, h5py.File(tmp_path / "packed.weights.h5", "w") as new:
        for path in _vars(old):
            group = new.require_group(path)
            for key, value in old[path].attrs.items():
                group.attrs[key] = value
            for name, dataset in old[path].items():
                group.create_dataset(name, data=dataset[()], compression="gzip", shuffle=True, chunks=True)
    assert_same_weights(tmp_path / "plain.weights.h5", tmp_path / "packed.weights.h5")


# Inside others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["weights", "v3"])
def test_wrapped_and_nested(tmp_path: Path, layout: Any) -> None:
    """A detector: the backbone beside a nested model and heads in TimeDistributed, all with names of their own."""
    backbone = thin("matterport", 50).build()
    feature = backbone.output
    head = keras.Model(i := keras.Input((None, None, 128)), L.Conv2D(4, 3, name="rpn_conv_shared")(i), name="rpn_model")
    regions = L.Reshape((1, 2, 2, 128))(feature)
    classes = L.TimeDistributed(L.Conv2D(6, 2), name="mrcnn_class_conv1")(regions)
    model = keras.Model(backbone.input, [head(L.ZeroPadding2D(2)(feature)), classes], name="mask_rcnn")
    path = tmp_path / f"detector{SUFFIX[layout]}"
    save(model, path, layout)
    found = load_weights(path)
    assert found.architecture.name == "matterport/resnet50"
    assert "rpn_conv_shared" in found.unused
    assert len(found.unused) == 2


# What looks right and is not -----------------------------------------------------------------------------------------


def test_half_loaded(tmp_path: Path) -> None:
    """A file saved after loading by name, which has silently skipped the layers of one stage."""
    model = narrow("keras.applications V2", 50, 8)
    fresh = 0
    for layer in model.layers:
        if layer.name.startswith("conv4_") and isinstance(layer, L.BatchNormalization):
            layer.set_weights(
                [np.ones(n) if i in (0, 3) else np.zeros(n) for i, n in enumerate([layer.gamma.shape[0]] * 4)]
            )
            fresh += 1
    save(model, tmp_path / "half.h5")
    with pytest.raises(
        WeightsError, match=rf"numbers are unusable in {fresh} tensors: conv4_block1_preact_bn: as Keras makes"
    ):
        load_weights(tmp_path / "half.h5")


def test_never_trained(tmp_path: Path) -> None:
    """A network as Keras makes it is run, and said to be such."""
    from npresnet.verify import oracle

    save(
        oracle.build("keras-hub", 18, stem_width=4, stage_widths=[(4, 4), (8, 8), (16, 16), (32, 32)]),
        tmp_path / "new.h5",
    )
    assert any("no batch-norm was ever trained" in item for item in load_weights(tmp_path / "new.h5").suspicious)


def test_dead_channels(tmp_path: Path) -> None:
    model = narrow("keras-hub", 18, 4)
    norm, conv = model.get_layer("stack1_block0_1_bn"), model.get_layer("stack2_block0_1_conv")
    norm.moving_variance.assign(norm.moving_variance.numpy() * np.array([0, 0, 1, 1, 1, 1, 1, 1], np.float32))
    conv.kernel.assign(0 * conv.kernel)
    save(model, tmp_path / "dead.h5")
    text = " ".join(load_weights(tmp_path / "dead.h5").suspicious)
    assert "2 channels with a variance of zero, whose output is constant, in: stack1_block0_1_bn" in text
    assert "kernels of nothing but zeros: stack2_block0_1_conv" in text


def test_deeper_weights_asked_for_as_shallower_ones(tmp_path: Path) -> None:
    save(shared("keras-hub", 34, 4), tmp_path / "deep.h5")
    with pytest.raises(WeightsError, match=r"holds keras-hub/resnet34 \(3/4/6/3 blocks .*'resnet18' was asked for"):
        load_weights(tmp_path / "deep.h5", "resnet18")
    with pytest.raises(WeightsError, match=r"3/4/6/3 blocks .* no known depth|asked for"):
        load_weights(tmp_path / "deep.h5", "keras-hub/resnet18")


# Original files of Keras 1, as nobody's program writes them today -----------------------------------------------------


@pytest.mark.parametrize("theano", [False, True])
def test_original_keras_1_file(tmp_path: Path, theano: bool) -> None:
    """One nesting level, ``_W:0``, ``_running_std``, unnamed activations, no version; for Theano turned and flipped."""
    model = narrow("fchollet", 50, 8, classes=5, pool="valid")
    ordering = "th_dim_ordering_th_kernels" if theano else "tf_dim_ordering_tf_kernels"
    path = tmp_path / f"resnet50_weights_{ordering}.h5"
    roles = {"kernel": "W", "moving_mean": "running_mean", "moving_variance": "running_std", "bias": "b"}
    with h5py.File(path, "w") as file:
        names = []
        for i, layer in enumerate(model.layers):
            name = layer.name if layer.weights else f"activation_{i}"
            names.append(name.encode())
            group = file.create_group(name)
            for variable in layer.weights:
                array = variable.numpy()
                if theano and array.ndim == 4:
                    array = array[::-1, ::-1].transpose(3, 2, 0, 1)
                group[f"{name}_{roles.get(variable.name, variable.name)}:0"] = array
            weights = [key.encode() for key in group]
            group.attrs["weight_names"] = np.array(weights) if weights else np.zeros(0)
        file.attrs["layer_names"] = np.array(names)
    found = check_file(model, path, pictures(64, 53))
    assert not found.failures, "\n".join(found.failures)
    assert found.architecture.startswith("fchollet/resnet50")


def test_faster_rcnn(tmp_path: Path) -> None:
    """keras-frcnn's: pool without border, batch-norms of a class of its own, from stage 5 on inside ``TimeDistributed``, so that
    the variables have the names of layers that Keras named; heads of its own; means of BGR taken from RGB."""
    model = narrow("keras-frcnn", 50, 8)
    roles = {"moving_mean": "running_mean", "moving_variance": "running_std"}
    with h5py.File(tmp_path / "model_frcnn.hdf5", "w") as file:
        names = []
        for i, layer in enumerate(model.layers):
            names.append(layer.name if layer.weights else f"activation_{i}")
            group = file.create_group(names[-1])
            wrapped = layer.name.startswith(("res5", "bn5"))
            for variable in layer.weights:
                role = roles.get(variable.name, variable.name)
                if isinstance(layer, L.BatchNormalization):
                    role = f"{f'fixed_batch_normalization_{i}' if wrapped else layer.name}_{role}"
                group[f"{layer.name}/{role}:0"] = variable.numpy()
            if layer.weights:
                group.attrs["weight_names"] = [f"{layer.name}/{name}".encode() for name in group[layer.name]]
        for name in ("rpn_conv1", "rpn_out_class", "rpn_out_regress", "dense_class_21", "dense_regress_21"):
            names.append(name)
            file[f"{name}/{name}/kernel:0"] = np.zeros((1, 1, 8, 8), np.float32)
        file.attrs["layer_names"] = np.array([name.encode() for name in names])
    found = check_file(model, tmp_path / "model_frcnn.hdf5", pictures(64, 53))
    assert not found.failures, "\n".join(found.failures)
    net = npresnet.load(tmp_path / "model_frcnn.hdf5")
    assert net.architecture.name == "keras-frcnn/resnet50"
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    expected = picture - np.array([103.939, 116.779, 123.68], np.float32)
    assert np.array_equal(net.prepare(picture, "none")[0], expected.astype(np.float32))


def test_archive_that_is_damaged(tmp_path: Path) -> None:
    model = shared("keras-hub", 18, 4)
    save(model, tmp_path / "good.keras", "archive")
    with zipfile.ZipFile(tmp_path / "good.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    cases = {
        "no weights": {name: data for name, data in members.items() if name != "model.weights.h5"},
        "weights of something else": members | {"model.weights.h5": b"not HDF5"},
    }
    for name, parts in cases.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in parts.items():
                archive.writestr(member, data)
        path = tmp_path / f"{name}.keras"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(WeightsError, match=str(path)):
            load_weights(path)
    assert json.loads(members["config.json"])["class_name"] == "Functional"
