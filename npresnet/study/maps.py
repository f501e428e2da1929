"""``study maps``: feature maps, the liveliest channels first, and the pixels behind a cell of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..model import ResNet
from .forms import Column, Grid
from .receptive import Field, fields_of

__all__ = ["TABLES", "Channel", "MapsStudy", "Sheet", "maps", "receptive_field", "thumbnail"]

Array = npt.NDArray[Any]

_SIDE = 16  # most cells of a thumbnail in each direction
_SHOWN = 16  # channels of a map

TABLES = (
    Grid(
        "sheets",
        (
            Column("map", "feature"),
            Column("layer", "layer"),
            Column("shape", "shape", "shape"),
            Column("a cell sees", "field", "shape"),
            Column("dead channels", "dead_count", "count"),
            Column("zeros", "zeros", "percent"),
            Column("largest", "largest", "value"),
            Column("root mean square", "rms", "value", wide=True),
        ),
        "A cell's field is in pixels of the picture; a channel is dead where all of it is zero, for this picture",
    ),
)


@dataclass(frozen=True)
class Channel:
    """One channel of a map. ``energy``: mean of the squares; ``thumbnail``: means over blocks of cells, float32[rows, columns]."""

    channel: int
    energy: float
    mean: float
    largest: float
    thumbnail: Array


@dataclass(frozen=True)
class Sheet:
    """One layer's map.

    shape         (h, w, c)
    channels      those with the most energy, the most first
    low, high     of the thumbnails: one scale of colours for all of a sheet
    dead          channels that are zero everywhere
    zeros         share of zeros in the whole map
    field         (height, width) in pixels of what a cell sees; None where there is no such box
    rows, columns (first, last, step): cell i sees the pixels first + i * step to last + i * step
    block         cells that a thumbnail's cell is the mean of, (rows, columns)
    """

    feature: str
    layer: str
    shape: tuple[int, ...]
    channels: Sequence[Channel]
    low: float
    high: float
    dead: Sequence[int]
    dead_count: int
    zeros: float
    largest: float
    rms: float
    field: tuple[int, int] | None
    rows: tuple[int, int, int] | None
    columns: tuple[int, int, int] | None
    block: tuple[int, int]


@dataclass(frozen=True)
class MapsStudy:
    """Maps of one image; size: (h, w) of it."""

    size: tuple[int, int]
    sheets: Sequence[Sheet]


def thumbnail(map_: Array, block: tuple[int, int]) -> Array:
    """Means over blocks of cells of float32[h, w]; the last of each row and column may be smaller."""
    rows, columns = (np.arange(0, size, step) for size, step in zip(map_.shape, block, strict=True))
    sums = np.add.reduceat(np.add.reduceat(map_.astype(np.float64), rows, axis=0), columns, axis=1)
    heights, widths = (np.diff([*starts, size]) for starts, size in zip((rows, columns), map_.shape, strict=True))
    means: Array = (sums / (heights[:, None] * widths)).astype(np.float32)
    return means


def maps(net: ResNet, images: Array, layers: Sequence[str] | None = None) -> MapsStudy:
    """Feature maps of the first of ``images``.

    layers  C1 to C5, or names of layers; None: all feature maps that there are, or the last layer

    Raises UsageError for a layer that is not here or makes no map.
    """
    image, graph = images[:1], net.graph
    asked = list(layers or graph.features or [graph.layers[-1].name])
    names = {name: graph.features.get(name, name) for name in asked}
    height, width = image.shape[1:3]
    shapes = graph.shapes(height, width, [*graph.ends_for(height, width), *map(graph.resolved, names.values())])
    fields = fields_of(graph, shapes)
    for name in names.values():
        if len(shapes[graph.resolved(name)]) != 3:
            raise UsageError(
                f"layer {name!r}: its output is {shapes[graph.resolved(name)]}, no map; choose one that has rows and columns"
            )
    found = net(image, outputs=list(names.values()))
    sheets = [
        _sheet(name if name in graph.features else "", layer, found[layer][0], fields.get(graph.resolved(layer)))
        for name, layer in names.items()
    ]
    return MapsStudy((image.shape[1], image.shape[2]), sheets)


def _sheet(feature: str, layer: str, map_: Array, field: Field | None) -> Sheet:
    energy = np.square(map_, dtype=np.float64).mean(axis=(0, 1))
    block = (max(1, -(-map_.shape[0] // _SIDE)), max(1, -(-map_.shape[1] // _SIDE)))
    channels = [
        Channel(
            int(channel), float(energy[channel]), float(map_[..., channel].mean(dtype=np.float64)),
            float(map_[..., channel].max()), thumbnail(map_[..., channel], block),
        )
        for channel in np.argsort(-energy, kind="stable")[:_SHOWN]
    ]  # fmt: skip
    dead = np.flatnonzero(~map_.any(axis=(0, 1)))
    thumbnails = [channel.thumbnail for channel in channels]
    spans = None if field is None else (field.rows, field.columns)
    rows, columns = (None, None) if spans is None else ((s.first, s.last, s.step) for s in spans)
    return Sheet(
        feature, layer, map_.shape, channels, float(np.min(thumbnails)), float(np.max(thumbnails)), dead.tolist(), len(dead),
        float((map_ == 0).mean()), float(map_.max()), float(np.sqrt(energy.mean())),
        None if spans is None else (spans[0].size, spans[1].size), rows, columns, block,
    )  # fmt: skip


def receptive_field(net: ResNet, layer: str, size: tuple[int, int]) -> Field:
    """What the cells of a layer's map see of an image of ``size`` (h, w). Raises UsageError for a layer that is not here, and for
    one whose cells do not each see a box: behind a pool over the whole map, say."""
    name = net.graph.features.get(layer, layer)
    found = fields_of(net.graph, net.graph.shapes(*size, net.graph.ends_for(*size))).get(net.graph.resolved(name))
    if found is None:
        raise UsageError(
            f"layer {layer!r}: its cells see no box of the picture, for it has no cells, or a map behind it was pooled or "
            "resized as a whole; choose one before that"
        )
    return found
