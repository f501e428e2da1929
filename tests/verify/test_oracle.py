"""The oracle itself: are the Keras networks the published ones, are files really loaded, is every layer read out."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import pytest

from npresnet.errors import ImageError, MissingExtraError, NpResNetError, UsageError, WeightsError
from npresnet.verify import oracle

from ..support.networks import Network, respell, save, saved, shared, thin, write_detector
from ..support.random_weights import Spread, randomize

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

SMALL = [thin("matterport", 50), thin("keras.applications", 50), thin("keras-resnet", 18)]


def label(value):
    return f"{value.family}-{value.depth}" if isinstance(value, Network | Published) else None


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 70, shape).astype(np.float32)


@functools.lru_cache(maxsize=24)
def target(network: Network):
    """A model to load files into, whatever it holds."""
    return network.build()


def same_weights(one, other) -> bool:
    """Bitwise, so that NaNs count as equal."""
    pairs = zip(one.weights, other.weights, strict=True)
    return all(a.value.numpy().tobytes() == b.value.numpy().tobytes() for a, b in pairs)


# Building ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """What is known of a network without its classifier: its parameters, convolutions, layers with weights, tensors."""

    family: str
    depth: int
    counts: tuple[int, int, int, int]
    ends: str  # last layers of stages 2 to 5


PUBLISHED = [
    Published("matterport", 50, (23_587_712, 53, 106, 318), "res2c_out res3d_out res4f_out res5c_out"),
    Published("matterport", 101, (42_658_176, 104, 208, 624), "res2c_out res3d_out res4w_out res5c_out"),
    Published("matterport", 152, (58_370_944, 155, 310, 930), "res2c_out res3h_out res4\x84_out res5c_out"),
    Published(
        "keras.applications",
        50,
        (23_587_712, 53, 106, 318),
        "conv2_block3_out conv3_block4_out conv4_block6_out conv5_block3_out",
    ),
    Published(
        "keras.applications",
        152,
        (58_370_944, 155, 310, 930),
        "conv2_block3_out conv3_block8_out conv4_block36_out conv5_block3_out",
    ),
    Published("keras-resnet", 18, (11_190_464, 21, 42, 105), "res2b1_relu res3b1_relu res4b1_relu res5b1_relu"),
    Published("keras-resnet", 34, (21_306_048, 37, 74, 185), "res2b2_relu res3b3_relu res4b5_relu res5b2_relu"),
    Published("keras-resnet", 50, (23_561_152, 53, 106, 265), "res2c_relu res3d_relu res4f_relu res5c_relu"),
    Published("keras-resnet", 101, (42_605_504, 104, 208, 520), "res2c_relu res3b3_relu res4b22_relu res5c_relu"),
]


@pytest.fixture(scope="module", params=PUBLISHED, ids=label)
def published(request):
    """(what is known, the network at full width); pytest runs all tests of one network before it builds the next."""
    return request.param, oracle.build(request.param.family, request.param.depth)


def test_counts(published):
    known, model = published
    assert model.input.shape == (None, None, None, 3)
    assert known.counts == (
        model.count_params(),
        sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers),
        sum(bool(layer.weights) for layer in model.layers),
        len(model.weights),
    )


def test_stages_end_at_the_expected_layers(published):
    known, model = published
    narrow = 64 if known.depth in (18, 34) else 256
    ends = known.ends.split()
    assert {name: array.shape for name, array in oracle.activations(model, pixels(1, 64, 96, 3), ends)} == {
        name: (1, 16 >> i, 24 >> i, narrow << i) for i, name in enumerate(ends)
    }
    assert model.output is model.get_layer(ends[-1]).output


@pytest.mark.parametrize(
    ("family", "depth", "top", "parameters"),
    [("keras.applications", 50, "predictions", 25_636_712), ("keras-resnet", 18, "fc1000", 11_703_464)],
)
def test_classifier(family, depth, top, parameters):
    model = Network(family, depth, classes=1000).build()
    assert model.count_params() == parameters
    ((name, probabilities),) = oracle.activations(model, pixels(2, 40, 33, 3), [top])
    assert name == top
    assert probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def graph(model, *, widths: bool = True) -> list[tuple[Any, ...]]:
    """Every layer's kind and settings, and the names of the layers that it reads."""
    names = {layer.name for layer in model.layers[1:]}
    rows = []
    for layer in model.layers[1:]:
        config = {key: value for key, value in layer.get_config().items() if widths or key != "filters"}
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        readers = [source._keras_history.operation.name for source in sources]
        rows.append((type(layer), config, [name if name in names else "image" for name in readers]))
    return rows


def test_keras_applications_is_upstream():
    upstream = keras.applications.ResNet50(weights=None, include_top=False)
    expected = graph(oracle.build("keras.applications", 50))
    assert expected == graph(upstream)

    narrow = shared(thin("keras.applications", 50))
    assert graph(narrow, widths=False) == graph(upstream, widths=False)
    assert narrow.get_layer("conv3_block2_2_conv").filters == 8
    assert narrow.get_layer("conv4_block1_0_conv").filters == 64


def test_classifier_of_keras_applications_is_upstream():
    upstream = keras.applications.ResNet50(weights=None, classes=7, input_shape=(64, 64, 3))
    assert graph(oracle.build("keras.applications", 50, classes=7)) == graph(upstream)


def test_blocks_are_computed_in_the_documented_order():
    def names(family, depth, start, stop):
        listed = [layer.name for layer in shared(thin(family, depth)).layers]
        return " ".join(listed[listed.index(start) : listed.index(stop) + 1])

    assert names("matterport", 50, "conv1_pad", "pool1") == "conv1_pad conv1 bn_conv1 conv1_relu pool1"
    assert names("matterport", 50, "res2b_branch2a", "res2b_out") == (
        "res2b_branch2a bn2b_branch2a res2b_branch2a_relu res2b_branch2b bn2b_branch2b res2b_branch2b_relu "
        "res2b_branch2c bn2b_branch2c res2b_add res2b_out"
    )
    assert names("keras-resnet", 50, "res2b_branch2a", "res2b_relu") == (
        "res2b_branch2a bn2b_branch2a res2b_branch2a_relu padding2b_branch2b res2b_branch2b bn2b_branch2b "
        "res2b_branch2b_relu res2b_branch2c bn2b_branch2c res2b res2b_relu"
    )
    assert names("keras-resnet", 18, "padding2b1_branch2a", "res2b1_relu") == (
        "padding2b1_branch2a res2b1_branch2a bn2b1_branch2a res2b1_branch2a_relu padding2b1_branch2b res2b1_branch2b "
        "bn2b1_branch2b res2b1 res2b1_relu"
    )


def test_stems_of_keras_resnet_differ_in_their_padding():
    image = pixels(1, 32, 32, 3)
    explicit, same = (shared(thin("keras-resnet", 18, stem=stem)) for stem in ("explicit", "same"))
    assert [explicit.layers[1].name, same.layers[1].name] == ["padding_conv1", "conv1"]
    ((_, a),) = oracle.activations(explicit, image, ["conv1"])
    ((_, b),) = oracle.activations(same, image, ["conv1"])
    assert a.shape == b.shape == (1, 16, 16, 4)
    # `same` starts one pixel further in
    ((_, shifted),) = oracle.activations(explicit, np.roll(image, -1, (1, 2)), ["conv1"])
    np.testing.assert_allclose(b[:, 2:-2, 2:-2], shifted[:, 2:-2, 2:-2], rtol=1e-4, atol=1e-3)


def test_own_block_labels():
    labels = (("a", "b"), ("a", "x1"), ("a", "x1"), ("a", "b"))
    model, upstream = (shared(thin("keras-resnet", 18, 2, block_labels=own)) for own in (labels, None))
    assert {"res3x1_branch2a", "bn4x1_branch2b", "padding3x1_branch2a", "res5b_relu"} <= {x.name for x in model.layers}
    assert [type(layer) for layer in model.layers] == [type(layer) for layer in upstream.layers]
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in upstream.weights]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("torchvision", 50, {}), "torchvision"),
        (("matterport", 34, {}), "34"),
        (("matterport", 50, {"classes": 10}), "classifier"),
        (("keras-resnet", 50, {"classes": 10, "stage5": False}), "stage 5"),
        (("matterport", 50, {"stem": "same"}), "stem"),
        (("keras-resnet", 50, {"stem": "valid"}), "valid"),
        (("keras-resnet", 50, {"stage_widths": [(1, 4)] * 3}), "4 stages"),
        (("keras-resnet", 50, {"stem_width": 0}), "at least 1"),
        (
            ("keras.applications", 50, {"stage5": False}),
            "stage5: False was given; of networks of keras.applications one may",
        ),
        (("keras-hub", 50, {"pool": "same"}), "keras-hub one may choose nothing"),
        (("fchollet", 50, {"pool": "same"}), "'explicit', 'valid'"),
        (("keras.applications ResNeXt", 50, {"groups": 4, "inside": True}), "one may choose groups"),
    ],
)
def test_impossible_networks_are_refused(arguments, said):
    family, depth, options = arguments
    with pytest.raises(UsageError, match=said):
        oracle.build(family, depth, **options)


# Loading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["weights", "model", "v3", "archive"])
@pytest.mark.parametrize("network", SMALL, ids=label)
def test_load_file_takes_every_layout_under_any_name(tmp_path_factory, tmp_path, network, layout):
    path = tmp_path / "no suffix"
    path.symlink_to(saved(tmp_path_factory, network, layout))
    oracle.load_file(target(network), path)
    assert same_weights(target(network), shared(network))


@pytest.mark.parametrize("encoding", ["bytes", "str", "split"])
@pytest.mark.parametrize("dialect", ["keras1", "keras2", "keras3.0", "keras3.3"])
@pytest.mark.parametrize("layout", ["weights", "model"])
def test_load_file_takes_every_spelling(tmp_path_factory, tmp_path, layout, dialect, encoding):
    network = thin("keras-resnet", 18, classes=3)
    path = respell(saved(tmp_path_factory, network, layout), tmp_path / "respelled.h5", dialect, encoding)
    oracle.load_file(target(network), path)
    assert same_weights(target(network), shared(network))


def test_names_past_the_alphabet_survive_a_file(tmp_path_factory):
    network = thin("keras-resnet", 18, block_labels=(("a", "{"), ("a", "\x7f"), ("a", "\x84"), ("a", "b")))
    oracle.load_file(target(network), saved(tmp_path_factory, network))
    assert same_weights(target(network), shared(network))


@pytest.mark.parametrize("encoding", ["bytes", "str"])
def test_load_file_finds_the_backbone_of_a_detector(tmp_path_factory, tmp_path, encoding):
    network = thin("matterport", 50)
    path = write_detector(saved(tmp_path_factory, network), tmp_path / "detector.h5", encoding=encoding)
    for stage5 in (True, False):
        part = thin("matterport", 50, stage5=stage5)
        oracle.load_file(target(part), path)
        assert same_weights(target(part), shared(part))


def test_detector_file_has_as_many_layers_and_tensors_as_the_published_one(tmp_path_factory, tmp_path):
    path = write_detector(saved(tmp_path_factory, thin("matterport", 101)), tmp_path / "detector.h5")
    with h5py.File(path) as file:
        tensors = [len(group.attrs["weight_names"]) for group in file.values()]
        assert len(tensors) == len(file.attrs["layer_names"])
    assert (sum(n > 0 for n in tensors), sum(tensors)) == (233, 690)


@pytest.mark.parametrize(
    ("in_file", "asked", "said"),
    [
        (thin("keras-resnet", 18), thin("keras-resnet", 34), "res2b2_branch2a.*res5b2_branch2b"),
        (thin("matterport", 101), thin("matterport", 50), "not in matterport_resnet50.*res4g_branch2a"),
        (thin("matterport", 50, stage5=False), thin("matterport", 50), "res5a_branch2a"),
        (thin("keras-resnet", 18), thin("keras-resnet", 18, 8), "conv1"),
        (thin("matterport", 50), thin("keras-resnet", 50), "weight"),
        (thin("matterport", 50), thin("keras.applications", 50), "conv2_block1_0_conv"),
        (thin("keras-resnet", 18), thin("keras-resnet", 18, classes=3), "fc1000"),
    ],
    ids=label,
)
def test_load_file_refuses_another_network(tmp_path_factory, in_file, asked, said):
    path = saved(tmp_path_factory, in_file)
    with pytest.raises(WeightsError, match=said) as caught:
        oracle.load_file(target(asked), path)
    assert str(path) in str(caught.value)


def test_load_file_refuses_another_depth_in_the_v3_layout(tmp_path_factory):
    path = saved(tmp_path_factory, thin("keras-resnet", 18), "v3")
    with pytest.raises(WeightsError, match="keras_resnet34"):
        oracle.load_file(target(thin("keras-resnet", 34)), path)


def test_load_file_keeps_the_nans_that_a_file_holds(tmp_path):
    network = thin("keras-resnet", 18)
    original = network.build()
    original.get_layer("bn_conv1").gamma.assign([np.nan] * 4)
    save(original, tmp_path / "nan.h5")
    oracle.load_file(target(network), tmp_path / "nan.h5")
    assert same_weights(target(network), original)


def test_load_file_names_the_one_layer_that_lacks(tmp_path_factory, tmp_path):
    network = thin("keras-resnet", 18)
    path = respell(saved(tmp_path_factory, network), tmp_path / "lacks.h5", "keras2")
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        file.attrs["layer_names"] = names[names != b"bn3a_branch1"]
    with pytest.raises(WeightsError, match=r"1 layers of \w+ are not in it \(bn3a_branch1\)"):
        oracle.load_file(target(network), path)


@pytest.mark.parametrize(
    "contents",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x05\x06" + bytes(18), b"PK\x03\x04" + bytes(99)],
)
def test_load_file_refuses_what_is_no_weight_file(tmp_path, contents):
    path = tmp_path / "weights.h5"
    path.write_bytes(contents)
    with pytest.raises(WeightsError, match=r"weights\.h5"):
        oracle.load_file(target(thin("keras-resnet", 18)), path)


def test_load_file_refuses_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="absent"):
        oracle.load_file(target(thin("keras-resnet", 18)), tmp_path / "absent.h5")


# Random weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "depth"), [("matterport", 152), ("keras-resnet", 34)])
def test_random_weights_neither_explode_nor_vanish(family, depth):
    model = target(thin(family, depth, 16))
    joints = [layer.name for layer in model.layers if layer.name.endswith(("_out", "_relu"))]
    spreads: list[Spread] = ["plain", "trained"]
    for spread in spreads:
        randomize(model, 1, spread)
        for name, array in oracle.activations(model, pixels(1, 64, 64, 3), joints):
            assert np.isfinite(array).all(), (spread, name)
            assert 0.1 < np.sqrt(np.mean(array**2)) < 100, (spread, name)
            assert np.mean(array == 0) < 0.8, (spread, name)


def test_random_weights_depend_on_seed_and_name_alone():
    model, other = shared(thin("matterport", 50)), target(thin("matterport", 50))
    randomize(other, seed=1)
    assert same_weights(model, other)
    randomize(other, seed=2)
    assert not same_weights(model, other)
    cut = shared(thin("matterport", 50, stage5=False))
    for layer in cut.layers:
        for mine, other in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_trained_spread_is_wide():
    model = oracle.build("matterport", 50)
    randomize(model, 1, "trained")
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    variances, gammas = (
        np.concatenate([getattr(layer, name).value.numpy() for layer in norms]) for name in ("moving_variance", "gamma")
    )
    assert variances.min() < 2e-6
    assert variances.max() > 50
    assert 0.01 < np.mean(gammas == 0) < 0.05
    assert gammas.max() > 4
    with pytest.raises(ValueError, match="wide"):
        randomize(model, 1, "wide")  # type: ignore[arg-type]


# Running -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [*SMALL, thin("keras-resnet", 18, classes=3)])
def test_activations_are_those_of_the_whole_model(network):
    model, images = shared(network), pixels(2, 64, 45, 3)
    layers = model.layers[1:]
    expected = keras.Model(model.input, [layer.output for layer in layers])(images, training=False)
    got = dict(oracle.activations(model, images))
    assert list(got) == [layer.name for layer in layers]
    for layer, tensor in zip(layers, expected, strict=True):
        array, truth = got[layer.name], tensor.numpy()
        assert array.dtype == np.float32
        assert array.shape == truth.shape
        assert np.linalg.norm(array - truth) <= 1e-6 * np.linalg.norm(truth), layer.name


def test_activations_hold_only_what_is_still_read():
    run: Any = oracle.activations(shared(thin("matterport", 50)), pixels(1, 32, 32, 3))
    assert max(len(run.gi_frame.f_locals["live"]) for _ in run) <= 3


def test_activations_stop_at_the_last_layer_asked_for(monkeypatch):
    model = shared(thin("matterport", 50))
    computed = []
    call = keras.layers.Layer.__call__

    def recording_call(layer, *args, **options):
        computed.append(layer.name)
        return call(layer, *args, **options)

    monkeypatch.setattr(keras.layers.Layer, "__call__", recording_call)
    assert [name for name, _ in oracle.activations(model, pixels(1, 32, 32, 3), ["conv1_relu"])] == ["conv1_relu"]
    assert computed == ["conv1_pad", "conv1", "bn_conv1", "conv1_relu"]


def test_activations_give_arrays_that_the_caller_may_write_to():
    model, images = shared(thin("keras-resnet", 18)), pixels(1, 32, 32, 3)
    expected = dict(oracle.activations(model, images))
    for name, array in oracle.activations(model, images):
        np.testing.assert_array_equal(array, expected[name])
        array.fill(np.nan)


@pytest.mark.parametrize(
    ("images", "layers", "error", "said"),
    [
        (np.zeros((1, 32, 32, 3), np.float64), None, ImageError, "float64"),
        (np.zeros((32, 32, 3), np.float32), None, ImageError, r"\[32, 32, 3\]"),
        (np.zeros((1, 32, 32, 4), np.float32), None, ImageError, "4"),
        (np.zeros((0, 32, 32, 3), np.float32), None, ImageError, "0"),
        ([[0]], None, ImageError, "list"),
        (np.zeros((1, 32, 32, 3), np.float32), ["conv1", "res9z_out"], UsageError, "res9z_out"),
    ],
)
def test_activations_refuse_at_once(images, layers, error, said):
    with pytest.raises(error, match=said):
        oracle.activations(shared(thin("keras-resnet", 18)), images, layers)


# TensorFlow itself ---------------------------------------------------------------------------------------------------


def test_importing_the_oracle_leaves_tensorflow_alone():
    code = "import sys, npresnet.verify.oracle; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_tensorflow_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r'pip install "npresnet\[test\]"'):
        oracle.build("matterport", 50)
    assert issubclass(MissingExtraError, NpResNetError)


def test_another_default_layout_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(UsageError, match="channels_first"):
        oracle.build("matterport", 50)
