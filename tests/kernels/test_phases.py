"""Convolutions with stride 2 as ones with stride 1: the definition on phases, and which they are."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import conv2d_reference
from npresnet.kernels.geometry import window
from npresnet.kernels.phases import image_in_phases, kernel_in_phases, phased


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (7, 8)], ids=str)
@pytest.mark.parametrize("padding", ["same", "valid", 3, (0, 4, 2, 1)], ids=str)
@pytest.mark.parametrize("image", [(16, 16), (17, 12), (9, 23)], ids=str)
def test_the_same_sums(image, padding, size):
    """In float64 there is no rounding to speak of: what differs would be a pixel or a tap in the wrong place."""
    random = np.random.default_rng(3)
    x, w = random.standard_normal((2, *image, 3)), random.standard_normal((*size, 3, 5))
    expected = conv2d_reference(x, w, stride=2, padding=padding)
    found = conv2d_reference(image_in_phases(x, window(image, size, 2, padding, 1)), kernel_in_phases(w))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-12


def test_which():
    assert phased((7, 7, 3), (2, 2), (1, 1))
    assert phased((8, 8, 1), (2, 2), (1, 1))
    for kernel, stride, dilation in [
        ((7, 7, 4), (2, 2), (1, 1)),
        ((5, 5, 3), (2, 2), (1, 1)),
        ((7, 7, 3), (1, 1), (1, 1)),
        ((7, 7, 3), (2, 1), (1, 1)),
        ((7, 7, 3), (2, 2), (2, 2)),
    ]:
        assert not phased(kernel, stride, dilation)
