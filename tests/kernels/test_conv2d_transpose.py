"""Transposed convolution beside TensorFlow's; dilated ones beside those with zeros between their taps, which are the same."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels import LADDER

from ..support import cases
from ..support.cases import Conv2dTranspose


def keras_transpose(tf, case):
    """Keras's own layer, with its own arithmetic of sizes."""
    x, w, bias = case.arrays()
    layer = tf.keras.layers.Conv2DTranspose(
        case.co, case.taps, strides=case.stride, padding=case.padding, output_padding=case.more, use_bias=case.bias
    )
    layer.build(x.shape)
    layer.set_weights([w, bias] if case.bias else [w])
    return layer(x).numpy()


@cases.each("conv2d_transpose")
def test_tensorflow(tf, case, version):
    truth = case.run(LADDER["conv2d_transpose"][0], dtype=np.float64)
    if case.values in cases.FLUSHED:
        cases.assert_true(case.run(version), truth)
    else:
        cases.assert_close(case.run(version), keras_transpose(tf, case), truth)


@pytest.mark.parametrize("version", LADDER["conv2d_transpose"], ids=cases.name_of)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_dilation(tf, version, padding):
    """TensorFlow has none on a processor; but a kernel with zeros between its taps says the same."""
    case = Conv2dTranspose((2, 5, 4, 3), (3, 2), 4, padding=padding)
    x, w, bias = case.arrays()
    wide = np.zeros((5, 4, 4, 3), np.float32)
    wide[::2, ::3] = w
    shape = (2, 5, 4, 4) if padding == "same" else (2, 9, 7, 4)
    expected = tf.nn.conv2d_transpose(x, wide, shape, 1, padding.upper()).numpy() + bias
    truth = LADDER["conv2d_transpose"][0](*(array.astype(np.float64) for array in (x, wide, bias)), padding=padding)
    cases.assert_close(version(x, w, bias, padding=padding, dilation=(2, 3)), expected, truth)


@pytest.mark.parametrize("version", LADDER["conv2d_transpose"], ids=cases.name_of)
def test_refuses(version):
    x, w = np.zeros((1, 4, 5, 2), np.float32), np.zeros((2, 2, 3, 2), np.float32)
    with cases.refuses(ValueError, "(1, 4, 5, 2)", "(2, 2, 2, 3)", "kh, kw, co, ci"):
        version(x, w.swapaxes(2, 3))
    # what TensorFlow refuses, too: a convolution would make another image of the result
    for more in ((0, 0), (3, 1)):
        with cases.refuses(ValueError, str(more), "lead back to the same size"):
            version(x, w, stride=2, padding="same", output_padding=more)
    with cases.refuses(ValueError, "output_padding", "(-1, 0)"):
        version(x, w, output_padding=(-1, 0))
    with cases.refuses(ValueError, "padding", "3", "'same' or 'valid'"):
        version(x, w, padding=3)
