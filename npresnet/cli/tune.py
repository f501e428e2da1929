"""``npresnet tune``."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    Algorithm,
    ArchitectureOption,
    Device,
    Precision,
    WeightsFile,
    load_network,
    numbers_of,
    size_of,
    words_of,
)
from .printing import fact, guarded, print_table, progress, say

__all__ = ["tune"]


@guarded
def tune(
    weights: WeightsFile,
    sizes: Annotated[
        str, typer.Option(metavar="A,B", help="Sizes of image: 224, or 640x480 (width x height).")
    ] = "224",
    batches: Annotated[str, typer.Option(metavar="A,B", help="Images at a time.")] = "1",
    device: Device = "cuda",
    algorithm: Annotated[Algorithm, typer.Option(help="How to compute.")] = Algorithm.auto,
    precision: Annotated[Precision, typer.Option(help="Of convolutions on a card.")] = Precision.fp32,
    architecture: ArchitectureOption = None,
) -> None:
    """Measure which kernels are the fastest on a card.

    What is found is kept on disk; networks on a card of that kind go by it from then on.
    """
    from itertools import product

    shapes = [size_of("--sizes", size) for size in words_of("--sizes", sizes)]
    counts = numbers_of("--batches", batches)
    net = load_network(weights, architecture, device, algorithm, None, precision)
    rows = []
    with progress("convolutions measured", None) as advance:
        for (height, width), count in product(shapes, counts):
            rows += net.tune((count, height, width), seen=lambda row: advance())
    if not rows:
        say("all of it was measured already")
        return
    print_table(
        ("convolution", "us as expected", "us", "kernel"),
        (
            (row.convolution, f"{row.expected_seconds * 1e6:.1f}", f"{row.best_seconds * 1e6:.1f}", row.best)
            for row in rows
        ),
        "lrrl",
    )
    say()
    expected, best = (sum(getattr(row, f"{name}_seconds") for row in rows) for name in ("expected", "best"))
    fact("measured", f"{len(rows)} convolutions: {best * 1e3:.3f} ms; as expected to be best {expected * 1e3:.3f} ms")
