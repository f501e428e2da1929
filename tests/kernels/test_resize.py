"""Maps of another size, as ``tf.image.resize`` makes them without antialias: copies have the same bits, lines between pixels the
same weights."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


def expected(tf, x, size, interpolation):
    return tf.image.resize(x, size if isinstance(size, tuple) else (size, size), interpolation).numpy()


@cases.each("resize")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    theirs, actual = expected(tf, x, case.size, case.interpolation), case.run(version)
    if case.interpolation == "nearest":
        cases.assert_same_bits(actual, theirs)
        return
    truth = case.run(LADDER["resize"][0], dtype=np.float64)
    if case.values in cases.FLUSHED:
        cases.assert_true(actual, truth)
    else:
        cases.assert_close(actual, theirs, truth)


@pytest.mark.parametrize("version", LADDER["resize"], ids=cases.name_of)
def test_every_size_takes_the_nearest_that_tensorflow_takes(tf, version):
    """Of centres on the border between two pixels, too, wherever rounding puts them."""
    x = np.arange(30, dtype=np.float32).reshape(1, 1, 30, 1)
    for width in range(1, 100):
        cases.assert_same_bits(version(x, (1, width), interpolation="nearest"), expected(tf, x, (1, width), "nearest"))


@pytest.mark.parametrize("version", LADDER["resize"], ids=cases.name_of)
def test_refuses(version):
    x = np.zeros((1, 4, 5, 2), np.float32)
    for size in (0, (2, 0), (2, 2, 2), 1.5):
        with cases.refuses(ValueError, "size", repr(size)):
            version(x, size)
    with cases.refuses(ValueError, "resize", "'bicubic'", "'nearest' or 'bilinear'"):
        version(x, 2, interpolation="bicubic")


@pytest.mark.parametrize("version", LADDER["resize"][1:], ids=cases.name_of)
def test_refuses_no_pixels(version):
    with cases.refuses(ValueError, "(1, 0, 5, 2)", "there must be a pixel"):
        version(np.zeros((1, 0, 5, 2), np.float32), 2)
