"""Random networks, as Keras 2 and 3 run them and as npresnet does, by all algorithms; the first difference is made small and told.

    python -m tests.fuzz_networks --count 500             # networks 0 to 499
    python -m tests.fuzz_networks --seed 1234 --count 1   # one again

A network is made (``tests/support/random_networks.py``), saved, loaded, and called with images of several sizes, in arrays of every
kind, with NaN and infinity at times; outputs, and layers in the middle, are compared by ``npresnet.verify.compare`` with its
tolerances. Where they do not agree, the same model in float64 says who is nearer: only what is further from it than Keras's own
float32 numbers, and than rounding of the images would put it, is a fault. Networks that Keras itself cannot make, run or save are
counted, and must be few.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports TensorFlow

import numpy as np

import npresnet
from npresnet.errors import NpResNetError, WeightsWarning
from npresnet.model import assemble
from npresnet.verify.compare import RELATIVE, WORST, compare

from .support.random_blocks import missing
from .support.random_networks import Built, Recipe, build, recipe_of, smaller

__all__ = ["ARRAYS", "Report", "fault_of", "run", "smallest"]

ALGORITHMS = ("auto", "direct", "im2col", "reference")


# Images --------------------------------------------------------------------------------------------------------------


def _misaligned(a: Any) -> Any:
    room = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = room.view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _read_only(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


ARRAYS: Mapping[str, Callable[[Any], Any]] = {
    "float32": lambda a: a,
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "in Fortran's order": np.asfortranarray,
    "other order of axes": lambda a: np.ascontiguousarray(a.T).T,
    "turned round": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "part of a larger one": lambda a: np.pad(a, [(1, 1)] * a.ndim)[(slice(1, -1),) * a.ndim],
    "read-only": _read_only,
    "misaligned": _misaligned,
    "big-endian": lambda a: a.astype(">f4"),
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
}
"""Arrays that a network may be called with."""

PIXELS: Mapping[str, Callable[[Any], Any]] = {
    "uint8": lambda a: a.astype(np.uint8),
    "int32": lambda a: a.astype(np.int32),
    "uint8, part of a larger one": lambda a: np.pad(a.astype(np.uint8), [(0, 0)] * (a.ndim - 1) + [(0, 1)])[..., :-1],
}
"""Further ones, of numbers from 0 to 255."""


@dataclass(frozen=True)
class Call:
    """What a network is called with: an array for each input, what kind of array that is, and whether there is NaN or infinity."""

    given: list[Any]
    kind: str
    special: bool

    def __str__(self) -> str:
        return (
            f"{self.kind}{' with NaN or infinity' * self.special} {', '.join(str(array.shape) for array in self.given)}"
        )

    @property
    def images(self) -> Any:
        return self.given[0] if len(self.given) == 1 else self.given

    @property
    def tensors(self) -> Any:
        """The same for Keras."""
        arrays = [np.array(array, np.float32, order="C") for array in self.given]
        return arrays[0] if len(arrays) == 1 else arrays


def calls_of(recipe: Recipe, built: Built) -> Iterable[Call]:
    """Two or three, the first with plain arrays of the smallest size, the last perhaps with NaN."""
    draw = random.Random(f"calls {recipe.seed}")
    rng = np.random.default_rng(recipe.seed)
    for number in range(3 if draw.random() < 0.3 else 2):
        larger = (0, 0) if recipe.fixed or number == 0 else (draw.randint(0, 15), draw.randint(0, 15))
        count = draw.choice((1, 1, 2, 3))
        kinds = dict(ARRAYS, **PIXELS) if built.pixels else ARRAYS
        kind = "float32" if number == 0 else draw.choice(list(kinds))
        special = number > 0 and built.nan and draw.random() < 0.5
        given = []
        for size in built.sizes:
            maps = len(size) == 3
            shape = (count, size[0] + larger[0], size[1] + larger[1], size[2]) if maps else (count, *size)
            if built.pixels and maps:
                array = rng.integers(0, 256, shape).astype(np.float32)
            else:
                array = rng.standard_normal(shape).astype(np.float32)
            array = kinds[kind](array)
            if special and maps and array.dtype.kind == "f" and kind not in ("repeated", "read-only"):
                for _ in range(draw.choice((1, 1, 3))):
                    place = tuple(draw.choice((0, n - 1, draw.randrange(n), draw.randrange(n))) for n in shape)
                    array[place] = draw.choice((np.nan, np.nan, np.inf, -np.inf))
            given.append(array)
        yield Call(given, kind, special)


# Comparison ----------------------------------------------------------------------------------------------------------


class NoNetwork(Exception):
    """Keras cannot make, save or run it, or its numbers say nothing."""


@dataclass(frozen=True)
class Fault:
    """What is wrong: where, and how it shows."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass
class Counts:
    """Numbers of what was compared."""

    networks: int = 0
    arrays: int = 0
    hard: int = 0  # beyond the tolerances, but as near to float64 as Keras is
    rows: Counter[str] = field(default_factory=Counter)


def fault_of(recipe: Recipe, counts: Counts | None = None) -> Fault | None:
    """The first thing in which npresnet's network is another than Keras's. Raises NoNetwork where Keras has none."""
    counts = counts or Counts()
    try:
        built = build(recipe)
    except Exception as error:
        raise NoNetwork(f"build: {_short(error)}") from error
    counts.rows.update(built.used)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"network{recipe.suffix}"
        try:
            built.model.save(path)
        except Exception as error:
            raise NoNetwork(f"save: {_short(error)}") from error
        warnings.simplefilter("error", WeightsWarning)
        try:
            net = npresnet.load(path)
        except (NpResNetError, WeightsWarning) as error:
            return Fault("load", f"{type(error).__name__}: {str(error).replace(str(path), '...')}")
        except Exception as error:
            return Fault("load", _traced(error))
        return _difference(recipe, built, net, counts)


def _difference(recipe: Recipe, built: Built, net: Any, counts: Counts) -> Fault | None:
    draw = random.Random(f"outputs {recipe.seed}")
    names = list(built.probes)
    if absent := [name for name in names if name not in net.graph.by_name and name not in net.graph.aliases]:
        return Fault("layers", f"not there: {absent}")
    structure = built.model.output
    outputs = structure if isinstance(structure, list) else [structure]
    oracle = _model(recipe, built.model.inputs, [*outputs, *built.probes.values()])
    counts.networks += 1
    for number, call in enumerate(calls_of(recipe, built)):
        try:
            found = oracle(call.tensors, training=False)
        except Exception as error:
            raise NoNetwork(f"run: {_short(error)}") from error
        if len(oracle.outputs) == 1 and not isinstance(found, list):
            found = [found]
        everything = [
            _whole_pixels(np.asarray(array)) if call.special and _softmax(tensor) else np.asarray(array)
            for array, tensor in zip(found, oracle.outputs, strict=True)
        ]
        whole, layers = everything[: len(outputs)], dict(zip(names, everything[len(outputs) :], strict=True))
        if number == 0:
            _check_sense(everything)
        overflown = any(bool((np.abs(array[np.isfinite(array)]) > 1e30).any()) for array in everything)
        for algorithm in ALGORITHMS:
            other = assemble(net._inspection, algorithm=algorithm, threads=draw.randint(1, 4))
            where = f"{algorithm}, {other.threads} threads, {call}"
            asked = _asked(names, draw, call.special)
            try:
                mine = dict(other(call.images, outputs=asked))
                predicted = other.predict(call.images) if number == 0 or draw.random() < 0.5 else None
            except Exception as error:
                return Fault(where, _traced(error))
            pairs = [(f"layer {name!r}", mine[name], layers[name]) for name in asked]
            if predicted is not None:
                if isinstance(predicted, list) != (len(outputs) > 1):
                    return Fault(where, f"predict gives a {type(predicted).__name__}")
                ours = predicted if isinstance(predicted, list) else [predicted]
                pairs += [(f"output {i}", *pair) for i, pair in enumerate(zip(ours, whole, strict=True))]
            for what, one, expected in pairs:
                counts.arrays += 1
                wide = algorithm == "reference" and call.given[0].dtype == np.float64  # then it computes so
                difference = compare(one, expected, dtype=np.float64 if wide else np.float32)
                if difference.agrees():
                    continue
                if call.special and (overflown or compare(_limited(one), _limited(expected)).agrees()):
                    # a max-pool makes -3.4e38 of nothing but NaN; what becomes of that, rounding decides
                    counts.hard += 1
                    continue
                if _as_near(recipe, call, what, one, expected):
                    counts.hard += 1
                    continue
                outputs_asked = f"outputs={asked}" if what.startswith("layer") else "predict"
                return Fault(f"{what}, {where}, {outputs_asked}", str(difference))
    return None


def _asked(names: list[str], draw: random.Random, special: bool) -> list[str]:
    """Some layers: any, or neighbours; where there is NaN, often those up to one that leaves pixels out, and NaN with them."""
    count = min(len(names), draw.choice((1, 2, 3, 5, len(names))))
    parts = [place for place, name in enumerate(names) if name.rpartition("/")[2].startswith(_PARTS)]
    if special and parts and draw.random() < 0.5:
        last = draw.choice(parts)
        return names[max(0, last - draw.randint(1, 3)) : last + 1]
    if draw.random() < 0.5:
        return draw.sample(names, count)
    first = draw.randint(0, len(names) - count)
    return names[first : first + count]


_PARTS = ("cropping2d", "averagepooling2d", "centercrop")


def _model(recipe: Recipe, inputs: Any, outputs: Any) -> Any:
    return importlib.import_module(recipe.keras).Model(inputs, outputs)


def _softmax(tensor: Any) -> bool:
    layer = tensor._keras_history[0]
    return type(layer).__name__ == "Softmax" or layer.get_config().get("activation") == "softmax"


def _whole_pixels(array: Any) -> Any:
    """NaN in one number of a softmax is NaN in all, by its formula; TensorFlow's code for vectors leaves zeros in some of them."""
    return np.where(np.isnan(array).any(axis=-1, keepdims=True), np.float32(np.nan), array)


def _limited(array: Any) -> Any:
    """The same, with infinity for what is near to it."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(array) > 1e30, np.copysign(np.float32(np.inf), array), array).astype(np.float32)


def _check_sense(arrays: list[Any]) -> None:
    """Raises NoNetwork where numbers have become too large or all the same, so that nothing could be seen."""
    for array in arrays:
        if not array.size:
            raise NoNetwork("run: an empty map")
        if not np.isfinite(array).all() or np.abs(array).max() > 1e6:
            raise NoNetwork("run: numbers grow beyond measure")


_SHAKEN = 2e-6
"""Change of images, in units of their deviation, that stands for the rounding of all layers."""


def _as_near(recipe: Recipe, call: Call, what: str, mine: Any, theirs: Any) -> bool:
    """Whether an output is about as near to the same model's in float64 as Keras's in float32 is, or as float64's own for images
    that are a little changed; or, where all cancels to nought, as near as can be for numbers of about 1 in between."""
    if mine.shape == theirs.shape and max(np.abs(mine).max(), np.abs(theirs).max()) < 2e-6:
        return True
    found = _in_float64(recipe, call, what)
    if found is None:
        return False
    truth, shaken = found
    own, *others = (compare(np.asarray(one, np.float32), truth) for one in (mine, theirs, shaken))
    relative, worst = max(other.relative for other in others), max(other.worst for other in others)
    return relative < 1e-2 and own.agrees(max(RELATIVE, 3 * relative), max(WORST, 3 * worst))


def _in_float64(recipe: Recipe, call: Call, what: str) -> tuple[Any, Any] | None:
    """An output of the model in float64, and the same of images that are a little changed; None where Keras cannot."""
    K = importlib.import_module(recipe.keras)
    K.backend.set_floatx("float64")
    rng = np.random.default_rng(recipe.seed)
    try:
        again = build(recipe)
        place = what.rpartition(" ")[2]
        outputs = again.model.outputs[int(place)] if what.startswith("output") else again.probes[place.strip("'")]
        model = _model(recipe, again.model.inputs, outputs)
        exact = [np.array(array, np.float64) for array in call.given]
        spread = [array[np.isfinite(array)].std() for array in exact]
        changed = [
            array + _SHAKEN * wide * rng.standard_normal(array.shape) for array, wide in zip(exact, spread, strict=True)
        ]
        truth, shaken = (
            np.asarray(model(given[0] if len(given) == 1 else given, training=False)) for given in (exact, changed)
        )
    except Exception:
        return None
    finally:
        K.backend.set_floatx("float32")
    return truth, shaken


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _traced(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{_short(error)} ({Path(frame.filename).name}:{frame.lineno})"


# Many ----------------------------------------------------------------------------------------------------------------


def smallest(recipe: Recipe, tries: int = 80) -> tuple[Recipe, Fault | None]:
    """The network with all taken away that it does not take to fail."""
    fault = fault_of(recipe)
    again = fault is not None
    while again:
        again = False
        for other in smaller(recipe):
            tries -= 1
            if tries < 0:
                return recipe, fault
            try:
                found = fault_of(other)
            except NoNetwork:
                continue
            if found is not None:
                recipe, fault, again = other, found, True
                break
    return recipe, fault


def described(recipe: Recipe) -> str:
    """A network's layers, one in a line, with what each reads."""
    lines = []

    def visit(model: Any, indent: str) -> None:
        for layer in model.layers:
            settings = {
                key: value
                for key, value in layer.get_config().items()
                if key in _TOLD and str(value) not in ("None", "[1, 1]", "(1, 1)", "linear", "1")
            }
            uses = [[_owner(before).name for before in node.parent_nodes] for node in layer._inbound_nodes]
            lines.append(f"{indent}{layer.name} {type(layer).__name__} {settings} <- {uses}")
            if hasattr(layer, "layers"):
                visit(layer, indent + "    ")

    def _owner(node: Any) -> Any:
        return node.operation if hasattr(node, "operation") else node.layer

    try:
        visit(build(recipe).model, "    ")
    except Exception as error:
        lines.append(_short(error))
    return "\n".join(lines)


_TOLD = (
    "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "units", "axis", "pool_size", "keepdims",
    "target_shape", "cropping", "size", "interpolation", "depth_multiplier", "scale", "offset", "function", "output_padding",
    "max_value", "negative_slope", "alpha", "threshold", "shared_axes", "epsilon", "height", "width", "dims",
)  # fmt: skip


@dataclass
class Report:
    """What became of some networks."""

    counts: Counts = field(default_factory=Counts)
    without: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


def run(seeds: Iterable[int], shrink: bool = True, most: int = 20, seconds: float = np.inf) -> Report:
    """Compare the networks of these seeds, until ``most`` of them are wrong or the time is over."""
    report, end = Report(), time.monotonic() + seconds
    for seed in seeds:
        if time.monotonic() > end or len(report.faults) >= most:
            break
        recipe = recipe_of(seed)
        report.seeds.append(seed)
        if seed % 20 in (0, 2):  # one of each Keras
            importlib.import_module(
                recipe.keras
            ).backend.clear_session()  # which takes long; without it Keras keeps all
        try:
            fault = fault_of(recipe, report.counts)
        except NoNetwork as reason:
            report.without[str(reason)] += 1
            continue
        if fault is not None:
            told = [f"{recipe}\n  {fault}"]
            if shrink:
                least, fault = smallest(recipe)
                told.append(f"  smaller: {least}\n  {fault}\n{described(least)}")
            told.append(f"  again: python -m tests.fuzz_networks --seed {seed} --count 1")
            report.faults.append("\n".join(told))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare random networks with Keras.")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=np.inf, help="stop after this time")
    parser.add_argument("--most", type=int, default=20, help="stop after so many faults")
    parser.add_argument("--as-is", action="store_true", help="do not make networks that fail smaller")
    options = parser.parse_args()
    began = time.monotonic()
    for row in missing():
        print(f"left out, npresnet lacks: {row}")
    report = Report()
    for seed in range(options.seed, options.seed + options.count):
        left = options.seconds - (time.monotonic() - began)
        if left <= 0 or len(report.faults) >= options.most:
            break
        one = run([seed], not options.as_is)
        report.seeds += one.seeds
        report.without += one.without
        report.faults += one.faults
        report.counts.networks += one.counts.networks
        report.counts.arrays += one.counts.arrays
        report.counts.hard += one.counts.hard
        report.counts.rows += one.counts.rows
        for fault in one.faults:
            print(fault, flush=True)
    print(
        f"{len(report.seeds)} seeds from {options.seed}: {report.counts.networks} networks, {report.counts.arrays} arrays compared, "
        f"{report.counts.hard} of them hard for float32, {len(report.faults)} faults, {time.monotonic() - began:.0f} s"
    )
    for reason, count in report.without.most_common():
        print(f"{count:6} without a network: {reason}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
