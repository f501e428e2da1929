"""Receptive fields: which pixels of the picture a cell of a feature map can see, by the geometry of the layers alone.

For each axis, cell ``i`` of a map sees the pixels ``first + i * step`` to ``last + i * step``. A window of k taps, d apart,
moved by s behind a padding of p, makes of (first, last, step)

    first - p * step,    last + ((k - 1) * d - p) * step,    s * step

Where a layer reads several maps, the widest span counts. Pixels beyond the picture's edges are padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..kernels.geometry import resolve_padding
from ..network.graph import Graph, Layer
from ..network.operators import AveragePool, Channels, Conv2D, Crop, Input, MaxPool, Normalization, Pad, Shape, Softmax

__all__ = ["Field", "Span", "fields_of"]


_OF_A_PIXEL = Channels | Normalization | Softmax  # which see no other


@dataclass(frozen=True)
class Span:
    """Of one axis: cell ``i`` sees the pixels ``first + i * step`` to ``last + i * step``, both included."""

    first: int
    last: int
    step: int

    @property
    def size(self) -> int:
        """In pixels."""
        return self.last - self.first + 1

    def of(self, cell: int, pixels: int) -> tuple[int, int]:
        """The first pixel that the cell sees and the one after the last, of those that there are."""
        return max(self.first + cell * self.step, 0), min(self.last + cell * self.step + 1, pixels)


@dataclass(frozen=True)
class Field:
    """What the cells of one layer's map see: rows and columns of the picture."""

    rows: Span
    columns: Span

    def box(self, row: int, column: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) of what a cell sees of a picture of ``size``, bottom and right not included."""
        return *self.rows.of(row, size[0]), *self.columns.of(column, size[1])


def _moved(span: Span, taps: int, stride: int, dilation: int, before: int) -> Span:
    return Span(
        span.first - before * span.step,
        span.last + ((taps - 1) * dilation - before) * span.step,
        stride * span.step,
    )


def _joined(spans: list[Span]) -> Span | None:
    if len({span.step for span in spans}) != 1:
        return None
    return Span(min(span.first for span in spans), max(span.last for span in spans), spans[0].step)


def _of_layer(layer: Layer, inputs: list[Field], shape: Shape) -> Field | None:
    """From what a layer reads, of ``shape``; None for what is no map of cells that each see a box."""
    operator, first = layer.operator, inputs[0]
    taps = stride = dilation = (1, 1)
    match operator:
        case Conv2D():
            taps, stride, dilation = operator.kernel, operator.stride, operator.dilation
            pads = resolve_padding(operator.padding, (shape[0], shape[1]), taps, stride, dilation)
        case MaxPool() | AveragePool():
            taps, stride = operator.window, operator.stride
            pads = resolve_padding(operator.padding, (shape[0], shape[1]), taps, stride, dilation)
        case Pad():
            pads = operator.pads
        case Crop():
            top, bottom, left, right = operator.crops
            pads = (-top, -bottom, -left, -right)
        case _ if len(inputs) > 1:
            return _all(inputs)
        case _:
            return first if operator.pointwise or operator.per_channel or isinstance(operator, _OF_A_PIXEL) else None
    return Field(
        _moved(first.rows, taps[0], stride[0], dilation[0], pads[0]),
        _moved(first.columns, taps[1], stride[1], dilation[1], pads[2]),
    )


def _all(inputs: list[Field]) -> Field | None:
    rows, columns = _joined([field.rows for field in inputs]), _joined([field.columns for field in inputs])
    return None if rows is None or columns is None else Field(rows, columns)


def fields_of(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Field]:
    """{layer: what its cells see} of all layers whose cells each see a box of the picture: not behind a pool over the whole
    map, a resized map, or a second input."""
    entry = graph.layers[0]
    one = Span(0, 0, 1)
    found = {entry.name: Field(one, one)} if len(shapes[entry.name]) == 3 else {}
    for layer in graph.layers[1:]:
        if isinstance(layer.operator, Input) or len(shapes.get(layer.name, ())) != 3:
            continue
        inputs = [found[name] for name in layer.inputs if name in found]
        if len(inputs) == len(layer.inputs):
            field = _of_layer(layer, inputs, shapes[layer.inputs[0]])
            if field is not None:
                found[layer.name] = field
    return found
