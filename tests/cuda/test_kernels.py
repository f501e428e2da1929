"""Every version on the CUDA ladder over the cases of its CPU twin, against that and against float64."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet import kernels
from npresnet.kernels.cuda import LADDER

from ..support import cases
from .simulated import affordable, numbers_in_a_sum

# These round as their CPU twins do, or not at all: results are equal to the last bit. The others contract a multiplication
# and an addition into one rounding where the processor, or the card, does.
EXACT = (
    "pad", "channels", "crop", "concatenate", "im2col", "relu", "add", "combine", "maxpool", "avgpool", "global_maxpool",
    "channel_reduce", "grouped_conv2d",
)  # fmt: skip

CHOSEN = {version: list(filter(affordable(version), cases.CASES[op])) for op in LADDER for version in LADDER[op]}
ALL = [(version, case) for version in CHOSEN for case in CHOSEN[version]]


def assert_same_numbers(actual, expected):
    """Equal to the last bit; but of NaN there is only one, for cards and processors have their own."""
    one_nan = [np.where(np.isnan(array), np.float32(np.nan), array) for array in (actual, expected)]
    cases.assert_same_bits(*one_nan)


def twin_of(version, operator):
    """The processor's version of the same name, or the best one."""
    return getattr(kernels, version.__name__.replace("_cuda", "_cpu"), kernels.LADDER[operator][-1])


@pytest.mark.parametrize(("version", "case"), ALL, ids=lambda v: str(v) if isinstance(v, cases.Case) else v.__name__)
def test_twin(version, case):
    actual, twin = case.run(version), case.run(twin_of(version, case.operator))
    truth = case.run(kernels.LADDER[case.operator][0], dtype=np.float64)
    if case.operator in EXACT:
        assert_same_numbers(actual, twin)
        cases.assert_true(actual, truth.astype(np.float32))
    elif case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:  # each sum on a card runs over all its numbers in order
        cases.assert_close(actual, twin, truth, terms=numbers_in_a_sum(case))


def test_enough_is_run():
    """Every version, with something of each kind; the simulator does not take it all."""
    for version, chosen in CHOSEN.items():
        everything = cases.CASES[chosen[0].operator]
        assert len(chosen) >= 5, version
        for kind in (
            lambda case: case.values != "normal" and case.values not in cases.FLUSHED,
            lambda case: case.values == "NaN",
            lambda case: getattr(case, "shape", (1,))[0] > 1 or getattr(case, "m", 1) > 1,
            lambda case: getattr(case, "stride", None) == (2, 2) and case.padding == "same" and case.shape[1] % 2,
            lambda case: getattr(case, "stride", None) == (2, 2) and case.padding == "same" and case.shape[1] % 2 == 0,
            lambda case: getattr(case, "dilation", (1, 1)) != (1, 1),
        ):
            assert any(map(kind, chosen)) or not any(map(kind, everything)), version
