"""Proof on the user's own file: every layer's output beside TensorFlow's, or beside a recording of TensorFlow's.

A recording holds, for each layer, the shape and the values at some thousands of fixed places (all of them in small
layers, and always the four corners), and the images that went in. It is a few megabytes, and lets a machine without
TensorFlow check itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .architecture import Architecture
from .compare import Difference, compare
from .errors import UsageError, WeightsError
from .files import replaced
from .model import ResNet
from .version import __version__

__all__ = [
    "Recording",
    "Row",
    "against_recording",
    "against_reference",
    "against_tensorflow",
    "file_hash",
    "keras_model",
]

Array = npt.NDArray[Any]

_SAMPLES = 4096  # values kept per layer
_FORMAT = 1


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


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _places(shape: tuple[int, ...]) -> Array:
    """The places that a recording keeps of an array, as flat indices: the same for every array of that shape."""
    size = int(np.prod(shape))
    if size <= _SAMPLES:
        return np.arange(size)
    chosen = np.random.default_rng(size).choice(size, _SAMPLES, replace=False)
    if len(shape) == 4:  # borders are where padding goes wrong: every channel of the four corner pixels
        _, h, w, c = shape
        corners = (np.arange(c) + c * (row * w + column) for row in {0, h - 1} for column in {0, w - 1})
        chosen = np.concatenate([chosen, *corners])
    return np.unique(chosen)


class Recording:
    """What an oracle computed for one weight file and one batch of images, layer by layer."""

    def __init__(self, weights: Path, images: Array, oracle: str) -> None:
        self.images = images
        self.weights_hash = file_hash(weights)
        self.weights_name = weights.name
        self.oracle = oracle
        self.layers: dict[str, tuple[tuple[int, ...], Array]] = {}

    def add(self, name: str, array: Array) -> None:
        """Keep the layer's shape and its values at the chosen places."""
        self.layers[name] = (array.shape, array.ravel()[_places(array.shape)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording as ``.npz``; the name appears only with the complete file."""
        about = [str(_FORMAT), __version__, self.oracle, self.weights_name, self.weights_hash]
        contents: dict[str, Any] = {"about": np.array(about), "images": self.images}
        for name, (shape, values) in self.layers.items():
            contents[f"shape/{name}"], contents[f"values/{name}"] = np.array(shape), values
        with replaced(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **contents)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording. Raises UsageError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as data:
                about = [str(item) for item in data["about"]]
                recording = cls.__new__(cls)
                recording.images = data["images"]
                form, _, recording.oracle, recording.weights_name, recording.weights_hash = about
                names = [key[len("values/") :] for key in data.files if key.startswith("values/")]
                recording.layers = {
                    name: (tuple(map(int, data[f"shape/{name}"])), data[f"values/{name}"]) for name in names
                }
        except FileNotFoundError:
            raise UsageError(
                f"{path}: there is no such file; `npresnet verify WEIGHTS --record {path}` makes one"
            ) from None
        except Exception as error:  # damaged or foreign bytes can make NumPy and zlib raise nearly anything
            raise UsageError(f"{path}: this is no recording made by `npresnet verify --record` ({error})") from None
        if form != str(_FORMAT):
            raise UsageError(f"{path}: the recording has format {form}, this version reads {_FORMAT}; record it anew")
        return recording


def keras_model(architecture: Architecture) -> Any:
    """The Keras model of the same network, built by ``oracle.py``, which shares nothing with our own table."""
    from . import oracle

    variant: dict[str, Any] = {}
    if architecture.pool is not None:
        variant["pool"] = architecture.pool
    if architecture.groups > 1:
        variant["groups"] = architecture.groups
    if architecture.inside and architecture.family.name == "kimm":
        variant["inside"] = True
    return oracle.build(
        architecture.family.name,
        architecture.depth,
        stage5=architecture.stage5,
        stem_width=architecture.stem_width,
        stage_widths=architecture.widths,
        classes=architecture.classes,
        stem="same" if architecture.family.name == "keras-resnet" and architecture.stem == "same" else "pad3",
        **variant,
    )


def against_tensorflow(net: ResNet, weights: Path, images: Array, recording: Recording | None = None) -> Iterator[Row]:
    """Build the same network in Keras from its own sources, load the same file, and compare every layer.

    ``recording``, if given, is filled with TensorFlow's outputs. Raises MissingExtraError without TensorFlow.
    """
    from . import oracle

    if net.architecture.own:
        model = oracle.load_model(weights)
    else:
        model = keras_model(net.architecture)
        oracle.load_file(model, weights)
    return _rows(net, images, oracle.activations(model, images), recording)


def against_reference(net: ResNet, images: Array, recording: Recording | None = None) -> Iterator[Row]:
    """Compare every layer with this project's own float64 reference: needs nothing else, proves less."""
    from . import engine

    outputs = [net.graph.layers[-1].name]
    truth = engine.run(
        net.graph, net.weights, images.astype(np.float64), outputs, algorithm="reference", threads=1
    )  # fmt: skip
    return _rows(net, images, ((step.name, step.array) for step in truth), recording)


def _rows(
    net: ResNet, images: Array, oracle: Iterable[tuple[str, Array]], recording: Recording | None
) -> Iterator[Row]:
    """Both sides run in step, so that neither keeps all its activations; a layer that only one side has is a failure."""
    ours = iter(net.trace(images))
    waiting: dict[str, Any] = {}
    compared = set()
    known = set(net.layers)
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
    for layer in net.graph.layers[1:]:
        if layer.name not in compared and not layer.stored:  # a half of one of Keras's layers has no name there
            missing = Difference(np.inf, np.inf, "the oracle has no layer of this name")
            yield Row(layer.name, layer.operator.kind, (), missing)


def against_recording(net: ResNet, weights: Path, recording: Recording) -> Iterator[Row]:
    """Compare every layer with a recording, on the recording's own images.

    Raises WeightsError when the recording was made from another weight file.
    """
    found = file_hash(weights)
    if found != recording.weights_hash:
        raise WeightsError(
            f"{weights}: its SHA-256 is {found[:16]}..., but the recording was made from {recording.weights_name} with "
            f"{recording.weights_hash[:16]}...; give that file, or record this one"
        )
    seen = set()
    for step in net.trace(recording.images):
        if step.kind == "input":
            continue
        seen.add(step.name)
        if step.name not in recording.layers:
            difference = Difference(np.inf, np.inf, "the recording has no layer of this name")
        else:
            shape, values = recording.layers[step.name]
            if step.shape != shape:
                difference = Difference(np.inf, np.inf, f"shape {step.shape} instead of {shape}")
            else:
                difference = compare(step.array.ravel()[_places(shape)], values)
        yield Row(step.name, step.kind, step.shape, difference)
    for name in recording.layers.keys() - seen:
        yield Row(name, "", recording.layers[name][0], Difference(np.inf, np.inf, "this network has no such layer"))
