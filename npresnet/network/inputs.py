"""What a network takes as images, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import ImageError

if TYPE_CHECKING:  # what reads pictures in a process of its own need not know of networks
    from .graph import Graph
    from .operators import Input

__all__ = ["network_input", "network_inputs", "transpose_hint"]


def network_inputs(images: object, graph: Graph, dtype: DTypeLike = np.float32) -> dict[str, NDArray[Any]]:
    """Check what a network is called with, and return it by the names of its inputs: {name: dtype[n, ...]}.

    images  for a network of one input, what ``network_input`` takes; for one of several, a list or tuple with something for each in
            the model's order, or {input: ...}. Tables are numbers[n, channels], or [channels] for one row

    Raises ImageError where that does not fit, and as ``network_input`` does.
    """
    names = graph.inputs
    if len(names) == 1:
        given: Mapping[str, Any] = {names[0]: images}
        if isinstance(images, Mapping):
            given = images
    elif isinstance(images, Mapping):
        given = images
    elif isinstance(images, Sequence) and len(images) == len(names):
        given = dict(zip(names, images, strict=True))
    else:
        raise ImageError(
            f"input: {type(images).__name__}: the network takes {_listed(graph)}; give a list, or a dict by these names"
        )
    if set(given) != set(names):
        raise ImageError(f"input: got {sorted(map(str, given))}; the network takes {_listed(graph)}")
    found = {}
    for name in names:
        operator = _operator(graph, name)
        found[name] = (network_input if operator.maps else _rows)(given[name], operator.channels, dtype)
    counts = {len(array) for array in found.values()}
    if len(counts) > 1:
        raise ImageError(
            f"input: {', '.join(f'{len(array)} for {name!r}' for name, array in found.items())}; give as many for each"
        )
    return found


def _listed(graph: Graph) -> str:
    """A network's inputs in words."""
    operators = [(name, _operator(graph, name)) for name in graph.inputs]
    return f"{len(operators)} inputs: " + ", ".join(
        f"{name!r} [n, {'h, w, ' if operator.maps else ''}{operator.channels}]" for name, operator in operators
    )


def _operator(graph: Graph, name: str) -> Input:
    """The operator of one of the network's inputs."""
    return cast("Input", graph.by_name[name].operator)


def _rows(numbers: object, channels: int, dtype: DTypeLike) -> NDArray[Any]:
    """A table of numbers as dtype[n, channels]."""
    array = np.asarray(numbers)
    if array.dtype.kind not in "uif" or array.ndim not in (1, 2) or array.shape[-1] != channels or not array.size:
        raise ImageError(
            f"input of shape {list(array.shape)} and dtype {array.dtype}: this input takes rows of numbers, [n, {channels}]"
        )
    with np.errstate(over="ignore"):
        return np.require(array.reshape(-1, channels), dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])


def network_input(images: object, channels: int = 3, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Check what a network is called with, and return it as dtype[n, h, w, channels], C-contiguous and writeable.

    images    anything NumPy takes as an array of integers or floating-point numbers, [n, h, w, channels], or
              [h, w, channels] for a batch of one; values are converted to dtype and otherwise left alone, NaN and
              infinity included: nothing is scaled, no mean is subtracted
    channels  how many the network takes
    dtype     float32, or what the reference computes in

    An array that already is all this is returned as it is, not copied.
    Raises ImageError for any other dtype, rank or channel count, for empty arrays and for NCHW.
    """
    try:
        array = np.asarray(images)
    except Exception as error:  # ragged lists, tensors on another device: each library has its own error
        raise ImageError(
            f"input: {type(images).__name__} does not convert to one numpy array ({error}); "
            "give float32[n, h, w, c] with one size for all"
        ) from error
    described = f"input of shape {list(array.shape)} and dtype {array.dtype}"
    if array.dtype.kind not in "uif":
        raise ImageError(
            f"{described}: a network takes numbers, float32[n, h, w, {channels}]; "
            + ("prepare() reads picture files" if isinstance(images, (str, os.PathLike)) else "convert it first")
        )
    if array.ndim not in (3, 4):
        raise ImageError(f"{described}: a network takes [n, h, w, {channels}], or [h, w, {channels}] for one picture")
    if array.shape[-1] != channels:
        raise ImageError(
            f"{described}: {array.shape[-1]} channels, but the network takes {channels}, last: [n, h, w, {channels}]"
            + transpose_hint(array.shape, (channels,))
        )
    if array.size == 0:
        raise ImageError(f"{described}: empty; every dimension must be at least 1")
    # Aligned and writeable too: compiled kernels would be compiled once more for a read-only array.
    if array.dtype != dtype or not array.flags.carray:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, as in a cast anywhere else
            array = np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])
    return array if array.ndim == 4 else array[None]


def transpose_hint(shape: tuple[int, ...], channels: tuple[int, ...]) -> str:
    """How to put the channels last, where the shape looks as if they came before height and width."""
    if len(shape) < 3 or shape[-3] not in channels:
        return "; check the order of the axes"
    axes = "1, 2, 0" if len(shape) == 3 else "0, 2, 3, 1"
    return f"; this looks like channels first (NCHW): give images.transpose({axes})"
