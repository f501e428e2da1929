"""What another engine computed, kept in a file: a recording of every layer of a network for some images."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, WeightsError
from ..files.safe_write import file_hash, replaced
from ..network.weights import Weights
from ..version import __version__
from .compare import Difference, compare

__all__ = ["Recording", "tensor_hash"]


Array = npt.NDArray[Any]

_SAMPLES = 4096  # values kept per layer
_FORMAT = 2


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

    def check(self, weights: Path) -> None:
        """Raise WeightsError where the recording was made from another weight file."""
        found = file_hash(weights)
        if found != self.weights_hash:
            raise WeightsError(
                f"{weights}: its SHA-256 is {found[:16]}..., but the recording was made from {self.weights_name} with "
                f"{self.weights_hash[:16]}...; give that file, or record this one"
            )

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
