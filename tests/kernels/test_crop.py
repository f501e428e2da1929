"""Cropping: a copy, so every version gives the very bits of Keras's slice."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("crop")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    top, bottom, left, right = case.crops if isinstance(case.crops, tuple) else (case.crops,) * 4
    expected = tf.keras.layers.Cropping2D(((top, bottom), (left, right)))(x).numpy()
    cases.assert_same_bits(case.run(version), expected)


@pytest.mark.parametrize("version", LADDER["crop"], ids=cases.name_of)
def test_refuses(version):
    x = np.zeros((1, 4, 5, 2), np.float32)
    with cases.refuses(ValueError, "(1, 4, 5, 2)", "(2, 2, 0, 0)", "there must be one left"):
        version(x, (2, 2, 0, 0))
    with cases.refuses(ValueError, "(1, -1, 0, 0)"):
        version(x, (1, -1, 0, 0))
    with cases.refuses(ValueError, "'same'"):
        version(x, "same")
