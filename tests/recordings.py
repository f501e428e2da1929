"""What TensorFlow computed, for machines without it: every layer of some networks with seeded weights.

The recordings are in ``tests/data/recordings``, made by ``python -m tests.record_backbones``. Weights are not kept: they are
made again from their seed, and known by a hash over the tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npresnet.architecture import FAMILIES, Architecture
from npresnet.model import ResNet
from npresnet.synthetic import seeded
from npresnet.verify import Recording, Row, layers_against_recording, tensor_hash
from npresnet.weights import Inspection

FOLDER = Path(__file__).parent / "data" / "recordings"

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

SUBJECTS = (*THIN, *FULL)


def by_layer(net: ResNet, recording: Recording) -> list[Row]:
    """Every layer beside the recording, computed layer by layer."""
    return list(layers_against_recording(net, recording))


def by_plan(net: ResNet, recording: Recording) -> list[Row]:
    """Every tensor that ``net(images)`` keeps between its steps, beside the recording."""
    return [Row(name, net.graph.by_name[name].operator.kind, array.shape, recording.compare(name, array))
            for name, array in kept(net, recording.images).items()]  # fmt: skip


def kept(net: ResNet, images: Any) -> Mapping[str, Any]:
    """{layer: output} of what a plan keeps between its steps, and of the classifier."""
    names = dict.fromkeys(step.name for step in net.profile(images, repeats=1))
    wanted = [name for name in names if name in net.layers]
    return net(images, outputs=[*wanted, *([net.graph.classifier] if net.graph.classifier else [])])


def plannable(net: ResNet, images: Any) -> bool:
    """Whether calling the network goes by a plan; a few families' operators have none."""
    from npresnet.errors import UsageError

    try:
        net.profile(images, repeats=1)
    except UsageError:
        return False
    return True


def layer_names(net: ResNet) -> Iterator[str]:
    """The layers that a recording must have."""
    return (layer.name for layer in net.graph.layers[1:] if not layer.stored)
