"""What every layer of a model computes, one layer at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError, UsageError
from .backend import tensorflow_and_keras
from .unrolled import LayerUse, Unrolled, unrolled

if TYPE_CHECKING:
    import keras

__all__ = ["Images", "activations"]

Images = NDArray[np.float32] | Sequence[NDArray[np.float32]] | Mapping[str, NDArray[np.float32]]
"""What a network with several inputs takes as a list, or by the names of its input layers; with one, the array."""


def activations(
    model: keras.Model | Unrolled, images: Images, layers: Sequence[str] | None = None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Run a model one layer at a time and yield each layer's name and output, as soon as it is there.

    Plain TensorFlow operations on the CPU, no graph and no XLA, batch-norm on its moving statistics. A tensor is
    dropped with its last use, so that of a whole network only a few are held at any time.

    images  float32[n, h, w, c], n, h, w at least 1, prepared as the family wants it; of several inputs a list, or {name: array}
    layers  only these layers' outputs, and only what they need is computed; None for all but the input itself
    yields  (name, array float32[n, h', w', c] or float32[n, c]), inputs before what is computed from them; the array
            is the caller's own

    Raises ImageError for other images and UsageError for layers that the model does not have, both at once and not at
    the first layer; MissingExtraError without TensorFlow.
    """
    tensorflow, _ = tensorflow_and_keras()
    network = model if isinstance(model, Unrolled) else unrolled(model)
    given = _given(network, images)
    names = {use.name for use in network.layers}
    wanted = names if layers is None else set(layers)
    if unknown := sorted(wanted - names):
        raise UsageError(
            f"layers: {', '.join(unknown)} not in {network.name}; they must be names of its layers; "
            "see `npresnet info` for the list"
        )

    # Backwards: keep what is wanted or read by something kept, and count the readers of each tensor.
    readers: Counter[Hashable] = Counter()
    kept: list[LayerUse] = []
    for use in reversed(network.layers):
        if use.name in wanted or readers[use.output]:
            kept.append(use)
            readers.update(use.inputs)
    # The tensors' values by their keys, as long as a layer still reads them.
    live = {key: tensorflow.constant(array) for key, array in given.items()}

    def run() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for use in reversed(kept):
            values = [live[x] for x in use.inputs]
            # A graphics card would convolve in TF32. Entered per layer: open over a yield it would reach the caller.
            with tensorflow.device("/CPU:0"):
                output = use.call(values)
            del values
            readers.subtract(use.inputs)
            for x in use.inputs:
                if not readers[x]:
                    live.pop(x, None)
            if readers[use.output]:
                live[use.output] = output
            array = output.numpy() if use.name in wanted else None
            del output
            if array is not None:
                yield use.name, array

    return run()


def _given(network: Unrolled, images: Any) -> dict[Hashable, NDArray[np.float32]]:
    """{key of the input: its array}. Raises ImageError where they do not fit."""
    inputs = network.inputs
    if isinstance(images, Mapping):
        arrays = [images.get(name) for name, _ in inputs.values()]
    else:
        arrays = list(images) if isinstance(images, list | tuple) and len(inputs) > 1 else [images]
    if len(arrays) != len(inputs):
        names = ", ".join(name for name, _ in inputs.values())
        raise ImageError(
            f"images: {len(arrays)} given, but {network.name} has {len(inputs)} inputs ({names}); give a list of arrays, or "
            "{name: array}"
        )
    found: dict[Hashable, NDArray[np.float32]] = {}
    for (key, (name, shape)), array in zip(inputs.items(), arrays, strict=True):
        what = "images" if len(inputs) == 1 else f"images for {name}"
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not _fits(array.shape, shape):
            said = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            wanted = f"n, h, w, {shape[3]}" if len(shape) == 4 else ", ".join(map(str, ("n", *shape[1:])))
            raise ImageError(f"{what}: {said} was given; they must be float32[{wanted}]; convert and stack them")
        if 0 in array.shape:
            raise ImageError(f"{what}: {list(array.shape)} was given; there must be a pixel; check how they were read")
        found[key] = array
    return found


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Height and width are a network's own affair: many fit more than one size, whatever their input says."""
    return len(shape) == len(wanted) and (wanted[-1] is None or shape[-1] == wanted[-1])
