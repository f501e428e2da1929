"""The crops that kernels are watched on: small arrays of small whole numbers, so that every order of summing gives the same bits, and
how each kernel is called with them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels.geometry import window
from . import elsewhere
from .recorded import Log, in_pieces, python_of
from .sources import text_of

__all__ = ["CROPS", "KernelCrop", "NotedRun"]

Array = npt.NDArray[Any]
Given = Mapping[str, tuple[Array, str]]
"""{name: (array, what it is)}; the last is the result."""


@dataclass(frozen=True)
class NotedRun:
    """What became of a kernel's arrays, in the order of ``given``."""

    log: Log
    result: Array


@dataclass(frozen=True)
class KernelCrop:
    """A kernel and the small arrays that it is run on.

    given      makes the arrays
    run        the kernel's own loops on copies of them, recorded
    compiled   the compiled kernel on them: the result
    source     the loops' text
    constants  of the kernel's module that are smaller here
    piece      what is done at a time, whose part of each array is outlined
    """

    idea: str
    given: Callable[[], Given]
    run: Callable[[], NotedRun]
    compiled: Callable[[Mapping[str, Array]], Array]
    source: Callable[[], str]
    piece: str
    constants: Mapping[str, int] = field(default_factory=dict)


def _whole(*shape: int) -> Array:
    """Small whole numbers as float32, the same for the same shape."""
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(np.float32)


def _kernel(name: str) -> Any:
    from .. import kernels

    return getattr(kernels, name)


def _module(name: str) -> Any:
    return importlib.import_module(f"..kernels.{name}", __package__)


# Loops of Python -----------------------------------------------------------------------------------------------------

_M, _K, _N = 6, 16, 32
_IMAGE, _TAPS, _CHANNELS = (1, 6, 6, 4), (3, 3), 8
_WINDOW = window(_IMAGE[1:3], _TAPS, 1, "same", 1)


def _product() -> Given:
    return {
        "a": (_whole(_M, _K), "A, rows of pixels"),
        "b": (_whole(_K, _N), "B, the weights"),
        "bias": (_whole(_N), "one number per column"),
        "c": (np.zeros((_M, _N), np.float32), "C = A @ B + bias"),
    }


def _unpacked() -> Given:
    return {"b": (_whole(_K, 20), "B, the weights"), "packed": (np.zeros((3, _K, 8), np.float32), "B in panels")}


def _convolution() -> Given:
    return {
        "x": (_whole(*_IMAGE), "the map, NHWC"),
        "w": (_whole(*_TAPS, _IMAGE[3], _CHANNELS), "the kernels, HWIO"),
        "bias": (_whole(_CHANNELS), "one number per channel"),
        "out": (np.zeros((*_IMAGE[:3], _CHANNELS), np.float32), "the result, NHWC"),
    }


def _patches() -> Given:
    columns = _TAPS[0] * _TAPS[1] * _IMAGE[3]
    return {
        "x": (_whole(*_IMAGE), "the map, NHWC"),
        "cols": (np.zeros((_IMAGE[1] * _IMAGE[2], columns), np.float32), "patches as rows"),
    }


def _loop(
    idea: str, module: str, loop: str, given: Callable[[], Given], call: Callable[..., Any], compiled: Callable[..., Array],
    piece: str, line: str, **constants: int,
) -> KernelCrop:  # fmt: skip
    """A loop in plain Python: ``call`` gives it the arrays, by name, and other arguments; a piece begins at ``line`` of its text."""

    def run() -> NotedRun:
        log = Log()
        arrays = {name: array.copy() for name, (array, _) in given().items()}
        function = in_pieces(log, python_of(getattr(_module(module), loop), **constants), line)
        call(function, {name: log.array(name, array) for name, array in arrays.items()})
        return NotedRun(log, list(arrays.values())[-1])

    return KernelCrop(idea, given, run, compiled, lambda: text_of(getattr(_module(module), loop)), piece, constants)


def _gemm(name: str, idea: str, piece: str, line: str, **constants: int) -> KernelCrop:
    return _loop(
        idea, "gemm", f"_{name}", _product, lambda loop, a: loop(a["a"], a["b"], a["bias"], a["c"], 0, _M),
        lambda a: _kernel(name)(a["a"], a["b"], a["bias"]), piece, line, **constants,
    )  # fmt: skip


def _pack_compiled(arrays: Mapping[str, Array]) -> Array:
    """Panels of 8 columns, as ``pack_b`` makes them of its own width."""
    return _panels(arrays["b"], 8)


def _panels(b: Array, width: int) -> Array:
    padded = np.pad(b, ((0, 0), (0, -b.shape[1] % width)))
    return np.ascontiguousarray(padded.reshape(b.shape[0], -1, width).transpose(1, 0, 2))


# Vector instructions, four numbers wide ------------------------------------------------------------------------------

_LANES, _ROWS, _COLUMNS = 4, 6, 8
_NARROW = {"NPRESNET_LANES": str(_LANES), "NPRESNET_SETTINGS": f"{_ROWS},{_COLUMNS // _LANES},4,262144,28"}
_TILE = {"LANES": _LANES, "MR": _ROWS, "NR": _COLUMNS}


def _vectors(
    idea: str, given: Callable[[], Given], record: Callable[[], NotedRun], compiled: Callable[..., Array], source: Callable[[], str],
    piece: str,
) -> KernelCrop:  # fmt: skip
    """A kernel in vector instructions, in a process whose vectors are as narrow as the crop, and the same on every machine."""

    def run() -> NotedRun:
        found: NotedRun = elsewhere.call("watch", _NARROW, record)
        return found

    return KernelCrop(idea, given, run, compiled, source, piece, _TILE)


def _packed() -> Given:
    given = dict(_product())
    c = given.pop("c")
    b, bias = given.pop("b")[0], given.pop("bias")
    given["packed"] = (_panels(b, _COLUMNS), "B in panels, packed")
    return given | {"bias": bias, "zeros": (np.zeros(_COLUMNS, np.float32), "what stands for no residual"), "c": c}


def _record_packed() -> NotedRun:
    from .stepwise import Stepwise

    arrays = {name: array for name, (array, _) in _packed().items()}
    a, c = arrays["a"], arrays["c"]
    machine = Stepwise(arrays)
    called = (_module("tile").multiply, arrays["zeros"].ctypes.data)
    block = python_of(_module("gemm").multiply_block, call=lambda kernel, given: machine.run(kernel, *given))
    block(called, a.ctypes.data, a.strides[0], _M, arrays["packed"], arrays["bias"], c.ctypes.data, c.strides[0])
    return NotedRun(machine.log, c)


def _packed_compiled(arrays: Mapping[str, Array]) -> Array:
    b = np.ascontiguousarray(arrays["packed"].transpose(1, 0, 2).reshape(_K, _N))
    product: Array = _kernel("gemm_packed")(arrays["a"], b, arrays["bias"])
    return product


_M_OUT = 2  # outputs of a tile in each direction: the points of F(2x2) make no number that float32 has to round


def _transformed() -> Given:
    image, channels = _whole(*_IMAGE), _IMAGE[3]
    w = 4 * _whole(*_TAPS, channels, _CHANNELS)  # a quarter of which is whole
    u = _module("winograd").transform_kernel(w, _M_OUT).astype(np.float32)
    tiles, elements = (_IMAGE[1] // _M_OUT) * (_IMAGE[2] // _M_OUT), (_M_OUT + 2) ** 2
    odd = _module("steps.winograd")._odd_lines
    v, products = odd(4 * tiles * channels) // 4, odd(4 * tiles * _COLUMNS) // 4
    return {
        "x": (image, "the map, NHWC"),
        "v": (np.zeros((elements, v), np.float32), "V = B^T d B of all patches, element by element"),
        "u": (u, "U = G g G^T, the kernels, made once"),
        "room": (
            np.zeros((elements + 1, products), np.float32),
            "for a patch at the border; then for the products V U",
        ),
        "bias": (_whole(_CHANNELS), "one number per channel"),
        "zeros": (np.zeros(2 * _CHANNELS, np.float32), "what stands for no residual"),
        "out": (np.zeros((*_IMAGE[:3], _CHANNELS), np.float32), "the result, NHWC"),
    }


def _record_winograd() -> NotedRun:
    from .stepwise import Stepwise

    arrays = {name: array for name, (array, _) in _transformed().items()}
    # V, and behind it the room, are one stretch, as a thread has it for itself
    scratch = np.zeros(arrays["v"].size + arrays["room"].size, np.float32)
    arrays["v"], arrays["room"] = scratch[: arrays["v"].size], scratch[arrays["v"].size :]
    steps = _module("steps.winograd")
    step = steps.step_alone(arrays["x"], arrays["u"][None], arrays["bias"], arrays["zeros"], arrays["out"], _M_OUT)
    machine = Stepwise(arrays, {"_view": step, "_input_view": step.given, "_output_view": step.made})
    machine.run(step.compiled, 0, 0, scratch.ctypes.data)
    return NotedRun(machine.log, arrays["out"])


def _winograd_compiled(arrays: Mapping[str, Array]) -> Array:
    """By the compiled step of this process's own width, with zeros for channels that are not there."""
    lanes, steps, gemm = _module("simd").LANES, _module("steps.winograd"), _module("gemm")
    wide_in, wide_out = lanes, -(-_CHANNELS // lanes) * lanes
    x = np.zeros((*_IMAGE[:3], wide_in), np.float32)
    x[..., : _IMAGE[3]] = arrays["x"]
    u = np.zeros((len(arrays["u"]), wide_in, wide_out), np.float32)
    u[:, : _IMAGE[3], :_CHANNELS] = arrays["u"]
    panels = np.ascontiguousarray(np.stack([gemm.pack_b(element) for element in u], axis=1))
    out = np.empty((*_IMAGE[:3], wide_out), np.float32)
    steps.winograd(x, panels, gemm.pack_bias(arrays["bias"], _CHANNELS), out, 1, _M_OUT)
    return out[..., :_CHANNELS]


def _texts(*kernels: tuple[str, str]) -> str:
    return "\n\n".join(text_of(getattr(_module(module), name)) for module, name in kernels)


CROPS: Mapping[str, KernelCrop] = {
    "conv2d_direct": _loop(
        "the sum as loops: for each pixel, tap by tap, a number of x times a row of kernels", "conv2d", "_conv2d_direct",
        _convolution, lambda loop, a: loop(a["x"], a["w"], a["bias"], _WINDOW, a["out"], 0, _IMAGE[1]),
        lambda a: _kernel("conv2d_direct")(a["x"], a["w"], a["bias"], padding="same"), "a pixel of the result, and its window",
        "sums = out[n, oh, ow]",
    ),
    "im2col": _loop(
        "every window copied into a row: each number of the map up to nine times", "im2col", "im2col_rows", _patches,
        lambda loop, a: loop(a["x"], _WINDOW, 0, _IMAGE[1] * _IMAGE[2], a["cols"]),
        lambda a: _kernel("im2col")(a["x"], _TAPS, padding="same"), "a window and its row",
        "n, pixel = divmod(",
    ),
    "gemm_naive": _gemm(
        "gemm_naive", "by the definition: down a column of B for each number of C", "a number of C, its row of A and its column of B",
        "total = np.float32(0.0)",
    ),
    "gemm_blocked": _gemm(
        "gemm_blocked", "blocks of B that stay in cache, eight steps of k per pass over a row of C",
        "a block of B, and what it meets of A and C (the last takes the bias, too)", "k1 = min(", _KC=8, _NC=16,
    ),
    "pack_b": _loop(
        "B brought into the order in which it will be read: panels, row after row", "gemm", "_pack_b", _unpacked,
        lambda loop, a: loop(a["b"], a["packed"], 0, 3), _pack_compiled, "a panel", "first = panel * NR", NR=8,
    ),
    "gemm_packed": _vectors(
        "a tile of C whose sums stay in registers; A as it lies, B in panels", _packed, _record_packed, _packed_compiled,
        lambda: _texts(("gemm", "multiply_block"), ("tile", "multiply")), "a tile of C in registers, its rows of A and its panel of B",
    ),
    "winograd": _vectors(
        "F(2x2,3x3): patches transformed, 16 products of matrices in place of one, products transformed back", _transformed,
        _record_winograd, _winograd_compiled,
        lambda: _texts(*(("steps.winograd", name) for name in ("_winograd_item", "transform_tiles", "finish_tiles"))),
        "a patch transformed; then rows of a product; then a tile of outputs, four channels of it",
    ),
}  # fmt: skip
