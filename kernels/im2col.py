"""im2col: every patch that a convolution looks at, copied into one row of a matrix.

    cols[(n * ho + oh) * wo + ow, (kh * KW + kw) * ci + c] = x[n, oh * sh + kh * dh - top, ow * sw + kw * dw - left, c]
                                                             0 outside the image

With the patches as rows, a convolution is one matrix product: cols[n*ho*wo, kh*kw*ci] @ w[kh*kw*ci, co]. The price is
memory: the matrix is kh*kw/(sh*sw) times the image, so ``conv2d_im2col`` builds it a block of rows at a time.

The ladder: im2col_reference (NumPy), im2col_cpu (Numba, output pixels in parallel); im2col is im2col_cpu.
Source: Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing" (2006).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import threads as _threads
from .arrays import Array, images, result
from .geometry import Padding, pair, window, window_geometry
from .jit import jit

__all__ = ["im2col", "im2col_cpu", "im2col_reference", "im2col_rows"]


def im2col_reference(
    x: Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """The patches of x dtype[n, h, w, c] as rows, dtype[n*ho*wo, kh*kw*c], by slicing once per tap of the kernel."""
    (kh, kw), (sh, sw), (dh, dw) = pair("kernel", kernel), pair("stride", stride), pair("dilation", dilation)
    n, h, w, c = x.shape
    (top, bottom, left, right), ho, wo = window_geometry((h, w), (kh, kw), (sh, sw), padding, (dh, dw))
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    cols = np.empty((n, ho, wo, kh, kw, c), x.dtype)
    for i in range(kh):
        for j in range(kw):
            cols[:, :, :, i, j] = padded[:, i * dh :: sh, j * dw :: sw][:, :ho, :wo]
    return cols.reshape(n * ho * wo, kh * kw * c)


@jit
def im2col_rows(x, window, first, count, cols):
    """Fill cols[0:count] with the patches of output pixels first..first+count-1, counted through the whole batch.

    x float32[n, h, w, c]; window = (kh, kw, sh, sw, dh, dw, top, left, ho, wo); cols float32[>= count, kh*kw*c].
    """
    kh, kw, sh, sw, dh, dw, top, left, ho, wo = window
    _, height, width, channels = x.shape
    for row in range(count):
        n, pixel = divmod(first + row, ho * wo)
        oh, ow = divmod(pixel, wo)
        patch = cols[row]
        at = 0
        for i in range(kh):
            ih = oh * sh + i * dh - top
            iw = ow * sw - left
            if ih < 0 or ih >= height:
                patch[at : at + kw * channels] = 0.0
                at += kw * channels
                continue
            for _ in range(kw):
                if iw < 0 or iw >= width:
                    patch[at : at + channels] = 0.0
                else:
                    patch[at : at + channels] = x[n, ih, iw]
                at += channels
                iw += dw


@jit
def _im2col(x, window, cols, start, stop):
    im2col_rows(x, window, start, stop - start, cols[start:stop])


def im2col_cpu(
    x: Array,
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Copy every patch of a batch of images into one row of a matrix.

    x        float32[n, h, w, c]
    kernel   (kh, kw) taps; stride, dilation in pixels: one number or (vertical, horizontal)
    padding  "same", "valid", pixels on all sides, or (top, bottom, left, right)
    out      float32[n*ho*wo, kh*kw*c], overwritten; made if None

    Raises TypeError for another dtype; ValueError for a wrong rank or where no window fits the image.
    """
    x = images("im2col: x", x)
    taps = pair("kernel", kernel)
    n, h, w, c = x.shape
    geometry = window((h, w), taps, stride, padding, dilation)
    cols = result("im2col", out, (n * geometry[-2] * geometry[-1], taps[0] * taps[1] * c))
    _threads.run(_im2col, len(cols), _threads.resolve_threads(threads), x, geometry, cols)
    return cols


im2col = im2col_cpu
