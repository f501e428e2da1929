"""The largest value over all pixels: no arithmetic, so every version gives ``tf.reduce_max``'s very numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import global_maxpool, global_maxpool_reference

from ..support import cases


@cases.each("global_maxpool")
def test_tensorflow(tf, case, version):
    (x,) = case.arrays()
    if case.values in cases.FLUSHED:
        expected = case.run(global_maxpool_reference, dtype=np.float64).astype(np.float32)
    else:
        expected = tf.reduce_max(x, axis=(1, 2)).numpy()
    cases.assert_equal(case.run(version), expected)


@pytest.mark.parametrize("shape", [(1, 0, 2, 3), (1, 2, 0, 3), (0, 2, 0, 3)], ids=str)
def test_refuses_images_without_pixels(shape):
    with cases.refuses(ValueError, "global_maxpool", str(shape)):
        global_maxpool(np.zeros(shape, np.float32))
