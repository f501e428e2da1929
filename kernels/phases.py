"""A convolution with stride 2 as one with stride 1, of an image in four phases: what lets Winograd's algorithm into the stem.

Rows and columns of an image are even or odd, its pixels of four kinds: four images of half the size, the phases, which can lie
side by side as channels (others say space-to-depth). Tap i of a kernel that moves by two sees rows 2 oh + i, hence a row of the
even or of the odd phase: tap i // 2 of a kernel for phase i % 2, which moves by one.

    out[oh, ow] = sum over i, j of x[2 oh + i, 2 ow + j] w[i, j]
                = sum over k, l, p, q of X[oh + k, ow + l, (p, q)] W[k, l, (p, q)]    i = 2 k + p, j = 2 l + q

The stem's kernel of 7x7 with 3 channels becomes one of 4x4 with 12, of which a row and a column of taps are zeros. That has 8 * 8
taps in place of 7 * 7; but F(3x3, 4x4) (``winograd.py``) takes 36 multiplications for 9 outputs where the definition takes 144.
Of 7 * 7 * 9 that is a third.

These are the readable versions; ``steps/phases.py`` has the fast one, ``conv2d_winograd`` runs it by itself.
"""

from __future__ import annotations

import numpy as np

from .arrays import Array
from .geometry import Window
from .phasetile import CHANNELS, DEPTH, M
from .simd import LANES
from .winograd import transform_kernel

__all__ = ["image_in_phases", "kernel_in_phases", "phased", "transformed_in_phases"]


def phased(kernel: tuple[int, int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> bool:
    """Whether a convolution, of ``kernel`` (h, w, input channels), becomes one of 4x4 taps and few channels."""
    return kernel[:2] in ((7, 7), (8, 8)) and kernel[2] <= CHANNELS and stride == (2, 2) and dilation == (1, 1)


def image_in_phases(x: Array, window: Window) -> Array:
    """x dtype[n, h, w, ci] as dtype[n, ho + 3, wo + 3, 4 * ci]: what a kernel of 4x4 taps sees of it, with zeros around the image.

    window  that of the convolution with stride 2
    """
    n, _, _, channels = x.shape
    rows, columns = window.ho + 3, window.wo + 3
    padded = np.zeros((n, 2 * rows, 2 * columns, channels), x.dtype)
    seen = x[:, : 2 * rows - window.top, : 2 * columns - window.left]
    padded[:, window.top : window.top + seen.shape[1], window.left : window.left + seen.shape[2]] = seen
    apart = padded.reshape(n, rows, 2, columns, 2, channels)
    return np.ascontiguousarray(apart.swapaxes(2, 3)).reshape(n, rows, columns, 4 * channels)


def kernel_in_phases(w: Array) -> Array:
    """The kernel dtype[7 or 8, 7 or 8, ci, co] as dtype[4, 4, 4 * ci, co]."""
    kh, kw, ci, co = w.shape
    whole = np.zeros((8, 8, ci, co), w.dtype)
    whole[:kh, :kw] = w
    return np.ascontiguousarray(whole.reshape(4, 2, 4, 2, ci, co).swapaxes(1, 2)).reshape(4, 4, 4 * ci, co)


def transformed_in_phases(w: Array) -> Array:
    """The kernel float[7 or 8, 7 or 8, ci, co], co a multiple of LANES, as ``PhasesStep`` reads it: float32[co / LANES, 36, DEPTH,
    LANES], of which 4 * ci numbers of DEPTH are used. Sums are in float64."""
    with np.errstate(over="ignore", invalid="ignore"):  # the weights of a broken file may be infinite
        u = transform_kernel(kernel_in_phases(w), M).astype(np.float32)
    elements, depth, columns = u.shape
    packed = np.zeros((columns // LANES, elements, DEPTH, LANES), np.float32)
    packed[:, :, :depth] = u.reshape(elements, depth, -1, LANES).transpose(2, 0, 1, 3)
    return packed
