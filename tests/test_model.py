"""What ``load`` returns: the promises of the library's public face, whatever the algorithm behind it."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npresnet
from npresnet.errors import ImageError, NpResNetError, UsageError
from npresnet.model import ResNet
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.operators import Conv2D, Dense
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.verify.compare import compare

from .support.networks import Network, saved, shared, thin

ALGORITHMS = ["auto", "direct", "im2col", "reference"]

# family, depth and options of thin networks: with and without stage 5, bottleneck and basic blocks, a classifier
FILES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "matterport": ("matterport", 50, {}),
    "matterport without stage 5": ("matterport", 50, {"stage5": False}),
    "keras.applications": ("keras.applications", 50, {}),
    "keras-resnet": ("keras-resnet", 18, {"classes": 5}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for name, (family, depth, options) in FILES.items():
        graph = build_graph(Architecture.standard(FAMILIES[family], depth, width=8, **options))
        found[name] = write_keras_file(folder / f"{name}.h5", graph, random_weights(graph))
    return found


@pytest.fixture(scope="module")
def net(files) -> ResNet:
    return npresnet.load(files["matterport"])


def pixels(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-124, 132, shape).astype(np.float32)


def identical(one, other) -> bool:
    """Bit for bit, NaN included."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def all_identical(one, other) -> bool:
    return all(a is b is None or identical(a, b) for a, b in zip(one, other, strict=True))


# Feature maps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (31, 5), (2, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("name", FILES)
def test_shapes(files, name, size):
    """Sizes are those of the image over 4, 4, 8, 16, 32, rounded up: no image is too small."""
    net = npresnet.load(files[name])
    features = net(pixels(2, *size, 3))
    assert isinstance(features, npresnet.Features)
    assert features._fields == ("c1", "c2", "c3", "c4", "c5")
    expansion = 1 if net.architecture.depth < 50 else 4
    for array, stride, channels in zip(features, (4, 4, 8, 16, 32), (2, *(2 << i for i in range(4))), strict=True):
        if array is None:
            assert stride == 32
            assert not net.architecture.stage5
            continue
        outer = 8 if array is features.c1 else 4 * channels * expansion
        assert array.shape == (2, -(-size[0] // stride), -(-size[1] // stride), outer)
        assert array.dtype == np.float32
    assert (features.c5 is None) == (name == "matterport without stage 5")


@pytest.mark.parametrize(
    "network",
    [
        thin("matterport", 50),
        Network("keras.applications", 50, classes=7),
        thin("keras-resnet", 18, classes=7),
        thin("keras-resnet", 18, stem="same"),
    ],
    ids=lambda network: f"{network.family}, {network.stem}",
)
def test_smallest_images_as_in_tensorflow(tf, tmp_path_factory, network):
    """Down to one pixel, where every window is mostly border."""
    from npresnet.verify import oracle

    net = npresnet.load(saved(tmp_path_factory, network))
    for size in ((1, 1), (1, 2), (3, 2)):
        images = pixels(1, *size, 3)
        names = [*net.graph.features.values(), *([net.graph.classifier] if net.graph.classifier else [])]
        ours = net(images, outputs=names)
        for name, expected in oracle.activations(shared(network), images, names):
            assert compare(ours[name], expected).agrees(), f"{name} for {size}: {compare(ours[name], expected)}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_close_to_the_truth(files, algorithm):
    images = pixels(2, 65, 40, 3)
    truth = npresnet.load(files["matterport"], algorithm="reference")(images.astype(np.float64))
    assert all(array.dtype == np.float64 for array in truth)
    for ours, expected in zip(npresnet.load(files["matterport"], algorithm=algorithm)(images), truth, strict=True):
        assert compare(ours, expected).agrees(), compare(ours, expected)


@pytest.mark.parametrize("algorithm", ["auto", "im2col"])
def test_float64_images_are_converted_where_kernels_are_float32(files, algorithm):
    net, images = npresnet.load(files["matterport"], algorithm=algorithm), pixels(1, 20, 20, 3)
    assert all_identical(net(images.astype(np.float64)), net(images))


def test_predict(files):
    net = npresnet.load(files["keras-resnet"])
    probabilities = net.predict(pixels(3, 40, 40, 3))
    assert probabilities.shape == (3, 5)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert net.architecture.classes == 5
    assert net.layers[-1] == "fc1000"


@pytest.mark.parametrize("name", ["matterport", "matterport without stage 5", "keras.applications"])
def test_predict_without_classifier(files, name):
    with pytest.raises(UsageError, match=r"hold no classifier; .*saved with its top"):
        npresnet.load(files[name]).predict(pixels(1, 8, 8, 3))


# Any layer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_outputs(files, algorithm):
    net, images = npresnet.load(files["matterport"], algorithm=algorithm), pixels(2, 40, 33, 3)
    names = ["res4b_branch2b", "conv1", "bn3a_branch1", "res5c_out", "conv1_pad", "res2b_add"]
    found = net(images, outputs=names)
    assert list(found) == names
    traced = {step.name: step.array for step in net.trace(images)}
    for name in names:
        assert compare(found[name], traced[name]).agrees(), name


def test_every_layer_can_be_asked_for(net):
    found = net(pixels(1, 16, 16, 3), outputs=net.layers)
    assert tuple(found) == net.layers


def test_outputs_twice_none_and_features(net):
    images = pixels(1, 20, 20, 3)
    assert list(net(images, outputs=["pool1", "conv1", "pool1"])) == ["pool1", "conv1"]
    assert net(images, outputs=[]) == {}
    named = net(images, outputs=list(net.graph.features.values()))
    assert all(compare(a, b).agrees() for a, b in zip(named.values(), net(images), strict=True))


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (["pool1", "res6a_out"], r"layer 'res6a_out': this network has none .*from 'input' to 'res5c_out'"),
        (["C1"], "layer 'C1'"),
        ([5], "layer 5"),
        ("pool1", r"outputs: got the text 'pool1'; it must be a list of layer names, such as \['pool1'\]"),
    ],
)
def test_wrong_outputs(net, outputs, words):
    """Also for ``trace``, at the call and not at the first step."""
    for run in (net, net.trace):
        with pytest.raises(UsageError, match=words):
            run(pixels(1, 8, 8, 3), outputs=outputs)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_belong_to_the_caller(files, algorithm, dtype):
    """No two arrays share memory, and writing into all of them changes nothing that comes later."""
    net, images = npresnet.load(files["matterport"], algorithm=algorithm), pixels(2, 33, 20, 3).astype(dtype)
    given, weights = images.copy(), {name: {r: a.copy() for r, a in w.items()} for name, w in net.weights.items()}
    first = net(images)
    kept = [array.copy() for array in first]
    named = net(images, outputs=net.layers)
    arrays = [*first, *named.values()]
    for i, array in enumerate(arrays):
        assert array.flags.c_contiguous
        assert not np.shares_memory(array, images)
        assert not any(np.may_share_memory(array, other) for other in arrays[:i])
    assert np.array_equal(named["input"], given)
    for array in arrays:
        array[...] = np.nan
    assert identical(images, given)
    assert all(np.array_equal(net.weights[name][role], a) for name, w in weights.items() for role, a in w.items())
    assert all_identical(net(images), kept)


# Input ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
        lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
        lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        lambda x: np.frombuffer(b"?" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    ],
    ids=["uint8", "int64", "float16", "float64", "big-endian", "list", "Fortran", "strided", "reversed", "NCHW view",
         "unaligned, read-only"],
)  # fmt: skip
def test_inputs_mean_their_values(net, convert):
    images = np.random.default_rng(1).integers(0, 256, (2, 20, 17, 3)).astype(np.float32)
    given = convert(images)
    before = np.array(given)
    assert all_identical(net(given), net(images))
    assert identical(np.array(given), before)


def test_one_picture_is_a_batch_of_one(net):
    picture = pixels(20, 17, 3)
    assert all_identical(net(picture), net(picture[None]))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((8, 8), np.float32), r"\[8, 8\] and dtype float32: a network takes \[n, h, w, 3\]"),
        (np.zeros((1, 1, 8, 8, 3), np.float32), r"\[1, 1, 8, 8, 3\]"),
        (np.zeros((1, 8, 8, 1), np.float32), "1 channels, but the network takes 3"),
        (np.zeros((8, 8, 4), np.float32), "4 channels, but the network takes 3"),
        (np.zeros((1, 3, 8, 9), np.float32), r"channels first \(NCHW\): give images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((0, 8, 8, 3), np.float32), "empty; every dimension must be at least 1"),
        (np.zeros((1, 0, 8, 3), np.float32), "empty"),
        (np.zeros((8, 8, 3), np.complex64), "complex64: a network takes numbers"),
        (np.zeros((8, 8, 3), bool), "bool"),
        (np.zeros((8, 8, 3), object), "object"),
        ("street.jpg", r"prepare\(\) reads picture files"),
        (None, "object"),
        ([np.zeros((8, 8, 3)), np.zeros((8, 9, 3))], "does not convert to one numpy array"),
    ],
)  # fmt: skip
def test_wrong_input(net, images, words):
    for run in (net, net.trace):
        with pytest.raises(ImageError, match=words):
            run(images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_pass(net, value):
    """Without a warning, and without touching the other images of the batch."""
    images = pixels(3, 40, 40, 3)
    spoiled = images.copy()
    spoiled[1, 20, 20, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = net(spoiled), net(images)
    assert all_identical([array[::2] for array in found], [array[::2] for array in expected])
    conv1 = net(spoiled, outputs=["conv1"])["conv1"]
    assert not np.isfinite(conv1[1, 10, 10]).any()
    assert np.isfinite(conv1[1, 0, 0]).all()  # far from the pixel


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_as_in_tensorflow(tf, tmp_path_factory, value):
    """In the same places, which are not the obvious ones: TensorFlow's ReLU makes zero of NaN."""
    from npresnet.verify import oracle

    network, images = thin("matterport", 50), pixels(1, 40, 40, 3)
    images[0, 20, 20, 1] = value
    net = npresnet.load(saved(tmp_path_factory, network))
    names = ["conv1", *net.graph.features.values()]
    ours = net(images, outputs=names)
    for name, expected in oracle.activations(shared(network), images, names):
        assert compare(ours[name], expected).agrees(), f"{name}: {compare(ours[name], expected)}"


# The same bits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["matterport", "keras-resnet"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_alone_and_in_company(files, algorithm, name):
    """The reference, too, whatever the order in which NumPy's BLAS sums; up to the last layer, a classifier in one."""
    net, images = npresnet.load(files[name], algorithm=algorithm), pixels(5, 40, 33, 3)
    names = [*net.graph.features.values(), net.layers[-1]]
    together, maps = net(images, outputs=names), net(images)
    for i in range(len(images)):
        assert all_identical([array[i : i + 1] for array in maps], net(images[i]))
        alone = net(images[i], outputs=names)
        assert all(identical(array[i : i + 1], alone[layer]) for layer, array in together.items())


@pytest.mark.parametrize("name", ["matterport", "keras-resnet"])
def test_any_number_of_threads(files, name):
    images = pixels(3, 70, 45, 3)
    one = npresnet.load(files[name], threads=1)
    expected = one(images)
    for threads in (*range(2, 17), None):  # also many more than there are processors
        net = npresnet.load(files[name], threads=threads)
        assert threads in (net.threads, None)
        assert all_identical(net(images), expected)
    for threads in (2, 8):
        net = npresnet.load(files[name], threads=threads)
        for mine, first in zip(net.trace(images), one.trace(images), strict=True):
            assert identical(mine.array, first.array), mine.name


def test_again(net):
    images = pixels(2, 40, 33, 3)
    first = net(images)
    net(pixels(1, 50, 20, 3))  # another shape in between
    assert all_identical(net(images), first)


def test_many_python_threads_at_once(files):
    """Eight callers of one network, each with images of its own and in its own order."""
    net = npresnet.load(files["matterport"], threads=2)
    batches = [pixels(1 + i % 2, 20 + 9 * i, 40, 3, seed=i) for i in range(4)]
    expected = [net(batch) for batch in batches]
    start = threading.Barrier(8)

    def call(caller: int) -> list[int]:
        start.wait()
        order = np.random.default_rng(caller).permutation(len(batches))
        return [i for i in order if not all_identical(net(batches[i]), expected[i])]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [[]] * 8


def test_after_a_fork(files, run_python):
    """The child has the parent's network, but none of the threads that worked for it."""
    code = f"""
import os
import numpy as np
import npresnet
if not hasattr(os, "fork"):
    raise SystemExit("skip")
net = npresnet.load({str(files["matterport"])!r}, threads=2)
images = np.random.default_rng(0).normal(0, 50, (1, 40, 40, 3)).astype(np.float32)
before = [array.tobytes() for array in net(images)]
child = os.fork()
if not child:
    os._exit(0 if [array.tobytes() for array in net(images)] == before else 1)
assert os.waitpid(child, 0)[1] == 0, "the child's result differs"
assert [array.tobytes() for array in net(images)] == before, "the parent's result differs"
print("same")
"""
    assert run_python(code).split()[-1] == "same"


# Layer by layer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_trace(files, name):
    net = npresnet.load(files[name])
    steps = list(net.trace(pixels(2, 33, 20, 3)))
    assert tuple(step.name for step in steps) == net.layers
    shapes = net.graph.shapes(33, 20)
    for step, layer in zip(steps, net.graph.layers, strict=True):
        assert step.kind == layer.operator.kind
        assert step.shape == step.array.shape == (2, *shapes[layer.name])
        assert step.array.dtype == np.float32
        assert step.flop == 2 * layer.operator.flop([shapes[name] for name in layer.inputs], shapes[layer.name])
        if step.kind != "input":
            assert step.seconds > 0
        assert (step.gflop_per_second > 0) == (step.kind not in ("input", "pad"))


def test_trace_runs_what_is_needed(net):
    steps = [step.name for step in net.trace(pixels(1, 16, 16, 3), outputs=["bn2a_branch1"])]
    assert steps == ["input", "conv1_pad", "conv1", "bn_conv1", "conv1_relu", "pool1", "res2a_branch1", "bn2a_branch1"]


def gmac(graph: Any, size: int, *kinds: Any) -> dict[str, float]:
    """{layer: 1e9 multiply-accumulates} of the layers of these kinds, for one image."""
    shapes = graph.shapes(size, size)
    return {
        layer.name: layer.operator.flop([shapes[layer.inputs[0]]], shapes[layer.name]) / 2e9
        for layer in graph.layers
        if isinstance(layer.operator, kinds)
    }


@pytest.mark.parametrize(
    ("depth", "stage5", "convolutions", "total", "parts"),
    [  # parts: 1x1 with stride 1, 1x1 with stride 2, 3x3, 7x7
        (50, True, 53, 80.581, (31.407, 8.053, 38.655, 2.466)),
        (50, False, 43, 65.280, (26.038, 5.369, 31.407, 2.466)),
        (101, True, 104, 158.159, (67.914, 8.053, 79.725, 2.466)),
        (101, False, 94, 142.858, (62.545, 5.369, 72.478, 2.466)),
    ],
)
def test_work_of_mask_rcnn(depth, stage5, convolutions, total, parts):
    """The convolutions at 1024x1024."""
    graph = build_graph(Architecture.standard(FAMILIES["matterport"], depth, stage5=stage5))
    work = gmac(graph, 1024, Conv2D)
    sums = dict.fromkeys([(1, 1), (1, 2), (3, 1), (7, 2)], 0.0)
    for name, amount in work.items():
        operator = graph.by_name[name].operator
        sums[operator.kernel[0], operator.stride[0]] += amount
    assert len(work) == convolutions
    assert tuple(sums.values()) == pytest.approx(parts, abs=6e-4)
    assert sum(work.values()) == pytest.approx(total, abs=6e-4)


@pytest.mark.parametrize(
    ("family", "depth", "total"),
    [
        ("keras-resnet", 18, 1.814),
        ("keras-resnet", 34, 3.664),
        ("keras.applications", 50, 3.858),
        ("keras.applications", 101, 7.570),
        ("keras.applications", 152, 11.282),
    ],
)
def test_work_at_224(family, depth, total):
    graph = build_graph(Architecture.standard(FAMILIES[family], depth, classes=1000))
    work = gmac(graph, 224, Conv2D, Dense)
    if depth < 50:  # the published figure is that of networks without this projection
        del work["res2a_branch1"]
    assert sum(work.values()) == pytest.approx(total, abs=6e-4)


# load ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"algorithm": "winograd"},
            "algorithm: got 'winograd'; it must be one of 'auto', 'direct', 'im2col', 'reference'",
        ),
        ({"algorithm": "AUTO"}, "algorithm: got 'AUTO'"),
        ({"algorithm": None}, "algorithm: got None"),
        ({"device": "gpu"}, "device: got 'gpu'"),
        ({"device": None}, "device: got None"),
        ({"threads": 0}, "threads: got 0; it must be a whole number of at least 1"),
        ({"threads": -2}, "threads: got -2"),
        ({"threads": 1.5}, "threads: got 1.5"),
        ({"threads": "2"}, "threads: got '2'"),
        ({"threads": True}, "threads: got True"),
        (
            {"architecture": "resnet51"},
            "architecture: got 'resnet51'; .*keras-resnet/resnet18, 34, 50, 101, 152, 200",
        ),
        ({"architecture": "torch/resnet50"}, "architecture: got 'torch/resnet50'; .*one of: matterport/resnet50"),
        ({"architecture": 50}, "architecture: got 50; it must be a depth such as 'resnet101'"),
    ],
)
def test_wrong_arguments(files, options, words):
    with pytest.raises(UsageError, match=words):
        npresnet.load(files["matterport"], **options)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_network_tells_of_itself(files, algorithm):
    net = npresnet.load(str(files["matterport"]), "resnet50", "cpu", algorithm, 2)
    assert (net.algorithm, net.threads) == (algorithm, 2)
    assert net.architecture.name == "matterport/resnet50"
    assert str(net.architecture) in repr(net)
    assert algorithm in repr(net)
    assert len(net.layers) == len(set(net.layers)) == len(net.graph.layers)
    assert net.layers[0] == "input"
    assert set(net.weights) == {layer.name for layer in net.graph.layers if layer.operator.tensors()}
    first, headings, *rest = net.summary((96, 64)).splitlines()
    assert first == str(net.architecture)
    assert headings.split() == ["layer", "kind", "weights", "inputs", "at", "96x64"]
    assert [line.split()[0] for line in rest] == list(net.layers)
    how = algorithm if algorithm == "reference" else "im2col"
    assert rest[2].split() == ["conv1", "conv", "7x7x3x8", "8", "conv1_pad", how]
    fused = ["in", "conv1"] if algorithm in ("auto", "direct") else [how]
    assert rest[3].split() == ["bn_conv1", "batchnorm", "8", "8", "8", "8", "conv1", *fused]


def test_profile(net):
    images = pixels(2, 40, 33, 3)
    steps = net.profile(images, repeats=1)
    assert [step.name for step in steps if step.name in net.graph.features.values()] == [*net.graph.features.values()]
    assert all(step.seconds > 0 for step in steps)
    for step in steps:
        if step.name in net.layers:  # not one of the plan's own
            assert step.shape == net(images, [step.name])[step.name].shape
    by_layer = sum(step.flop for step in net.trace(images) if step.kind == "conv")
    assert sum(step.flop for step in steps) == by_layer


def test_profile_where_there_is_no_plan(files):
    with pytest.raises(UsageError, match="algorithm 'im2col' runs layer by layer; trace"):
        npresnet.load(files["matterport"], algorithm="im2col").profile(pixels(1, 32, 32, 3))


def test_errors_are_one_family(tmp_path, net):
    for wrong in (
        lambda: npresnet.load(tmp_path / "missing.h5"),
        lambda: net(np.zeros(3)),
        lambda: net(pixels(1, 8, 8, 3), outputs=["?"]),
    ):
        with pytest.raises(NpResNetError):
            wrong()


def test_public_names():
    assert set(npresnet.__all__) <= set(dir(npresnet))
    for name in npresnet.__all__:
        assert getattr(npresnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'loaded'"):
        npresnet.loaded  # noqa: B018


# resnet_graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["resnet50", "matterport/resnet50"])
def test_resnet_graph(files, net, architecture):
    images = pixels(2, 40, 33, 3)
    for weights in (files["matterport"], str(files["matterport"]), net):
        features = npresnet.resnet_graph(images, architecture, stage5=True, weights=weights)
        assert isinstance(features, list)
        assert all_identical(features, net(images))
    without = npresnet.resnet_graph(images, architecture, weights=net)  # as in matterport's, False is the default
    assert len(without) == 5
    assert without[4] is None
    assert all(compare(a, b).agrees() for a, b in zip(without[:4], features[:4], strict=True))


def test_resnet_graph_without_stage_5(files):
    weights = files["matterport without stage 5"]
    assert npresnet.resnet_graph(pixels(1, 8, 8, 3), "resnet50", weights=weights)[4] is None
    with pytest.raises(UsageError, match=r"stage5: the weights of .* end at C4; call with stage5=False"):
        npresnet.resnet_graph(pixels(1, 8, 8, 3), "resnet50", stage5=True, weights=weights)


@pytest.mark.parametrize("architecture", ["resnet101", "keras.applications/resnet50", "resnet", "50"])
def test_resnet_graph_of_something_else(files, net, architecture):
    for weights in (net, files["matterport"]):
        with pytest.raises(NpResNetError, match=architecture):
            npresnet.resnet_graph(pixels(1, 8, 8, 3), architecture, weights=weights)
