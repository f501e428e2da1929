"""The plan: the same numbers as layer by layer, the same bits for any number of threads and in any company."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.cpu import by_layer as engine
from npresnet.cpu.bounds import check_bounds
from npresnet.cpu.building import InMemory
from npresnet.cpu.by_plan import make_plan
from npresnet.cpu.packing import Constants
from npresnet.cpu.runner import Planner
from npresnet.kernels.activation import ActivationStep
from npresnet.kernels.avgpool import AvgPoolStep
from npresnet.kernels.combine import CombineStep
from npresnet.kernels.globalmaxpool import GlobalMaxPoolStep
from npresnet.kernels.maxpool import MaxPoolStep
from npresnet.kernels.steps.grouped import GroupedStep
from npresnet.kernels.tile import NR
from npresnet.kernels.winograd import pack_transformed, transform_kernel
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    Input,
    Multiply,
    Normalization,
    Pad,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    Softmax,
)
from npresnet.network.seeded import random_weights
from npresnet.plan.memory import Buffer, Memory, Room, Slab, place
from npresnet.verify.compare import compare


def _network(family, depth, width=16, classes=None, stage5=True):
    """Graph and random weights of a network whose stem has ``width`` channels, all others in proportion."""
    standard = Architecture.standard(FAMILIES[family], depth, stage5=stage5, classes=classes)
    widths = tuple((inner * width // 64, outer * width // 64) for inner, outer in standard.widths)
    graph = build_graph(Architecture(standard.family, depth, stage5, width, widths, standard.stem, classes, "top"))
    return graph, random_weights(graph, seed=3)


def _images(n, height, width, seed=1):
    return np.random.default_rng(seed).uniform(-120, 130, (n, height, width, 3)).astype(np.float32)


NETWORKS = [
    ("matterport", 50, 32, None, True, (1, 67, 53)),
    ("matterport", 101, 16, None, False, (2, 64, 48)),
    ("keras.applications", 50, 32, 7, True, (1, 97, 70)),
    ("keras-resnet", 18, 64, 5, True, (2, 65, 64)),
    ("keras-resnet", 34, 24, None, True, (1, 33, 80)),
    ("keras.applications ResNeXt", 50, 32, 5, True, (1, 75, 64)),
    ("keras.applications ResNeXt", 50, 64, None, True, (2, 33, 65)),
    ("image-classifiers SE", 18, 64, 5, True, (2, 65, 80)),
    ("keras-hub vd", 50, 32, None, True, (1, 67, 53)),
    ("keras-hub vd", 18, 64, 7, True, (2, 64, 65)),
]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_agrees_with_the_float64_reference(network):
    family, depth, width, classes, stage5, shape = network
    graph, weights = _network(family, depth, width, classes, stage5)
    outputs = [*graph.features.values(), *([graph.classifier] if graph.classifier else [])]
    images = _images(*shape)
    wide = engine.run(graph, weights, images.astype(np.float64), outputs, algorithm="reference", threads=1)
    truth = {step.name: step.array for step in wide if step.name in outputs}
    for winograd in (False, True):
        plan = make_plan(graph, Constants(graph, weights), shape, outputs, winograd=winograd, threads=2)
        found = plan.run(images, Memory())
        assert set(found) == set(outputs)
        for name in outputs:
            difference = compare(found[name], truth[name])
            assert difference.agrees(relative=1e-5), (winograd, name, difference)


@pytest.mark.parametrize(
    ("family", "depth"),
    [("matterport", 50), ("keras.applications ResNeXt", 50), ("image-classifiers SE", 18), ("keras-hub vd", 18)],
)
def test_same_bits_for_any_threads_and_in_a_batch(family, depth):
    graph, weights = _network(family, depth, 32)
    constants = Constants(graph, weights)
    outputs = list(graph.features.values())
    images = _images(3, 75, 64)
    first = make_plan(graph, constants, (3, 75, 64), outputs, winograd=True, threads=1).run(images, Memory())
    for threads in (2, 3, 8):
        again = make_plan(graph, constants, (3, 75, 64), outputs, winograd=True, threads=threads).run(images, Memory())
        assert all(np.array_equal(first[name], again[name]) for name in outputs), threads
    alone = make_plan(graph, constants, (1, 75, 64), outputs, winograd=True, threads=2)
    for index in range(3):
        single = alone.run(images[index : index + 1], Memory())
        assert all(np.array_equal(first[name][index : index + 1], single[name]) for name in outputs), index


def test_results_are_the_callers_own():
    graph, weights = _network("keras-resnet", 18)
    plan = make_plan(graph, Constants(graph, weights), (1, 40, 40), ["pool1", "res2b1_relu"], winograd=True, threads=1)
    images = _images(1, 40, 40)
    first = plan.run(images, Memory())
    kept = {name: array.copy() for name, array in first.items()}
    for array in first.values():
        array[:] = np.nan
    again = plan.run(images, Memory())
    assert all(np.array_equal(again[name], kept[name]) for name in kept)


def test_outputs_before_their_batchnorm():
    """A layer that is asked for is not swallowed by the step of the next, not even a border."""
    graph, weights = _network("matterport", 50)
    constants, images = Constants(graph, weights), _images(1, 64, 64)
    outputs = ["conv1_pad", "conv1", "bn_conv1", "res2a_add", "res2a_out"]
    found = make_plan(graph, constants, (1, 64, 64), outputs, winograd=True, threads=1).run(images, Memory())
    for step in engine.run(graph, weights, images, outputs, algorithm="im2col", threads=1):
        if step.name in outputs:
            assert compare(found[step.name], step.array).agrees(), step.name


def test_whatever_scales_channels_is_folded():
    """Batch-norm, Caffe's Scale, rescaling and normalising: into the convolution before, or one pass for several."""
    operators = [
        ("rescale", Rescale((2.0, 0.5, 1.0), (0.1,))),
        ("normalize", Normalization(3)),
        ("conv", Conv2D(3, 20, (3, 3), (2, 2), "same")),
        ("bn", BatchNorm(20, 1e-3)),
        ("scale", Scale(20)),
        ("relu", ReLU()),
    ]
    names = ["input", *(name for name, _ in operators)]
    made = (Layer(name, operator, (before,)) for (name, operator), before in zip(operators, names, strict=False))
    graph = Graph((Layer("input", Input(3)), *made), {"C": {"C1": "relu"}})
    rng = np.random.default_rng(5)
    weights = {
        layer.name: {
            role: (rng.uniform(0.5, 2, shape) if role == "variance" else rng.normal(size=shape)).astype(np.float32)
            for role, shape in layer.operator.tensors().items()
        }
        for layer in graph.layers
    }
    images = _images(2, 9, 12)
    plan = make_plan(graph, Constants(graph, weights), (2, 9, 12), ["relu"], winograd=True, threads=2)
    assert [step.layers for step in plan.steps] == [("rescale", "normalize"), ("conv", "bn", "scale", "relu")]
    *_, truth = engine.run(graph, weights, images.astype(np.float64), ["relu"], algorithm="reference", threads=1)
    assert compare(plan.run(images, Memory())["relu"], truth.array).agrees(1e-6)


def _odd_layers():
    """Operators that no published family has side by side, every one of them, and weights for them."""
    graph = Graph(
        (
            Layer("input", Input(3)),
            Layer("border", Pad((1, 2, 0, 3)), ("input",)),
            Layer("stem", Conv2D(3, 24, (3, 3), (2, 1), "same"), ("border",)),  # padded twice
            Layer("grouped", Conv2D(24, 16, (3, 2), (1, 2), "same", groups=8), ("stem",)),
            Layer("bn", BatchNorm(16, 1e-3), ("grouped",)),
            Layer("relu", ReLU(), ("bn",)),
            Layer("dilated", Conv2D(16, 20, (3, 3), padding="same", dilation=(2, 3)), ("relu",)),
            Layer("depthwise", Conv2D(20, 20, (3, 3), padding=(2, 2, 3, 3), groups=20, dilation=(2, 3)), ("dilated",)),
            Layer("add", Add(), ("depthwise", "dilated")),
            Layer("square", Multiply(), ("add", "dilated")),
            Layer("mean", GlobalAveragePool(keep_dims=True), ("square",)),
            Layer("gate", Activation("sigmoid"), ("mean",)),
            Layer("gated", Multiply(), ("gate", "square")),
            Layer("sum", Add(), ("add", "gated")),
            Layer("sum_relu", ReLU(), ("sum",)),
            Layer("average", AveragePool((3, 2), (2, 1), "same"), ("sum_relu",)),
            Layer("edge", Pad((0, 1, 2, 0)), ("average",)),
            Layer("shares", Softmax(), ("edge",)),
            Layer("by_pixel", Dense(20, 7, softmax=True, bias=False), ("shares",)),
            Layer("largest", GlobalMaxPool(), ("by_pixel",)),
            Layer("back", Reshape((1, 1, 7)), ("largest",)),
            Layer("scaled", Multiply(), ("by_pixel", "back")),
            Layer("flat", Flatten(), ("scaled",)),
            Layer("twice", Add(), ("flat", "flat")),
            Layer("twice_relu", ReLU(), ("twice",)),
            Layer("corner", GlobalAveragePool(), ("scaled",)),
            Layer("dense", Dense(7, 5, softmax=False, bias=False), ("corner",)),
            Layer("dense_relu", ReLU(), ("dense",)),
            Layer("scores", Dense(5, 4, softmax=True), ("dense_relu",)),
            Layer("scores_relu", ReLU(), ("scores",)),
        ),
        {"C": {"C1": "relu"}},
    )
    rng = np.random.default_rng(5)
    weights = {
        layer.name: {
            role: (rng.uniform(0.5, 2, shape) if role == "variance" else rng.normal(0, 0.3, shape)).astype(np.float32)
            for role, shape in layer.operator.tensors().items()
        }
        for layer in graph.layers
    }
    return graph, weights


@pytest.mark.parametrize("everything", [False, True])
def test_every_operator_has_a_step(everything):
    """Whatever a file may describe runs by plan, fused or with every layer to be seen."""
    graph, weights = _odd_layers()
    images = _images(2, 9, 12) / 100
    last = ["twice_relu", "scores_relu"]
    truth = {
        step.name: step.array
        for step in engine.run(graph, weights, images.astype(np.float64), last, algorithm="reference", threads=1)
    }
    outputs = [name for name in truth if name in last or (everything and name != "input")]
    constants = Constants(graph, weights)
    plan = make_plan(graph, constants, (2, 9, 12), outputs, winograd=True, threads=1)
    found = plan.run(images, Memory())
    assert [*found] == outputs
    for name in outputs:
        assert compare(found[name], truth[name]).agrees(2e-6), name
    for threads in (2, 3):
        again = make_plan(graph, constants, (2, 9, 12), outputs, winograd=True, threads=threads).run(images, Memory())
        assert all(np.array_equal(found[name], again[name]) for name in outputs), threads
    single = make_plan(graph, constants, (1, 9, 12), outputs, winograd=True, threads=2).run(images[1:], Memory())
    assert all(np.array_equal(found[name][1:], single[name]) for name in outputs)
    if not everything:
        assert [step.layers for step in plan.steps if step.algorithm == "product"] == [
            ("square",),
            ("gated", "sum", "sum_relu"),
            ("scaled",),
        ]


def _groups():
    """As in a ResNeXt, with 16 groups of each size that there is code for."""
    layers = [Layer("input", Input(64))]
    for p, stride in ((4, 1), (8, 1), (16, 1), (16, 2), (32, 1)):
        before, name, channels = layers[-1].name, f"groups of {p} by {stride}", 16 * p
        layers += [
            Layer(
                f"{name} x",
                Conv2D(layers[-1].operator.channels if len(layers) > 1 else 64, channels, (1, 1)),
                (before,),
            ),
            Layer(name, Conv2D(channels, channels, (3, 3), (stride, stride), (1, 1, 1, 1), groups=16), (f"{name} x",)),
        ]
    graph = Graph((*layers, Layer("relu", ReLU(), (layers[-1].name,))), {"C": {"C1": "relu"}})
    rng = np.random.default_rng(6)
    weights = {
        layer.name: {
            role: (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
            for role, shape in layer.operator.tensors().items()
        }
        for layer in graph.layers
    }
    return graph, weights


@pytest.mark.parametrize("winograd", [True, False])
def test_groups(winograd):
    """By Winograd's algorithm where that pays and is allowed; the same bits in any company, within bounds, and right beside NaN."""
    graph, weights = _groups()
    images = np.random.default_rng(7).normal(size=(2, 9, 13, 64)).astype(np.float32)
    constants = Constants(graph, weights)
    plan = make_plan(graph, constants, (2, 9, 13), ["relu"], winograd=winograd, threads=1)
    check_bounds(plan)
    found = {step.leader: step.algorithm for step in plan.steps if not step.leader.endswith("x")}
    rows = {"groups of 8 by 1", "groups of 16 by 1"} if winograd else set()
    assert found == {name: "F(4,3)" if name in rows else "grouped" for name in found}
    assert len(found) == 5
    result = plan.run(images, Memory())["relu"]
    *_, truth = engine.run(graph, weights, images.astype(np.float64), ["relu"], algorithm="reference", threads=1)
    assert compare(result, truth.array).agrees(1e-6)
    single = make_plan(graph, constants, (1, 9, 13), ["relu"], winograd=winograd, threads=3)
    assert np.array_equal(single.run(images[1:], Memory())["relu"], result[1:])
    images[0, 2, 3, 5] = np.inf
    *_, truth = engine.run(graph, weights, images, ["relu"], algorithm="im2col", threads=1)
    again = Planner(graph, weights, 2).run(images, ("relu",), winograd=winograd)["relu"]
    assert compare(again, truth.array).agrees()
    assert np.array_equal(again[1], result[1])


def test_a_product_and_what_follows_it():
    """Squeeze-and-excitation's gate, the addition and the ReLU behind it are one step; where the shortcut has a
    convolution of its own, that one adds."""
    graph, weights = _network("image-classifiers SE", 18)
    outputs = [*graph.features.values()]
    plan = make_plan(graph, Constants(graph, weights), (1, 64, 64), outputs, winograd=True, threads=1)
    products = [step for step in plan.steps if step.algorithm == "product"]
    added = [step for step in products if step.layers[-1] != step.leader]
    assert (len(products), len(added)) == (8, 4)
    assert all(" * " in str(step) and " + " in str(step) for step in added)
    assert not any(name.endswith("_add") for step in plan.steps for name in step.layers[:1])


def test_a_network_runs_without_its_odd_layers_being_compiled():
    """Kernels are looked for when a plan needs them."""
    graph, weights = _network("keras-resnet", 18)
    plan = make_plan(graph, Constants(graph, weights), (1, 40, 40), ["res2b1_relu"], winograd=True, threads=1)
    table = plan._table
    called = {step.compiled for step in table.steps} | {function for _, function in table.natives}
    assert MaxPoolStep.compiled in called
    odd = (GroupedStep, AvgPoolStep, CombineStep, ActivationStep, GlobalMaxPoolStep)
    assert not called & {kind.compiled for kind in odd}


def test_steps_can_be_read():
    graph, weights = _network("matterport", 50, 64)
    outputs = list(graph.features.values())
    plan = make_plan(graph, Constants(graph, weights), (1, 224, 224), outputs, winograd=True, threads=1)
    text = str(plan)
    assert "res2a_branch2b_relu" in text
    assert "F(4x4,3x3)" in text
    assert "res2a_out" in text
    assert len(plan.steps) < 75  # 174 layers


def test_buffers_that_live_together_never_overlap():
    random = np.random.default_rng(0)
    buffers = []
    for _ in range(200):
        first = int(random.integers(0, 60))
        buffers.append(Buffer(64 * int(random.integers(1, 50)), first, first + int(random.integers(0, 12))))
    size = place(buffers)
    assert max(b.offset + b.size for b in buffers) == size
    assert size < sum(b.size for b in buffers)
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            together = a.first <= b.last and b.first <= a.last
            assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_what_is_done_with_early_lies_in_outputs_that_are_not_yet_written():
    random = np.random.default_rng(1)
    rooms = [Room(3, 64 * 40, 20), Room(4, 64 * 25, 45), Room(5, 64 * 25, 45)]
    buffers = []
    for _ in range(300):
        first = int(random.integers(0, 60))
        buffers.append(Buffer(64 * int(random.integers(1, 50)), first, first + int(random.integers(0, 12))))
    size = place(buffers, rooms)
    held = {room: [buffer for buffer in buffers if buffer.room == room] for room in rooms}
    for room, found in held.items():
        assert found
        assert all(buffer.last < room.until and buffer.offset + buffer.size <= room.size for buffer in found)
    for found in (*held.values(), [buffer for buffer in buffers if buffer.room is None]):
        for i, a in enumerate(found):
            for b in found[:i]:
                together = a.first <= b.last and b.first <= a.last
                assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    assert size == max(buffer.offset + buffer.size for buffer in buffers if buffer.room is None)
    assert size < place([Buffer(buffer.size, buffer.first, buffer.last) for buffer in buffers])


@pytest.mark.parametrize("network", ["matterport/resnet50", "keras-resnet/resnet18"])
def test_blocks_are_written_over_what_is_added(network):
    """All but those that are outputs, which are no working memory."""
    graph = build_graph(Architecture.named(network))
    plan = make_plan(
        graph,
        Constants(graph, {}),
        (1, 96, 96),
        ["pool1", "res5c_out" if "50" in network else "res5b1_relu"],
        winograd=True,
        threads=1,
    )
    over = 0
    for record in plan.records:
        part = getattr(record, "product", getattr(record, "made", None))
        over += part is not None and isinstance(part.out.address, InMemory) and part.out == part.epilogue.residual
    assert over == (15 if "50" in network else 7)


def test_the_arena_of_a_network_is_its_largest_map():
    """Two maps of that size live at a time: one of them lies in the output of the stage, until that is written. Where that is no
    output, a block's result lies over what is added to it."""
    graph = build_graph(Architecture.named("matterport/resnet50"))
    plan = make_plan(graph, Constants(graph, {}), (1, 256, 256), [*graph.features.values()], winograd=True, threads=1)
    assert plan.arena_bytes == 4 * 64 * 64 * 256
    last = make_plan(graph, Constants(graph, {}), (1, 256, 256), ["res5c_out"], winograd=True, threads=1)
    assert plan.arena_bytes < last.arena_bytes < 2 * plan.arena_bytes


# NaN and infinity ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["keras-resnet", "image-classifiers SE", "keras-hub vd"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_special_values_come_out_as_layer_by_layer(value, family):
    """One bad pixel in the second of three images: there the same NaN and infinity as by layer, in the others none."""
    graph, weights = _network(family, 18, 64)
    images = _images(3, 96, 96)
    images[1, 50, 40, 1] = value
    outputs = tuple(graph.features.values())
    planner = Planner(graph, weights, 2)
    found = planner.run(images, outputs, winograd=True)
    with np.errstate(all="ignore"):
        steps = engine.run(graph, weights, images, outputs, algorithm="im2col", threads=2)
        expected = {step.name: step.array for step in steps if step.name in outputs}
    for name in outputs:
        assert compare(found[name], expected[name]).agrees(), name
        assert np.isfinite(found[name][[0, 2]]).all()
    clean = planner.run(_images(3, 96, 96), outputs, winograd=True)
    for name in outputs:  # and the good images have the bits that they have in good company
        assert np.array_equal(found[name][[0, 2]], clean[name][[0, 2]])


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38], ids=str)
def test_unusual_kernels_of_the_stem(value):
    """They meet a max-pool, too."""
    graph, weights = _network("keras-resnet", 18, 64)
    weights = {**weights, "conv1": {**weights["conv1"], "kernel": weights["conv1"]["kernel"].copy()}}
    weights["conv1"]["kernel"][2, 3, 1, 5] = value
    images, outputs = _images(2, 64, 64), ("pool1", "res2b1_relu")
    found = Planner(graph, weights, 2).run(images, outputs, winograd=True)
    with np.errstate(all="ignore"):
        steps = engine.run(graph, weights, images, outputs, algorithm="im2col", threads=2)
        for step in steps:
            if step.name in outputs:
                assert compare(found[step.name], step.array).agrees(), step.name


def test_without_a_look_at_the_images_nan_would_get_lost(monkeypatch):
    """What shows that they must be looked at."""
    graph, weights = _network("keras-resnet", 18, 64)
    images, outputs = _images(1, 64, 64), ("pool1",)
    images[0, 30, 30, 1] = np.nan
    right = Planner(graph, weights, 1).run(images, outputs, winograd=True)["pool1"]
    monkeypatch.setattr("npresnet.cpu.by_plan.ordinary", lambda array: True)
    assert not compare(Planner(graph, weights, 1).run(images, outputs, winograd=True)["pool1"], right).agrees()


def test_no_nan_hides_behind_other_outputs():
    """A stride that leaves pixels out; two branches side by side: the later one knows nothing of the other's NaN."""
    graph, weights = _network("keras-resnet", 18, 64)
    images = _images(1, 64, 64)
    images[0, 20, 20] = np.nan
    outputs = ("res2a_branch2a_relu", "res3a_branch1", "bn2a_branch2b")
    plan = make_plan(graph, Constants(graph, weights), (1, 64, 64), outputs, winograd=True, threads=1)
    assert plan.ends == ("res3a_branch1", "bn2a_branch2b")
    outputs = ("bn2a_branch2b", "bn2a_branch1")
    assert make_plan(graph, Constants(graph, weights), (1, 64, 64), outputs, winograd=True, threads=1).ends == outputs
    found = Planner(graph, weights, 1).run(images, outputs, winograd=True)
    expected = {s.name: s.array for s in engine.run(graph, weights, images, outputs, algorithm="im2col", threads=1)}
    for name in outputs:
        assert compare(found[name], expected[name]).agrees(), name


def test_direct_never_uses_winograd():
    graph, weights = _network("keras-resnet", 18, 64)
    outputs = list(graph.features.values())
    for winograd in (True, False):
        plan = make_plan(graph, Constants(graph, weights), (1, 96, 96), outputs, winograd=winograd, threads=1)
        assert any(step.algorithm.startswith("F(") for step in plan.steps) == winograd


# Memory --------------------------------------------------------------------------------------------------------------


def test_memory_comes_back_when_the_last_view_is_gone():
    memory = Memory(limit=10**8)
    array = memory.array((1000, 300))
    address, view = array.ctypes.data, array[10:, 5].T
    assert address % 64 == 0
    del array
    assert memory.idle == 0
    second = memory.array((1000, 300))
    assert second.ctypes.data != address
    del view
    assert memory.idle == 1000 * 300 * 4
    assert memory.array((990, 300)).ctypes.data == address


@pytest.mark.parametrize(("side", "outputs"), [(160, ("conv1_relu", "res2b1_relu")), (416, ("conv1_relu", "pool1"))])
def test_memory_is_used_again(side, outputs):
    """Of a small network and of one with outputs as large as its working memory, or nearly: a second run takes nothing new."""
    graph, weights = _network("keras-resnet", 18)
    planner, images = Planner(graph, weights, 1), _images(1, side, side)
    planner.run(images, outputs, winograd=True)
    blocks = set(planner._memory._idle)
    assert len(blocks) > 1
    planner.run(images, outputs, winograd=True)
    assert set(planner._memory._idle) == blocks


def test_idle_memory_is_bounded():
    graph, weights = _network("keras-resnet", 18)
    planner = Planner(graph, weights, 1)
    sizes = [(64 * i, 96) for i in range(1, 12)]
    kept = [planner.run(_images(1, *size), ("res2b1_relu",), winograd=True) for size in sizes]
    needed = [planner.plan((1, *size), ("res2b1_relu",), True).lent_bytes for size in sizes[-8:]]
    del kept
    assert 0 < planner._memory.idle <= max(needed)
    assert len(planner._plans.kept()) == 8


def test_room_in_a_slab_is_used_again():
    slab = Slab()
    arrays = [slab.array((1000, 3)) for _ in range(4)]
    addresses = [array.ctypes.data for array in arrays]
    assert all(address % 64 == 0 for address in addresses)
    for number, array in enumerate(arrays):
        array[...] = number
    view, held = arrays[1][10:, 1], slab.bytes
    del array, arrays[1]
    assert slab.array((990, 3)).ctypes.data not in addresses
    assert (view == 1).all()
    del view
    second = slab.array((990, 3))
    assert second.ctypes.data == addresses[1]
    assert [array[0, 0] for array in arrays] == [0, 2, 3]
    assert slab.bytes == held
    big = slab.array((held // 4 + 1,))
    assert slab.bytes > 2 * held
    del big
    slab.tidy()
    assert slab.bytes == held
    del arrays, second
    slab.tidy()
    assert slab.bytes == 0


def _packed(planner):
    """Bytes of what is packed, and of what is held for it."""
    constants = planner._constants
    return sum(pair.weights.nbytes for pair in constants._made.values()), constants.bytes


def test_packed_weights_go_with_the_last_plan_that_has_them():
    """However many sizes, runs without Winograd and sets of outputs there have been: what is there belongs to the plans that
    are kept."""
    graph, weights = _network("keras-resnet", 18, 64)
    planner = Planner(graph, weights, 1)
    images, outputs, early = _images(1, 160, 160), tuple(graph.features.values()), ("res2b1_relu",)
    expected = planner.run(images, outputs, winograd=True)
    first, _ = _packed(planner)
    planner.run(images, outputs, winograd=False)  # as where there is NaN
    most, held = _packed(planner)
    assert most > first
    for turn in range(3):
        for size in range(8, 16):  # eight plans, of the first stage alone
            planner.run(_images(1, size, size), early, winograd=True)
        assert _packed(planner)[0] < first / 8
        kept = {id(pair): pair for plan in planner._plans.kept().values() for pair in plan._ready.weights}
        assert set(map(id, planner._constants._made.values())) == kept.keys()
        again = planner.run(images, outputs, winograd=True)
        assert all(np.array_equal(again[name], array) for name, array in expected.items()), turn
        planner.run(images, outputs, winograd=False)
        assert _packed(planner)[1] <= held + 2**25  # a stretch more, because room for the largest is in pieces
    del kept
    planner._plans.clear()
    planner.run(_images(1, 7, 7), early, winograd=True)
    assert _packed(planner)[1] == 2**25


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("ci", "co"), [(1, 1), (3, NR - 1), (2, NR), (5, 2 * NR + 3)])
def test_packed_transformed_kernels(m, ci, co):
    """The transform of the kernel times the scale, rounded once, in panels that zeros fill up."""
    random = np.random.default_rng(ci)
    w, scale = random.standard_normal((3, 3, ci, co), np.float32), random.uniform(0.5, 2, co)
    packed = np.full((-(-co // NR), (m + 2) ** 2, ci, NR), np.nan, np.float32)
    pack_transformed(w, scale, m, packed)
    together = packed.transpose(1, 2, 0, 3).reshape((m + 2) ** 2, ci, -1)
    assert compare(together[..., :co], transform_kernel(w * scale, m)).agrees(relative=1e-7)
    assert not together[..., co:].any()
