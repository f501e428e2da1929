"""``npresnet run``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..files.safe_write import check_writable
from .options import (
    Algorithm,
    AlgorithmOption,
    ArchitectureOption,
    DeviceOption,
    Precision,
    PrecisionOption,
    PreprocessingOption,
    SizeOption,
    ThreadsOption,
    load_network,
)
from .printing import fact, guarded, print_table, progress, say, shape_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..model import ResNet
    from ..plan.times import LayerStep

__all__ = ["run"]


@guarded
def run(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Pictures, or .npy files of prepared float32[n, h, w, 3]."),
    ],
    weights: Annotated[
        Path,
        typer.Option(metavar="WEIGHTS", help="A Keras weight file (.h5, .keras, .weights.json).", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the results go.")] = Path("features.npz"),
    layers: Annotated[str | None, typer.Option(metavar="A,B", help="Save these layers' outputs, not C1 to C5.")] = None,
    size: SizeOption = None,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "cpu",
    algorithm: AlgorithmOption = Algorithm.auto,
    precision: PrecisionOption = Precision.fp32,
    threads: ThreadsOption = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print each layer's shape, time and speed.")] = False,
    top: Annotated[
        int | None, typer.Option(metavar="K", help="Classify, and print the K most probable classes.", min=1)
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the classes: one per line, or .json. Implies --top 5."),
    ] = None,
    architecture: ArchitectureOption = None,
) -> None:
    """Run pictures through a network and save its feature maps."""
    import numpy as np

    from ..results.classes import most_probable, read_names
    from ..results.saving import save_arrays

    check_writable(out)
    net = load_network(weights, architecture, device, algorithm, threads, precision, preprocessing)
    names = dict(net.graph.features) if layers is None else _named_layers(layers)
    net.graph.needed_for(names.values())  # an unknown layer is an error before the pictures are read
    classify = top is not None or classes is not None
    scores = "probabilities" if net.graph.probable else "scores"  # a network of its own may end without softmax
    if classify:
        if net.graph.classifier is None:
            raise UsageError(f"--top: {net.why_no_classes}; leave it out, or give another file")
        names[scores] = net.graph.classifier
    if not names:
        raise UsageError(
            f"{weights}: {net.architecture} has no feature maps C1 to C5, and so there is nothing to save; name layers with "
            "--layers" + ("" if net.graph.classifier is None else ", or classify with --top")
        )
    batch = net.prepare([str(image) for image in images], size)
    count, labels = 0, None
    if classify:
        classifier = names[scores]
        (total,) = net.graph.shapes(batch.shape[1], batch.shape[2], [classifier])[classifier]
        count = min(5, total) if top is None else top
        if count > total:
            raise UsageError(f"--top: got {top}, but the classifier has {total} classes; give 1 to {total}")
        labels = read_names(classes, total) if classes else None
    wanted = list(names.values())
    collected: dict[str, list[Any]] = {name: [] for name in wanted}
    steps: list[LayerStep] = []
    if trace:
        list(
            net.trace(_smaller(net, batch[:1], wanted), wanted)
        )  # kernels get ready here, not in the first layers' time
    start = time.perf_counter()
    with progress("images", len(batch)) as advance:
        for index in range(len(batch)):  # one image at a time: memory does not grow with their number
            image = batch[index : index + 1]
            if trace and index == 0:
                found = {}
                for step in net.trace(image, wanted):
                    if step.name in collected:
                        found[step.name] = step.array
                    steps.append(replace(step, array=np.empty(0, np.float32)))  # or every activation would stay
            else:
                found = net(image, wanted)
            for name, array in found.items():
                collected[name].append(array)
            advance()
    seconds = time.perf_counter() - start
    arrays = {key: np.concatenate(collected[name]) for key, name in names.items()}
    save_arrays(out, arrays, net, weights, [str(image) for image in images])
    if trace:
        _print_trace(steps)
        say()
    print_table(("output", "layer", "shape"), ((k, n, shape_text(arrays[k].shape)) for k, n in names.items()), "lll")
    say()
    if classify:
        # where a .npy brought several images, files and images do not match one to one
        sources = list(map(str, images)) if len(images) == len(batch) else [f"image {i}" for i in range(len(batch))]
        heading = "probability" if net.graph.probable else "score"
        _print_classes(sources, most_probable(arrays[scores], count), labels, heading)
        say()
    fact("network", str(net.architecture))
    fact("images", f"{len(batch)} of {batch.shape[2]}x{batch.shape[1]} pixels in {seconds:.2f} s")
    fact("saved", str(out))


def _smaller(net: ResNet, image: NDArray[np.float32], wanted: Sequence[str]) -> NDArray[np.float32]:
    """A corner of an image, or all of it where the network takes one size alone."""
    corner = image[:, :32, :32]
    try:
        net.graph.shapes(corner.shape[1], corner.shape[2], wanted)
    except UsageError:
        return image
    return corner


def _named_layers(text: str) -> dict[str, str]:
    """The layers that ``--layers`` names, as {key in the result: layer}."""
    names = {name.strip(): name.strip() for name in text.split(",") if name.strip()}
    if not names:
        raise UsageError(f"--layers: got {text!r}, which names no layer; give names from `npresnet info --layers`")
    return names


def _print_classes(
    sources: Sequence[str], best: Sequence[Sequence[tuple[int, float]]], names: Sequence[str] | None, heading: str
) -> None:
    """The most probable classes of each image, with their names if those are known."""
    rows = [
        (source, str(number), *([names[number]] if names else []), f"{probability:.4f}")
        for source, classes in zip(sources, best, strict=True)
        for number, probability in classes
    ]
    if names:
        print_table(("image", "class", "name", heading), rows, "lrlr")
    else:
        print_table(("image", "class", heading), rows, "lrr")


def _print_trace(steps: Sequence[LayerStep]) -> None:
    """Shape, time and speed of each layer, and the whole."""
    print_table(
        ("layer", "kind", "shape", "ms", "GFLOP/s", "without --trace"),
        (
            (s.name, s.kind, shape_text(s.shape), f"{s.seconds * 1e3:.2f}", f"{s.gflop_per_second:.1f}", s.planned)
            for s in steps
        ),
        "lllrrl",
    )
    seconds, flop = sum(s.seconds for s in steps), sum(s.flop for s in steps)
    say(
        f"{len(steps)} layers in {seconds:.3f} s, {flop / 1e9:.2f} GFLOP, {flop / max(seconds, 1e-9) / 1e9:.1f} GFLOP/s"
    )
