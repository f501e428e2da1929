"""What every layer of a Keras model computes, one layer at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError, UsageError
from .backend import tensorflow_and_keras

if TYPE_CHECKING:
    import keras

__all__ = ["activations"]


def activations(
    model: keras.Model, images: NDArray[np.float32], layers: Sequence[str] | None = None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Run a model one layer at a time and yield each layer's name and output, as soon as it is there.

    Plain TensorFlow operations on the CPU, no graph and no XLA, batch-norm on its moving statistics. A tensor is
    dropped with its last use, so that of a whole network only a few are held at any time.

    images  float32[n, h, w, 3], n, h, w at least 1, prepared as the family wants it
    layers  only these layers' outputs, and only what they need is computed; None for all but the input itself
    yields  (name, array float32[n, h', w', c] or float32[n, c]), inputs before what is computed from them; the array
            is the caller's own

    Raises ImageError for other images and UsageError for layers that the model does not have, both at once and not at
    the first step; MissingExtraError without TensorFlow.
    """
    tensorflow, _ = tensorflow_and_keras()
    channels = model.inputs[0].shape[3]
    if not isinstance(images, np.ndarray) or images.dtype != np.float32 or images.shape[3:] != (channels,):
        given = f"{images.dtype}{list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ImageError(
            f"images: {given} was given; they must be float32[n, h, w, {channels}]; convert and stack them"
        )
    if 0 in images.shape:
        raise ImageError(f"images: {list(images.shape)} was given; there must be a pixel; check how they were read")

    source, steps = _flattened(model)
    wanted = {step.layer.name for step in steps} if layers is None else set(layers)
    if unknown := sorted(wanted - {step.layer.name for step in steps}):
        raise UsageError(
            f"layers: {', '.join(unknown)} not in {model.name}; they must be names of its layers; "
            "see `npresnet info` for the list"
        )

    # Backwards: keep what is wanted or read by something kept, and count the readers of each tensor.
    readers: Counter[int] = Counter()
    kept: list[_Step] = []
    for step in reversed(steps):
        if step.layer.name in wanted or readers[step.output]:
            kept.append(step)
            readers.update(step.inputs)
    # Keras's symbolic tensors, by id, and their values, as long as a layer still reads them.
    live = {source: tensorflow.constant(images)}

    def run() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for step in reversed(kept):
            values = [live[x] for x in step.inputs]
            # A graphics card would convolve in TF32. Entered per layer: open over a yield it would reach the caller.
            with tensorflow.device("/CPU:0"):
                output = step.layer(values if step.listed else values[0], **step.options)
            del values
            readers.subtract(step.inputs)
            for x in step.inputs:
                if not readers[x]:
                    live.pop(x, None)
            if readers[step.output]:
                live[step.output] = output
            array = output.numpy() if step.layer.name in wanted else None
            del output
            if array is not None:
                yield step.layer.name, array

    return run()


class _Step(NamedTuple):
    """One layer of a model: the ids of the symbolic tensors that it reads and makes, and how it is called.

    listed   it takes its inputs as a list
    options  what it is called with besides: the value that ``keras.ops.pad`` fills in, for one; and that nothing is
             being trained, which layers that augment images assume
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int
    listed: bool
    options: dict[str, Any]


def _flattened(model: Any, alias: dict[int, int] | None = None) -> tuple[int, list[_Step]]:
    """A model's input, by the id of its tensor, and its layers in the order in which Keras runs them; of models inside
    it their layers. ``alias`` has the ids of their inputs and outputs in the model around."""
    from keras.src.ops.function import make_node_key

    alias = {} if alias is None else alias
    graph = getattr(model, "_functional", None) or model  # a Sequential keeps its graph there
    steps: list[_Step] = []
    for layer in graph.operations:
        nodes = enumerate(layer._inbound_nodes)
        node = next(node for i, node in nodes if make_node_key(layer, i) in graph._nodes)
        if node.is_input:
            continue
        inputs = tuple(alias.get(id(x), id(x)) for x in node.input_tensors)
        if hasattr(layer, "layers"):
            inner = getattr(layer, "_functional", None) or layer
            alias.update(zip(map(id, inner.inputs), inputs, strict=True))
            steps += _flattened(layer, alias)[1]
            alias.update((id(x), alias.get(id(y), id(y))) for x, y in zip(node.outputs, inner.outputs, strict=True))
            continue
        given = node.arguments
        options = {name: value for name, value in given.kwargs.items() if isinstance(value, float)}
        if getattr(layer, "_call_has_training_arg", False):
            options["training"] = False
        steps.append(_Step(layer, inputs, id(node.outputs[0]), isinstance(given.args[0], list), options))
    return id(graph.inputs[0]), steps
