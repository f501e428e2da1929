"""Steps as records: what is declared is what compiled code sees, and every kind of step honours the pitch of its maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numba import carray

from npresnet import kernels
from npresnet.kernels.activation import ActivationStep, activation_of
from npresnet.kernels.arrays import Array
from npresnet.kernels.avgpool import AvgPoolStep, MeanStep
from npresnet.kernels.channel_reduce import ChannelReduceStep
from npresnet.kernels.channels import ChannelsStep
from npresnet.kernels.combine import CombineStep
from npresnet.kernels.conv2d_transpose import Col2imStep
from npresnet.kernels.crop_and_resize import CropAndResizeStep
from npresnet.kernels.geometry import Window, window
from npresnet.kernels.globalmaxpool import GlobalMaxPoolStep
from npresnet.kernels.groupnorm import GroupNormStep
from npresnet.kernels.maxpool import MaxPoolStep
from npresnet.kernels.mold import MoldStep
from npresnet.kernels.paste_masks import PasteMaskStep
from npresnet.kernels.resize import ResizeStep
from npresnet.kernels.scale import AffineStep
from npresnet.kernels.simd import LANES
from npresnet.kernels.softmax import SoftmaxStep
from npresnet.kernels.steps.epilogue import LINEAR, RELU, Activating, Epilogue, bias_only
from npresnet.kernels.steps.grouped import GroupedStep
from npresnet.kernels.steps.grouped_lanes import GroupedLanesStep
from npresnet.kernels.steps.grouped_winograd import GroupedWinogradStep
from npresnet.kernels.steps.im2col import CopyStep, Im2colStep, Patches
from npresnet.kernels.steps.intrinsics import double_pointer
from npresnet.kernels.steps.loop import run
from npresnet.kernels.steps.phases import PhasesStep
from npresnet.kernels.steps.pointwise import PointwiseStep, Product
from npresnet.kernels.steps.records import Address, Map, Place, Step, Table, layout, offset_of, places, view_of
from npresnet.kernels.steps.winograd import (
    InputTiles,
    OutputTiles,
    WinogradInStep,
    WinogradOutStep,
    WinogradStep,
    v_bytes,
)
from npresnet.kernels.tile import NR
from npresnet.kernels.unitnorm import UnitNormStep
from npresnet.kernels.winograd import pack_transformed, stored_elements

# Records -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Inner:
    factor: float
    where: Map


@dataclass(frozen=True, kw_only=True)
class SumStep(Step):
    """The sum of all that it is told, in float64: a step for these tests."""

    count: int
    share: float
    inner: Inner
    window: Window
    out: Address

    @property
    def items(self) -> int:
        return 1


_view = view_of(SumStep)


def _made(out: Address) -> SumStep:
    inner = Inner(factor=0.3, where=Map(5, 6, 7))
    return SumStep(count=1 << 40, share=-math.inf, inner=inner, window=Window(*range(1, 11)), out=out)


@SumStep.native
def _sum_item(step, item, scratch):
    s = _view(step)
    out = carray(double_pointer(s.out), (6,))
    out[0], out[1], out[2] = s.count, s.share, s.inner.factor
    out[3], out[4], out[5] = s.inner.where.pitch, s.window.kh, s.window.wo


def test_compiled_code_sees_what_was_declared():
    """Whole numbers whole, floats as float32 and not cut to integers, records within records."""
    seen = np.zeros(6)
    run(_made(seen.ctypes.data), 1)
    assert seen.tolist() == [float(1 << 40), -math.inf, float(np.float32(0.3)), 6.0, 1.0, 10.0]


def test_a_field_that_is_left_out():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'window'"):
        SumStep(count=1, share=1.0, inner=Inner(factor=1.0, where=Map(0, 0, 0)), out=0)


def test_a_field_that_no_record_can_hold():
    @dataclass(frozen=True)
    class Wrong(Step):
        name: str

    with pytest.raises(TypeError, match="cannot be of type <class 'str'>"):
        layout(Wrong)


def test_the_field_decides_not_the_value():
    """A whole number is a float in a float's field; a float that is whole is no address."""
    seen = np.zeros(6)
    run(replace(_made(seen.ctypes.data), share=2), 1)
    assert seen[1] == 2.0
    epilogue = Epilogue(0, Map(0, 0, 4), Activating(2, 0), 0)
    step = AffineStep(x=Map(0, 16, 4), out=Map(0, 16, 4), factor=0, epilogue=epilogue, pixels=1, blocks=1)
    table = Table([step])
    at = offset_of(AffineStep, "epilogue") + offset_of(Epilogue, "activation")
    assert table.records[at : at + 8].view(np.float32).tolist() == [2.0, 0.0]
    for wrong in (replace(step, pixels=3.0), replace(step, x=Map(0, 16.0, 4))):
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            Table([wrong])


def test_records_in_memory():
    """Places are found from the types, wherever they stand."""

    class Somewhere(Place):
        pass

    here, there = Somewhere(), Somewhere()
    step = replace(_made(here), inner=Inner(factor=1.0, where=Map(there, 6, 7)))
    assert set(places(step)) == {here, there}
    table = Table([_made(0), step])
    assert table.offsets == [0, layout(SumStep).itemsize]
    inner = offset_of(SumStep, "inner") + offset_of(Inner, "where") + offset_of(Map, "address")
    expected = {table.offsets[1] + offset_of(SumStep, "out"): here, table.offsets[1] + inner: there}
    assert dict(table.places) == expected
    words = table.records.view(np.int64)
    assert all(words[offset // 8] == 0 for offset in expected)
    assert words[(table.offsets[1] + offset_of(SumStep, "count")) // 8] == 1 << 40


# Pitch ---------------------------------------------------------------------------------------------------------------

N, H, W, C, K = 2, 9, 11, 2 * LANES + 16, 3 * LANES  # odd maps; channels beyond a register, and no whole panel
random = np.random.default_rng(11)
SILU = activation_of("silu", ())


class Room:
    """Arrays that steps read and write, with ``gap`` floats of NaN between pixels."""

    def __init__(self, gap: int) -> None:
        self.gap = gap
        self.maps: list[Array] = []
        self.constants: list[Array] = []

    def map(self, values: Array) -> tuple[Map, Array]:
        """A map of these values, and a view of its pixels."""
        channels = values.shape[-1]
        wide = np.full((*values.shape[:-1], channels + self.gap), np.nan, np.float32)
        wide[..., :channels] = values
        self.maps.append(wide)
        return Map(wide.ctypes.data, 4 * wide.shape[-1], channels), wide[..., :channels]

    def constant(self, values: Array) -> int:
        """The address of numbers that lie side by side."""
        self.constants.append(np.ascontiguousarray(values, np.float32))
        return self.constants[-1].ctypes.data

    def epilogue(self, shape: tuple[int, ...], activation: Activating) -> Epilogue:
        residual, _ = self.map(_numbers(*shape))
        zeros = self.constant(np.zeros(shape[-1] + NR))
        bias = self.constant(np.resize(_numbers(shape[-1]), shape[-1] + NR))
        return Epilogue(bias, residual, activation, zeros)

    def untouched(self) -> bool:
        """Whether all gaps are as they were."""
        return all(np.isnan(wide[..., wide.shape[-1] - self.gap :]).all() for wide in self.maps)


def _numbers(*shape: int) -> Array:
    """The same for each shape, whenever asked."""
    return np.random.default_rng(math.prod(shape)).standard_normal(shape).astype(np.float32)


def _blank(*shape: int) -> Array:
    return np.full(shape, 7.0, np.float32)


def _maxpool(room: Room, x: Map, out: Map) -> Step:
    return MaxPoolStep(x=x, out=out, n=N, height=H, width=W, window=window((H, W), (3, 3), 2, "same", 1), zeros=1)


def _channels(room: Room, x: Map, out: Map) -> Step:
    order = room.constant(np.arange(K) * 5 % C)
    return ChannelsStep(x=x, out=out, order=order, pixels=N * H * W, blocks=5)


def _channel_reduce(mean: int) -> Callable[[Room, Map, Map], Step]:
    return lambda room, x, out: ChannelReduceStep(x=x, out=out, pixels=N * H * W, mean=mean, blocks=5)


def _avgpool(room: Room, x: Map, out: Map) -> Step:
    return AvgPoolStep(x=x, out=out, n=N, height=H, width=W, window=window((H, W), (3, 3), 2, "same", 1))


def _affine(room: Room, x: Map, out: Map) -> Step:
    epilogue, factor = room.epilogue((N, H, W, C), Activating(0.3, -math.inf)), room.constant(_numbers(C))
    return AffineStep(x=x, out=out, factor=factor, epilogue=epilogue, pixels=N * H * W, blocks=5)


def _activation(room: Room, x: Map, out: Map) -> Step:
    return ActivationStep(x=x, out=out, activation=SILU, pixels=N * H * W, blocks=5)


def _groupnorm(room: Room, x: Map, out: Map) -> Step:
    gamma, beta = (Map(room.constant(_numbers(C + i)), 0, C) for i in (0, 1))
    return GroupNormStep(x=x, out=out, gamma=gamma, beta=beta, images=N, pixels=H * W, groups=4, epsilon=1e-3, blocks=3)


def _combine(*other: int) -> Callable[[Room, Map, Map], Step]:
    def make(room: Room, x: Map, out: Map) -> Step:
        factor, _ = room.map(_numbers(*other))
        epilogue = room.epilogue((N, H, W, C), RELU)
        return CombineStep.of("multiply", (x, (N, H, W, C)), (factor, other), (out, (N, H, W, C)), epilogue, 5)

    return make


def _times(room: Room, depth: int, out: Map, shape: tuple[int, ...], activation: Activating = RELU) -> Product:
    panels = room.constant(_numbers(out.channels // NR + 1, depth, NR))
    return Product(panels=panels, depth=depth, passes=2, out=out, epilogue=room.epilogue(shape, activation))


def _pointwise(room: Room, x: Map, out: Map) -> Step:
    times = _times(room, C, out, (N, H, W, K), Activating(0.25, -math.inf))
    return PointwiseStep(x=x, product=times, rows=N * H * W, blocks=5, by_panel=0)


def _im2col(room: Room, x: Map, out: Map) -> Step:
    times = _times(room, 9 * C, out, (N, 5, 6, K))
    patches = Patches(x=x, height=H, width=W, window=window((H, W), (3, 3), 2, "same", 1))
    return Im2colStep(patches=patches, product=times, rows=N * 5 * 6, blocks=3)


def _copy(room: Room, x: Map, out: Map) -> Step:
    patches = Patches(x=x, height=H, width=W, window=Window(1, 1, 1, 1, 1, 1, 1, 2, H + 3, W + 4))
    return CopyStep(patches=patches, out=out, rows=N * (H + 3) * (W + 4), blocks=3)


def _grouped(room: Room, x: Map, out: Map) -> Step:
    geometry = window((H, W), (3, 3), 1, "same", 1)
    kernels, epilogue = room.constant(_numbers(C // LANES + 1, 9 * 4, LANES)), room.epilogue((N, H, W, C), RELU)
    return GroupedStep.cut(x, out, (N, H, W), geometry, C // 4, kernels, epilogue)


def _phases(room: Room, x: Map, out: Map) -> Step:
    patches = Patches(x=x, height=H, width=W, window=window((H, W), (7, 7), 2, "same", 1))
    kernels, epilogue = room.constant(_numbers(K // LANES, 36, 12, LANES)), room.epilogue((N, 5, 6, K), RELU)
    return PhasesStep.cut(patches, out, N, kernels, epilogue)


def _grouped_lanes(room: Room, x: Map, out: Map) -> Step:
    epilogue, kernels = room.epilogue((N, H, W, out.channels), RELU), room.constant(_numbers(9 * 4, 8 * LANES))
    return GroupedLanesStep.cut(x, out, (N, H, W), window((H, W), (3, 3), 1, "same", 1), 4, kernels, epilogue, 2)


def _grouped_winograd(room: Room, x: Map, out: Map) -> Step:
    epilogue = room.epilogue((N, H, W, out.channels), Activating(0.5, -1.0))
    return GroupedWinogradStep.cut(x, out, (N, H, W), 4, room.constant(_numbers(18 * 4, 8 * LANES)), epilogue, 2)


def _winograd(m: int, in_pairs: bool = False) -> Callable[[Room, Map, Map], Step]:
    def make(room: Room, x: Map, out: Map) -> Step:
        given = InputTiles.of(x, N, H, W, m)
        kernels = room.constant(_numbers(K // NR + 1, (m + 2) * stored_elements(m, in_pairs), C, NR))
        made = OutputTiles.of(given, out, kernels, room.epilogue((N, H, W, K), Activating(0.5, -1.0)), in_pairs)
        return WinogradStep(given=given, made=made, blocks=3)

    return make


def _col2im(room: Room, x: Map, out: Map) -> Step:
    window, epilogue = Window(2, 3, 2, 3, 1, 1, 0, 0, H, W), room.epilogue((N, 2 * H, 3 * W, C // 6), RELU)
    return Col2imStep(x=x, out=out, n=N, height=2 * H, width=3 * W, window=window, epilogue=epilogue)


def _resize(bilinear: bool) -> Callable[[Room, Map, Map], Step]:
    return lambda room, x, out: ResizeStep.of(x, out, (N, H, W), (H + 4, W - 3), bilinear)


def _crop_and_resize(room: Room, x: Map, out: Map) -> Step:
    boxes = room.constant(np.abs(_numbers(N, 3, 4)) / 2)
    return CropAndResizeStep(x=x, out=out, boxes=boxes, count=N, each=3, height=H, width=W, rows=2, columns=4)


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Callable[[Room, Map, Map], Step]]] = {
    "maxpool": ((N, H, W, C), (N, 5, 6, C), _maxpool),
    "avgpool": ((N, H, W, C), (N, 5, 6, C), _avgpool),
    "channels": ((N, H, W, C), (N, H, W, K), _channels),
    "mean of channels": ((N, H, W, C), (N, H, W, 1), _channel_reduce(1)),
    "max of channels": ((N, H, W, C), (N, H, W, 1), _channel_reduce(0)),
    "mean": ((N, H, W, C), (N, C), lambda room, x, out: MeanStep.cut(x, out, N, H * W, 3)),
    "global maxpool": ((N, H, W, C), (N, C), lambda room, x, out: GlobalMaxPoolStep(x=x, out=out, n=N, pixels=H * W)),
    "activation": ((N, H, W, C), (N, H, W, C), _activation),
    "softmax": ((N, H, W, C), (N, H, W, C), lambda room, x, out: SoftmaxStep(x=x, out=out, pixels=N * H * W)),
    "affine": ((N, H, W, C), (N, H, W, C), _affine),
    "groupnorm": ((N, H, W, C), (N, H, W, C), _groupnorm),
    "unitnorm": (
        (N, H, W, C),
        (N, H, W, C),
        lambda room, x, out: UnitNormStep(x=x, out=out, least=1e-6, pixels=N * H * W),
    ),
    "gate": ((N, H, W, C), (N, H, W, C), _combine(N, 1, 1, C)),
    "gate of pixels": ((N, H, W, C), (N, H, W, C), _combine(N, H, W, 1)),
    "gate of rows": ((N, H, W, C), (N, H, W, C), _combine(1, H, 1, C)),
    "pointwise": ((N, H, W, C), (N, H, W, K), _pointwise),
    "im2col": ((N, H, W, C), (N, 5, 6, K), _im2col),
    "copy": ((N, H, W, C), (N, H + 3, W + 4, C), _copy),
    "col2im": ((N, H, W, C // 6 * 6), (N, 2 * H, 3 * W, C // 6), _col2im),
    "nearest": ((N, H, W, C), (N, H + 4, W - 3, C), _resize(False)),
    "bilinear": ((N, H, W, C), (N, H + 4, W - 3, C), _resize(True)),
    "grouped": ((N, H, W, C), (N, H, W, C), _grouped),
    "phases": ((N, H, W, 3), (N, 5, 6, K), _phases),
    "grouped lanes": ((N, H, W, 8 * LANES), (N, H, W, 8 * LANES), _grouped_lanes),
    "grouped winograd": ((N, H, W, 8 * LANES), (N, H, W, 8 * LANES), _grouped_winograd),
    "winograd 2": ((N, H, W, C), (N, H, W, K), _winograd(2)),
    "winograd 4": ((N, H, W, C), (N, H, W, K), _winograd(4)),
    "winograd 4 in pairs": ((N, H, W, C), (N, H, W, K), _winograd(4, in_pairs=True)),
    "crop and resize": ((N, H, W, C), (3 * N, 2, 4, C), _crop_and_resize),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threads", [1, 3])
def test_pitch(name, threads):
    """Pixels with gaps between them, in what is read and in what is written: the same bits, and the gaps as they were."""
    shape, result, make = CASES[name]
    found = []
    for gap in (0, LANES, 3):
        room = Room(gap)
        x, _ = room.map(_numbers(*shape))
        out, pixels = room.map(_blank(*result))
        run(make(room, x, out), threads)
        assert not np.isnan(pixels).any()
        assert room.untouched()
        found.append(pixels.copy())
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_every_kind_of_step_has_a_case():
    """Those of Winograd's in two steps have one of their own, below; masks and pictures are no maps."""
    room = Room(0)
    kinds = {type(make(room, room.map(_numbers(*x))[0], room.map(_blank(*out))[0])) for x, out, make in CASES.values()}
    declared = {kind for kind in Step.__subclasses__() if kind.__module__.startswith("npresnet.")}
    assert declared == kinds | {WinogradInStep, WinogradOutStep, PasteMaskStep, MoldStep}


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_in_two_steps(m):
    """The bits of one step, whatever the pitch."""
    room = Room(0)
    x, _ = room.map(_numbers(N, H, W, C))
    out, expected = room.map(_blank(N, H, W, K))
    run(_winograd(m)(room, x, out), 2)
    for gap in (0, 5):
        room = Room(gap)
        x, _ = room.map(_numbers(N, H, W, C))
        out, pixels = room.map(_blank(N, H, W, K))
        whole = _winograd(m)(room, x, out)
        assert isinstance(whole, WinogradStep)
        v = np.empty(v_bytes(m, whole.given.tiles, C) // 4, np.float32)
        run(WinogradInStep(given=whole.given, v=v.ctypes.data, blocks=4), 2)
        run(WinogradOutStep(made=whole.made, v=v.ctypes.data, blocks=3), 2)
        assert np.array_equal(pixels, expected)
        assert room.untouched()


@pytest.mark.parametrize("m", [2, 4])
def test_kernels_that_follow_from_others(m):
    """With kernels of which every second of a pair is missing, what all of them give."""
    x, w, scale = _numbers(N, H, W, C), _numbers(3, 3, C, K), np.abs(_numbers(K)).astype(np.float64)
    zeros, results = np.zeros(K + NR, np.float32), []
    for in_pairs in (False, True):
        packed = np.empty((-(-K // NR), (m + 2) * stored_elements(m, in_pairs), C, NR), np.float32)
        pack_transformed(w, scale, m, packed)
        out = _blank(N, H, W, K)
        given = InputTiles.of(Map.of(x), N, H, W, m)
        epilogue = bias_only(zeros.ctypes.data, zeros)
        made = OutputTiles.of(given, Map.of(out), packed.ctypes.data, epilogue, in_pairs)
        run(WinogradStep(given=given, made=made, blocks=3), 2)
        results.append(out)
    truth = kernels.conv2d_reference(x.astype(np.float64), w * scale, padding="same")
    for out in results:
        assert np.abs(out - truth).max() < 1e-5 * np.abs(truth).max()
    assert not np.array_equal(*results)  # they round differently; if they did not, nothing would have been derived


# Epilogue ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [LINEAR, RELU, Activating(0.3, -math.inf), Activating(1.0, -2.0)], ids=str)
def test_activation(activation):
    """As the definition says, in registers and in loops; NaN and infinity come out as they should."""
    values = np.array([3.0, 0.0, -0.0, -1.0, -8.0, math.inf, -math.inf, math.nan] * LANES, np.float32)[None]
    expected = [
        v if not v < 0 else max(v * np.float32(activation.slope), np.float32(activation.floor)) for v in values[0]
    ]
    channels = values.size
    zeros, one = np.zeros(channels + NR, np.float32), np.ones(channels, np.float32)
    x, out = Map.of(values), np.empty_like(values)
    epilogue = Epilogue(zeros.ctypes.data, Map(zeros.ctypes.data, 0, channels), activation, zeros.ctypes.data)
    run(AffineStep(x=x, out=Map.of(out), factor=one.ctypes.data, epilogue=epilogue, pixels=1, blocks=1), 1)
    assert np.array_equal(out[0], np.array(expected, np.float32), equal_nan=True)
    # the values as a bias, for a product that adds nothing to them
    bias = np.resize(values, channels + NR).astype(np.float32)
    panels = np.zeros((-(-channels // NR), 1, NR), np.float32)
    epilogue = replace(epilogue, bias=bias.ctypes.data)
    times = Product(panels=panels.ctypes.data, depth=1, passes=1, out=Map.of(out), epilogue=epilogue)
    run(PointwiseStep(x=Map.of(np.zeros((1, 1), np.float32)), product=times, rows=1, blocks=1, by_panel=0), 1)
    assert np.array_equal(out[0], np.array(expected, np.float32), equal_nan=True)


@pytest.mark.parametrize(
    "name",
    [
        "affine",
        "gate",
        "pointwise",
        "im2col",
        "grouped",
        "grouped lanes",
        "grouped winograd",
        "phases",
        "winograd 2",
        "winograd 4",
    ],
)
def test_functions_after_the_epilogue(name, monkeypatch):
    """Any other activation: the same bits as by a step of its own, whatever the pitch; and nothing else is touched."""
    shape, result, make = CASES[name]

    def run_with(activation: Activating, gap: int) -> tuple[Room, Array]:
        with monkeypatch.context() as patched:
            patched.setattr(Room, "epilogue", lambda room, shape, _: with_residual(room, shape, activation))
            room = Room(gap)
            x, _ = room.map(_numbers(*shape))
            out, pixels = room.map(_blank(*result))
            run(make(room, x, out), 2)
        return room, pixels

    with_residual = Room.epilogue
    _, linear = run_with(LINEAR, 0)
    expected = kernels.activation(linear, function="silu")
    for gap in (0, 3):
        room, pixels = run_with(SILU, gap)
        assert room.untouched()
        assert np.array_equal(pixels, expected)
