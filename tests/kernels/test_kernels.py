"""What holds for every version of every operator: arguments, results' memory, layouts, batches, threads."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from npresnet.kernels import LADDER
from npresnet.kernels.tile import MR, NR

from ..support import cases
from ..support.cases import (
    Activation,
    Add,
    Avgpool,
    Batchnorm,
    Case,
    ChannelReduce,
    Channels,
    Combine,
    Concatenate,
    Conv2d,
    Conv2dTranspose,
    Crop,
    CropAndResize,
    Dense,
    Gemm,
    GlobalAvgpool,
    GlobalMaxpool,
    GroupedConv2d,
    Groupnorm,
    Im2col,
    LeakyRelu,
    Maxpool,
    Pad,
    Relu,
    Resize,
    Scale,
    Softmax,
    Unitnorm,
    Upsample,
)

# Three images or more each, sizes that no tile divides, and more parts than the 8 threads below.
SAMPLES: dict[str, list[Case]] = {
    "pad": [Pad((3, 4, 5, 3), (1, 2, 3, 0), 0.5)],
    "channels": [Channels((3, 4, 5, 3), (2, 1, 0)), Channels((3, 3, 5, 7), (6, 0, 0, 2))],
    "crop": [Crop((3, 5, 6, 5), crops=(1, 2, 0, 3))],
    "im2col": [Im2col((3, 5, 6, 5), (3, 2), 0, (2, 1), "same")],
    "gemm": [Gemm(2 * MR + 1, 37, NR + 3), Gemm(19, 1100, 5)],
    "conv2d": [
        Conv2d((3, 6, 7, 5), (3, 3), NR + 3, (2, 2), "same"),
        Conv2d((3, 5, 3, 6), (1, 1), 7),
        Conv2d((3, 4, 3, 130), (3, 3), 9, padding="same"),
    ],
    "grouped_conv2d": [
        GroupedConv2d((3, 6, 7, 6), (3, 3), NR + 2, (2, 2), "same", groups=2),
        GroupedConv2d((3, 5, 3, 7), (3, 3), 7, groups=7),
    ],
    "conv2d_transpose": [
        Conv2dTranspose((3, 4, 5, 6), (3, 2), NR + 3, (2, 2), "same"),
        Conv2dTranspose((3, 3, 2, 5), (2, 2), 3, (2, 2), more=(1, 0)),
    ],
    "batchnorm": [Batchnorm((3, 3, 5, 7))],
    "scale": [Scale((3, 3, 5, 7)), Scale((3, 3, 5, 7), alike=True)],
    "relu": [Relu((3, 3, 5, 7))],
    "leaky_relu": [LeakyRelu((3, 3, 5, 7))],
    "activation": [Activation((3, 3, 5, 7), "silu"), Activation((11, 13), "clipped_relu", (0.1, 2.0, 0.5))],
    "add": [Add((3, 3, 5, 7))],
    "combine": [
        *(Combine("multiply", *pair, images=3) for pair in (((3, 5, 7), (3, 5, 7)), ((1, 1, 7), (3, 5, 7)))),
        Combine("subtract", (3, 5, 1), (1, 5, 7), images=3),
    ],
    "concatenate": [Concatenate((3, 3, 5, 7), more=(2, 66))],
    "maxpool": [Maxpool((3, 7, 6, 5), (3, 3), (2, 2), "same", "few"), Maxpool((3, 2, 3, 5), (1, 1))],
    "avgpool": [Avgpool((3, 7, 6, 5), (3, 3), (2, 2), "same"), Avgpool((3, 2, 3, 5), (1, 1))],
    "global_avgpool": [GlobalAvgpool((11, 3, 5, 7))],
    "global_maxpool": [GlobalMaxpool((11, 3, 5, 7))],
    "channel_reduce": [ChannelReduce((3, 3, 5, 7), function=function) for function in ("mean", "max")],
    "resize": [Resize((3, 3, 5, 7), size=(5, 4), interpolation=kind) for kind in ("nearest", "bilinear")],
    "upsample": [Upsample((3, 3, 5, 7), size=(2, 3), interpolation=kind) for kind in ("nearest", "bilinear")],
    "dense": [Dense(3, 65, 10)],
    "softmax": [Softmax(11, 13)],
    "groupnorm": [Groupnorm((11, 3, 2, 6), 3), Groupnorm((11, 1, 1, 7), parameters="")],
    "unitnorm": [Unitnorm(11, 13)],
    "crop_and_resize": [CropAndResize((3, 5, 6, 7), size=(3, 2), boxes=6)],
}
# operators whose out may be an input
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
COMPILED = [(version, case) for version, case in ALL if not version.__name__.endswith("_reference")]
# A plain matrix product by NumPy is its BLAS's, which sums in another order for another number of rows.
ONE_BY_ONE = [(version, case) for version, case in ALL if version.__name__ != "gemm_reference"]


def every(pairs):
    return pytest.mark.parametrize(
        ("version", "case"), pairs, ids=lambda v: str(v) if isinstance(v, Case) else v.__name__
    )


def call(version, case, arrays, **further):
    return version(*arrays, **case.options(), **further)


def test_every_operator_has_cases():
    assert list(cases.CASES) == list(LADDER)
    assert list(SAMPLES) == list(LADDER)
    assert all(
        case.operator == operator for table in (cases.CASES, SAMPLES) for operator in table for case in table[operator]
    )


def test_no_case_twice():
    for table in cases.CASES.values():
        assert len({str(case) for case in table}) == len(table)


@pytest.mark.parametrize("operator", LADDER)
def test_versions_take_the_same_arguments(operator):
    """Except for out and threads, which a reference need not have."""
    versions: Any = LADDER[operator]
    signatures = [inspect.signature(version).parameters.values() for version in versions]
    taken = [[(p.name, p.kind, p.default) for p in s if p.name not in ("out", "threads")] for s in signatures]
    assert all(arguments == taken[0] for arguments in taken)
    compiled = [[(p.name, p.kind, p.default) for p in s] for s in signatures[1:]]
    assert all(arguments == compiled[0] for arguments in compiled)
    assert [(name, default) for name, _, default in compiled[0][-2:]] == [("out", None), ("threads", 1)]


@every(ALL)
def test_results_are_new_arrays(version, case):
    arrays = case.arrays()
    before: list[Any] = [None if array is None else array.copy() for array in arrays]
    result = call(version, case, arrays)
    assert type(result) is np.ndarray
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.flags.writeable
    for array, copy in zip(arrays, before, strict=True):
        if array is not None:
            assert not np.shares_memory(result, array)
            cases.assert_same_bits(array, copy)


@every(COMPILED)
def test_out_is_filled_and_nothing_else(version, case):
    """``out`` lies between guards, full of NaN: what is not written, or written beside it, shows."""
    expected = case.run(version)
    guard, sentinel = 1024, np.float32(-1234.5)
    memory = np.full(2 * guard + expected.size, sentinel)
    memory[guard:-guard] = np.nan
    out = memory[guard:-guard].reshape(expected.shape)
    for threads in (1, 3):
        assert case.run(version, out=out, threads=threads) is out
        cases.assert_same_bits(out, expected)
        assert (memory[:guard] == sentinel).all()
        assert (memory[-guard:] == sentinel).all()


@every([(version, case) for version, case in COMPILED if case.operator in IN_PLACE])
def test_out_may_be_an_input(version, case):
    expected = case.run(version)
    for position in range(case.batched):
        arrays = case.arrays()
        if arrays[position].shape != expected.shape:
            continue  # a gate
        assert call(version, case, arrays, out=arrays[position]) is arrays[position]
        cases.assert_same_bits(arrays[position], expected)


@every(COMPILED)
def test_out_refuses(version, case):
    shape = case.run(version).shape
    longer = (*shape[:-1], shape[-1] + 1)
    for out, said in (
        (np.empty(longer, np.float32), str(longer)),
        (np.empty(shape[::-1], np.float32), str(shape[::-1])),
        (np.empty(math.prod(shape), np.float32), str((math.prod(shape),))),
        (np.empty(shape, np.float64), "float64"),
        (np.empty(shape, ">f4"), ">f4"),
        (np.empty(longer, np.float32)[..., :-1], "C-contiguous"),
        (np.empty(shape, np.float32, order="F"), "C-contiguous"),
        (cases.LAYOUTS["read-only"](np.empty(shape, np.float32)), "writable"),
    ):
        if out.shape == shape and out.dtype == np.float32 and out.flags.c_contiguous and out.flags.writeable:
            continue  # one of the sizes is 1: this one will do
        with cases.refuses(ValueError, "out has shape", said, str(shape)):
            case.run(version, out=out)
    with cases.refuses(TypeError, "out is a list", str(shape)):
        case.run(version, out=[1.0])


@every(COMPILED)
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_any_layout_in_memory(version, case, layout):
    arrays = [array if array is None else cases.LAYOUTS[layout](array) for array in case.arrays()]
    before: list[Any] = [None if array is None else array.copy() for array in arrays]
    cases.assert_same_bits(call(version, case, arrays), case.run(version))
    for array, copy in zip(arrays, before, strict=True):
        assert array is None or np.array_equal(array, copy, equal_nan=True)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_layouts_are_what_they_say(layout):
    array = cases.numbers(layout, (2, 3, 4, 5))
    laid_out = cases.LAYOUTS[layout](array)
    assert np.array_equal(laid_out, array)
    flags = laid_out.flags
    assert (not flags.c_contiguous, not flags.aligned, not flags.writeable).count(True) == 1


@every(COMPILED)
def test_same_bits_for_any_number_of_threads(version, case):
    alone = case.run(version, threads=1)
    for threads in (2, 3, 8, None):
        cases.assert_same_bits(case.run(version, threads=threads), alone)


@every(ONE_BY_ONE)
def test_same_bits_alone_and_in_a_batch(version, case):
    arrays = case.arrays()
    count = len(arrays[0])
    together = call(version, case, arrays).reshape(count, -1)
    for i in range(count):
        alone = [array[i : i + 1] if position < case.batched else array for position, array in enumerate(arrays)]
        cases.assert_same_bits(call(version, case, alone).reshape(-1), together[i])


@every(ALL)
def test_a_batch_of_nothing(version, case):
    arrays = [array[:0] if position < case.batched else array for position, array in enumerate(case.arrays())]
    result = call(version, case, arrays)
    assert result.shape == (0, *case.run(version).shape[1:])
    assert result.dtype == np.float32


@every(COMPILED)
def test_refuses_other_arrays(version, case):
    for position in range(case.batched):
        for wrong, kind, said in (
            (lambda a: a.astype(np.float64), TypeError, "float64"),
            (lambda a: a.astype(np.float16), TypeError, "float16"),
            (lambda a: a.astype(np.uint8), TypeError, "uint8"),
            (lambda a: a.astype(">f4"), TypeError, ">f4"),
            (lambda a: a.tolist(), TypeError, "list"),
            (lambda a: None, TypeError, "NoneType"),
            (lambda a: a[0], ValueError, "dimensions"),
            (lambda a: a[None], ValueError, "dimensions"),
        ):
            if case.any_rank and kind is ValueError:
                continue
            arrays = list(case.arrays())
            with np.errstate(all="ignore"):
                arrays[position] = wrong(arrays[position])
            with cases.refuses(kind, said, str(getattr(arrays[position], "shape", "")) if kind is ValueError else ""):
                call(version, case, arrays)


@every(COMPILED)
@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_refuses_other_numbers_of_threads(version, case, threads):
    with cases.refuses(ValueError, f"threads: got {threads!r}"):
        case.run(version, threads=threads)
