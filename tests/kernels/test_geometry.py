"""Output sizes and padding against TensorFlow's own, for every small size, kernel, stride and dilation."""

from __future__ import annotations

import numpy as np
import pytest

from npresnet.kernels.geometry import out_size, pair, resolve_padding, window_geometry

from ..support import cases

SIZES, KERNELS, STRIDES, DILATIONS = range(1, 21), range(1, 8), range(1, 5), range(1, 4)


def read_by_tensorflow(tf, size, kernel, stride, dilation, padding, vertical):
    """float32[positions, kernel]: the number, counted from 1, of the pixel that each tap reads; 0 is padding.

    An image whose pixels are numbered, convolved with one channel per tap that passes this tap's pixel on.
    """
    image = np.arange(1, size + 1, dtype=np.float32).reshape((1, size, 1, 1) if vertical else (1, 1, size, 1))
    taps = np.eye(kernel, dtype=np.float32).reshape((kernel, 1, 1, kernel) if vertical else (1, kernel, 1, kernel))
    steps, gaps = ((stride, 1), (dilation, 1)) if vertical else ((1, stride), (1, dilation))
    return tf.nn.conv2d(image, taps, steps, padding.upper(), dilations=gaps).numpy().reshape(-1, kernel)


@pytest.mark.parametrize("vertical", [True, False], ids=["height", "width"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("stride", STRIDES)
def test_every_tap_of_every_window(tf, stride, dilation, padding, vertical):
    for size in SIZES:
        for kernel in KERNELS:
            turned = [(number, 1) if vertical else (1, number) for number in (size, kernel, stride, dilation)]
            arguments = (*turned[:3], padding, turned[3])
            given = f"size {size} kernel {kernel}"
            if padding == "valid" and size < (kernel - 1) * dilation + 1:  # TensorFlow gives an empty result
                with pytest.raises(ValueError, match="smaller than the"):
                    window_geometry(*arguments)
                continue
            seen = read_by_tensorflow(tf, size, kernel, stride, dilation, padding, vertical)
            pads, height, width = window_geometry(*arguments)
            before, after = pads[:2] if vertical else pads[2:]
            assert (height, width) == ((len(seen), 1) if vertical else (1, len(seen))), given
            assert (pads[2:] if vertical else pads[:2]) == (0, 0), given
            position, tap = np.indices(seen.shape)
            pixel = position * stride + tap * dilation - before
            assert np.array_equal(np.where((pixel >= 0) & (pixel < size), pixel + 1, 0), seen), given
            # the last window needs all of the padding behind the image
            assert after == max((len(seen) - 1) * stride + (kernel - 1) * dilation - before - size + 1, 0), given


@pytest.mark.parametrize("stride", STRIDES)
def test_pooling_pads_like_convolution(tf, stride):
    """The first and the last pixel of each window, found with rising and with falling numbers."""
    for size in SIZES:
        for kernel in KERNELS:
            rising = np.arange(1, size + 1, dtype=np.float32).reshape(1, size, 1, 1)
            last, first = (tf.nn.max_pool2d(x, [kernel, 1], [stride, 1], "SAME") for x in (rising, -rising))
            (before, _, _, _), count, _ = window_geometry((size, 1), (kernel, 1), (stride, 1), "same")
            start = np.arange(count) * stride - before
            assert np.array_equal(np.ravel(last), np.minimum(start + kernel, size)), (size, kernel)
            assert np.array_equal(-np.ravel(first), np.maximum(start, 0) + 1), (size, kernel)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_pads_in_pixels(tf, before, after):
    for size, kernel, stride, dilation in ((1, 1, 1, 1), (2, 3, 2, 1), (5, 3, 2, 2), (7, 4, 3, 1), (8, 2, 5, 3)):
        extent = (kernel - 1) * dilation + 1
        count = out_size(size, kernel, stride, dilation, before, after)
        if before + size + after < extent:
            assert count <= 0
            continue
        image, taps = np.ones((1, size, 1, 1), np.float32), np.ones((kernel, 1, 1, 1), np.float32)
        pads = [[0, 0], [before, after], [0, 0], [0, 0]]
        sums = tf.nn.conv2d(image, taps, [stride, 1], pads, dilations=[dilation, 1])
        assert count == sums.shape[1]
        given = window_geometry((size, 1), (kernel, 1), (stride, 1), (before, after, 0, 0), (dilation, 1))
        assert given == ((before, after, 0, 0), count, 1)


@pytest.mark.parametrize(
    ("padding", "pads"),
    [(0, (0, 0, 0, 0)), (2, (2, 2, 2, 2)), ((1, 2, 3, 4), (1, 2, 3, 4)), ([4, 3, 2, 1], (4, 3, 2, 1))],
    ids=str,
)
def test_pads_by_number(padding, pads):
    assert resolve_padding(padding, (5, 5), (3, 3), (2, 2), (1, 1)) == pads


@pytest.mark.parametrize("number", [np.int32(3), np.uint8(3), np.int64(3)], ids=repr)
def test_whole_numbers_of_any_type(number):
    assert pair("stride", number) == (3, 3)
    assert pair("stride", [number, 2]) == (3, 2)
    assert resolve_padding(number, (5, 5), (3, 3), (2, 2), (1, 1)) == (3, 3, 3, 3)


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", "33", None, (), (1,), (1, 2, 3), (2, 0), (1, 1.5)], ids=repr)
def test_pair_refuses(value):
    with cases.refuses(ValueError, f"dilation: got {value!r}"):
        pair("dilation", value)


@pytest.mark.parametrize(
    "padding", [-1, (0, 0, 0, -1), (1, 2), (1, 2, 3), (1,) * 5, "SAME", "full", 1.5, (0, 0, 0, 0.5), None], ids=repr
)
def test_padding_refuses(padding):
    with cases.refuses(ValueError, f"padding: got {padding!r}"):
        resolve_padding(padding, (5, 5), (3, 3), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "dilation"),
    [
        ((3, 9), (4, 1), "valid", (1, 1)),
        ((9, 3), (1, 4), "valid", (1, 1)),
        ((4, 9), (3, 3), "valid", (2, 1)),
        ((3, 9), (7, 1), (1, 2, 0, 0), (1, 1)),
        ((0, 9), (1, 1), "same", (1, 1)),
        ((9, 0), (1, 1), 3, (1, 1)),
    ],
    ids=str,
)
def test_no_window_fits(size, kernel, padding, dilation):
    with cases.refuses(ValueError, f"{size[0]}x{size[1]}", f"{kernel[0]}x{kernel[1]}", str(dilation), "smaller"):
        window_geometry(size, kernel, (1, 1), padding, dilation)


@pytest.mark.parametrize("kernel", [(0, 3), (3, 0)], ids=str)
def test_no_taps(kernel):
    with pytest.raises(ValueError, match=f"{kernel[0]}x{kernel[1]}"):
        window_geometry((5, 5), kernel, (1, 1), "valid")
