"""Concatenation: a copy, so every version gives TensorFlow's very bits."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("concatenate")
def test_tensorflow(tf, case, version):
    cases.assert_same_bits(case.run(version), tf.concat(case.arrays(), axis=-1).numpy())


def test_refuses():
    version = LADDER["concatenate"][1]
    a, b = np.zeros((2, 3, 4, 5), np.float32), np.zeros((2, 3, 5, 5), np.float32)
    with cases.refuses(ValueError, "(2, 3, 4, 5)", "(2, 3, 5, 5)", "equal but for the channels"):
        version(a, b)
    with cases.refuses(ValueError, "one or more"):
        version()
    with pytest.raises(TypeError, match="input 1"):
        version(a, a.astype(np.float64))
