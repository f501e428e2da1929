"""``study.layers``, receptive fields and maps: costs that are known, boxes that are proved by changing pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npresnet import study
from npresnet.errors import UsageError
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import Conv2D, GlobalAveragePool, Input, MaxPool
from npresnet.study.charts import memory_chart, roofline_chart
from npresnet.study.forms import plain
from npresnet.study.layers import TABLES, LayersStudy
from npresnet.study.maps import thumbnail
from npresnet.study.receptive import Field, Span, fields_of

from .conftest import network, pictures


@pytest.fixture(scope="module")
def table(net, images) -> LayersStudy:
    return study.layers(net, images, repeats=2)


# Layers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "giga"), [(50, "80.581"), (101, "158.159")])
def test_multiplications_of_mask_rcnn(depth, giga):
    """The sums that all others agree on: of C1 to C5, 1024 x 1024."""
    graph = build_graph(Architecture.named(f"matterport/resnet{depth}"))
    shapes = graph.shapes(1024, 1024)
    convolutions = [layer for layer in graph.layers if isinstance(layer.operator, Conv2D)]
    total = sum(layer.operator.flop([shapes[layer.inputs[0]]], shapes[layer.name]) for layer in convolutions) // 2
    assert f"{total / 1e9:.3f}" == giga


def test_rows_say_what_a_layer_costs(net, images, table):
    shapes = net.graph.shapes(*images.shape[1:3])
    assert [row.name for row in table.rows] == list(net.layers)
    for row in table.rows:
        layer = net.graph.by_name[row.name]
        weights = layer.operator.tensors()
        expected = 0
        if "kernel" in weights:  # a multiplication per weight and pixel
            expected = math.prod(weights["kernel"]) * math.prod(shapes[row.name][:-1])
        assert row.mac == expected, row.name
        sizes = [shapes[name] for name in layer.inputs] + [shapes[row.name], *weights.values()]
        assert row.bytes == 4 * sum(map(math.prod, sizes))
        assert row.shape_out == shapes[row.name]
    assert table.total_mac == sum(row.mac for row in table.rows)
    features = {row.feature: row.name for row in table.rows if row.feature}
    assert features == dict(net.graph.features)


def test_times_are_those_of_steps(table):
    leading = [row for row in table.rows if row.timing]
    assert {row.algorithm for row in table.rows if not row.timing} <= {"fused", ""}
    total = sum(row.timing.seconds for row in leading) + table.own_seconds
    assert total == pytest.approx(table.steps_seconds)
    assert sum(row.time_share for row in leading) == pytest.approx(1 - table.own_seconds / total)
    for row in leading:
        low, high = row.timing.quartiles
        assert 0 < low <= row.timing.seconds <= high
        assert row.timing.repeats == 2
        if row.mac:
            assert row.gflops * row.timing.seconds == pytest.approx(2 * row.mac / 1e9)
            share = row.executed / row.timing.seconds / table.ceilings.peak
            assert row.peak_share == pytest.approx(share)
    assert table.ceilings.peak > 1e8
    assert table.ceilings.bandwidth > 1e7
    assert "peak" in table.ceilings.how


def test_winograd_executes_fewer(table):
    by_algorithm = {row.algorithm: row for row in table.rows}
    tile = by_algorithm["F(4x4,3x3)"]
    h, w, channels = tile.shape_out
    assert tile.executed == 2 * math.ceil(h / 4) * math.ceil(w / 4) * 36 * tile.shape_in[2] * channels < 2 * tile.mac
    assert "36 products in place of 144" in tile.why
    kinds = [dot.winograd for dot in table.roofs if dot.name == tile.name]
    assert kinds == ["executed", "by definition"]
    assert by_algorithm["im2col"].executed == 2 * by_algorithm["im2col"].mac


def test_without_timing_it_is_always_the_same(net, images):
    first, second = (plain(study.layers(net, images, timing=False)) for _ in range(2))
    assert first == second
    assert first["ceilings"] is None
    assert all(row["timing"] is None for row in first["rows"])


def test_every_row_says_why(table):
    assert all(row.why for row in table.rows)


def test_the_table_fits_the_terminal(table):
    columns = TABLES[0].headings(wide=False)
    widths = [len(column.heading) for column in columns]
    for row in TABLES[0].cells(plain(table), wide=False):
        widths = [max(width, len(cell.text)) for width, cell in zip(widths, row, strict=True)]
    assert sum(widths) + 2 * len(widths) <= 100  # of which the first column may be folded


def test_a_network_that_does_not_run_by_plan_is_refused(images):
    net = network(width=4, algorithm="im2col")
    with pytest.raises(UsageError, match="algorithm='auto' or 'direct'"):
        study.layers(net, images)


def test_charts_stay_within_their_frames(net, images, table):
    for chart in (roofline_chart(table), memory_chart(study.memory(net, (1, *images.shape[1:3])))):
        for mark in chart.marks:
            assert chart.left - 1 <= mark.x <= chart.right + 1
            assert chart.top - 1 <= mark.y <= chart.bottom + 1
        for x, y in chart.roof:
            assert chart.left - 1 <= x <= chart.right + 1
            assert chart.top - 1 <= y <= chart.bottom + 1


# Receptive fields ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("matterport/resnet50", 1024, {"C1": 11, "C2": 35, "C3": 99, "C4": 291, "C5": 483}),
        ("matterport/resnet101", 1024, {"C4": 835, "C5": 1027}),
        ("keras.applications/resnet50", 224, {"C5": 483}),
        ("keras-hub/resnet50", 224, {"C5": 427}),  # stride 2 on the 3x3
    ],
)
def test_sizes_of_receptive_fields(name, size, expected):
    graph = build_graph(Architecture.named(name))
    fields = fields_of(graph, graph.shapes(size, size))
    found = {feature: fields[graph.features[feature]] for feature in expected}
    assert {feature: field.rows.size for feature, field in found.items()} == expected
    assert {feature: field.columns.size for feature, field in found.items()} == expected


def test_pixels_outside_of_the_box_change_nothing():
    """Bit for bit, at borders, too."""
    net, random = network(width=8, algorithm="direct"), np.random.default_rng(3)
    image = pictures((97, 90))
    for layer in ("C1", "C2", "C3"):
        name = net.graph.features[layer]
        before = net(image, outputs=[name])[name]
        field = study.receptive_field(net, layer, (97, 90))
        _, height, width, _ = before.shape
        corners = [(0, 0), (height - 1, width - 1), (0, width - 1)]
        for row, column in [*corners, *random.integers(0, (height, width), (4, 2)).tolist()]:
            top, bottom, left, right = field.box(row, column, (97, 90))
            other = pictures((97, 90)) + 50
            other[:, top:bottom, left:right] = image[:, top:bottom, left:right]
            after = net(other, outputs=[name])[name]
            assert np.array_equal(before[0, row, column], after[0, row, column]), (layer, row, column)


def positive(graph: Graph):
    """Weights that are all positive, so that no ReLU hides anything."""
    random = np.random.default_rng(0)
    return {
        layer.name: {
            role: random.uniform(0.5, 1, shape).astype(np.float32) for role, shape in layer.operator.tensors().items()
        }
        for layer in graph.layers
        if layer.operator.tensors()
    }


def test_each_edge_of_the_box_does_change_it():
    from npresnet.cpu import by_layer

    layers = (
        Layer("input", Input()),
        Layer("stem", Conv2D(3, 4, (7, 7), (2, 2), "same"), ("input",)),
        Layer("pool", MaxPool((3, 3), (2, 2), "same"), ("stem",)),
        Layer("conv", Conv2D(4, 4, (3, 3), (1, 1), "same"), ("pool",)),
    )
    graph = Graph(layers, {})
    size, cell = (40, 41), (4, 5)
    field = fields_of(graph, graph.shapes(*size))["conv"]
    top, bottom, left, right = field.box(*cell, size)

    def run(image):
        *_, step = by_layer.run(graph, positive(graph), image, ["conv"], algorithm="reference", threads=1)
        return step.array[0, *cell]

    image = np.ones((1, *size, 3))
    before = run(image)
    for edge in (
        np.s_[top, left:right],
        np.s_[bottom - 1, left:right],
        np.s_[top:bottom, left],
        np.s_[top:bottom, right - 1],
    ):
        changed = image.copy()
        changed[0][edge] += 10
        assert (run(changed) != before).any(), edge


def test_what_sees_no_box_is_refused(net, images):
    with pytest.raises(UsageError, match="see no box"):
        study.receptive_field(net, net.graph.classifier, images.shape[1:3])
    graph = Graph((Layer("input", Input()), Layer("mean", GlobalAveragePool(), ("input",))), {})
    assert fields_of(graph, graph.shapes(8, 8)) == {"input": Field(Span(0, 0, 1), Span(0, 0, 1))}


# Maps ----------------------------------------------------------------------------------------------------------------


def test_sheets(net, images):
    found = study.maps(net, images)
    arrays = {name: array for name, array in net(images)._asdict().items() if array is not None}
    assert [sheet.feature for sheet in found.sheets] == ["C1", "C2", "C3", "C4", "C5"]
    for sheet in found.sheets:
        map_ = arrays[sheet.feature.lower()][0].astype(np.float64)
        energy = (map_**2).mean((0, 1))
        assert [channel.channel for channel in sheet.channels] == np.argsort(-energy, kind="stable")[:16].tolist()
        assert sheet.dead == [c for c in range(map_.shape[2]) if not map_[..., c].any()]
        assert sheet.zeros == np.mean(map_ == 0)
        rows, columns = sheet.block
        for channel in sheet.channels:
            values = map_[..., channel.channel]
            for i, line in enumerate(channel.thumbnail):
                for j, mean in enumerate(line):
                    block = values[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
                    assert mean == pytest.approx(block.mean(), rel=1e-6)
        assert sheet.low == min(channel.thumbnail.min() for channel in sheet.channels)
        assert sheet.high == max(channel.thumbnail.max() for channel in sheet.channels)


def test_thumbnails_of_maps_that_do_not_divide():
    map_ = np.arange(35.0, dtype=np.float32).reshape(5, 7)
    assert thumbnail(map_, (2, 3)).shape == (3, 3)
    assert thumbnail(map_, (2, 3))[2, 2] == map_[4:, 6:].mean()
    assert np.array_equal(thumbnail(map_, (1, 1)), map_)


def test_a_layer_that_makes_no_map_is_refused(net, images):
    with pytest.raises(UsageError, match="no map"):
        study.maps(net, images, [net.graph.classifier])
