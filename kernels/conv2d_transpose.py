"""Transposed convolution: each pixel of the input is multiplied by a kernel and added to the window of the output that a
convolution would have made that pixel from.

    out[n, oh, ow, co] = bias[co] + sum over i, j, ci of x[n, ih, iw, ci] * w[i, j, co, ci]
                         where  oh = ih * sh + i * dh - top  and  ow = iw * sw + j * dw - left

It is im2col backwards. One matrix product makes all that the pixels have to give, a row of kh * kw * co numbers for each, of
which every pixel of the output then gathers its own (col2im): with a stride as long as the kernel that is one tap each, with a
kernel of 4 and a stride of 2 four. No zeros are put between pixels, with which a plain convolution would spend most of its work.

The ladder: conv2d_transpose_reference (NumPy), conv2d_transpose_cpu (``gemm.py``'s packed product, and a compiled gathering);
conv2d_transpose is conv2d_transpose_cpu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .arrays import Array, images, kernel, result, vector
from .gemm import gemm_packed
from .geometry import Window, pair, transposed_window
from .numba_later import carray
from .steps.epilogue import Epilogue, activated, bias_only, finish
from .steps.intrinsics import float_pointer, pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads
from .tile import NR

__all__ = [
    "Col2imStep",
    "conv2d_transpose",
    "conv2d_transpose_cpu",
    "conv2d_transpose_reference",
    "product_kernel",
    "transposed",
]

_Sides = Literal["same", "valid"]


def transposed(
    x: Any,
    w: Any,
    stride: int | Sequence[int],
    padding: _Sides,
    output_padding: int | Sequence[int] | None,
    dilation: int | Sequence[int],
) -> tuple[int, int, Window]:
    """Height and width of the result, and the window over it whose positions are the pixels of x; ValueError for arrays that do
    not fit each other, and for an output padding that no convolution would lead back from."""
    if w.shape[3] != x.shape[3]:
        raise ValueError(
            f"conv2d_transpose: x has {x.shape[3]} channels (shape {tuple(x.shape)}) but w takes {w.shape[3]} (shape "
            f"{tuple(w.shape)}: kh, kw, co, ci)"
        )
    more = None if output_padding is None else _not_negative(output_padding)
    return transposed_window(
        (x.shape[1], x.shape[2]),
        (w.shape[0], w.shape[1]),
        pair("stride", stride),
        padding,
        more,
        pair("dilation", dilation),
    )


def _not_negative(output_padding: int | Sequence[int]) -> tuple[int, int]:
    given = (output_padding, output_padding) if isinstance(output_padding, int) else tuple(output_padding)
    if len(given) != 2 or min(given) < 0:
        raise ValueError(f"output_padding: got {output_padding!r}; it must be one or two numbers of pixels, or None")
    return given[0], given[1]


def product_kernel(w: Array) -> Array:
    """A kernel dtype[kh, kw, co, ci] as a matrix dtype[ci, kh * kw * co], by which rows of pixels are multiplied."""
    return np.ascontiguousarray(w.reshape(-1, w.shape[3]).T)


def conv2d_transpose_reference(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: _Sides = "valid",
    output_padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Transposed convolution of x dtype[n, h, w, ci] with w dtype[kh, kw, co, ci]: dtype[n, ho, wo, co], any float dtype."""
    height, width, window = transposed(x, w, stride, padding, output_padding, dilation)
    kh, kw, co, _ = w.shape
    n, h, columns, ci = x.shape
    # all that pixels give, with what "same" padding cuts off, and what output padding adds
    rows = max((h - 1) * window.sh + (kh - 1) * window.dh + 1, window.top + height)
    wide = max((columns - 1) * window.sw + (kw - 1) * window.dw + 1, window.left + width)
    whole = np.zeros((n, rows, wide, co), x.dtype)
    pixels = x.reshape(n, h * columns, ci)
    for i in range(kh):
        for j in range(kw):
            given = (pixels @ w[i, j].T).reshape(n, h, columns, co)
            whole[:, i * window.dh :: window.sh, j * window.dw :: window.sw][:, :h, :columns] += given
    out = np.ascontiguousarray(whole[:, window.top :, window.left :][:, :height, :width])
    return out if bias is None else out + bias


@dataclass(frozen=True, kw_only=True)
class Col2imStep(Step):
    """out = activation(sums of taps + bias + residual); an item is a row of output pixels.

    x              of each pixel of the input what it gives to each tap of its window: kh * kw times the output's channels
    height, width  of the n images that are made
    window         over these, its positions being the pixels of the input
    """

    x: Map
    out: Map
    n: int
    height: int
    width: int
    window: Window
    epilogue: Epilogue

    @property
    def items(self) -> int:
        return self.n * self.height


_view = view_of(Col2imStep)


@Col2imStep.native
def _col2im_item(step, item, scratch):
    s = _view(step)
    channels, kh, kw, dh, dw = s.out.channels, s.window.kh, s.window.kw, s.window.dh, s.window.dw
    sh, sw, rows, columns = s.window.sh, s.window.sw, s.window.ho, s.window.wo
    slope, floor = s.epilogue.activation.slope, s.epilogue.activation.floor
    bias = carray(float_pointer(s.epilogue.bias), (channels,))
    n, oh = divmod(item, s.height)
    for ow in range(s.width):
        pixel = item * s.width + ow
        out, more = pixel_of(s.out, pixel), pixel_of(s.epilogue.residual, pixel)
        for c in range(channels):
            out[c] = 0.0
        for i in range(kh):
            ih, between = divmod(oh + s.window.top - i * dh, sh)
            if between or ih < 0 or ih >= rows:
                continue
            for j in range(kw):
                iw, between = divmod(ow + s.window.left - j * dw, sw)
                if between or iw < 0 or iw >= columns:
                    continue
                given, first = pixel_of(s.x, (n * rows + ih) * columns + iw), (i * kw + j) * channels
                for c in range(channels):
                    out[c] += given[first + c]
        for c in range(channels):
            out[c] = activated(out[c] + bias[c] + more[c], slope, floor)
    finish(s.epilogue.activation, s.out.address + item * s.width * s.out.pitch, s.out.pitch, s.width, channels)


def conv2d_transpose_cpu(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: _Sides = "valid",
    output_padding: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Transposed convolution of a batch of feature maps.

    x               float32[n, h, w, ci]
    w               float32[kh, kw, co, ci], as Keras stores it; bias float32[co] or None
    stride          (vertical, horizontal), how far the windows of neighbouring pixels are apart, or one number; dilation likewise
    padding         "same": h * stride rows come out; "valid": all that windows cover, or at least as many
    output_padding  how many more rows and columns there are than windows need; None: as many as ``padding`` says
    out             float32[n, ho, wo, co], overwritten; made if None

    Raises TypeError for another dtype; ValueError for wrong ranks or shapes that do not fit.
    """
    x, w = images("conv2d_transpose: x", x), kernel("conv2d_transpose: w", w)
    height, width, window = transposed(x, w, stride, padding, output_padding, dilation)
    n, co = len(x), w.shape[2]
    zeros = np.zeros(co + NR, np.float32)
    bias = zeros[:co] if bias is None else vector("conv2d_transpose: bias", bias, co)
    out, threads = result("conv2d_transpose", out, (n, height, width, co)), resolve_threads(threads)
    given = gemm_packed(x.reshape(-1, x.shape[3]), product_kernel(w), threads=threads)
    step = Col2imStep(
        x=Map.of(given), out=Map.of(out), n=n, height=height, width=width, window=window,
        epilogue=bias_only(bias.ctypes.data, zeros),
    )  # fmt: skip
    run(step, threads, given, bias, zeros, out)
    return out


conv2d_transpose = conv2d_transpose_cpu
