"""Every family at full size, built and saved by the package that publishes it, beside npresnet: a table, not a test.

    python -m tests.full_families [--only keras-hub ...] [--out bench/results/families.json]
    python -m tests.full_families --table bench/results/families.json       # the README's table, in Markdown

Needs, besides npresnet: tensorflow, tf_keras, keras-hub, kimm, image-classifiers, keras-resnet, opennsfw2. What is
not installed is left out, and said to be. Weights and batch-norm statistics are random; each network is saved in every
layout that its Keras can write, read by npresnet, and compared layer by layer: ``||ours - theirs|| <= 1e-5 ||theirs||``.

Packages for Keras 2 (image-classifiers, keras-resnet, keras-applications) run on tf_keras, which writes Keras 2's files.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import npresnet

from .support.agreement import agreement, leaves, randomize

Image = tuple[int, int]


@dataclass(frozen=True)
class Upstream:
    """One network of a package: ``build`` makes it, for images of ``size`` where the package fixes one."""

    family: str
    package: str
    network: str
    build: Callable[[Any], Any]  # keras or tf_keras -> model
    keras: int = 3
    size: Image = (67, 98)
    pixels: float = 60.0
    asked: str | None = None


def _image(keras: Any) -> Any:
    return keras.Input((None, None, 3))


def _applications(name: str, **options: Any) -> Callable[[Any], Any]:
    return lambda keras: getattr(keras.applications, name)(weights=None, input_tensor=_image(keras), **options)


def _hub(blocks: Sequence[int], kind: str, pre: bool = False) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        import keras_hub

        vd = kind.endswith("vd")
        return keras_hub.models.ResNetBackbone(
            input_conv_filters=[32, 32, 64] if vd else [64],
            input_conv_kernel_sizes=[3, 3, 3] if vd else [7],
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=list(blocks),
            stackwise_num_strides=[1, 2, 2, 2],
            block_type=kind,
            use_pre_activation=pre,
        )

    return build


def _kimm(name: str, inside: bool) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        import kimm

        options = {"weights": None, "input_shape": (None, None, 3), "include_preprocessing": inside}
        return getattr(kimm.models, name)(**options)

    return build


def _classifiers(name: str, fixed: bool = False) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        from classification_models.models_factory import ModelsFactory

        class Factory(ModelsFactory):  # type: ignore[misc]
            def get_kwargs(self) -> dict[str, Any]:
                return {part: getattr(keras, part) for part in ("backend", "layers", "models", "utils")}

        return Factory().get(name)[0]((128, 96, 3) if fixed else (None, None, 3), weights=None)

    return build


def _keras_resnet(name: str) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        with _as_keras(keras):
            import keras_resnet.models

            return getattr(keras_resnet.models, name)(_image(keras))

    return build


@contextlib.contextmanager
def _as_keras(keras: Any) -> Iterator[None]:
    """Let ``import keras`` give tf_keras, for packages from before Keras 3."""
    names = ["", ".backend", ".layers", ".models", ".regularizers", ".utils"]
    before = {f"keras{name}": sys.modules.get(f"keras{name}") for name in names}
    for name in names:
        sys.modules[f"keras{name}"] = getattr(keras, name[1:]) if name else keras
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def _old_applications(module: str, name: str, **options: Any) -> Callable[[Any], Any]:
    def build(keras: Any) -> Any:
        import importlib

        parts = {part: getattr(keras, part) for part in ("backend", "layers", "models", "utils")}
        given = options if "input_shape" in options else {"input_tensor": _image(keras), **options}
        builder = getattr(importlib.import_module(f"keras_applications.{module}"), name)
        return builder(weights=None, **given, **parts)

    return build


def _nsfw(keras: Any) -> Any:
    import opennsfw2

    return opennsfw2.make_open_nsfw_model(input_shape=(None, None, 3), weights_path=None)


_BASIC, _LONG = "basic_block", "bottleneck_block"
_R18, _R34, _R50, _R101 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3)
_R152, _R200VD = (3, 8, 36, 3), (3, 12, 48, 3)

NETWORKS = [
    *(Upstream("keras.applications", "keras", f"ResNet{d}", _applications(f"ResNet{d}")) for d in (50, 101, 152)),
    *(Upstream("keras.applications V2", "keras", f"ResNet{d}V2", _applications(f"ResNet{d}V2")) for d in (50, 101, 152)),
    Upstream("keras.applications", "tf_keras", "ResNet50", _applications("ResNet50"), 2),
    Upstream("keras.applications V2", "tf_keras", "ResNet50V2", _applications("ResNet50V2", include_top=False), 2),
    Upstream("fchollet", "keras-applications", "ResNet50", _old_applications("resnet50", "ResNet50"), 2),
    *(
        Upstream(
            "keras.applications ResNeXt", "keras-applications", f"ResNeXt{d}",
            _old_applications("resnext", f"ResNeXt{d}", input_shape=(64, 64, 3)), 2, (64, 64),
        )
        for d in (50, 101)
    ),
    *(Upstream("keras-resnet", "keras-resnet", f"ResNet2D{d}", _keras_resnet(f"ResNet2D{d}"), 2) for d in (18, 34, 50, 101, 152, 200)),
    *(Upstream("keras-hub", "keras-hub", f"resnet_{d}", _hub(b, k)) for d, b, k in ((18, _R18, _BASIC), (34, _R34, _BASIC), (50, _R50, _LONG), (101, _R101, _LONG), (152, _R152, _LONG))),
    *(Upstream("keras-hub V2", "keras-hub", f"resnet_v2_{d}", _hub(b, _LONG, True)) for d, b in ((50, _R50), (101, _R101))),
    *(Upstream("keras-hub vd", "keras-hub", f"resnet_vd_{d}", _hub(b, f"{k}_vd")) for d, b, k in ((18, _R18, _BASIC), (34, _R34, _BASIC), (50, _R50, _LONG), (101, _R101, _LONG), (152, _R152, _LONG), (200, _R200VD, _LONG))),
    *(Upstream("kimm", "kimm", f"ResNet{d}", _kimm(f"ResNet{d}", d != 50), pixels=60.0 if d == 50 else 1.0) for d in (18, 34, 50, 101, 152)),
    *(Upstream("image-classifiers", "image-classifiers", f"resnet{d}", _classifiers(f"resnet{d}"), 2) for d in (18, 34, 50, 101, 152)),
    *(Upstream("image-classifiers SE", "image-classifiers", f"seresnet{d}", _classifiers(f"seresnet{d}", True), 2, (128, 96)) for d in (18, 34)),
    Upstream("opennsfw2", "opennsfw2", "open_nsfw", _nsfw),
]  # fmt: skip

LAYOUTS = {"legacy weights": ".h5", "whole model": ".h5", "weights tree": ".weights.h5", "archive": ".keras"}


@dataclass(frozen=True)
class Result:
    """One network in one layout."""

    family: str
    package: str
    network: str
    layout: str
    architecture: str
    parameters: int
    layers: int
    worst: float
    worst_layer: str
    problem: str


def _save(keras: Any, model: Any, path: Path, layout: str, version: int) -> None:
    if layout == "legacy weights" and version == 3:
        import h5py
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    elif layout in ("legacy weights", "weights tree"):
        model.save_weights(path)
    else:
        model.save(path)


def _outputs(keras: Any, model: Any, images: Any, version: int) -> Iterator[tuple[str, Any]]:
    if version == 3:
        from npresnet.verify import oracle

        yield from oracle.activations(model, images)
        return
    skipped = ("InputLayer", "Lambda", "Reshape", "Dropout")
    layers = [layer for layer in model.layers if type(layer).__name__ not in skipped]
    every = keras.Model(model.input, [layer.output for layer in layers])
    for layer, array in zip(layers, every(images, training=False), strict=True):
        yield layer.name, array.numpy()


def _results(entry: Upstream) -> Iterator[Result]:
    if entry.keras == 3:
        import keras
    else:
        import tf_keras as keras
    model = entry.build(keras)
    randomize(model, pixels=entry.pixels)
    images = np.random.default_rng(5).uniform(-124, 132, (1, *entry.size, 3)).astype(np.float32)
    expected = list(_outputs(keras, model, images, entry.keras))
    parameters = sum(int(np.prod(variable.shape)) for layer in leaves(model) for variable in layer.weights)
    steps = model.operations if entry.keras == 3 else model.layers
    for layout, suffix in LAYOUTS.items():
        custom = entry.package in ("keras-hub", "kimm") or entry.keras == 2
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"file{suffix}"
            try:
                _save(keras, model, path, layout, entry.keras)
            except Exception as error:
                if not custom:
                    raise
                print(f"  {layout}: {entry.package} cannot write it ({str(error)[:80]})", flush=True)
                continue
            try:
                net = npresnet.load(path, entry.asked)
                found = agreement(net, steps, expected, images)
                problem = found.failures[0] if found.failures else ""
                facts = (str(net.architecture), parameters, found.layers, found.worst, found.worst_layer, problem)
            except npresnet.NpResNetError as error:
                facts = ("", parameters, 0, np.inf, "", str(error))
        yield Result(entry.family, entry.package, entry.network, layout, *facts)


def table(run: dict[str, Any]) -> str:
    """The results of a run in Markdown: a row per family and package."""
    results, versions = run["results"], run["about"]["versions"]
    lines = [
        "| family | package | networks | files | layers compared | largest relative error |",
        "|---|---|---|---|---|---|",
    ]
    for family, package in sorted({(result["family"], result["package"]) for result in results}):
        own = [result for result in results if (result["family"], result["package"]) == (family, package)]
        networks = ", ".join(dict.fromkeys(result["network"] for result in own))
        failed = sum(bool(result["problem"]) for result in own)
        agree = f"{len(own)} agree" if not failed else f"{failed} of {len(own)} FAIL"
        worst, layers = max(result["worst"] for result in own), sum(result["layers"] for result in own)
        version = versions.get(package, "")
        lines.append(f"| {family} | {package} {version} | {networks} | {agree} | {layers:,} | {worst:.1e} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="families to run; what is there of the others is kept")
    parser.add_argument("--out", type=Path, default=Path("bench/results/families.json"))
    parser.add_argument("--table", type=Path, help="print the table of a finished run")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return 0
    results: list[dict[str, Any]] = []
    if options.only and options.out.exists():
        results = [r for r in json.loads(options.out.read_text())["results"] if r["family"] not in options.only]
    left_out = []
    for entry in NETWORKS:
        if options.only and entry.family not in options.only:
            continue
        try:
            for result in _results(entry):
                results.append(asdict(result))
                verdict = result.problem or "agrees"
                print(
                    f"{entry.package} {entry.network}, {result.layout}: {result.layers} layers, {result.worst:.1e}, {verdict}",
                    flush=True,
                )
        except ImportError as error:
            left_out.append(f"{entry.package} {entry.network}: {error}")
            print(f"{left_out[-1]}; left out", flush=True)
    results.sort(key=lambda result: [entry.family for entry in NETWORKS].index(result["family"]))
    packages = sorted({entry.package for entry in NETWORKS} | {"tensorflow", "numpy", "numba", "h5py"})
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    about = {"npresnet": npresnet.__version__, "python": platform.python_version(), "versions": versions}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"about": about, "left out": left_out, "results": results}, indent=1) + "\n")
    return 1 if any(result["problem"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
