"""``npresnet tune``."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from .options import (
    Algorithm,
    AlgorithmOption,
    ArchitectureOption,
    BatchesOption,
    Precision,
    PrecisionOption,
    SizesOption,
    ThreadsOption,
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
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:1; else a card if there is one.")
    ] = None,
    algorithm: AlgorithmOption = Algorithm.auto,
    precision: PrecisionOption = Precision.fp32,
    architecture: ArchitectureOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Measure what is the fastest on this machine, and keep it.

    On a card, which kernel computes each convolution; on a processor, the tile and blocks of all of them, within a minute or
    two. Networks that are loaded from then on go by it. Nothing else should run meanwhile.
    """
    counts = parse_counts("--batches", batches)
    if sizes is not None:
        parse_sizes("--sizes", sizes, None)  # before the file is read
    if device is None:
        from ..cuda.card import why_no_cuda

        device = "cpu" if why_no_cuda() else "cuda"
    if device == "cpu":
        _tune_processor(weights, sizes, counts, architecture, threads)
    else:
        _tune_card(weights, sizes, counts, device, algorithm, precision, architecture)


def _tune_processor(
    weights: Path, sizes: str | None, counts: list[int], architecture: str | None, threads: int | None
) -> None:
    from ..kernels.threads import resolve_threads
    from ..network.weights import load_weights
    from ..peers.case import Case
    from ..peers.tuning import tune_processor

    found = load_weights(weights, architecture)
    shapes = parse_sizes("--sizes", sizes, found.graph)
    if len(shapes) * len(counts) > 1:
        raise UsageError(
            "tune: settings of a processor are for all networks; give one size and one batch to find them with"
        )
    if found.graph.channels != 3:
        raise UsageError(f"{weights}: its images have {found.graph.channels} channels; settings are found with three")
    case = Case(architecture or found.architecture.name, (counts[0], *shapes[0]), resolve_threads(threads))
    with progress("settings tried", None) as advance:
        tuned = tune_processor(weights, case, seen=lambda trial: advance())
    print_table(
        ("tile", "unroll", "block KB", "Winograd tiles", "time / best before"),
        (
            (
                f"{trial.settings.rows} x {trial.settings.vectors}",
                str(trial.settings.unroll),
                str(trial.settings.block_bytes // 1024),
                str(trial.settings.tiles),
                f"{trial.ratio:.3f}",
            )
            for trial in tuned.trials
        ),
        "lrrrr",
    )
    say()
    usual = tuned.trials[0].settings
    fact("best", "the usual settings" if tuned.best == usual else f"{tuned.best} instead of {usual}")
    fact("kept", str(tuned.kept or "nowhere: no directory is writable"))


def _tune_card(
    weights: Path, sizes: str | None, counts: list[int], device: str, algorithm: Algorithm, precision: Precision,
    architecture: str | None,
) -> None:  # fmt: skip
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
