"""What TensorFlow computed, for machines without it: every layer of some networks with seeded weights.

The recordings are in ``tests/data/recordings``, made by ``python -m tests.record_backbones``. Weights are not kept: they are
made again from their seed, and known by a hash over the tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from npresnet.model import ResNet
from npresnet.network.architecture import Architecture
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import seeded
from npresnet.network.weights import Inspection
from npresnet.verify.recording import Recording, tensor_hash
from npresnet.verify.rows import Row, layers_against_recording

FOLDER = Path(__file__).parents[1] / "data" / "recordings"

SAMPLES = 48  # values kept of each layer, and at most twice as many in its corners


@dataclass(frozen=True)
class Subject:
    """A network and the images that it was recorded on.

    width    channels of the stem; all others are in proportion
    batch    (n, h, w)
    """

    family: str
    depth: int
    batch: tuple[int, int, int]
    width: int = 64
    classes: int | None = None

    def __str__(self) -> str:
        return f"{self.family.replace(' ', '-')}-{self.depth}-{self.width}"

    @property
    def architecture(self) -> Architecture:
        return Architecture.standard(FAMILIES[self.family], self.depth, width=self.width, classes=self.classes)

    @property
    def path(self) -> Path:
        return FOLDER / f"{self}.npz"

    def found(self) -> Inspection:
        """The network with its weights."""
        return _found(self)

    def images(self) -> npt.NDArray[np.float32]:
        """float32[n, h, w, 3] as pixels are: no whole numbers, but with few enough bits that a file of them is small."""
        random = np.random.default_rng(self.depth)
        return (random.integers(-15872, 16896, (*self.batch, 3)) / 128).astype(np.float32)

    def recording(self) -> Recording:
        """What TensorFlow computed. Raises AssertionError where the weights that are made here are not those of then."""
        recording = Recording.open(self.path)
        assert recording.weights_hash == tensor_hash(self.found().weights), (
            f"{self}: the weights made from their seed are not those that were recorded; `python -m tests.record_backbones`"
        )
        return recording


@functools.lru_cache(maxsize=2)
def _found(subject: Subject) -> Inspection:
    return seeded(subject.architecture)


THIN = (
    Subject("keras-resnet", 18, (2, 64, 48), width=16, classes=7),
    Subject("matterport", 50, (1, 67, 53), width=8),
    Subject("keras.applications", 50, (1, 33, 70), width=8, classes=5),
    Subject("keras.applications V2", 50, (2, 49, 40), width=8),
    Subject("keras-hub vd", 50, (1, 63, 65), width=8),
    Subject("image-classifiers SE", 18, (1, 50, 64), width=16),
)
"""Odd sizes and even ones, one image and two; rules of borders, blocks and operators that differ between families."""

FULL = (
    Subject("keras.applications", 50, (1, 64, 64), classes=1000),
    Subject("matterport", 101, (1, 64, 64)),
)
"""At their full width."""

TINY = Subject("keras-resnet", 18, (1, 9, 8), width=4)
"""For Numba's simulator."""

SUBJECTS = (TINY, *THIN, *FULL)


def by_layer(net: ResNet, recording: Recording, outputs: Sequence[str] | None = None) -> list[Row]:
    """Every layer, or those that ``outputs`` need, beside the recording, computed layer by layer."""
    return list(layers_against_recording(net, recording, outputs))


def by_plan(net: ResNet, recording: Recording, outputs: Sequence[str] | None = None) -> list[Row]:
    """Every tensor that ``net(images)``, or ``net(images, outputs)``, keeps between its steps, beside the recording; but not
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


def layer_names(net: ResNet) -> list[str]:
    """The layers that a recording must have."""
    return [layer.name for layer in net.graph.layers[1:] if not layer.stored]
