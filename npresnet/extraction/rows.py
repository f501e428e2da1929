"""From images to rows: the network, the pools, and what is made of images that the network does not take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, UsageError
from ..model import ResNet
from .decoders import Decoded, DecodedWindow
from .pooling import POOLS, pooled

__all__ = ["DTYPES", "Extractor", "chosen_layers"]

DTYPES = {"f32": np.float32, "f16": np.float16}

Rows = npt.NDArray[Any]


def chosen_layers(net: ResNet, layers: object) -> dict[str, str]:
    """{name in the results: layer of the network}; for None C5, or the last feature map that there is.

    Raises UsageError for a name that is neither a feature map nor a layer.
    """
    features = {name.lower(): layer for name, layer in net.graph.features.items()}
    if layers is None:
        if not features:
            raise UsageError(
                f"layers: {net.architecture} has no feature maps C1 to C5; name layers, such as {net.graph.layers[-1].name!r}"
            )
        layers = [max(features)]
    if isinstance(layers, str):
        layers = [name.strip() for name in layers.split(",") if name.strip()]
    if not isinstance(layers, list | tuple) or not layers or not all(isinstance(name, str) for name in layers):
        raise UsageError(
            f"layers: got {layers!r}; it must be names such as 'c5', or of layers, as `net.layers` has them"
        )
    found = {}
    for name in layers:
        key = name.lower() if name.lower() in features else name
        found[key] = features[key] if key in features else net.graph.resolved(name)
    return found


class Extractor:
    """A network as it gives rows: {name: layer} of it, pooled, as ``dtype``.

    A row of one layer is an array; of several, a record with a field for each.
    """

    def __init__(self, net: ResNet, layers: Mapping[str, str], pool: str, dtype: str) -> None:
        if pool not in POOLS:
            raise UsageError(f"pool: got {pool!r}; it must be one of {', '.join(POOLS)}")
        if dtype not in DTYPES:
            raise UsageError(f"dtype: got {dtype!r}; it must be one of {', '.join(DTYPES)}")
        self._net, self._layers, self._pool, self._dtype = net, dict(layers), pool, np.dtype(DTYPES[dtype])

    def row(self, shape: tuple[int, int, int] | None) -> np.dtype[Any]:
        """The dtype of a row for images of ``shape``, or, for None, of any. Raises UsageError where they are too small, and for maps
        that would differ from image to image."""
        height, width, _ = shape or (224, 224, 0)
        shapes = self._net.graph.shapes(height, width, self._layers.values())
        fields = []
        for name, layer in self._layers.items():
            whole = shapes[layer]
            if len(whole) == 3 and self._pool != "none":
                whole = whole[-1:]
            elif len(whole) > 1 and shape is None:
                raise UsageError(
                    f"pool: the maps of {name!r} are as large as the picture asks for, and rows must be alike; pool them, or give one "
                    "size: --size 224x224"
                )
            fields.append((name, self._dtype, whole))
        return np.dtype(fields) if len(fields) > 1 else np.dtype(fields[0][1:])

    def maps(self, images: npt.NDArray[np.float32]) -> dict[str, Rows]:
        """What the network makes of images, by its layers' names."""
        return self._net(images, outputs=list(dict.fromkeys(self._layers.values())))

    def rows(self, window: DecodedWindow) -> Iterator[tuple[Decoded, Any]]:
        """Each of the window's items, in order, with its row; None where there is none, and then the item says why."""
        found: dict[int, Any] = {}
        for group, images in window.batches():
            for decoded, row in zip(group, self._alone_if_need_be(group, images), strict=True):
                found[id(decoded)] = row
        for decoded in window.decoded:
            yield decoded, found.get(id(decoded))

    def _alone_if_need_be(self, group: list[Decoded], images: npt.NDArray[np.float32]) -> list[Any]:
        """The rows of a batch; if the network refuses it, of each image that it takes."""
        try:
            return self._computed(group, images)
        except (ImageError, UsageError, MemoryError) as error:
            if len(group) == 1:
                kind = "memory" if isinstance(error, MemoryError) else "size"
                group[0].error, group[0].text = kind, str(error) or "the network takes more memory than there is"
                return [None]
        return [self._alone_if_need_be([one], images[at : at + 1])[0] for at, one in enumerate(group)]

    def _computed(self, group: list[Decoded], images: npt.NDArray[np.float32]) -> list[Any]:
        maps = self.maps(images)
        columns = {name: pooled(maps[layer], self._pool) for name, layer in self._layers.items()}
        with np.errstate(over="ignore"):
            narrow = {name: column.astype(self._dtype) for name, column in columns.items()}
        rows: list[Any] = []
        for at, decoded in enumerate(group):
            if any(self._overflows(columns[name][at], narrow[name][at]) for name in narrow):
                decoded.error, decoded.text = (
                    "overflow",
                    f"numbers beyond {np.finfo(np.float16).max:g}; use --dtype f32",
                )
                rows.append(None)
            elif len(narrow) == 1:
                rows.append(next(iter(narrow.values()))[at])
            else:
                rows.append(tuple(column[at] for column in narrow.values()))
        return rows

    def _overflows(self, wide: Rows, narrow: Rows) -> bool:
        return self._dtype == np.float16 and bool((np.isinf(narrow) & np.isfinite(wide)).any())
