"""Padding: copies and constants, so every version gives TensorFlow's very bits."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER, pad

from ..support import cases


@cases.each("pad")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    top, bottom, left, right = (case.pads,) * 4 if isinstance(case.pads, int) else case.pads
    border = [[0, 0], [top, bottom], [left, right], [0, 0]]
    cases.assert_same_bits(case.run(version), tf.pad(x, border, constant_values=case.value).numpy())


@pytest.mark.parametrize("version", LADDER["pad"], ids=cases.name_of)
@pytest.mark.parametrize("pads", [-1, (0, 0, 0, -2), (1, 2, 3), (1, 2, 3, 4, 5), 1.5, "same", "valid", None])
def test_refuses_pads(version, pads):
    with cases.refuses(ValueError, "pad", repr(pads)):
        version(np.zeros((1, 2, 2, 1), np.float32), pads)


def test_whole_numbers_of_any_type():
    x = cases.numbers("pad", (1, 2, 3, 1))
    for given, meant in ((np.int64(2), 2), ([np.int32(1), 0, np.uint8(2), 3], (1, 0, 2, 3))):
        cases.assert_same_bits(pad(x, given), pad(x, meant))  # type: ignore[arg-type]
