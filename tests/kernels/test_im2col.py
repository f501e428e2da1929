"""im2col: copies, so every version gives the bits of ``tf.image.extract_patches``, which orders a patch's numbers as
we do: tap row, tap column, channel."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("im2col")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    padding = case.padding
    if padding not in ("same", "valid"):  # extract_patches knows no pads in pixels
        top, bottom, left, right = (padding,) * 4 if isinstance(padding, int) else padding
        x, padding = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]]), "valid"
    sizes, strides, rates = ([1, *two, 1] for two in (case.taps, case.stride, case.dilation))
    patches = tf.image.extract_patches(x, sizes, strides, rates, padding.upper()).numpy()
    cases.assert_same_bits(case.run(version), patches.reshape(-1, patches.shape[-1]))


@pytest.mark.parametrize("version", LADDER["im2col"], ids=cases.name_of)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kernel": (6, 2)}, ["5x4", "6x2"]),
        ({"kernel": 3, "dilation": (1, 2)}, ["5x4", "3x3", "(1, 2)"]),
        ({"kernel": (3, 5), "padding": (0, 0, 0, 0)}, ["5x4", "3x5", "(0, 0, 0, 0)"]),
        ({"kernel": 0}, ["kernel", "got 0"]),
        ({"kernel": 3, "stride": (1, 0)}, ["stride", "(1, 0)"]),
        ({"kernel": 3, "padding": -1}, ["padding", "-1"]),
    ],
    ids=str,
)
def test_refuses(version, given, said):
    with cases.refuses(ValueError, *said):
        version(np.zeros((1, 5, 4, 3), np.float32), **given)
