"""One convolution studied: windows, Winograd, errors, the ladder. Everything is computed again here, by plain NumPy."""

from __future__ import annotations

import itertools
import re
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from npresnet import study
from npresnet.errors import UsageError
from npresnet.kernels import conv2d_reference, im2col
from npresnet.kernels.processor import SETTINGS, _chosen
from npresnet.kernels.simd import LANES
from npresnet.kernels.winograd import matrices
from npresnet.study import elsewhere
from npresnet.study.errors import of_subject as errors_of
from npresnet.study.exact import Surd, parse_surd
from npresnet.study.forms import shown
from npresnet.study.ladder import of_subject as ladder_of
from npresnet.study.mine import CASES, check, check_apart, load_function
from npresnet.study.rungs import RUNGS, Rung, parse_tile
from npresnet.study.rungs import learners as learners_rung
from npresnet.study.subject import StudiedLayer, subject_of
from npresnet.study.timing import Ceilings
from npresnet.study.window import of_subject as window_of
from npresnet.study.window import region, reuse
from npresnet.study.winograd import exact_matrices, identity, parse_points
from npresnet.study.winograd import of_subject as winograd_of

from .conftest import pictures

LAYER = "res2a_branch2a"


def layer_of(shape, taps=(3, 3), channels=5, stride=1, pads=(1, 1, 1, 1), bias=True) -> StudiedLayer:
    random = np.random.default_rng(sum(shape))
    x = random.standard_normal(shape, np.float32)
    w = random.standard_normal((*taps, shape[3], channels), np.float32)
    return StudiedLayer(
        "conv", x, w, random.standard_normal(channels, np.float32) if bias else None, (stride, stride), pads
    )


def relative(found, truth):
    return np.linalg.norm(found.astype(np.float64) - truth) / np.linalg.norm(truth)


# Windows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "res2a_branch2a", "res3a_branch2a", "res4a_branch1", "res5a_branch2b"])
def test_a_window_makes_what_the_engine_does(net, images, layer):
    """In the corners and at random, for the 7x7 stem, strides on odd and even edges, and 1x1."""
    subject = subject_of(net, images, layer)
    output = net(images, outputs=[layer])[layer][0]
    ho, wo, co = output.shape
    cols = im2col(subject.x, subject.taps, **subject.options())
    random = np.random.default_rng(0)
    places = [(0, 0, 0), (0, wo - 1, 1), (ho - 1, 0, 2), (ho - 1, wo - 1, co - 1)]
    places += [tuple(int(random.integers(size)) for size in output.shape) for _ in range(20)]
    for at in places:
        found = window_of(subject, output, at)
        assert abs(found.total - output[at]) <= 1e-5 * found.magnitude, at
        assert np.array_equal(found.patch.ravel(), cols[found.row]), at
        products = found.patch.astype(np.float64) * subject.w[..., at[2]]
        assert [tap.total for tap in found.taps] == pytest.approx(products.sum(2).ravel().tolist())
        assert all(tap.total == 0 for tap in found.taps if tap.padded)
        assert found.engine == output[at]
    assert found.matrix == cols.shape
    assert found.matrix_bytes == cols.nbytes
    assert found.blow_up == cols.nbytes / subject.x.nbytes


def test_a_border_of_its_own_layer_counts_as_padding(net, images):
    """keras-resnet's ZeroPadding2D before the stem."""
    found = study.window(net, images, "conv1", (0, 0, 0))
    assert found.pads == (3, 3, 3, 3)
    assert sum(tap.padded for tap in found.taps) == 49 - 16
    assert found.shape_in == images.shape[1:]


def test_default_window(net):
    found = study.window(net, pictures((64, 64)))
    assert found.layer == "res2a_branch2a"  # of all 3x3 with stride 1, which cost the same, the first
    assert found.at[:2] == (found.shape_out[0] // 2, found.shape_out[1] // 2)


@pytest.mark.parametrize(("layer", "at", "match"), [
    ("bn_conv1", None, "kind 'batchnorm'"), ("nothing", None, "none of that name"), ("conv1", (0, 0, 99), "must be oh,ow,co"),
])  # fmt: skip
def test_what_cannot_be_studied(net, images, layer, at, match):
    with pytest.raises(UsageError, match=match):
        study.window(net, images, layer, at)


def test_how_often_a_pixel_is_copied():
    subject = layer_of((1, 6, 7, 2))
    down, across = reuse(subject.window, subject.size)
    times = np.outer(down, across)
    assert times[0, 0] == times[-1, -1] == 4  # corners
    assert (times[0, 1:-1] == 6).all()
    assert (times[1:-1, 0] == 6).all()
    assert (times[1:-1, 1:-1] == 9).all()
    marked = replace(subject, x=np.arange(84, dtype=np.float32).reshape(subject.x.shape) + 1)
    cols = im2col(marked.x, (3, 3), **marked.options())
    assert np.array_equal(np.bincount(cols.astype(int).ravel(), minlength=85)[1::2], times.ravel())


@pytest.mark.parametrize("subject", [
    layer_of((1, 9, 8, 3), stride=2, pads=(0, 1, 0, 1)), layer_of((1, 1, 1, 4)), layer_of((1, 5, 9, 2), (1, 1), pads=(0, 0, 0, 0)),
    layer_of((1, 11, 10, 3), (7, 7), stride=2, pads=(3, 3, 3, 3)),
], ids=["stride", "one pixel", "1x1", "stem"])  # fmt: skip
def test_a_region_is_its_windows(subject):
    output = conv2d_reference(subject.x, subject.w, subject.bias, **subject.options())[0]
    found = region(subject, output, 2, most=4)
    for (oh, ow), total in np.ndenumerate(found.totals):
        one = window_of(subject, output, (oh, ow, 2))
        assert total == pytest.approx(one.total)
        assert found.tap_sums[oh, ow].ravel().tolist() == pytest.approx([tap.total for tap in one.taps])
        rows, columns = oh * subject.stride[0], ow * subject.stride[1]
        kh, kw = subject.taps
        assert np.array_equal(found.x[rows : rows + kh, columns : columns + kw], one.patch)
    assert np.array_equal(found.engine, output[:4, :4, 2])


def test_one_weight_changes_exactly_its_windows():
    subject = layer_of((1, 6, 6, 2))
    output = conv2d_reference(subject.x, subject.w, subject.bias, **subject.options())[0]
    w = subject.w.copy()
    w[1, 1, 0, 3] += 1
    changed = replace(subject, w=w)
    for co in range(5):
        before, after = (region(each, output, co).totals for each in (subject, changed))
        assert np.array_equal(before, after) == (co != 3)


# Winograd ------------------------------------------------------------------------------------------------------------

POINTS = [
    "0, 1, -1",
    "0, sqrt2/2, -sqrt2/2, sqrt2, -sqrt2",
    "0, 1, -1, 2, -2",
    "0, 1, -1, 1/2, -2",
    "0,1,-1,2,-2,1/2,-1/2",
]


@pytest.mark.parametrize("points", POINTS)
def test_the_identity_is_proved(points):
    exact = parse_points(points)
    at, g, bt = exact_matrices(exact)
    assert identity(at, g, bt)
    floats = matrices(len(exact) - 1, tuple(map(float, exact)))
    for made, expected in zip((at, g, bt), floats, strict=True):
        assert np.allclose(
            np.array([[float(value) for value in row] for row in made]), expected, rtol=1e-12, atol=1e-12
        )


def test_the_identity_can_fail():
    at, g, bt = exact_matrices(parse_points(POINTS[0]))
    for row in range(4):
        for column in range(4):
            wrong = [list(line) for line in bt]
            wrong[row][column] = wrong[row][column] + Surd(Fraction(1, 1000))
            assert not identity(at, g, wrong)


def test_surds():
    root = Surd(Fraction(0), Fraction(1))
    assert root * root == Surd(Fraction(2))
    assert (Surd(Fraction(1)) + root) * (Surd(Fraction(1)) - root) == Surd(Fraction(-1))
    assert Surd(Fraction(1)) / root == Surd(Fraction(0), Fraction(1, 2))
    texts = ["0", "-2", "1/2", "√2", "-√2/2", "3√2/4"]
    assert [str(parse_surd(text)) for text in texts] == texts
    assert str(Surd(Fraction(1, 3), Fraction(-2))) == "1/3 - 2√2"
    for text in ("", "x", "1/0", "sqrt3", "sqrt2/0", "1.5"):
        with pytest.raises(UsageError):
            parse_surd(text)


@pytest.mark.parametrize("points", ["0, 1", "0, 1, 1", "0, 1, -1, 2"])
def test_points_that_do_not_do(points):
    with pytest.raises(UsageError, match="points"):
        parse_points(points)


def test_a_tile_worked_through(net, images):
    found = study.winograd(net, images)
    tile = found.tile
    assert found.identity
    assert found.multiplications == (36, 144)
    assert np.allclose(tile.y, tile.direct, rtol=1e-10)
    subject = subject_of(net, images)
    padded = np.pad(subject.x[0, ..., tile.channel], 8)
    row, column = tile.row + 7, tile.column + 7
    assert np.array_equal(tile.d, padded[row : row + 6, column : column + 6])
    assert np.array_equal(tile.g, subject.w[:, :, tile.channel, tile.co])
    assert study.winograd(net, images, tile=2).multiplications == (16, 36)


def test_points_have_a_price(net, images):
    subject = subject_of(net, images, LAYER)
    found = winograd_of(subject)
    errors = {row.points: row for row in found.errors}
    ours, others = errors["0, √2/2, -√2/2, √2, -√2"], errors["0, 1, -1, 2, -2"]
    assert others.relative > ours.relative
    truth = conv2d_reference(subject.x.astype(np.float64), subject.w.astype(np.float64), padding="same")
    direct = conv2d_reference(subject.x, subject.w, padding="same")
    assert found.errors[0].relative == pytest.approx(relative(direct, truth), rel=1e-3)
    assert found.errors[0].worst == pytest.approx(np.abs(direct - truth).max() / np.sqrt((truth**2).mean()), rel=1e-3)
    chosen = winograd_of(subject, points="0, 1, -1, 2, -2")
    assert chosen.errors[1].relative == others.relative


def test_winograd_is_for_3x3(net, images):
    with pytest.raises(UsageError, match="it has 7x7 taps"):
        study.winograd(net, images, "conv1")
    with pytest.raises(UsageError, match="tile: got 3"):
        study.winograd(net, images, tile=3)


# Errors --------------------------------------------------------------------------------------------------------------


def test_errors_are_recomputed(net, images):
    tensorflow = {"pool1": net(images).c1}
    found = study.errors(net, images, tensorflow=tensorflow)
    names = [row.name for row in found.growth]
    wide = {layer: {role: a.astype(np.float64) for role, a in net.weights[layer].items()} for layer in net.weights}
    truth = truths(net, wide, images)
    for row in found.growth:
        auto = net(images, outputs=[row.name])[row.name]
        assert row.auto == pytest.approx(relative(auto, truth[row.name]), rel=0.5), (
            row.name
        )  # other outputs, other fusion
        assert 0 <= row.direct < 1e-5
        assert 0 <= row.im2col < 1e-5
    pool = found.growth[names.index("pool1")]
    assert pool.tensorflow == pytest.approx(relative(tensorflow["pool1"], truth["pool1"]), rel=1e-3)
    assert found.growth[-1].tensorflow is None
    assert {row.name for row in found.layers} == {
        layer.name for layer in net.graph.layers if layer.operator.kind == "conv"
    }
    assert found.problem == ""


def truths(net, wide, images):
    from npresnet.cpu import by_layer

    steps = by_layer.run(net.graph, wide, images.astype(np.float64), [net.layers[-1]], algorithm="reference", threads=1)
    return {step.name: step.array for step in steps}


def test_errors_of_one_layer():
    subject = layer_of((1, 12, 12, 32), channels=32)
    found = errors_of(subject)
    wide = [array.astype(np.float64) for array in (subject.x, subject.w, subject.bias)]
    truth = conv2d_reference(*wide, **subject.options())
    from npresnet.kernels import conv2d_direct, conv2d_im2col, conv2d_winograd

    for name, version in (("loops", conv2d_direct), ("im2col", conv2d_im2col), ("winograd4", conv2d_winograd)):
        y = version(subject.x, subject.w, subject.bias, **subject.options())
        assert getattr(found, name) == pytest.approx(relative(y, truth), rel=1e-3)
    strided = errors_of(layer_of((1, 9, 9, 4), stride=2))
    assert (strided.winograd2, strided.winograd4) == (None, None)


def test_only_equal_bits_make_no_error():
    zeros = replace(layer_of((1, 5, 5, 4), bias=False), x=np.zeros((1, 5, 5, 4), np.float32))
    assert shown("error", errors_of(zeros).loops) == "same bits"
    assert shown("error", 1e-30) == "1.0e-30"
    assert shown("error", errors_of(layer_of((1, 5, 5, 4))).loops) != "same bits"


def test_nan_spreads_as_it_is_said(net, images):
    rows = {row.algorithm: row.pixels for row in study.errors(net, images, LAYER).spread}
    assert rows["direct sum"] == rows["conv2d_winograd"] == 9
    assert rows["formula of F(2x2)"] > 9
    assert rows["formula of F(4x4)"] > 9
    odd = images.copy()
    odd[0, 3, 4, 1] = np.nan
    assert "1 numbers of the image are NaN" in study.errors(net, odd, LAYER).problem


# The ladder ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quick_ceilings(monkeypatch):
    """What a machine can do at most takes a second to measure."""
    ceilings = Ceilings("a machine", 1, 1e11, 1e10)
    monkeypatch.setattr(sys.modules["npresnet.study.ladder"], "ceilings", lambda threads: ceilings)


@pytest.fixture(scope="module")
def studied():
    return layer_of((1, 12, 12, 32), channels=32)


def test_every_rung_is_compared_and_timed(studied):
    found = ladder_of(studied, repeats=2)
    rows = {row.name: row for row in found.rows}
    assert list(rows)[:6] == [*(rung.name for rung in RUNGS), "engine"]
    for row in rows.values():
        if row.name == "on a card":
            assert row.problem.startswith("not run: ") or row.timing
            continue
        assert row.problem == ""
        assert row.flop == 2 * 9 * 32 * 32 * row.pixels[0] * row.pixels[1]
        assert row.gflops * row.timing.seconds * 1e9 == pytest.approx(row.flop)
        assert row.peak_share == pytest.approx(row.gflops * 1e9 / found.ceilings.peak)
        assert 0 <= row.error < 1e-5
    on_ladder = [row for row in found.rows if not row.outside]
    for before, after in itertools.pairwise(on_ladder):
        assert after.gain == pytest.approx(after.gflops / before.gflops)
    assert "for k in range(a.shape[1])" in rows["im2col + gemm_naive"].source
    assert rows["engine"].idea.startswith("F(")


def test_slow_rungs_run_on_a_part(studied):
    slow = replace(RUNGS[0], most=5e5)
    (row,) = ladder_of(studied, ["conv2d_direct"], timing=False, versions=(slow,)).rows
    assert row.pixels == (2, 12)
    assert row.flop == 2 * 9 * 32 * 32 * 24


def test_a_rung_that_is_wrong_has_no_time(studied):
    def wrong(x, w, bias, *, threads=1, **options):
        return conv2d_reference(x, w, bias, **options) + np.float32(1e-2)

    (row, *_rest) = ladder_of(studied, versions=(Rung("wrong", "", wrong),), timing=True, repeats=1).rows
    assert row.timing is None
    assert row.gflops is None
    assert row.problem.startswith("disagrees with float64")


LEARNERS = {
    "right": "return conv2d_reference(x, w, bias, stride=stride, padding=padding)",
    "corner": "y = conv2d_reference(x, w, bias, stride=stride, padding=padding); y[-1, -1, -1, -1] += 0.1; return y",
    "nan": "return conv2d_reference(x, w, bias, stride=stride, padding=padding) * np.float32(np.nan)",
    "dtype": "return conv2d_reference(x, w, bias, stride=stride, padding=padding).astype(np.float64)",
    "zeros": "return np.zeros_like(conv2d_reference(x, w, bias, stride=stride, padding=padding))",
    "odd": "y = conv2d_reference(x, w, bias, stride=stride, padding=padding); y[:, 7:] = 0; return y",
    "loses_nan": "return np.nan_to_num(conv2d_reference(x, w, bias, stride=stride, padding=padding))",
    "raises": "raise RuntimeError('oh')",
    "nothing": "return None",
    "writes": "y = conv2d_reference(x, w, bias, stride=stride, padding=padding); x[:] = 0; return y",
}


@pytest.fixture(scope="module")
def learners(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "my_conv.py"
    lines = ["import numpy as np", "from npresnet.kernels import conv2d_reference"]
    for name, body in LEARNERS.items():
        lines += [f"def {name}(x, w, bias=None, *, stride=1, padding='same'):", f"    {body}"]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learners_kernel(learners, name):
    wrong = check(load_function(f"{learners}:{name}"))
    assert (wrong == "") == (name == "right")
    assert wrong == "" or any(wrong.startswith(f"{case}: ") for case in CASES)
    if name == "raises":
        assert wrong.endswith("it raises RuntimeError: oh (line 18)")


def test_a_learners_kernel_on_the_ladder(learners, studied, monkeypatch):
    """In its place if it is right, on as many rows as it is fast enough for; without a time if it is wrong."""
    here = sys.modules["npresnet.study.ladder"]
    monkeypatch.setattr(
        here, "check_apart", lambda place: check(load_function(place))
    )  # in this process: that is quicker
    (row,) = ladder_of(studied, [], f"{learners}:right", repeats=1).rows
    assert (row.problem, row.pixels) == ("", (12, 12))
    assert row.timing.seconds > 0
    found = ladder_of(studied, [], f"{learners}:corner", repeats=1)
    (row,) = found.rows
    assert (row.timing, row.gflops) == (None, None)
    assert row.problem.startswith("refused: x 1x8x8x4")
    assert len(found.problems) == 1


def test_one_that_never_ends_or_ends_the_process(tmp_path):
    path = tmp_path / "my_conv.py"
    path.write_text(
        "import os, time\ndef endless(*_, **__):\n    while True: time.sleep(1)\ndef deadly(*_, **__): os.abort()\n"
    )
    assert re.match(
        r"(x 1x8x8x4|before the first).* it has not come to an end after 3 seconds",
        check_apart(f"{path}:endless", limit=3),
    )
    assert re.match(r"x 1x8x8x4.* it ends the whole process \(signal 6", check_apart(f"{path}:deadly"))


@pytest.mark.parametrize(("options", "seen"), [
    ({}, ("same", (1, 12, 12, 32), (3, 3))), ({"pads": (0, 0, 0, 0)}, ("valid", (1, 12, 12, 32), (3, 3))),
    ({"pads": (0, 1, 0, 1), "stride": (2, 2)}, ("same", (1, 12, 12, 32), (3, 3))),
    ({"pads": (1, 1, 1, 1), "stride": (2, 2)}, ("valid", (1, 14, 14, 32), (3, 3))),
    ({"pads": (2, 2, 2, 2), "dilation": (2, 2)}, ("same", (1, 12, 12, 32), (5, 5))),
])  # fmt: skip
def test_a_learners_kernel_need_only_know_what_is_promised(studied, options, seen):
    """One number as the stride, "same" or "valid": whatever the layer has."""
    calls = []

    def conv(x, w, bias, stride=1, padding="same"):
        calls.append((padding, x.shape, w.shape[:2]))
        assert type(stride) is int
        return conv2d_reference(x, w, bias, stride=stride, padding=padding)

    subject = replace(studied, **options)
    rung = learners_rung("mine", conv, subject)
    y = rung.call(subject.x, subject.w, subject.bias, **subject.options())
    assert np.array_equal(y, conv2d_reference(subject.x, subject.w, subject.bias, **subject.options()))
    assert calls == [seen]
    with pytest.raises(UsageError, match="asked for one number"):
        learners_rung("mine", conv, replace(subject, stride=(1, 2)))


def test_another_tile(studied):
    """In a process of its own, as the name, the idea and the result say. (This process's own tile, which is compiled already.)"""
    tile, sums = f"{SETTINGS.rows}x{SETTINGS.vectors * LANES}", SETTINGS.rows * SETTINGS.vectors
    rows = ladder_of(studied, ["conv2d_im2col"], tiles=[tile], timing=False).rows
    assert [row.name for row in rows] == ["conv2d_im2col", f"conv2d_im2col, tile {tile}"]
    assert (
        rows[1].idea == f"{sums} registers of sums; {sums} multiply-adds for {SETTINGS.rows + SETTINGS.vectors} reads"
    )
    assert (rows[1].error, rows[1].problem) == (rows[0].error, "")
    other = parse_tile(f"4x{LANES}")
    assert other == SETTINGS._replace(rows=4, vectors=1)
    assert elsewhere.call("settings", {"NPRESNET_SETTINGS": str(other)}, _chosen) == other


@pytest.mark.parametrize("tile", ["6", "6x7", "0x64", "6x0", "99x64", "axb", "6x64x2", ""])
def test_tiles_that_do_not_do(tile):
    with pytest.raises(UsageError, match=r"tile: got .* must be ROWSxCOLUMNS"):
        parse_tile(tile)


def test_other_engines_beside_it(studied):
    pytest.importorskip("onnxruntime")
    strided = replace(studied, stride=(2, 2), pads=(0, 1, 0, 1))
    for subject in (studied, strided):
        (row,) = ladder_of(subject, [], engines=["onnxruntime"], repeats=2).rows
        assert row.idea.startswith("ONNX Runtime ")
        assert row.error < 1e-5
        assert row.timing.repeats == 2
        assert (row.outside, row.gain) == (True, None)
    (row,) = ladder_of(replace(studied, dilation=(2, 2)), [], engines=["onnxruntime"]).rows
    assert (row.problem, row.timing) == ("other engines are asked for convolutions without dilation only", None)
    with pytest.raises(UsageError, match="engines: got 'none'"):
        ladder_of(studied, [], engines=["none"])


def test_awkward_cases_are_awkward():
    assert check(lambda x, w, bias, stride, padding: conv2d_reference(x, w, bias, stride=stride, padding=padding)) == ""
    assert {case.special for case in CASES} == {"", "zeros", "NaN"}
    assert {case.stride for case in CASES} == {1, 2}
    assert {case.shape[1] % 2 for case in CASES} == {0, 1}


@pytest.mark.parametrize(("mine", "match"), [
    ("conv.py", "FILE.py:FUNCTION"), ("nowhere.py:conv", "no such file"), ("{}:none", "no function 'none'"),
])  # fmt: skip
def test_a_kernel_that_is_not_there(learners, studied, mine, match):
    with pytest.raises(UsageError, match=match):
        ladder_of(studied, [], mine.format(learners))


def test_unknown_rungs(studied):
    with pytest.raises(UsageError, match="rungs: got nothing; they are conv2d_direct"):
        ladder_of(studied, ["nothing"])
