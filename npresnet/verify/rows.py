"""Proof on the user's own file: every layer's output beside TensorFlow's, or beside a recording of TensorFlow's.

A recording holds, for each layer, the shape and the values at some thousands of fixed places (all of them in small
layers, and always the four corners), and the images that went in. It is a few megabytes, or with fewer places some
hundred kilobytes, and lets a machine without TensorFlow check itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model import ResNet
from ..network.architecture import Architecture
from ..network.graph import Layer
from . import detector
from .compare import Difference, compare
from .recording import Recording

__all__ = [
    "Row",
    "against_recording",
    "against_reference",
    "against_tensorflow",
    "keras_model",
    "layers_against_recording",
    "plan_against_recording",
    "trained_in",
]


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """One layer's verdict."""

    name: str
    kind: str
    shape: tuple[int, ...]
    difference: Difference

    @property
    def agrees(self) -> bool:
        """Whether the layer is as close to the oracle as it must be."""
        return self.difference.agrees()


def keras_model(architecture: Architecture) -> Any:
    """The Keras model of the same network, built by the oracle, which shares nothing with our own table."""
    from . import oracle

    family = architecture.family.name
    options = {option: getattr(architecture, option) for option in oracle.BUILDERS[family].options}
    return oracle.build(
        family,
        architecture.depth,
        stem_width=architecture.stem_width,
        stage_widths=architecture.widths,
        classes=architecture.classes,
        **{option: value for option, value in options.items() if value is not None},  # None: the family's own
    )


def against_tensorflow(net: ResNet, weights: Path, images: Array, recording: Recording | None = None) -> Iterator[Row]:
    """Build the same network in Keras from its own sources, load the same file, and compare every layer.

    ``recording``, if given, is filled with TensorFlow's outputs. Raises MissingExtraError without TensorFlow.
    """
    from . import oracle

    if net.architecture.own:
        network = oracle.described(weights)
        # a head that is code, say, neither runs
        both = [use.name for use in network.layers if use.name in net.graph.by_name]
        return _rows(net, images, oracle.activations(network, images, both), recording)
    model = keras_model(net.architecture)
    names = _pools_without_names(net, model)
    seen: dict[str, Array] = {}
    found = detector.by_tensorflow(net, model, weights, images, seen)
    outputs = ((names.get(name, name), array) for name, array in found)
    return chain(_rows(net, images, outputs, recording), _choices(net, weights, images, seen))


def _choices(net: ResNet, weights: Path, images: Array, seen: Mapping[str, Array]) -> Iterator[Row]:
    for name, ours, theirs in detector.choices(net, weights, images, seen):
        yield Row(name, "choice", ours.shape, compare(ours, theirs))


def trained_in(weights: Path) -> str | None:
    """What the file says that its network computes in, where that is not float32, in which all is compared: "mixed_float16"."""
    from . import oracle

    return oracle.precision(weights)


def _pools_without_names(net: ResNet, model: Any) -> dict[str, str]:
    """{Keras's name: ours} of max-pools that their family's source does not name, so that Keras counts them: those of
    shortcuts in V2. Paired in order; none where the numbers differ."""
    counted = re.compile(r"max_pooling2d(?:_(\d+))?")
    theirs = {layer.name: int(found[1] or 0) for layer in model.layers if (found := counted.fullmatch(layer.name))}
    named = {layer.name for layer in model.layers}
    ours = [layer.name for layer in net.graph.layers if layer.operator.kind == "maxpool" and layer.name not in named]
    return dict(zip(sorted(theirs, key=theirs.__getitem__), ours, strict=True)) if len(theirs) == len(ours) else {}


def against_reference(net: ResNet, images: Array, recording: Recording | None = None) -> Iterator[Row]:
    """Compare every layer with this project's own float64 reference: needs nothing else, proves less."""
    return _rows(net, images, detector.by_reference(net, images), recording)


def _rows(
    net: ResNet, images: Array, oracle: Iterable[tuple[str, Array]], recording: Recording | None
) -> Iterator[Row]:
    """Both sides run in step, so that neither keeps all its activations; a layer that only one side has is a failure."""
    ours = detector.traced(net, images)
    waiting: dict[str, Any] = {}
    compared = set()
    known = detector.compared(net, images)
    for name, expected in oracle:
        if name not in known or name == net.graph.layers[0].name:
            continue
        if recording is not None:
            recording.add(name, expected)
        while name not in waiting:
            step = next(ours)
            waiting[step.name] = step
        step = waiting.pop(name)
        compared.add(name)
        yield Row(name, step.kind, step.shape, compare(step.array, expected))
    for layer in [*known.values()][1:]:
        if layer.name not in compared and not _part(net, layer):
            missing = Difference(np.inf, np.inf, "the oracle has no layer of this name")
            yield Row(layer.name, layer.operator.kind, (), missing)


def _part(net: ResNet, layer: Layer) -> bool:
    """Whether a layer is a part of one of Keras's, and has no name there: ``conv:0`` before the activation that is ``conv``."""
    whole, _, number = layer.name.rpartition(":")
    return bool(layer.stored) or (number.isdecimal() and whole in net.graph.by_name)


def against_recording(net: ResNet, weights: Path, recording: Recording) -> Iterator[Row]:
    """Compare every layer with a recording, on the recording's own images.

    Raises WeightsError when the recording was made from another weight file.
    """
    recording.check(weights)
    yield from layers_against_recording(net, recording)


def layers_against_recording(net: ResNet, recording: Recording, outputs: Sequence[str] | None = None) -> Iterator[Row]:
    """Compare every layer, or those that ``outputs`` need, with a recording, whatever weights that was made from."""
    expected = set(recording.layers)
    if outputs is not None:
        expected &= {layer.name for layer in net.graph.needed_for(outputs)}
    layers = detector.compared(net, recording.images) if outputs is None else net.graph.by_name
    steps = detector.traced(net, recording.images) if outputs is None else net.trace(recording.images, outputs)
    for step in steps:
        part = _part(net, layers[step.name]) and step.name not in recording.layers
        if step.kind == "input" or part:
            continue
        expected.discard(step.name)
        yield Row(step.name, step.kind, step.shape, recording.compare(step.name, step.array))
    for name in expected:
        yield Row(name, "", recording.layers[name][0], Difference(np.inf, np.inf, "this network has no such layer"))


def plan_against_recording(net: ResNet, recording: Recording, outputs: Sequence[str] | None = None) -> list[Row]:
    """Compare every tensor that ``net(images)``, or ``net(images, outputs)``, keeps between its steps with a recording; but not
    the few numbers that gates are made from."""
    steps = net.profile(recording.images, outputs, repeats=1)
    left_out = _squeezed(net)
    names = [name for name in dict.fromkeys(step.name for step in steps) if name in net.layers and name not in left_out]
    if outputs is None and net.graph.classifier:
        names.append(net.graph.classifier)
    found = net(recording.images, outputs=names)
    kinds = {name: net.graph.by_name[name].operator.kind for name in names}
    return [Row(name, kinds[name], array.shape, recording.compare(name, array)) for name, array in found.items()]


def _squeezed(net: ResNet) -> set[str]:
    """The layers between the pool and the sigmoid of squeeze-and-excitation. Their ReLU may leave one number of eight, a
    hundredth of what it was made from: its relative error tells how small it is. The gates themselves tell of mistakes."""
    found = {layer.inputs[0] for layer in net.graph.layers if layer.operator.kind == "sigmoid"}
    for layer in reversed(net.graph.layers):
        if layer.name in found and layer.operator.kind in ("conv", "relu"):
            found.update(layer.inputs)
    return {name for name in found if net.graph.by_name[name].operator.kind in ("conv", "relu")}
