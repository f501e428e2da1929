"""Damage descriptions of networks in every way that comes to mind, and watch what is made of them.

    python -m tests.fuzz_configs --mutants 1000000 [--seed 0] [--start 0] [--seconds 150]

A mutant is fine if it is refused with the reader's own errors, or becomes a graph that is refused for an image with a
UsageError, or has a plan whose every step reads and writes inside its maps (``cpu.bounds``); one in some is run, too, and gives
finite memory's worth of numbers. It is a finding if anything else is raised, or takes too long. Mutant number n of a seed is
always the same: ``--seed s --start n --mutants 1``.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npresnet.cpu.bounds import check_bounds
from npresnet.cpu.runner import Planner
from npresnet.errors import UsageError
from npresnet.network.described import NotDescribed, network_from_config
from npresnet.network.graph import Graph

SLOWEST = 2.0  # seconds of processor time for one mutant
_LARGEST = 1 << 18  # numbers of all weights and maps that are worth a run
_RUN = 20  # one in so many is run

# Seeds ---------------------------------------------------------------------------------------------------------------


@functools.cache
def seeds() -> list[str]:
    """Descriptions of small networks by Keras 2 and 3, as JSON."""
    import keras
    import tf_keras

    models = [make(K) for K in (keras, tf_keras) for make in (_residual, _nested, _several)]
    return [json.dumps(_without_ballast(json.loads(model.to_json()))) for model in models]


def _without_ballast(value: Any) -> Any:
    """A config without what training alone needs: damage there shows nothing."""
    if isinstance(value, list):
        return [_without_ballast(one) for one in value]
    if not isinstance(value, dict):
        return value
    ballast = ("_initializer", "_regularizer", "_constraint", "build_config", "registered_name")
    return {key: _without_ballast(one) for key, one in value.items() if not key.endswith(ballast)}


def _residual(K: Any) -> Any:
    L = K.layers
    image = K.Input((16, 12, 3))
    x = L.Rescaling(1 / 255)(image)
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(L.ZeroPadding2D(((1, 2), (0, 1)))(x))
    y = L.DepthwiseConv2D(3, padding="same", dilation_rate=2)(L.LeakyReLU()(L.BatchNormalization()(x)))
    z = L.Conv2D(4, 3, padding="same", groups=2)(x)
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D()(y))
    x = L.Add()([L.Multiply()([y, L.Reshape((1, 1, 4))(gate)]), z])
    x = L.AveragePooling2D(2, padding="same")(L.MaxPooling2D(3, 2)(x))
    return K.Model(image, L.Dense(3, activation="softmax")(L.Dropout(0.5)(L.Flatten()(x))))


def _nested(K: Any) -> Any:
    L = K.layers
    inner_image = K.Input((None, None, 4))
    inner = K.Model(inner_image, L.Add()([inner_image, L.Conv2D(4, 3, padding="same")(inner_image)]), name="block")
    chain = K.Sequential([K.Input((None, None, 3)), L.Conv2D(4, 1), L.ReLU()])
    image = K.Input((16, 12, 3))
    x = image[..., ::-1] / 127.5 - 1.0
    return K.Model(image, L.GlobalMaxPooling2D()(inner(inner(chain(x)))))


def _several(K: Any) -> Any:
    L = K.layers
    image, table = K.Input((16, 12, 3)), K.Input((5,))
    x = L.Conv2D(4, 3)(image)
    y = L.Add()([L.Dense(4)(L.GlobalAveragePooling2D()(x)), L.Dense(4)(table)])
    return K.Model([image, table], [L.Softmax()(y), L.Add()([x, x])])


# Mutants -------------------------------------------------------------------------------------------------------------

_HOSTILE: list[Any] = [
    -1, 0, 1, 2, 3, 0.5, -0.0, 1e-30, -100000, 2**20, 2**31, 2**40, 2**63, 10**30, math.inf, -math.inf, math.nan, None, True,
    False, "", "same", "valid", "channels_first", "relu", "x" * 3000, [], {}, [[]], [0], [-1], [1, 1], [0, 0], [-1, 1], [1, 2, 3],
    [[0, 0], [-1, 0]], [[1, 1], [2**40, 0]], [1] * 1000, {"class_name": "__keras_tensor__"}, {"value": 1}, [None, None],
]  # fmt: skip


def mutant(seed: int, number: int) -> Any:
    """Config ``number`` of ``seed``."""
    rng = random.Random(f"{seed} {number}")
    config = json.loads(rng.choice(seeds()))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        inner = config.get("config") if isinstance(config, dict) else None
        layers = inner.get("layers") if isinstance(inner, dict) else None
        one = rng.choice(layers) if isinstance(layers, list) and layers else None
        whole = rng.random() < 0.2 or not isinstance(one, dict | list) or not one
        with suppress(RecursionError):  # of copying what is deep already
            rng.choice(_DAMAGES)(rng, config if whole else one)
    return config


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in a config; without recursion, for a mutant may be deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)):
            yield one, key
            if isinstance(one[key], dict | list):
                waiting.append(one[key])


def _replace(rng: random.Random, config: Any) -> None:
    """Something becomes something else."""
    container, key = rng.choice(list(_places(config)))
    container[key] = copy.deepcopy(rng.choice(_HOSTILE))


def _setting(rng: random.Random, config: Any) -> None:
    """A layer's setting becomes something else: that is what compiled code might meet."""
    places = [(c, k) for c, k in _places(config) if isinstance(c, dict) and k in _SETTINGS]
    if places:
        container, key = rng.choice(places)
        container[key] = copy.deepcopy(rng.choice(_HOSTILE))


_SETTINGS = {
    "strides", "kernel_size", "dilation_rate", "padding", "pool_size", "groups", "filters", "units", "axis", "target_shape", "epsilon",
    "depth_multiplier", "negative_slope", "alpha", "scale", "offset", "batch_shape", "batch_input_shape", "data_format", "size",
    "cropping", "activation", "use_bias", "keepdims", "interpolation",
}  # fmt: skip


def _number(rng: random.Random, config: Any) -> None:
    """A number becomes a similar one."""
    places = [(c, k) for c, k in _places(config) if type(c[k]) in (int, float)]
    if places:
        container, key = rng.choice(places)
        container[key] = rng.choice(
            (container[key] + rng.choice((-2, -1, 1, 2)), container[key] * rng.choice((-1, 2, 1000, 0.5)))
        )


def _drop(rng: random.Random, config: Any) -> None:
    container, key = rng.choice(list(_places(config)))
    del container[key]


def _swap(rng: random.Random, config: Any) -> None:
    """Two things change places: references, classes, whole layers."""
    places = list(_places(config))
    (one, a), (other, b) = rng.choice(places), rng.choice(places)
    first, second = copy.deepcopy(one[a]), copy.deepcopy(other[b])
    one[a], other[b] = second, first


def _again(rng: random.Random, config: Any) -> None:
    """Something in a list is there once more: a layer, a use of one."""
    places = [(c, k) for c, k in _places(config) if isinstance(c, list) and len(c) < 100]
    if places:
        container, key = rng.choice(places)
        container.insert(rng.randrange(len(container) + 1), copy.deepcopy(container[key]))


def _kind(rng: random.Random, config: Any) -> None:
    """A layer is of another class."""
    from npresnet.network.dialects import LAYERS

    places = [(c, k) for c, k in _places(config) if k == "class_name"]
    if places:
        container, key = rng.choice(places)
        container[key] = rng.choice([*LAYERS, "Functional", "Sequential", "TFOpLambda", "Nothing"])


def _deep(rng: random.Random, config: Any) -> None:
    """Lists in lists."""
    container, key = rng.choice(list(_places(config)))
    for _ in range(rng.choice((3, 30, 300))):
        container[key] = [container[key]]


_DAMAGES: list[Callable[[random.Random, Any], None]] = [
    _replace, _setting, _setting, _setting, _number, _number, _drop, _swap, _again, _kind, _deep,
]  # fmt: skip


# Verdicts ------------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def run_all(seed: int, start: int, mutants: int, seconds: float = math.inf) -> Report:
    """What becomes of mutants ``start`` to ``start + mutants`` of ``seed``, at most for so many seconds."""
    report, began = Report(), time.monotonic()
    for number in range(start, start + mutants):
        if time.monotonic() - began > seconds:
            break
        config = mutant(seed, number)
        before = time.process_time()
        try:
            report.outcomes[verdict(config, number)] += 1
        except Exception as error:
            report.findings.append(f"--seed {seed} --start {number} --mutants 1: {type(error).__name__}: {error}")
        took = time.process_time() - before
        if took > SLOWEST and number > start + 200:  # what is compiled takes its time once
            report.findings.append(f"--seed {seed} --start {number} --mutants 1: {took:.1f} s")
    return report


def verdict(config: Any, number: int) -> str:
    """What becomes of a config; raises whatever should not be raised. ``number`` says which plan is made, and whether it is run."""
    try:
        graph = network_from_config(config).graph
    except NotDescribed:
        return "refused"
    height, width = graph.size or (16, 12)
    outputs = tuple(layer.name for layer in graph.layers if layer.inputs)
    if not outputs:
        return "nothing to run"
    try:
        shapes = graph.shapes(height, width)
    except UsageError:
        return "refused for images"
    sizes = [math.prod(shape) for shape in shapes.values()]
    sizes += [math.prod(shape) for layer in graph.layers for shape in layer.operator.tensors().values()]
    if (
        sum(sizes) > _LARGEST
        or sum(layer.operator.flop([shapes[x] for x in layer.inputs], shapes[layer.name]) for layer in graph.layers)
        > 1 << 24
    ):
        return "large"
    planner = Planner(graph, _weights(graph), 1)
    check_bounds(planner.plan((2, height, width), outputs if number % 4 < 2 else outputs[-1:], number % 2 == 0))
    if number % _RUN == 0:
        rng = np.random.default_rng(0)
        images = {name: rng.standard_normal((2, *shapes[name])).astype(np.float32) for name in graph.inputs}
        found = planner.run(images, outputs, True)
        assert all(array.shape == (2, *shapes[name]) for name, array in found.items())
        return "run"
    return "planned"


def _weights(graph: Graph) -> dict[str, dict[str, Any]]:
    return {
        layer.name: {role: np.ones(shape, np.float32) for role, shape in tensors.items()}
        for layer in graph.layers
        if (tensors := layer.operator.tensors())
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Damage descriptions of networks and watch what is made of them.")
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this time")
    options = parser.parse_args()
    began = time.monotonic()
    report = run_all(options.seed, options.start, options.mutants, options.seconds)
    tried = sum(report.outcomes.values()) + len(report.findings)
    print(f"{tried} mutants of seed {options.seed} from {options.start} in {time.monotonic() - began:.0f} s")
    for outcome, count in report.outcomes.most_common():
        print(f"{count:9} {outcome}")
    for finding in report.findings[:50]:
        print(finding)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
