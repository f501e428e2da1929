"""Group normalisation: each image's channels in groups, each group by its own mean and variance, found when the network runs.

    y[n, h, w, c] = gamma[c] * (x[n, h, w, c] - mean[n, g]) / sqrt(variance[n, g] + epsilon) + beta[c]      g the group of c

The mean and the variance of group g of image n are those of all its pixels' channels of that group. One group is layer
normalisation over whole images; over the channels of each pixel it is one group, too, with pixels for images; as many groups as
channels are instance normalisation.

The ladder: groupnorm_reference (NumPy), groupnorm_cpu (Numba; the mean first, then the variance around it, sums in float64);
groupnorm is groupnorm_cpu. Source: Wu and He, "Group normalization" (2018); Ba et al., "Layer normalization" (2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Array, floats, images, result
from .steps.intrinsics import part_of, pixel_of
from .steps.loop import run
from .steps.records import Map, Step, view_of
from .threads import resolve_threads

__all__ = ["GroupNormStep", "check_groups", "groupnorm", "groupnorm_cpu", "groupnorm_reference"]


def groupnorm_reference(x: Array, gamma: Array | None, beta: Array | None, *, groups: int, epsilon: float) -> Array:
    """x dtype[n, h, w, c] by the definition, in its dtype; gamma and beta dtype[c], or dtype[h, w, c] for a number of each of an
    image's; gamma None counts as 1, beta None as 0."""
    n, h, w, c = x.shape
    parts = x.reshape(n, h * w, groups, c // groups)
    centred = parts - parts.mean(axis=(1, 3), keepdims=True)
    variance = np.square(centred).mean(axis=(1, 3), keepdims=True)
    y = (centred / np.sqrt(variance + x.dtype.type(epsilon))).reshape(x.shape)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def check_groups(x: Any, gamma: Any, beta: Any, groups: int) -> None:
    """Refuse what does not fit, and images without a number: ValueError."""
    _, h, w, c = x.shape
    if h * w * c == 0:
        raise ValueError(f"groupnorm: got shape {tuple(x.shape)}; there must be at least one number of each image")
    if groups < 1 or c % groups:
        raise ValueError(f"groupnorm: groups: got {groups}; it must divide the {c} channels")
    for name, array in (("gamma", gamma), ("beta", beta)):
        if array is not None and tuple(array.shape) not in ((c,), (h, w, c)):
            raise ValueError(f"groupnorm: {name}: got shape {tuple(array.shape)}; it must be ({c},) or ({h}, {w}, {c})")


@dataclass(frozen=True, kw_only=True)
class GroupNormStep(Step):
    """Group normalisation of ``images`` images of ``pixels`` pixels; an item is one of ``blocks`` parts of all groups of all images.

    gamma, beta  of pitch 0 where they are the same for all pixels
    """

    x: Map
    out: Map
    gamma: Map
    beta: Map
    images: int
    pixels: int
    groups: int
    epsilon: float
    blocks: int

    @property
    def items(self) -> int:
        return self.blocks


_view = view_of(GroupNormStep)


@GroupNormStep.native
def _groupnorm_item(step, item, scratch):
    s = _view(step)
    channels = s.x.channels // s.groups
    count = s.pixels * channels
    first, last = part_of(s.images * s.groups, item, s.blocks, 1)
    for unit in range(first, last):
        image, group = divmod(unit, s.groups)
        start, stop = group * channels, (group + 1) * channels
        total = 0.0
        for pixel in range(s.pixels):
            x = pixel_of(s.x, image * s.pixels + pixel)
            for c in range(start, stop):
                total += x[c]
        mean = total / count
        squares = 0.0
        for pixel in range(s.pixels):
            x = pixel_of(s.x, image * s.pixels + pixel)
            for c in range(start, stop):
                squares += (x[c] - mean) * (x[c] - mean)
        factor = 1.0 / math.sqrt(squares / count + s.epsilon)
        for pixel in range(s.pixels):
            x, out = pixel_of(s.x, image * s.pixels + pixel), pixel_of(s.out, image * s.pixels + pixel)
            gamma, beta = pixel_of(s.gamma, pixel), pixel_of(s.beta, pixel)
            for c in range(start, stop):
                out[c] = (x[c] - mean) * factor * gamma[c] + beta[c]


def _parameter(name: str, values: Array | None, missing: float, channels: int) -> tuple[Array, Map]:
    """A number for each channel, or for each number of an image, and where the steps find it."""
    array = np.full(channels, missing, np.float32) if values is None else floats(f"groupnorm: {name}", values)
    return array, Map(array.ctypes.data, 0 if array.ndim == 1 else 4 * channels, channels)


def groupnorm_cpu(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    *,
    groups: int,
    epsilon: float,
    out: Array | None = None,
    threads: int | None = 1,
) -> Array:
    """Normalise each image's groups of channels by their own statistics.

    x            float32[n, h, w, c]
    gamma, beta  float32[c], or float32[h, w, c]; gamma None counts as 1, beta None as 0
    groups       into how many equal parts the channels are cut
    epsilon      added to the variance
    out          float32[n, h, w, c], overwritten, may be x itself; made if None

    Raises TypeError for another dtype, ValueError for shapes and groups that do not fit.
    """
    x = images("groupnorm: x", x)
    n, h, w, c = x.shape
    (gamma, scale), (beta, shift) = _parameter("gamma", gamma, 1.0, c), _parameter("beta", beta, 0.0, c)
    check_groups(x, gamma, beta, groups)
    out = result("groupnorm", out, x.shape)
    threads = resolve_threads(threads)
    step = GroupNormStep(
        x=Map.of(x), out=Map.of(out), gamma=scale, beta=shift, images=n, pixels=h * w, groups=groups, epsilon=epsilon,
        blocks=min(4 * threads, n * groups),
    )  # fmt: skip
    run(step, threads, x, gamma, beta, out)
    return out


groupnorm = groupnorm_cpu
