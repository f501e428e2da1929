"""Layers without weights that read one map: pools, borders, other shapes, constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..operator_base import MOST_WEIGHTS
from ..operators import (
    AveragePool,
    Crop,
    Flatten,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool,
    Operator,
    Pad,
    Rescale,
    Reshape,
    Resize,
    UpSample,
)
from .layer_config import LayerConfig, Maker, Shape, Unsupported
from .settings import constants, flag, padding_of, pads, pair, setting, whole

__all__ = ["MAPS"]


def _pool(operator: type[MaxPool] | type[AveragePool]) -> Maker:
    def make(layer: LayerConfig) -> list[Operator]:
        window = pair("pool_size", setting(layer.config, "pool_size", default=2))
        stride = pair("strides", setting(layer.config, "strides", default=window))
        return [operator(window, stride, "valid" if window == (1, 1) else padding_of(layer.config))]

    return make


def _global_pool(operator: Callable[[bool], Operator], axes: int = 2) -> Maker:
    """Over so many axes of pixels; those of maps come before the channels here, wherever they were."""

    def make(layer: LayerConfig) -> list[Operator]:
        if len(layer.shape) != axes + 1:
            raise Unsupported(f"it reads {layer.shape}, which are not {axes} axes of pixels and one of channels")
        if axes != 2 and layer.config.get("data_format") == "channels_first":
            raise Unsupported("data_format is 'channels_first'; of what are no maps, channels come last")
        return [operator(flag("keepdims", setting(layer.config, "keepdims", default=False)))]

    return make


def _interpolation(layer: LayerConfig, default: str) -> Any:
    found = setting(layer.config, "interpolation", default=default)
    if found not in ("nearest", "bilinear"):
        raise Unsupported(f"interpolation is {found!r}; 'nearest' and 'bilinear' are run")
    return found


def _upsampling(layer: LayerConfig) -> list[Operator]:
    size, interpolation = pair("size", setting(layer.config, "size", default=2)), _interpolation(layer, "nearest")
    return [UpSample(size, interpolation)] if size != (1, 1) else []


def _size(layer: LayerConfig) -> tuple[int, int]:
    return pair("height and width", [setting(layer.config, key) for key in ("height", "width")])


def _resizing(layer: LayerConfig) -> list[Operator]:
    for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if layer.config.get(name):
            raise Unsupported(f"{name} is {layer.config[name]!r}; without it, it is run")
    return [Resize(_size(layer), _interpolation(layer, "bilinear"))]


def _center_crop(layer: LayerConfig) -> list[Operator]:
    """Keras brings an image that is smaller to the size by resizing it; that is not run."""
    (height, width), (h, w, _) = _size(layer), layer.shape
    if h is None or w is None:
        raise Unsupported("what it cuts off depends on the size of the image, which the file does not fix")
    if h < height or w < width:
        raise Unsupported(f"it gets {h}x{w} pixels, fewer than the {height}x{width} that it is to leave")
    top, left = (h - height) // 2, (w - width) // 2
    crops = top, h - height - top, left, w - width - left
    return [Crop(crops)] if any(crops) else []


def _cropping(layer: LayerConfig) -> list[Operator]:
    crops = pads("cropping", setting(layer.config, "cropping", default=0))
    return [Crop(crops)] if any(crops) else []


def _one_pixel(shape: Shape) -> bool:
    """Whether there are channels only, so that it does not matter where they come."""
    return all(size == 1 for size in shape[:-1])


def _flatten(layer: LayerConfig) -> list[Operator]:
    if layer.channels_first and len(layer.shape) == 3 and not _one_pixel(layer.shape) and layer.shape[-1] != 1:
        raise Unsupported("it flattens channels before pixels")
    return [Flatten()] if len(layer.shape) > 1 else []


def _reshape(layer: LayerConfig) -> list[Operator]:
    given = setting(layer.config, "target_shape")
    target = [
        whole("target_shape", n, -1, MOST_WEIGHTS) for n in (given if isinstance(given, list | tuple) else [given])
    ]
    if 0 in target or not target or target.count(-1) > 1:
        raise Unsupported(f"target_shape is {given}; it must be sizes, one of which may be -1")
    if layer.channels_first and 3 in (len(target), len(layer.shape)):
        if len(target) == 3:
            target = [*target[1:], target[0]]
        if not _one_pixel(layer.shape) or not _one_pixel(tuple(target)):
            raise Unsupported(f"target_shape is {given}, of maps that come channels first")
    return [Reshape(tuple(target))]


def _permute(layer: LayerConfig) -> list[Operator]:
    """Only where all numbers stay in their order: where it moves axes of one element, if any."""
    dims = setting(layer.config, "dims")
    order = [whole("dims", n) - 1 for n in (dims if isinstance(dims, list | tuple) else [dims])]
    if sorted(order) != list(range(len(layer.shape))):
        raise Unsupported(f"dims is {dims}; it must be the numbers from 1 to {len(layer.shape)} in some order")
    moved = [axis for axis in order if layer.shape[axis] != 1]
    if order == sorted(order):
        return []
    shape = tuple(layer.shape[axis] or -1 for axis in order)
    if moved != sorted(moved) or shape.count(-1) > 1 or layer.channels_first:
        raise Unsupported(f"dims is {tuple(dims)}, which moves numbers; only axes of one element may be moved")
    return [Reshape(shape)]


def _rescaling(layer: LayerConfig) -> list[Operator]:
    config, channels = layer.config, layer.channels
    scale, offset = setting(config, "scale", default=1), setting(config, "offset", default=0)
    factors, offsets = constants("scale", scale, channels), constants("offset", offset, channels)
    if layer.channels_first and max(len(factors), len(offsets)) > 1:
        raise Unsupported("it has a constant for each column of maps, which come channels first")
    return [Rescale(factors, offsets)]


MAPS: Mapping[str, Maker] = {
    "AveragePooling2D": _pool(AveragePool),
    "CenterCrop": _center_crop,
    "Cropping2D": _cropping,
    "Flatten": _flatten,
    "GlobalAveragePooling1D": _global_pool(GlobalAveragePool, 1),
    "GlobalAveragePooling2D": _global_pool(GlobalAveragePool),
    "GlobalAveragePooling3D": _global_pool(GlobalAveragePool, 3),
    "GlobalMaxPooling1D": _global_pool(GlobalMaxPool, 1),
    "GlobalMaxPooling2D": _global_pool(GlobalMaxPool),
    "GlobalMaxPooling3D": _global_pool(GlobalMaxPool, 3),
    "MaxPooling2D": _pool(MaxPool),
    "Permute": _permute,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "Resizing": _resizing,
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": lambda layer: [Pad(pads("padding", setting(layer.config, "padding", default=1)))],
}
"""{class in Keras: what makes its operators}."""
