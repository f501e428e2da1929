"""Proof on the user's own file: every layer's output beside TensorFlow's, or beside a recording of TensorFlow's.

A recording holds, for each layer, the shape and the values at some thousands of fixed places (all of them in small
layers, and always the four corners), and the images that went in. It is a few megabytes, or with fewer places some
hundred kilobytes, and lets a machine without TensorFlow check itself.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
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
from .weights import Weights

__all__ = [
    "Recording",
    "Row",
    "against_recording",
    "against_reference",
    "against_tensorflow",
    "file_hash",
    "keras_model",
    "layers_against_recording",
    "tensor_hash",
]

Array = npt.NDArray[Any]

_SAMPLES = 4096  # values kept per layer
_FORMAT = 2


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


def tensor_hash(weights: Weights) -> str:
    """SHA-256 over a network's tensors and their names, in hexadecimal: the same for every file that holds them."""
    digest = hashlib.sha256()
    for layer in sorted(weights):
        for role, array in sorted(weights[layer].items()):
            digest.update(f"{layer}/{role} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def _places(shape: tuple[int, ...], samples: int) -> Array:
    """The places that a recording keeps of an array, as flat indices: the same for every array of that shape."""
    size = int(np.prod(shape))
    if size <= samples:
        return np.arange(size)
    chosen = np.random.default_rng(size).choice(size, samples, replace=False)
    if len(shape) == 4:  # borders are where padding goes wrong: the channels of the four corner pixels
        _, h, w, c = shape
        corners = np.concatenate(
            [np.arange(c) + c * (row * w + column) for row in (0, h - 1) for column in (0, w - 1)]
        )  # fmt: skip
        step = -(-len(corners) // (2 * samples))  # they are not to be more than twice the others
        chosen = np.concatenate([chosen, corners[::step]])
    return np.unique(chosen)


class Recording:
    """What an oracle computed for one network and one batch of images, layer by layer.

    weights  the weight file, which is known again by its bytes
    tensors  the network's own, which it is then known by, whatever file they come from
    samples  how many values are kept of each layer, beside those in its corners
    """

    def __init__(
        self, weights: Path, images: Array, oracle: str, *, tensors: Weights | None = None, samples: int = _SAMPLES
    ) -> None:
        self.images = images
        self.weights_hash = file_hash(weights) if tensors is None else tensor_hash(tensors)
        self.weights_name = weights.name
        self.oracle = oracle
        self.samples = samples
        self.layers: dict[str, tuple[tuple[int, ...], Array]] = {}

    def add(self, name: str, array: Array) -> None:
        """Keep the layer's shape and its values at the chosen places."""
        self.layers[name] = (array.shape, array.ravel()[_places(array.shape, self.samples)])

    def compare(self, name: str, array: Array) -> Difference:
        """How far a layer's output is from the recorded one, at the places that were kept."""
        if name not in self.layers:
            return Difference(np.inf, np.inf, "the recording has no layer of this name")
        shape, values = self.layers[name]
        if array.shape != shape:
            return Difference(np.inf, np.inf, f"shape {array.shape} instead of {shape}")
        return compare(array.ravel()[_places(shape, self.samples)], values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording as ``.npz``; the name appears only with the complete file."""
        about = [str(_FORMAT), __version__, self.oracle, self.weights_name, self.weights_hash, str(self.samples)]
        values = [values for _, values in self.layers.values()]
        contents: dict[str, Any] = {
            "about": np.array(about),
            "images": self.images,
            "names": np.array(list(self.layers), str),
            "shapes": np.array(["x".join(map(str, shape)) for shape, _ in self.layers.values()], str),
            "counts": np.array([array.size for array in values], np.int64),
            "values": np.concatenate(values) if values else np.zeros(0, np.float32),  # one array, or names outweigh it
        }
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
                form = about[0]
                if form == str(_FORMAT):
                    recording.oracle, recording.weights_name, recording.weights_hash = about[2:5]
                    recording.samples = int(about[5])
                    parts = np.split(data["values"], np.cumsum(data["counts"]))[:-1]
                    layers = zip(data["names"].tolist(), data["shapes"].tolist(), parts, strict=True)
                    recording.layers = {name: (tuple(map(int, shape.split("x"))), part) for name, shape, part in layers}
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
    names = _pools_without_names(net, model)
    outputs = ((names.get(name, name), array) for name, array in oracle.activations(model, images))
    return _rows(net, images, outputs, recording)


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
    yield from layers_against_recording(net, recording)


def layers_against_recording(net: ResNet, recording: Recording, outputs: Sequence[str] | None = None) -> Iterator[Row]:
    """Compare every layer, or those that ``outputs`` need, with a recording, whatever weights that was made from."""
    expected = set(recording.layers)
    if outputs is not None:
        expected &= {layer.name for layer in net.graph.needed_for(outputs)}
    for step in net.trace(recording.images, outputs):
        if step.kind == "input" or (net.graph.by_name[step.name].stored and step.name not in recording.layers):
            continue  # a half of one of Keras's layers has no name there
        expected.discard(step.name)
        yield Row(step.name, step.kind, step.shape, recording.compare(step.name, step.array))
    for name in expected:
        yield Row(name, "", recording.layers[name][0], Difference(np.inf, np.inf, "this network has no such layer"))
