"""Networks on a card: small ones of every kind of step beside the float64 reference, and a whole thin backbone."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import cuda

import npresnet
from npresnet import ImageError, UsageError
from npresnet.cpu import by_layer as engine
from npresnet.cuda import choice, measured, runner
from npresnet.cuda.arrays import DeviceArray
from npresnet.cuda.card import open_card
from npresnet.kernels.cuda.launch import SIMULATED
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Crop,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    MaxPool,
    Multiply,
    Operator,
    Pad,
    ReLU,
    Rescale,
    Reshape,
    Scale,
    UpSample,
)
from npresnet.verify.compare import compare

from ..support.cases import numbers

DIGITS = Path(__file__).parents[1] / "data" / "digits.keras"


def graph_of(*layers: tuple[str, Operator, str], features: dict[str, str] | None = None, channels: int = 3) -> Graph:
    """A graph of (name, operator, "names of inputs")."""
    made = [Layer(name, operator, tuple(inputs.split())) for name, operator, inputs in layers]
    return Graph((Layer("input", Input(channels)), *made), {"C": features or {"C1": made[-1].name}})


def block(width: int = 4, channels: int = 3) -> Graph:
    """A residual block with everything that a plan fuses, a pool over zeros, and a classifier."""
    return graph_of(
        ("stem", Conv2D(channels, width, (3, 3), (2, 2), "same"), "input"),
        ("stem_bn", BatchNorm(width, 1e-3), "stem"),
        ("pad", Pad((1, 1, 1, 1)), "stem_bn"),
        ("pool", MaxPool((3, 3), (2, 2), "valid"), "pad"),
        ("pre", BatchNorm(width, 1e-3), "pool"),
        ("pre_relu", ReLU(), "pre"),
        ("conv", Conv2D(width, width, (3, 3), (1, 1), "same", bias=False), "pre_relu"),
        ("bn", BatchNorm(width, 1e-5), "conv"),
        ("sum", Add(), "bn pool"),
        ("relu", ReLU(), "sum"),
        ("mean", GlobalAveragePool(), "relu"),
        ("classes", Dense(width, 5, softmax=True), "mean"),
        features={"C1": "pool", "C2": "relu"},
    )


def gated() -> Graph:
    """Groups, a gate, average pooling, a border by itself: layers that a plan runs by their own kernels, among others; and
    channels that are no multiple of four."""
    return graph_of(
        ("rescale", Rescale((0.5,), (0.1,)), "input"),
        ("border", Pad((1, 1, 1, 1)), "rescale"),
        ("conv", Conv2D(4, 6, (3, 3), groups=2), "border"),
        ("scale", Scale(6), "conv"),
        ("squeeze", GlobalAveragePool(keep_dims=True), "scale"),
        ("excite", Conv2D(6, 6, (1, 1)), "squeeze"),
        ("gate", Activation("sigmoid"), "excite"),
        ("gated", Multiply(), "scale gate"),
        ("pool", AveragePool((2, 2), (2, 2), "same"), "gated"),
        ("after", Conv2D(6, 5, (1, 1)), "pool"),
        ("flat", Flatten(), "after"),
        channels=4,
    )


def u_net() -> Graph:
    """Maps made larger, cut and put side by side; rows of another rank. Channels that are no multiple of four."""
    return graph_of(
        ("first", Conv2D(3, 6, (3, 3), padding="same"), "input"),
        ("pool", MaxPool((2, 2), (2, 2), "valid"), "first"),
        ("deep", Conv2D(6, 5, (3, 3), padding="same"), "pool"),
        ("up", Conv2DTranspose(5, 7, (3, 3), (2, 2), "same"), "deep"),
        ("bn", BatchNorm(7, 1e-3), "up"),
        ("lines", UpSample((2, 2), "bilinear"), "deep"),
        ("joined", Concatenate(), "bn first lines"),
        ("cut", Crop((1, 0, 0, 2)), "joined"),
        ("last", Conv2D(18, 4, (1, 1)), "cut"),
        ("rows", Reshape((-1, 4)), "last"),
        ("norm", BatchNorm(4, 1e-3), "rows"),
        ("mean", GlobalAveragePool(), "norm"),
        ("classes", Dense(4, 3, softmax=True), "norm"),
    )


def weights_of(graph: Graph) -> dict[str, dict[str, Any]]:
    """Seeded numbers for every tensor of a graph."""
    found: dict[str, dict[str, Any]] = {}
    for layer in graph.layers:
        for role, shape in layer.operator.tensors().items():
            array = numbers((layer.name, role), shape)
            found.setdefault(layer.name, {})[role] = np.abs(array) + np.float32(0.5) if role == "variance" else array
    return found


def make(graph: Graph, algorithm: str = "auto", precision: str = "fp32") -> runner.Runner:
    return runner.Runner(open_card(0), graph, weights_of(graph), algorithm, precision)


def truth(graph: Graph, images: Any, names: Any) -> dict[str, Any]:
    """The float64 reference."""
    steps = engine.run(
        graph, weights_of(graph), images.astype(np.float64), list(names), algorithm="reference", threads=1
    )
    return {step.name: step.array for step in steps if step.name in names}


def assert_agree(found: dict[str, Any], expected: dict[str, Any], limit: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        difference = compare(np.asarray(array), expected[name])
        assert difference.agrees(limit, 1e-2), f"{name}: {difference}"


def beginning(output: str) -> Graph:
    """The first layers of a ResNet, and one that reads their end."""
    return graph_of(
        ("border", Pad((3, 3, 3, 3)), "input"),
        ("stem", Conv2D(3, 6, (7, 7), (2, 2)), "border"),
        ("bn", BatchNorm(6, 1e-3), "stem"),
        ("relu", ReLU(), "bn"),
        ("pool", MaxPool((3, 3), (2, 2), "same"), "relu"),
        ("after", Conv2D(6, 4, (1, 1)), "pool"),
        features={"C1": output, "C2": "after"},
    )


@pytest.mark.parametrize("sms", [1, 132])
@pytest.mark.parametrize("output", ["pool", "relu"])
def test_stem_and_pool_in_one_step(output, sms, monkeypatch):
    """Where nobody wants what lies in between; six channels, which is no multiple of four. On a large card the convolution
    alone goes in parts."""
    monkeypatch.setattr(open_card(0), "sms", sms)
    chosen = choice.StemChoice(4, 2, choice.Prediction(0, 0, 0, 0, 0, 0))
    monkeypatch.setattr(measured, "stems", lambda *arguments: [chosen])  # so small an image gets other kernels
    graph = beginning(output)
    images = numbers("stem and pool", (2, 17, 22, 3))
    net = make(graph)
    names = (output, "after")
    assert_agree(net.run(images, names), truth(graph, images, names))
    steps = net.algorithms((17, 22), names)
    alone = "64x32" if sms == 1 else "64x32 / 3"
    assert (steps["stem"], steps["pool"]) == (("stem 4x2", "in stem") if output == "pool" else (alone, "maxpool"))


@pytest.mark.parametrize("algorithm", ["auto", "im2col"])
def test_block(algorithm):
    graph, images = block(), numbers("block", (2, 9, 7, 3))
    names = ("pool", "relu", "classes", "input")
    assert_agree(make(graph, algorithm).run(images, names), truth(graph, images, names))


@pytest.mark.parametrize(
    ("precision", "limit", "warpgroups"), [("tf32", 2e-3, False), ("tf32", 2e-3, True), ("3xtf32", 1e-6, False)]
)
def test_precision(precision, limit, warpgroups, monkeypatch):
    """tf32 also by warp groups, where there is nothing else to choose."""
    if warpgroups:
        monkeypatch.setattr(measured, "warpgroups_work", lambda card: True)
        monkeypatch.setattr(choice, "TENSOR_TILES", {})
    graph = graph_of(
        ("conv", Conv2D(8, 6, (1, 1)), "input"), ("bn", BatchNorm(6, 1e-3), "conv"), ("relu", ReLU(), "bn"), channels=8
    )
    images = numbers("precision", (1, 3, 3, 8))
    net = make(graph, precision=precision)
    found = net.run(images, ("relu",))
    expected = truth(graph, images, ("relu",))
    assert_agree(found, expected, limit)
    assert net.algorithms((3, 3), ("relu",))["conv"].startswith("wgmma") == warpgroups
    if precision == "tf32":
        assert compare(found["relu"], expected["relu"]).relative > 1e-5


@pytest.mark.parametrize("algorithm", ["auto", "im2col"])
def test_layers_that_nothing_is_fused_with(algorithm):
    graph, images = gated(), numbers("gated", (2, 5, 5, 4))
    net = make(graph, algorithm)
    assert_agree(net.run(images, ("scale", "pool", "flat")), truth(graph, images, ("scale", "pool", "flat")))
    (program,) = net._programs.kept().values()
    assert program.planned == (algorithm == "auto")
    assert ("border",) in [step.what.layers for step in program.steps]


@pytest.mark.parametrize("algorithm", ["auto", "im2col"])
def test_maps_made_larger(algorithm):
    graph, images = u_net(), numbers("u-net", (2, 6, 8, 3))
    names = ("joined", "last", "rows", "mean", "classes")
    assert_agree(make(graph, algorithm).run(images, names), truth(graph, images, names), 2e-6)


def test_3xtf32_is_not_used_before_a_max_pool():
    """Infinity, of which it makes NaN, is larger than all else there."""
    graph = graph_of(
        ("conv", Conv2D(4, 4, (1, 1)), "input"),
        ("pool", MaxPool((2, 2), (2, 2), "valid"), "conv"),
        ("after", Conv2D(4, 4, (1, 1)), "pool"),
        channels=4,
    )
    images = numbers("pool", (1, 4, 4, 4))
    images[0, 1, 2, 3] = np.inf
    net = make(graph, precision="3xtf32")
    names = ("pool", "after")
    assert_agree(net.run(images, names), engine_run(graph, images, names))
    used = net.algorithms((4, 4), names)
    assert used["conv"] == "64x32"
    assert used["after"] != "64x32"


def _forced(monkeypatch, winograd: bool, splits: int) -> None:
    """Let every 3x3 convolution go by Winograd, or every one in parts."""

    nothing = choice.Prediction(0, 0, 0, 0, 0, 0)

    def chosen(sms, size, precision, allowed, warpgroups):
        tile = min(choice.TILES, key=lambda tile: tile.bm * tile.bn)
        if winograd and allowed and (size.kh, size.sh) == (3, 1):
            return [choice.Choice(tile, splits, True, "winograd", nothing)]
        return [choice.Choice(tile, splits, False, "direct", nothing)]

    monkeypatch.setattr(measured, "convolutions", chosen)


def test_in_parts(monkeypatch):
    _forced(monkeypatch, winograd=False, splits=2)
    graph, images = block(8), numbers("parts", (1, 9, 7, 3))
    net = make(graph)
    assert_agree(net.run(images, ("relu", "classes")), truth(graph, images, ("relu", "classes")))
    assert net.algorithms((9, 7), ("relu",))["conv"] == "64x32 / 2"


@pytest.mark.parametrize("special", [None, np.nan, np.inf])
def test_winograd(monkeypatch, special):
    """Also where NaN and infinity go in: that image is run again without Winograd, the other is not."""
    parts = 3 if special is None else 1
    _forced(monkeypatch, winograd=True, splits=parts)
    graph = graph_of(
        ("conv", Conv2D(4, 4, (3, 3), (1, 1), "same"), "input"),
        ("bn", BatchNorm(4, 1e-3), "conv"),
        ("relu", ReLU(), "bn"),
        channels=4,
    )
    images = numbers("winograd", (2, 6, 7, 4))
    if special is not None:
        images[1, 2, 3, 1] = special
    net = make(graph)
    assert_agree(net.run(images, ("relu",)), engine_run(graph, images, ("relu",)), 2e-6)
    assert [key[2] for key in net._programs.kept()] == ([False] if special is None else [False, True])
    assert net.algorithms((6, 7), ("relu",)) == {
        "conv": "F(4x4,3x3) 64x32 / 3" if parts == 3 else "F(4x4,3x3) 64x32", "bn": "in conv", "relu": "in conv"
    }  # fmt: skip


def engine_run(graph, images, names):
    """The by-layer engine of the CPU: what TensorFlow does with NaN and infinity."""
    steps = engine.run(graph, weights_of(graph), images, list(names), algorithm="im2col", threads=1)
    return {step.name: step.array for step in steps if step.name in names}


@pytest.fixture
def stopwatch(monkeypatch, tmp_path):
    """A card on which choices take the seconds that the fixture's dictionary says, by their text, and others a second; and
    no measurements of earlier runs."""
    seconds: dict[str, float] = {}
    tried: list[Any] = []
    make_queue = measured._queue

    def queue_of(way, size, memory):
        make_queue(way, size, memory)  # from as many arrays as there should be
        tried.append(str(way))

        def queue(stream):
            pass

        queue.seconds = seconds.get(str(way), 1.0)
        return queue

    monkeypatch.setattr(measured, "_queue", queue_of)
    monkeypatch.setattr(measured, "_repeated", lambda queue: queue)
    monkeypatch.setattr(
        measured, "timed", lambda stream, queues, rounds: [[queue.seconds for queue in queues]] * rounds
    )
    monkeypatch.setattr(measured, "_file", lambda card: tmp_path / "choices.json")
    return seconds, tried


def test_tuning(stopwatch, tmp_path):
    """What was measured comes before what is expected, here and in other networks; and nothing is measured twice."""
    seconds, tried = stopwatch
    graph, images = beginning("pool"), numbers("tune", (2, 5, 6, 3))
    net, seen = make(graph), []
    before = net.algorithms((5, 6), ("after",))
    seconds |= {"stem 4x1": 0.25, "64x64": 0.5}
    net.tune((2, 5, 6), ("after",), seen.append)
    assert [(row.convolution, row.best, row.best_seconds) for row in seen] == [
        ("fp32 2x5x6x4 7x7/2x2 direct 3x3x8", "64x64", 0.5 / measured._REPEATS),
        ("fp32 2x5x6x3 stem 2x2x8", "stem 4x1", 0.25 / measured._REPEATS),
        ("fp32 2x2x2x8 1x1/1x1 direct 2x2x4", "64x64", 0.5 / measured._REPEATS),
    ]
    assert all(row.expected_seconds in (0.5 / measured._REPEATS, 1 / measured._REPEATS) for row in seen)
    assert_agree(net.run(images, ("after",)), truth(graph, images, ("after",)))
    (program,) = net._programs.kept().values()
    assert [step.what.algorithm for step in program.steps] == ["stem 4x1", "64x64"]
    assert net.algorithms((5, 6), ("after",)) == before  # another batch, which was not measured
    count = len(tried)
    other = make(graph)
    other.tune((2, 5, 6), ("after",), seen.append)
    assert (len(tried), len(seen)) == (count, 3)
    assert [step.what.algorithm for step in other._program((2, 5, 6), ("after",)).steps] == ["stem 4x1", "64x64"]


def test_what_cannot_be_tuned():
    for batch in ((1, 5), (1, 5, 0), (1, 5.0, 5)):
        with pytest.raises(UsageError, match="it must be \\(n, height, width\\)"):
            npresnet.load(DIGITS, device="cuda").tune(batch)
    with pytest.raises(UsageError, match="'im2col'; load the network with device='cuda'"):
        npresnet.load(DIGITS, device="cuda", algorithm="im2col").tune((1, 5, 5))


@pytest.mark.parametrize("damage", ["", "[1]", '{"stem": 3}', "unknown"])
def test_what_was_kept_may_be_damaged(stopwatch, tmp_path, damage):
    """Or be of another version, with other kernels: then it is as if nothing had been measured."""
    graph = beginning("pool")
    expected = make(graph).algorithms((5, 6), ("after",))
    stopwatch[0]["stem 4x1"] = 0.5
    make(graph).tune((1, 5, 6), ("after",), lambda row: None)
    assert make(graph).algorithms((5, 6), ("after",)) != expected
    file = tmp_path / "choices.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps(dict.fromkeys(found, "4x4")) if damage == "unknown" else damage)
    assert make(graph).algorithms((5, 6), ("after",)) == expected


def test_every_way_can_be_measured(monkeypatch):
    """Each one runs on the memory that it is given, all of which is its own; the times themselves only a card can tell, which
    takes some."""
    monkeypatch.setattr(measured, "MOST", 2)
    monkeypatch.setattr(measured, "_file", lambda card: None)
    net, seen = make(beginning("pool")), []
    net.tune((1, 5, 6), ("after",), seen.append)
    assert [row.best_seconds > 0 for row in seen] == [not SIMULATED] * 3


def test_chunks(monkeypatch):
    """A batch that goes in several chunks, on two lanes, gives the same bits as in one."""
    graph = graph_of(("conv", Conv2D(3, 4, (1, 1)), "input"), ("relu", ReLU(), "conv"))
    images = numbers("chunks", (5, 3, 3, 3))
    whole = make(graph).run(images, ("relu",))
    monkeypatch.setattr(runner, "_CHUNK", 2 * 9)
    net = make(graph)
    assert net._chunks(images.shape) == [(0, 2), (2, 2), (4, 1)]
    np.testing.assert_array_equal(net.run(images, ("relu",))["relu"], whole["relu"])
    assert_agree(whole, truth(graph, images, ("relu",)))


def test_trace():
    graph, images = block(), numbers("trace", (1, 9, 7, 3))
    steps = list(make(graph).trace(images, ["classes"]))
    names = [layer.name for layer in graph.layers]
    assert [step.name for step in steps] == names
    expected = list(engine.run(graph, weights_of(graph), images, ["classes"], algorithm="im2col", threads=1))
    for step, reference in zip(steps, expected, strict=True):
        assert (step.kind, step.shape, step.flop) == (reference.kind, reference.shape, reference.flop)
        assert isinstance(step.array, np.ndarray)
        assert step.seconds >= 0
    assert_agree({step.name: step.array for step in steps}, truth(graph, images, names))


def test_profile():
    graph, images = block(), numbers("profile", (2, 9, 7, 3))
    net = make(graph)
    steps = net.profile(images, ("relu",), 1)
    assert steps is not None
    convolutions = [layer for layer in graph.needed_for(["relu"]) if layer.operator.kind == "conv"]
    by_layer = engine.run(graph, weights_of(graph), images, ["relu"], algorithm="im2col", threads=1)
    assert sum(step.flop for step in steps) == sum(step.flop for step in by_layer if step.kind == "conv")
    assert len([step for step in steps if step.flop]) == len(convolutions)
    assert steps[-1].name == "relu"
    assert steps[-1].shape[0] == 2
    assert make(graph, "im2col").profile(images, ("relu",), 1) is None


def test_same_bits_again_and_from_many_threads():
    graph, images = block(), numbers("threads", (1, 9, 7, 3))
    net = make(graph)
    first = net.run(images, ("relu",))["relu"]
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(net.run(images, ("relu",))["relu"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for array in found:
        np.testing.assert_array_equal(array, first)


def test_images_on_the_card():
    """What comes out is where the images were, and the same."""
    from numba import cuda

    graph, images = (
        graph_of(("conv", Conv2D(3, 4, (1, 1)), "input"), ("relu", ReLU(), "conv")),
        numbers("d", (2, 3, 3, 3)),
    )
    net = make(graph)
    found = net.run(cuda.to_device(images), ("relu",))["relu"]
    assert isinstance(found, DeviceArray)
    assert (found.shape, found.dtype, found.ndim, found.size, found.nbytes) == ((2, 3, 3, 4), np.float32, 4, 72, 288)
    assert (found.device, found.__dlpack_device__()) == ("cuda:0", (2, 0))
    assert "float32[2, 3, 3, 4] on cuda:0" in repr(found)
    np.testing.assert_array_equal(found.copy_to_host(), net.run(images, ("relu",))["relu"])
    np.testing.assert_array_equal(np.asarray(found), found.copy_to_host())
    np.testing.assert_array_equal(
        net.run(cuda.to_device(images[0]), ("relu",))["relu"].copy_to_host()[0], np.asarray(found)[0]
    )
    with pytest.raises(ValueError, match="ask for a copy"):
        np.asarray(found, copy=False)


def test_results_in_memory_that_comes_again():
    """Written there by the steps themselves, from the second time on: for each its own numbers, also of two names for one region and of
    what a copy of another shape is made of, and whoever holds results keeps them."""
    graph = graph_of(
        ("conv", Conv2D(3, 6, (1, 1), (1, 1), "valid"), "input"),
        ("relu", ReLU(), "conv"),
        ("flat", Flatten(), "relu"),
        ("classes", Dense(6 * 2 * 3, 5, softmax=True), "flat"),
    )
    names = ("input", "relu", "flat", "classes")
    batches = [numbers(("again", turn), (2, 2, 3, 3)) for turn in range(5)]
    net = make(graph)

    def places(found: dict[str, Any]) -> list[int]:
        return [id(array.memory) for array in found.values()]

    held = net.run(cuda.to_device(batches[0]), names)
    seen = []
    for batch in batches[1:]:
        found = net.run(cuda.to_device(batch), names)
        assert_agree({name: np.asarray(array) for name, array in found.items()}, truth(graph, batch, names))
        seen.append(places(found))
        del found
    assert seen[1:] == seen[:1] * 3
    assert not set(places(held)) & set(seen[0])
    assert_agree({name: np.asarray(array) for name, array in held.items()}, truth(graph, batches[0], names))


@pytest.mark.parametrize("place", [np.asarray, cuda.to_device], ids=["host", "card"])
def test_a_size_of_images_is_worked_out_once(place, monkeypatch):
    """And not in each call, which the card would wait for."""
    net, images = make(graph_of(("relu", ReLU(), "input"))), numbers("once", (2, 3, 4, 3))
    first = np.asarray(net.run(place(images), ("relu",))["relu"])
    monkeypatch.setattr(Graph, "shapes", None)
    np.testing.assert_array_equal(np.asarray(net.run(place(images), ("relu",))["relu"]), first)


if not SIMULATED:  # which has no memory that another library could share

    @pytest.mark.parametrize("protocol", ["dlpack", "interface"])
    def test_memory_is_shared(protocol):
        """Both ways, without a copy: images that are a view of another library, and results seen as one."""
        from cuda.core.utils import StridedMemoryView

        graph, images = graph_of(("relu", ReLU(), "input")), numbers("shared", (2, 3, 4, 3))
        there = cuda.to_device(images)
        net = make(graph)
        given = DeviceArray(net.card, there)
        source = StridedMemoryView.from_dlpack(given, stream_ptr=-1) if protocol == "dlpack" else given
        found = net.run(source, ("relu",))["relu"]
        np.testing.assert_array_equal(np.asarray(found), np.maximum(images, 0))
        seen = StridedMemoryView.from_any_interface(found, stream_ptr=-1)
        assert seen.ptr == found.__cuda_array_interface__["data"][0]
        assert (tuple(seen.shape), seen.dtype) == (found.shape, np.dtype(np.float32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.astype(np.float64), "arrays on a card are not converted"),
        (lambda a: a.transpose(0, 3, 1, 2).copy(), "channels first"),
        (lambda a: a[0, 0], r"\[h, w, 3\] for one picture"),
        (lambda a: a[:0], "empty"),
        (lambda a: cuda.to_device(a)[:, ::2], "C-contiguous"),
    ],
    ids=["float64", "NCHW", "rank", "empty", "strides"],
)
def test_refuses_other_arrays_on_the_card(change, said):
    graph = graph_of(("relu", ReLU(), "input"))
    given = change(numbers("refused", (2, 5, 4, 3)))
    with pytest.raises(ImageError, match=said):
        make(graph).run(cuda.to_device(given) if isinstance(given, np.ndarray) else given, ("relu",))


def test_whole_backbone():
    """The digits' network, through ``load``: planned on the card beside layer by layer on the CPU."""
    net, cpu = npresnet.load(DIGITS, device="cuda"), npresnet.load(DIGITS, algorithm="im2col")
    assert net.device == "cuda:0"
    assert "device='cuda:0'" in repr(net)
    images = numbers("digits", (1, 9, 8, 3))
    for mine, reference in zip(net(images), cpu(images), strict=True):
        assert compare(mine, reference).agrees(1e-6)
    assert compare(net.predict(images), cpu.predict(images)).agrees(1e-6)
    assert "64x32" in net.summary((9, 8))


def test_wrong_use():
    with pytest.raises(UsageError, match="plain NumPy, which runs on the CPU"):
        npresnet.load(DIGITS, device="cuda", algorithm="reference")
    with pytest.raises(UsageError, match="'tf32' with device='cuda' and algorithm='im2col'"):
        npresnet.load(DIGITS, device="cuda", algorithm="im2col", precision="tf32")
    net = npresnet.load(DIGITS, device="cuda")
    with pytest.raises(UsageError, match="none of that name"):
        net(numbers("x", (1, 9, 8, 3)), outputs=["nothing"])
    with pytest.raises(ImageError, match="4 channels, but the network takes 3"):
        net(numbers("x", (1, 9, 8, 4)))
    with pytest.raises(UsageError, match="layer by layer"):
        npresnet.load(DIGITS, device="cuda", algorithm="im2col").profile(numbers("x", (1, 9, 8, 3)))
