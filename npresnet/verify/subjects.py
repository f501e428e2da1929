"""Networks that TensorFlow's outputs are recorded of, for machines without it: tests and benchmarks check themselves by them.

A recording keeps no weights. These networks' are made again from a seed, to the last bit, and known by a hash over the tensors;
so a recording of a whole ResNet is some hundred kilobytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from ..network.architecture import Architecture
from ..network.families import FAMILIES
from ..network.seeded import seeded
from ..network.weights import Inspection
from .recording import Recording, tensor_hash

__all__ = ["FULL", "SUBJECTS", "THIN", "TINY", "Subject"]


@dataclass(frozen=True)
class Subject:
    """A network and the images that it was recorded on.

    batch  (n, h, w)
    width  channels of the stem; all others are in proportion
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
        """The network, without weights."""
        return Architecture.standard(FAMILIES[self.family], self.depth, width=self.width, classes=self.classes)

    def found(self) -> Inspection:
        """The network with its weights."""
        return _found(self)

    def images(self) -> npt.NDArray[np.float32]:
        """float32[n, h, w, 3] as pixels are: no whole numbers, but with few enough bits that a file of them is small."""
        random = np.random.default_rng(self.depth)
        return (random.integers(-15872, 16896, (*self.batch, 3)) / 128).astype(np.float32)

    def path(self, folder: Path) -> Path:
        """Of its recording in a folder of such."""
        return folder / f"{self}.npz"

    def recording(self, folder: Path) -> Recording:
        """What TensorFlow computed. Raises WeightsError where the weights that are made here are not those of then."""
        recording = Recording.open(self.path(folder))
        if recording.weights_hash != tensor_hash(self.found().weights):
            raise WeightsError(
                f"{self}: the weights made from their seed are not those that were recorded; record it anew"
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
    Subject("image-classifiers SE", 18, (2, 50, 64), width=16),
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
