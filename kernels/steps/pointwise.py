"""A 1x1 convolution as it stands: the pixels of a map are the rows of a matrix, which needs no copy.

``Product`` is the part that it shares with im2col: rows times packed weights, with the epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..jit import Native, call, native
from ..numba_later import types
from ..tile import MR, NR, multiply
from .epilogue import Epilogue, finish
from .intrinsics import part_of
from .records import Address, Map, Step, offset_of, view_of

__all__ = ["PointwiseStep", "Product", "times_panels"]


@dataclass(frozen=True, kw_only=True)
class Product:
    """Rows of floats times a matrix in panels of NR columns: one row of the output for each.

    panels   address of float32[ceil(columns / NR), depth, NR]
    depth    floats in a row of A
    passes   over k
    out      rows of ``out.channels`` columns
    """

    panels: Address
    depth: int
    passes: int
    out: Map
    epilogue: Epilogue
    multiply: Native = multiply

    @property
    def count(self) -> int:
        """Number of panels."""
        return -(-self.out.channels // NR)


_product = view_of(Product)
_i = types.int64


@native(types.void(_i, _i, _i, _i, _i, _i, _i))
def times_panels(product, rows, a, lda, first_row, panel0, panel1):
    """``rows`` rows at ``a`` times panels panel0..panel1-1, into rows from ``first_row`` on of the output.

    product  address of a ``Product``
    """
    s = _product(product)
    out, epilogue = s.out, s.epilogue
    ldc, ld_residual = out.pitch, epilogue.residual.pitch
    for panel in range(panel0, panel1):
        at, columns = panel * NR * 4, out.channels - panel * NR
        place = out.address + first_row * ldc + at
        call(s.multiply, (
            rows, a, lda, s.panels + at * s.depth, s.depth, columns, s.passes, True,
            epilogue.bias + at, 0, epilogue.residual.address + first_row * ld_residual + at, ld_residual,
            epilogue.activation.slope, epilogue.activation.floor, place, ldc, np.int64(0), np.int64(0),
        ))  # fmt: skip
        finish(epilogue.activation, place, ldc, rows, min(columns, NR))


@dataclass(frozen=True, kw_only=True)
class PointwiseStep(Step):
    """A 1x1 convolution with stride 1, or a dense layer.

    rows      pixels of all images
    blocks    into which they are cut
    by_panel  1: an item is one panel of one block; 0: an item is all panels of a block
    """

    x: Map
    product: Product
    rows: int
    blocks: int
    by_panel: int
    times_panels: Native = times_panels

    @property
    def items(self) -> int:
        return self.blocks * (self.product.count if self.by_panel else 1)


_view, _PRODUCT = view_of(PointwiseStep), offset_of(PointwiseStep, "product")


@PointwiseStep.native
def _pointwise_item(step, item, scratch):
    s = _view(step)
    panel0, panel1, block = np.int64(0), (s.product.out.channels + NR - 1) // NR, item
    if s.by_panel:
        panel0, block = divmod(item, s.blocks)
        panel1 = panel0 + 1
    first, last = part_of(s.rows, block, s.blocks, MR)
    a = s.x.address + first * s.x.pitch
    call(s.times_panels, (step + _PRODUCT, last - first, a, s.x.pitch, first, panel0, panel1))
