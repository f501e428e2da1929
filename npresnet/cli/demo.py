"""``npresnet demo``, and its weight file: a Mask R-CNN ResNet-50 with seeded random weights."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..files.safe_write import check_writable
from .options import ThreadsOption, load_network
from .printing import fact, guarded, print_table, progress, say, shape_text

__all__ = ["demo", "demo_weights"]

_NETWORK = "matterport/resnet50"


@guarded
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path("npresnet-demo"),
    threads: ThreadsOption = None,
) -> None:
    """Do the whole job with nothing downloaded. Weights, a photograph, its features C1 to C5, a picture of them."""
    from ..data.photograph import photograph
    from ..results.drawing import save_feature_picture
    from ..results.saving import save_arrays

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: this folder cannot be made ({error.strerror}); choose another with --out") from None
    check_writable(out / "features.npz")
    with progress("writing demo weights", 1) as advance:
        weights, fresh = demo_weights()
        advance()
    fact("weights", f"{weights} ({'written now' if fresh else 'from an earlier run'}; seeded random numbers)")
    net = load_network(weights, None, "cpu", "auto", threads)
    fact("network", f"{net.architecture}, {len(net.layers)} layers, {net._inspection.parameters:,} parameters")
    picture = photograph()
    images = net.prepare(str(picture))
    fact("photograph", f"{picture.name}, prepared to {shape_text(images.shape)}")
    say()

    names = {name: feature for feature, name in net.graph.features.items()}
    shapes = net.graph.shapes(*images.shape[1:3])
    first = time.perf_counter()
    net(images[:, :64, :64])  # compiles what no earlier run has, and packs the weights
    ready = time.perf_counter() - first
    with progress("runs", None):
        steps = net.profile(images, repeats=3)
        maps = {feature.upper(): array for feature, array in net(images)._asdict().items()}
    rows, since = [], 0.0
    for layer in net.graph.layers[:2]:
        rows.append((layer.name, "", shape_text((1, *shapes[layer.name])), ""))
    for step in steps:
        since += step.seconds
        if step is steps[0] or step.name in names:
            rows.append((step.name, names.get(step.name, ""), shape_text(step.shape), f"{since:.3f}"))
            since = 0.0
    print_table(("up to layer", "map", "shape", "seconds"), rows, "lllr")
    seconds, flop = sum(step.seconds for step in steps), sum(step.flop for step in steps)
    say()
    fact("time", f"{seconds:.2f} s on {net.threads} threads, after {ready:.1f} s to get kernels and weights ready")
    fact("speed", f"{flop / seconds / 1e9:.0f} GFLOP/s, {flop / 1e9:.0f} GFLOP as a direct convolution counts them")
    save_arrays(out / "features.npz", maps, net, weights, [picture.name])
    save_feature_picture(out / "features.png", picture, maps)
    fact("saved", f"{out / 'features.npz'} (C1 to C5 as float32 arrays)")
    fact("", f"{out / 'features.png'} (a picture of them)")


def demo_weights() -> tuple[Path, bool]:
    """The path of the demo's Keras file, and whether it had to be written now: once, into the user's cache."""
    from ..kernels.cache import cache_directory
    from ..network.architecture import Architecture
    from ..network.building import build_graph
    from ..network.seeded import random_weights, write_keras_file

    folder = (cache_directory() or Path(tempfile.gettempdir())) / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_NETWORK.replace('/', '_')}_seed0.h5"
    if path.exists():
        return path, False
    graph = build_graph(Architecture.named(_NETWORK))
    return write_keras_file(path, graph, random_weights(graph, seed=0)), True
