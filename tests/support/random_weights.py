"""Seeded weights for the oracle's Keras models: as random ones are, or spread as those of trained networks."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Spread = Literal["plain", "trained"]


def randomize(model: Any, seed: int, spread: Spread = "plain") -> None:
    """Fill a model with seeded weights under which activations stay of about the same size at any depth.

    Convolutions are He-normal. Batch-norms have gamma 1 +- 0.2, beta +- 0.2, mean +- 0.2 and variance 0.5 to 1.5, in
    units of what their convolution puts out; gamma is five times smaller on the last one of each residual branch, or
    the sums of 152 layers would grow without bound. The stem expects pixels, some 100 in size.

    spread  "plain", or "trained" for what trained files are like and test files are not: per-channel spreads over
            four decades (variances 1e-6 to 1e2), means as large as the deviations, a few gains of 4 and more,
            3 % of the channels dead (gamma 0)

    Each layer's numbers come from the seed and its own name: the same layer gets the same numbers in a cut, a deeper or
    a differently ordered network.

    Raises ValueError for another spread.
    """
    import keras

    if spread not in ("plain", "trained"):
        raise ValueError(f"spread: {spread!r} was given; it must be 'plain' or 'trained'")
    trained = spread == "trained"
    layers = model.layers
    summands = {id(x) for layer in layers if isinstance(layer, keras.layers.Add) for x in layer.input}
    # Of each convolution's output, by tensor: the deviation of every channel.
    deviations: dict[int, NDArray[np.float64]] = {}

    for layer in layers:
        rng = np.random.default_rng([seed, zlib.crc32(layer.name.encode())])
        if isinstance(layer, keras.layers.Conv2D):
            *window, ci, co = layer.kernel.shape
            gain = 10.0 ** rng.uniform(-3, 1, co) if trained else np.ones(co)
            deviation = gain * (1.0 if deviations else 100.0)  # the first one is the stem
            he = np.sqrt(2 / (np.prod(window) * ci))
            layer.kernel.assign(rng.standard_normal(layer.kernel.shape, np.float32) * (he * gain).astype(np.float32))
            if layer.use_bias:
                layer.bias.assign((rng.uniform(-0.2, 0.2, co) * deviation).astype(np.float32))
            deviations[id(layer.output)] = deviation
        elif isinstance(layer, keras.layers.BatchNormalization):
            deviation = deviations[id(layer.input)]
            co = deviation.size
            gamma = rng.uniform(0.8, 1.2, co)
            beta = rng.uniform(-0.2, 0.2, co)
            mean = rng.uniform(-0.2, 0.2, co)
            variance = rng.uniform(0.5, 1.5, co)
            if trained:
                gamma *= np.exp(rng.normal(-0.2, 0.5, co))
                gamma[rng.random(co) < 0.01] *= 4
                gamma[rng.random(co) < 0.03] = 0
                mean *= 5
            # The projection keeps its gain: it alone carries the signal into a stage.
            if id(layer.output) in summands and not layer.name.endswith(("_branch1", "_0_bn")):
                gamma *= 0.2
            layer.gamma.assign(gamma.astype(np.float32))
            layer.beta.assign(beta.astype(np.float32))
            layer.moving_mean.assign((mean * deviation).astype(np.float32))
            layer.moving_variance.assign((variance * deviation**2).astype(np.float32))
        elif isinstance(layer, keras.layers.Dense):
            ci, co = layer.kernel.shape
            layer.kernel.assign(rng.standard_normal((ci, co), np.float32) / np.float32(np.sqrt(ci)))
            layer.bias.assign(rng.uniform(-0.2, 0.2, co).astype(np.float32))
