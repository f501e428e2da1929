"""A Keras model beside npresnet's reading of the file that it was saved to, layer by layer.

For models built by whoever publishes them, whose names are not all ours: layers without weights may be called
``activation_7`` there. Layers are paired by name, and the others by their order among those of their kind, which is the
order that ``npresnet.network.keras_order.keras_order`` computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import npresnet
from npresnet.cpu import by_layer as engine
from npresnet.network.keras_order import keras_order
from npresnet.verify.compare import compare

_KINDS = {
    "ZeroPadding2D": "pad",
    "Conv2D": "conv",
    "BatchNormalization": "batchnorm",
    "Add": "add",
    "Multiply": "multiply",
    "MaxPooling2D": "maxpool",
    "AveragePooling2D": "avgpool",
    "GlobalAveragePooling2D": "global avgpool",
    "GlobalMaxPooling2D": "global maxpool",
    "Dense": "dense",
    "Scale": "scale",
    "Rescaling": "rescale",
    "Normalization": "rescale",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "Softmax": "softmax",
}


@dataclass(frozen=True)
class Agreement:
    """What a comparison found: how many layers were compared, the largest relative error, and what failed."""

    architecture: str
    layers: int
    unpaired: tuple[str, ...]
    worst: float
    worst_layer: str
    failures: tuple[str, ...]


def randomize(model: Any, seed: int = 1, pixels: float = 60.0) -> None:
    """Seeded weights and statistics of an order of magnitude that any depth of any family survives.

    pixels  about how large the values are that go in; 1 where the network scales them itself
    """
    rng = np.random.default_rng(seed)
    first = True
    for layer in leaves(model):
        for variable in layer.weights:
            role = variable.path.split("/")[-1] if hasattr(variable, "path") else variable.name.split("/")[-1]
            role = role.split(":")[0]
            shape = tuple(variable.shape)
            if "kernel" in role:
                fan = float(np.prod(shape[:-1])) if role == "kernel" else float(np.prod(shape[:2]))
                # a classifier's scores stay small, or softmax makes large errors of small ones
                gain = 0.1 if len(shape) == 2 else 1 / pixels if first else 1.0
                value = rng.standard_normal(shape) * np.sqrt(2 / fan) * gain
                first = False
            elif role in ("gamma", "beta", "bias", "moving_mean", "moving_variance"):
                low, high = {"gamma": (0.5, 0.9), "moving_variance": (0.7, 1.3)}.get(role, (-0.2, 0.2))
                value = rng.uniform(low, high, shape)
                if layer.name == "bn_data" and role == "moving_variance":
                    value = value * pixels**2
                    first = False
            else:
                continue
            variable.assign(value.astype(np.float32))


def leaves(model: Any) -> Iterator[Any]:
    """The layers of a model and of the models inside it."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaves(layer)
        elif hasattr(layer, "layer"):  # a wrapper
            yield layer.layer
        else:
            yield layer


def kind_of(step: Any) -> str | None:
    """What our graph would call a Keras layer; None for what it leaves out."""
    kind = type(step).__name__
    if kind == "ZeroPadding2D" and not np.any(step.padding):
        return None  # kimm has such
    if kind == "Activation":
        return str(step.activation.__name__)
    return _KINDS.get(kind)


def pairs(net: npresnet.ResNet, steps: Iterable[Any]) -> dict[str, str]:
    """{name in Keras: our name} of the layers that both have."""
    steps = list(steps)
    ours = [net.graph.by_name[name] for name in keras_order(net.graph)]
    both = {step.name for step in steps} & {layer.name for layer in ours}
    found = {name: name for name in both}
    waiting: dict[str | None, list[str]] = {}
    for layer in ours:
        kind: str | None = layer.operator.kind
        if type(layer.operator).__name__.startswith("Global"):
            kind = f"global {kind}"
        if layer.name not in both:
            waiting.setdefault(kind, []).append(layer.name)
    theirs: dict[str, list[str]] = {}
    for step in steps:
        if step.name not in both and (kind := kind_of(step)):
            theirs.setdefault(kind, []).append(step.name)
    for kind, names in theirs.items():
        if len(names) == len(waiting.get(kind, [])):
            found.update(zip(names, waiting[kind], strict=True))
    return found


def agreement(
    net: npresnet.ResNet, steps: Iterable[Any], outputs: Iterable[tuple[str, Any]], images: Any, *, truth: bool = False
) -> Agreement:
    """Compare every layer of ``net`` with what Keras computed from the same images.

    steps    Keras's layers, in its order
    outputs  (name, array) of each
    truth    also ask that we are at most twice as far as TensorFlow from the float64 reference
    """
    named = pairs(net, steps)
    ours = {step.name: step.array for step in net.trace(images)}
    exact: dict[str, Any] = {}
    if truth:
        last = [net.layers[-1]]
        wide = images.astype(np.float64)
        run = engine.run(net.graph, net.weights, wide, last, algorithm="reference", threads=1)
        exact = {step.name: step.array for step in run}
    failures, worst, where, count = [], 0.0, "", 0
    for name, expected in outputs:
        if name not in named or named[name] == net.layers[0]:
            continue
        mine = named.pop(name)
        count += 1
        difference = compare(
            ours[mine], expected.reshape(ours[mine].shape) if expected.ndim != ours[mine].ndim else expected
        )
        if difference.relative > worst:
            worst, where = difference.relative, mine
        if not difference.agrees():
            failures.append(f"{mine}: {difference}")
        elif truth:
            own, theirs = compare(ours[mine], exact[mine]).relative, compare(expected, exact[mine]).relative
            if own > 2 * theirs + 2e-7:
                failures.append(f"{mine}: from the truth ours {own:.1e}, TensorFlow's {theirs:.1e}")
    missing = tuple(name for name in net.layers[1:] if name not in set(pairs(net, steps).values()))
    return Agreement(str(net.architecture), count, missing, worst, where, tuple(failures))


def check_file(model: Any, path: Path, images: Any, asked: str | None = None, **options: Any) -> Agreement:
    """Load ``path``, to which ``model`` was saved, and compare."""
    from npresnet.verify import oracle

    net = npresnet.load(path, asked)
    return agreement(net, model.operations, oracle.activations(model, images), images, **options)
