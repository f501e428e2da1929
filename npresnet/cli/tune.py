"""``npresnet tune``."""

from __future__ import annotations

from itertools import product

from .options import (
    Algorithm,
    AlgorithmOption,
    ArchitectureOption,
    BatchesOption,
    DeviceOption,
    Precision,
    PrecisionOption,
    SizesOption,
    WeightsArgument,
    load_network,
    parse_counts,
    parse_sizes,
)
from .printing import fact, guarded, print_table, progress, say

__all__ = ["tune"]


@guarded
def tune(
    weights: WeightsArgument,
    sizes: SizesOption = None,
    batches: BatchesOption = "1",
    device: DeviceOption = "cuda",
    algorithm: AlgorithmOption = Algorithm.auto,
    precision: PrecisionOption = Precision.fp32,
    architecture: ArchitectureOption = None,
) -> None:
    """Measure which kernels are the fastest on a card.

    What is found is kept on disk; networks on a card of that kind go by it from then on.
    """
    counts = parse_counts("--batches", batches)
    if sizes is not None:
        parse_sizes("--sizes", sizes, None)  # before the file is read
    net = load_network(weights, architecture, device, algorithm, None, precision)
    shapes = parse_sizes("--sizes", sizes, net.graph)
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
