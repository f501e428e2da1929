"""Up-sampling, as Keras's layer does it with TensorFlow: copies have the same bits, lines between pixels the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("upsample")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    size = case.size if isinstance(case.size, tuple) else (case.size, case.size)
    actual = case.run(version)
    if case.interpolation == "nearest":
        cases.assert_same_bits(actual, tf.keras.layers.UpSampling2D(size)(x).numpy())
        return
    truth = case.run(LADDER["upsample"][0], dtype=np.float64)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        expected = tf.keras.layers.UpSampling2D(size, interpolation="bilinear")(x).numpy()
        cases.assert_close(actual, expected, truth)


@pytest.mark.parametrize("version", LADDER["upsample"], ids=cases.name_of)
def test_the_reference_is_tensorflow_to_the_bit(tf, version):
    """Where centres lie is found in float32: weights that were any better would be others than TensorFlow's."""
    x = cases.numbers("upsample", (1, 50, 70, 3))
    expected = tf.image.resize(x, (50 * 7, 70 * 3)).numpy()
    actual = version(x, (7, 3), interpolation="bilinear")
    if version is LADDER["upsample"][0]:
        cases.assert_same_bits(actual, expected)
    assert abs(actual - expected).max() < 1e-6  # a weight of another rounding is 1e-5 away


@pytest.mark.parametrize("version", LADDER["upsample"], ids=cases.name_of)
def test_refuses(version):
    x = np.zeros((1, 4, 5, 2), np.float32)
    for size in (0, (2, 0), (2, 2, 2), 1.5):
        with cases.refuses(ValueError, "size", repr(size)):
            version(x, size)
    with cases.refuses(ValueError, "'bicubic'", "'nearest' or 'bilinear'"):
        version(x, 2, interpolation="bicubic")
