"""What holds for every version on a card: where arguments come from and results go, streams, refusals, workspaces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import cuda

from npresnet import kernels
from npresnet.kernels import cuda as on_card
from npresnet.kernels.cuda import LADDER, conv2d_cuda_im2col, global_avgpool_cuda, workspace_rows
from npresnet.kernels.cuda.conv2d import WORKSPACE
from npresnet.kernels.cuda.gemm import BM
from npresnet.kernels.cuda.launch import Kernel, grid_1d, is_device_array

from ..support import cases
from ..support.cases import Conv2d

# Batches of two, sizes that no block divides; what can be read in vectors of four, and what cannot.
SAMPLES: dict[str, list[Any]] = {
    "pad": [cases.Pad((2, 3, 4, 3), (1, 2, 3, 0), 0.5)],
    "channels": [cases.Channels((2, 3, 4, 3), (2, 1, 0)), cases.Channels((2, 3, 2, 5), (4, 0, 0))],
    "crop": [cases.Crop((2, 3, 4, 3), crops=(1, 0, 2, 1))],
    "im2col": [
        cases.Im2col((2, 5, 4, 3), (3, 2), 0, (2, 1), "same"),
        cases.Im2col((2, 5, 4, 4), (3, 2), 0, (2, 1), "same"),
    ],
    "gemm": [cases.Gemm(5, 7, 9), cases.Gemm(5, 12, 8)],
    "conv2d": [
        Conv2d((2, 5, 4, 3), (3, 3), 5, (2, 2), "same"),
        Conv2d((2, 3, 4, 4), (3, 3), 8, padding="same", bias=False),
        Conv2d((2, 3, 2, 5), (1, 1), 6),
    ],
    "grouped_conv2d": [cases.GroupedConv2d((2, 5, 4, 4), (3, 3), 6, (2, 2), "same", groups=2)],
    "conv2d_transpose": [cases.Conv2dTranspose((2, 3, 2, 4), (3, 3), 3, (2, 2), "same", bias=False)],
    "batchnorm": [cases.Batchnorm((2, 3, 2, 5)), cases.Batchnorm((2, 3, 2, 5), gamma=False, beta=False)],
    "scale": [cases.Scale((2, 3, 2, 5)), cases.Scale((2, 3, 2, 5), alike=True)],
    "relu": [cases.Relu((2, 3, 2, 5))],
    "leaky_relu": [cases.LeakyRelu((2, 3, 2, 5))],
    "activation": [cases.Activation((2, 3, 2, 5), "silu"), cases.Activation((3, 7), "clipped_relu", (0.1, 2.0, 0.5))],
    "add": [cases.Add((2, 3, 2, 5))],
    "combine": [
        *(cases.Combine("multiply", *pair) for pair in (((3, 2, 5), (3, 2, 5)), ((1, 1, 5), (3, 2, 5)))),
        cases.Combine("subtract", (3, 2, 1), (1, 2, 5)),
    ],
    "concatenate": [cases.Concatenate((2, 3, 2, 5), more=(2, 3))],
    "maxpool": [cases.Maxpool((2, 5, 4, 3), (3, 3), (2, 2), "same", "few")],
    "avgpool": [cases.Avgpool((2, 5, 4, 3), (3, 3), (2, 2), "same")],
    "global_avgpool": [cases.GlobalAvgpool((2, 3, 2, 5))],
    "global_maxpool": [cases.GlobalMaxpool((2, 3, 2, 5))],
    "channel_reduce": [cases.ChannelReduce((2, 3, 2, 5), function=function) for function in ("mean", "max")],
    "resize": [cases.Resize((2, 3, 4, 3), size=(5, 2), interpolation=kind) for kind in ("nearest", "bilinear")],
    "upsample": [cases.Upsample((2, 3, 2, 3), size=(2, 1), interpolation=kind) for kind in ("nearest", "bilinear")],
    "dense": [cases.Dense(2, 8, 12)],
    "softmax": [cases.Softmax(2, 7)],
    "groupnorm": [cases.Groupnorm((2, 3, 2, 6), 3), cases.Groupnorm((2, 3, 2, 5), parameters="image")],
    "unitnorm": [cases.Unitnorm(2, 7)],
}
IN_PLACE = (
    "batchnorm",
    "scale",
    "relu",
    "leaky_relu",
    "activation",
    "add",
    "combine",
    "softmax",
    "groupnorm",
    "unitnorm",
)
ALL = [(version, case) for operator in SAMPLES for version in LADDER[operator] for case in SAMPLES[operator]]
FIRST = [(version, SAMPLES[operator][0]) for operator in SAMPLES for version in LADDER[operator]]


def every(pairs):
    return pytest.mark.parametrize(
        ("version", "case"), pairs, ids=lambda v: str(v) if isinstance(v, cases.Case) else v.__name__
    )


def on_device(arrays):
    return [None if array is None else cuda.to_device(array) for array in arrays]


ON_THE_PROCESSOR = {"crop_and_resize"}
"""Operators of detection, whose boxes are on the processor: no layers, and none of a card's."""


def test_ladder():
    assert list(LADDER) == [name for name in kernels.LADDER if name not in ON_THE_PROCESSOR] == list(SAMPLES)
    assert all(getattr(on_card, version.__name__) is version for versions in LADDER.values() for version in versions)
    assert set(on_card.__all__) <= set(dir(on_card))


@every(ALL)
def test_host_arrays(version, case):
    """NumPy's arrays give one of NumPy's, and are left alone."""
    arrays = case.arrays()
    before = [None if array is None else array.copy() for array in arrays]
    result = version(*arrays, **case.options())
    assert type(result) is np.ndarray
    assert result.dtype == np.float32
    for array, copy in zip(arrays, before, strict=True):
        assert array is None or not np.shares_memory(array, result)
        assert array is None or np.array_equal(array, copy, equal_nan=True)


@every(ALL)
def test_device_arrays(version, case):
    """Arrays on the card give one there, the same to the last bit, and are left alone."""
    arrays = on_device(case.arrays())
    result = version(*arrays, **case.options())
    assert is_device_array(result)
    cases.assert_same_bits(result.copy_to_host(), case.run(version))
    for array, original in zip(arrays, case.arrays(), strict=True):
        assert array is None or np.array_equal(array.copy_to_host(), original, equal_nan=True)


@every(ALL)
def test_out_is_filled_and_nothing_else(version, case):
    """``out`` lies between guards, full of NaN: what is not written, or written beside it, shows."""
    expected = case.run(version)
    guard, sentinel = 1024, np.float32(-1234.5)
    memory = np.full(2 * guard + expected.size, sentinel)
    memory[guard:-guard] = np.nan
    device = cuda.to_device(memory)
    out = device[guard : guard + expected.size].reshape(expected.shape)
    assert version(*on_device(case.arrays()), **case.options(), out=out) is out
    host = memory[guard:-guard].reshape(expected.shape)
    assert case.run(version, out=host) is host
    for filled in (memory, device.copy_to_host()):
        cases.assert_same_bits(filled[guard:-guard].reshape(expected.shape), expected)
        assert (filled[:guard] == sentinel).all()
        assert (filled[-guard:] == sentinel).all()


@every([(version, case) for version, case in ALL if case.operator in IN_PLACE])
def test_out_may_be_an_input(version, case):
    expected = case.run(version)
    for position in range(case.batched):
        arrays = on_device(case.arrays())
        if tuple(arrays[position].shape) != expected.shape:
            continue  # a gate
        assert version(*arrays, **case.options(), out=arrays[position]) is arrays[position]
        cases.assert_same_bits(arrays[position].copy_to_host(), expected)


@every(ALL)
def test_everything_runs_on_the_stream(version, case, launches):
    stream = cuda.stream()
    expected = case.run(version)
    assert [given for _, given in launches] == [0] * len(launches)
    launches.clear()
    cases.assert_same_bits(case.run(version, stream=stream), expected)
    assert launches
    assert all(given is stream for _, given in launches)


@every(ALL)
def test_same_bits_alone_and_in_a_batch(version, case):
    arrays = case.arrays()
    together = version(*arrays, **case.options()).reshape(len(arrays[0]), -1)
    for i in range(len(arrays[0])):
        alone = [array[i : i + 1] if position < case.batched else array for position, array in enumerate(arrays)]
        cases.assert_same_bits(version(*alone, **case.options()).reshape(-1), together[i])


@every(ALL)
def test_a_batch_of_nothing(version, case):
    shape = case.run(version).shape
    arrays = [array[:0] if position < case.batched else array for position, array in enumerate(case.arrays())]
    result = version(*arrays, **case.options())
    assert result.shape == (0, *shape[1:])


@pytest.mark.parametrize("version", LADDER["gemm"], ids=cases.name_of)
@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 4), (3, 0, 4), (3, 4, 0)], ids=str)
def test_nothing_to_add_up(version, m, k, n):
    bias = cases.numbers("bias", (n,))
    product = version(np.zeros((m, k), np.float32), np.zeros((k, n), np.float32), bias)
    cases.assert_same_bits(product, np.tile(bias, (m, 1)))


@every([(LADDER[operator][-1], SAMPLES[operator][0]) for operator in SAMPLES])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_any_layout_in_memory(version, case, layout):
    cases.assert_same_bits(case.run(version, layout=cases.LAYOUTS[layout]), case.run(version))


@every(FIRST)
def test_refuses_strides_on_the_card(version, case):
    arrays = on_device(case.arrays())
    large = cuda.to_device(np.zeros([2 * size for size in arrays[0].shape], np.float32))
    arrays[0] = large[(slice(None, None, 2),) * len(arrays[0].shape)]
    with cases.refuses(ValueError, "strides", "C-contiguous"):
        version(*arrays, **case.options())


def refusal(function, /, *arguments, **options):
    with pytest.raises((TypeError, ValueError)) as error, np.errstate(all="ignore"):
        function(*arguments, **options)
    return error.type, str(error.value)


@every(FIRST)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f4"),
        lambda a: a.tolist(),
        lambda a: None,
        lambda a: a[0],
        lambda a: a[..., :-1],
        lambda a: a[..., :0],
        lambda a: np.repeat(a, 2, axis=-1),
    ],
    ids=["float64", "big-endian", "list", "None", "a dimension less", "narrow", "empty", "wide"],
)
def test_refuses_in_the_words_of_the_cpu(version, case, wrong):
    """Whatever array of the call is wrong in whatever way: the same error, or none on either."""
    twin = kernels.LADDER[case.operator][-1]
    for position, array in enumerate(case.arrays()):
        if position >= case.batched and array is None:
            continue
        arrays = list(case.arrays())
        with np.errstate(all="ignore"):
            arrays[position] = wrong(array)
        try:
            twin(*arrays, **case.options())
        except (TypeError, ValueError):
            assert refusal(version, *arrays, **case.options()) == refusal(twin, *arrays, **case.options())
        except AttributeError:
            assert case.operator == "batchnorm"  # statistics must be there; on a card this is said
        else:
            version(*arrays, **case.options())


@every(FIRST)
def test_refuses_out_in_the_words_of_the_cpu(version, case):
    twin = kernels.LADDER[case.operator][-1]
    shape = case.run(twin).shape
    for out in (np.empty((*shape[:-1], shape[-1] + 1), np.float32), np.empty(shape, np.float64), [1.0]):
        expected = refusal(twin, *case.arrays(), **case.options(), out=out)
        assert refusal(version, *case.arrays(), **case.options(), out=out) == expected
        if isinstance(out, np.ndarray):
            device = cuda.to_device(out)
            assert refusal(version, *case.arrays(), **case.options(), out=device) == expected


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        ("pad", {"pads": "same"}),
        ("pad", {"pads": (1, 2, -1, 0)}),
        ("conv2d", {"stride": 0}),
        ("conv2d", {"padding": "full"}),
        ("conv2d", {"dilation": 9, "padding": "valid"}),
        ("im2col", {"kernel": (0, 1)}),
        ("grouped_conv2d", {"groups": 3}),
        ("maxpool", {"window": 9, "padding": "valid"}),
        ("avgpool", {"padding": 3}),
        ("channel_reduce", {"function": "sum"}),
    ],
    ids=str,
)
def test_refuses_options_in_the_words_of_the_cpu(operator, options):
    case = SAMPLES[operator][0]
    given = case.options() | options
    expected = refusal(kernels.LADDER[operator][-1], *case.arrays(), **given)
    for version in LADDER[operator]:
        assert refusal(version, *case.arrays(), **given) == expected


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 4, 33), (2, 1, 3, 64)], ids=str)
@pytest.mark.parametrize("values", ["normal", "large", "NaN and infs"])
def test_global_avgpool(shape, values):
    x = cases.numbers(shape, shape, values)
    truth = kernels.global_avgpool_reference(x.astype(np.float64))
    actual = global_avgpool_cuda(x)
    cases.assert_close(actual, kernels.global_avgpool(x), truth)
    out = cuda.to_device(np.full(actual.shape, np.nan, np.float32))
    assert global_avgpool_cuda(cuda.to_device(x), out=out) is out
    cases.assert_same_bits(out.copy_to_host(), actual)


def test_global_avgpool_refuses():
    for x in (np.zeros((2, 0, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4, 5))):
        assert refusal(global_avgpool_cuda, x) == refusal(kernels.global_avgpool, x)


# The workspace of a convolution --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [5, 12, 100])
@pytest.mark.parametrize("case", SAMPLES["conv2d"][:2], ids=str)
def test_a_workspace_of_any_size(case, rows, launches):
    """2 x 6 and 2 x 12 output pixels, the workspace's rows at a time."""
    depth = math.prod(case.taps) * case.shape[3]
    expected = case.run(conv2d_cuda_im2col)
    launches.clear()
    cols = cuda.to_device(np.full((rows, depth), np.nan, np.float32))
    cases.assert_same_bits(case.run(conv2d_cuda_im2col, cols=cols), expected)
    names = [name for name, _ in launches]
    pixels = expected.size // expected.shape[3]
    assert len(names) == 2 * math.ceil(pixels / rows)
    assert all(name.startswith("im2col") for name in names[::2])
    assert np.isnan(cols.copy_to_host()[pixels:]).all()  # rows that are not needed are not touched


def test_no_copy_where_none_is_needed(launches):
    case = SAMPLES["conv2d"][2]
    assert workspace_rows(case.shape, case.taps) == 0
    case.run(conv2d_cuda_im2col)
    assert len(launches) == 1
    for stride, padding in ((2, 0), (2, 1), (1, 1)):
        assert workspace_rows(case.shape, case.taps, stride, padding) > 0


def test_rows_of_a_workspace():
    assert workspace_rows((2, 5, 4, 3), (3, 3), (2, 2), "same") == 2 * 3 * 2
    assert workspace_rows((0, 5, 4, 3), 3) == 0
    rows = workspace_rows((64, 512, 512, 64), 3, 1, "same")
    assert rows % BM == 0
    assert WORKSPACE - BM * 9 * 64 * 4 < rows * 9 * 64 * 4 <= WORKSPACE
    assert workspace_rows((64, 512, 512, 1 << 20), 3, 1, "same") == BM
    with cases.refuses(ValueError, "smaller than the 9x9 window"):
        workspace_rows((1, 5, 4, 3), 9)


@pytest.mark.parametrize(
    ("cols", "kind", "said"),
    [
        (np.zeros((4, 27), np.float32), TypeError, ["cols is a ndarray", "float32[rows, 27]"]),
        (cuda.to_device(np.zeros((4, 26), np.float32)), ValueError, ["(4, 26)", "27"]),
        (cuda.to_device(np.zeros((0, 27), np.float32)), ValueError, ["(0, 27)", "one row"]),
        (cuda.to_device(np.zeros(27, np.float32)), ValueError, ["(27,)"]),
        (cuda.to_device(np.zeros((4, 27))), TypeError, ["float64"]),
    ],
    ids=lambda value: None,
)
def test_refuses_workspaces(cols, kind, said):
    with cases.refuses(kind, *said):
        SAMPLES["conv2d"][0].run(conv2d_cuda_im2col, cols=cols)


# Sizes that only a card could take -----------------------------------------------------------------------------------


class Large:
    """A device array of any size as far as launching looks at it."""

    def __init__(self, *shape):
        self.shape, self.size = shape, math.prod(shape)

    def reshape(self, *shape):
        return Large(*shape)


@pytest.mark.parametrize("name", ["naive", "shared", "tiled", "vectorized"])
def test_grids_of_large_products(name, monkeypatch):
    """As many rows as 64 images of 2048x2048 pixels have: the card takes 65,535 blocks in y, and 2**31 - 1 in x."""
    from npresnet.kernels.cuda import gemm

    seen = []
    monkeypatch.setattr(Kernel, "launch", lambda self, blocks, stream, *arguments: seen.append((self, blocks)))
    monkeypatch.setattr(gemm, "aligned", lambda *arrays: True)
    rows, columns = 64 * 2048 * 2048, 64
    launch = gemm.multiply if name == "vectorized" else getattr(gemm, f"_launch_{name}")
    launch(0, Large(rows, 32), Large(32, columns), Large(columns), Large(rows, columns))
    ((kernel, blocks),) = seen
    assert kernel.name == f"gemm_{name}"
    assert isinstance(blocks, int)
    assert blocks <= 2**31 - 1
    tile = {"naive": 256, "shared": 16 * 16, "tiled": 64 * 64, "vectorized": 128 * 128}[name]
    assert blocks * tile >= rows * columns


def test_blocks_for_many_elements():
    assert [grid_1d(count) for count in (0, 1, 256, 257)] == [0, 1, 1, 2]
    assert grid_1d(2**39 - 256) == 2**31 - 1  # the most that a card takes: 2 TiB of floats
