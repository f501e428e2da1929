"""Channels in another order: nothing is computed, so every version gives TensorFlow's very bits."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases


@cases.each("channels")
def test_tensorflow(tf, case, version):
    x, order = case.arrays()
    cases.assert_same_bits(case.run(version), tf.gather(x, order.astype(int), axis=-1).numpy())


@pytest.mark.parametrize("version", LADDER["channels"][1:], ids=cases.name_of)
@pytest.mark.parametrize("order", [[3], [0, -1], [0.5], [np.nan]], ids=str)
def test_refuses_channels_that_are_not_there(version, order):
    with cases.refuses(ValueError, str([float(n) for n in order]), "from 0 to 2"):
        version(np.zeros((1, 2, 2, 3), np.float32), np.array(order, np.float32))


@pytest.mark.parametrize("version", LADDER["channels"][1:], ids=cases.name_of)
def test_refuses_other_orders(version):
    x = np.zeros((1, 2, 2, 3), np.float32)
    with cases.refuses(TypeError, "channels: order", "int64"):
        version(x, np.array([0, 1]))
    with cases.refuses(ValueError, "channels: order", "(1, 2)"):
        version(x, np.zeros((1, 2), np.float32))
