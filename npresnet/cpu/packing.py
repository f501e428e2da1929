"""The weights as a plan's steps read them: batch-norms and scales folded in, packed in the order of reading.

The forms of a constant (``Constant.form``): "panels", "grouped", "lanes" and "rows" for groups in lanes, "taps", "winograd2",
"winograd4", "pairs2", "pairs4", "phases", "scale" for what has no kernel, "order" for channels' numbers, and "parameters" for what
is not folded: two arrays as they are stored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from ..kernels.conv2d_transpose import product_kernel
from ..kernels.gemm import pack_bias
from ..kernels.grouplane import lane_order
from ..kernels.phases import transformed_in_phases
from ..kernels.rowwinograd import row_kernels
from ..kernels.simd import LANES
from ..kernels.tile import NR
from ..kernels.winograd import pack_transformed, stored_elements
from ..network.graph import Graph, Layer
from ..network.operators import Channels, GroupNorm, LayerNorm, Normalization, PReLU
from ..network.weights import Weights
from ..plan.folding import Constant, cancels, fold, statistics
from ..plan.memory import Slab

__all__ = ["TRANSFORMED", "Constants", "PackedPair"]

TRANSFORMED = ("winograd2", "winograd4", "pairs2", "pairs4", "phases", "rows")
"""Those forms whose numbers are not the kernel's own."""


Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class PackedPair:
    """What one step reads, float32: ``weights`` in one of the forms, and the ``bias`` that goes with them."""

    weights: Array
    bias: Array


class Constants:
    """The weights as steps read them: each made when first needed, shared by all plans, and gone with the last that has it."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self._graph, self._weights = graph, weights
        self._made: WeakValueDictionary[Constant, PackedPair] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._slab = Slab()

    @property
    def bytes(self) -> int:
        """Memory that is held for what is packed."""
        return self._slab.bytes

    def packed(self, wanted: Sequence[Constant], threads: int) -> list[PackedPair]:
        """What steps read of each of ``wanted``, made on ``threads`` threads. It is kept as long as the caller keeps it."""
        twins = self._graph.twins  # layers that are used again have their weights once
        wanted = [
            replace(
                constant,
                layer=twins.get(constant.layer, constant.layer) if constant.layer else None,
                norms=tuple(twins.get(name, name) for name in constant.norms),
            )
            for constant in wanted
        ]
        with self._lock:
            self._slab.tidy()  # plans may have gone
            found = {constant: self._made.get(constant) for constant in wanted}
            missing = [constant for constant, pair in found.items() if pair is None]
            if missing:
                with ThreadPoolExecutor(threads) as pool:
                    made = dict(zip(missing, pool.map(self._make, missing), strict=True))
                self._made.update(made)
                found |= made
            return [pair for pair in map(found.get, wanted) if pair is not None]

    def cancels(self, layer: Layer) -> bool:
        """Whether a layer must not be folded into others, see ``plan/folding.py``."""
        return cancels(layer, self._weights)

    def _make(self, constant: Constant) -> PackedPair:
        if constant.form == "order":
            assert constant.layer is not None
            operator = self._graph.by_name[constant.layer].operator
            assert isinstance(operator, Channels)
            return PackedPair(np.array(operator.order, np.float32), np.empty(0, np.float32))
        if constant.form == "parameters":
            return PackedPair(*self._parameters(constant))
        kernel, scale, bias = fold(self._graph, self._weights, constant)
        if kernel is None:
            return PackedPair(scale.astype(np.float32), bias.astype(np.float32))
        if constant.form.startswith(("winograd", "pairs")):
            m = int(constant.form[-1])
            stored = stored_elements(m, constant.form.startswith("pairs"))
            packed = _transformed(self._slab, kernel, scale, m, stored)
        elif constant.form == "phases":
            packed = transformed_in_phases(kernel * scale)
        elif constant.form == "taps":
            taps = kernel.shape[0] * kernel.shape[1]
            packed = _panels(self._slab, product_kernel(kernel), np.tile(scale, taps), NR)
        elif constant.form == "lanes":
            packed = _kept(self._slab, lane_order((kernel * scale).reshape(-1, *kernel.shape[2:])))
        elif constant.form == "rows":
            packed = _kept(self._slab, row_kernels(kernel * scale))
        else:
            packed = _panels(self._slab, kernel, scale, LANES if constant.form == "grouped" else NR)
        return PackedPair(packed, pack_bias(bias.astype(np.float32), constant.channels))

    def _parameters(self, constant: Constant) -> tuple[Array, Array]:
        """Of a layer that nothing is folded into: the two that its kernel takes, as they are stored."""
        assert constant.layer is not None
        operator, w = self._graph.by_name[constant.layer].operator, self._weights.get(constant.layer, {})
        first: Array
        second: Array
        match operator:
            case Normalization():
                first, second = (np.broadcast_to(array, constant.channels) for array in statistics(operator, w))
            case PReLU():
                first = second = w["alpha"]
            case LayerNorm() | GroupNorm():
                shape = operator.shape if isinstance(operator, LayerNorm) else (operator.channels,)
                first, second = w.get("gamma", np.ones(shape)), w.get("beta", np.zeros(shape))
            case _:
                raise AssertionError(operator)
        return np.ascontiguousarray(first, np.float32), np.ascontiguousarray(second, np.float32)


def _transformed(slab: Slab, kernel: Array, scale: Array, m: int, stored: int) -> Array:
    """A kernel float32[3, 3, ci, co], times ``scale``, for F(m x m, 3x3): float32[ceil(co / NR), (m + 2) * stored, ci, NR], all
    m + 2 elements of a row, or without those that follow from others."""
    packed = slab.array((-(-kernel.shape[-1] // NR), (m + 2) * stored, kernel.shape[2], NR))
    pack_transformed(kernel, scale, m, packed)
    return packed


def _kept(slab: Slab, array: Array) -> Array:
    """A float32 copy that lies with the other packed weights."""
    packed = slab.array(array.shape)
    packed[...] = array
    return packed


def _panels(slab: Slab, kernel: Array, scale: Array, columns_of_panel: int) -> Array:
    """A kernel float32[..., co], times ``scale``, as panels float32[ceil(co / columns_of_panel), 1, k, columns_of_panel]
    with all taps in k: all that one panel of outputs needs lies together."""
    panels = -(-kernel.shape[-1] // columns_of_panel)
    columns = kernel.reshape(-1, kernel.shape[-1])
    packed = slab.array((panels, 1, len(columns), columns_of_panel))
    for panel in range(panels):
        part = slice(panel * columns_of_panel, (panel + 1) * columns_of_panel)
        width = len(scale[part])
        np.multiply(columns[:, part], scale[part], out=packed[panel, 0, :, :width], casting="same_kind")
        packed[panel, 0, :, width:] = 0.0
    return packed
