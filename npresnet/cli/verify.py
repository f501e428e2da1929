"""``npresnet verify``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..files.safe_write import check_writable
from .options import (
    ArchitectureOption,
    DeviceOption,
    PreprocessingOption,
    SizeOption,
    ThreadsOption,
    WeightsArgument,
    load_network,
)
from .printing import counted, fact, fail, guarded, print_table, say, shape_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..model import ResNet

__all__ = ["verify"]


@guarded
def verify(
    weights: WeightsArgument,
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A picture or .npy; else the bundled photograph.")
    ] = None,
    against: Annotated[
        str,
        typer.Option(metavar="ORACLE", help="tensorflow, recording.npz, or reference: our own NumPy in float64."),
    ] = "tensorflow",
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what the oracle computed, to check without it.")
    ] = None,
    size: SizeOption = None,
    preprocessing: PreprocessingOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    architecture: ArchitectureOption = None,
) -> None:
    """Compare every layer with TensorFlow, or with a recording of it. Exit status 1 if any layer disagrees."""
    from ..verify import rows as checks
    from ..verify.compare import RELATIVE, WORST
    from ..verify.recording import Recording

    if record is not None:
        check_writable(record)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's remarks about itself
    net = load_network(weights, architecture, device, "im2col", threads, preprocessing=preprocessing)
    recording: Recording | None = None
    if against in ("tensorflow", "reference"):
        images = _photograph(net, size) if image is None else net.prepare(str(image), size)
        if record:
            recording = Recording(weights, images, against)
        if against == "tensorflow":
            rows = checks.against_tensorflow(net, weights, images, recording)
        else:
            rows = checks.against_reference(net, images, recording)
    else:
        if image is not None or record is not None:
            fail("verify: a recording brings its own images and is not recorded again; leave out IMAGE and --record", 2)
        kept = Recording.open(against)
        images, rows = kept.images, checks.against_recording(net, weights, kept)

    verdicts = list(counted(rows, "layers", len(net.layers) + sum(len(head.layers) for head in net.heads.values())))
    print_table(
        ("layer", "kind", "shape", "relative", "worst", ""),
        (
            (row.name, row.kind, shape_text(row.shape), f"{row.difference.relative:.1e}", f"{row.difference.worst:.1e}",
             "ok" if row.agrees else f"FAILS {row.difference.problem or ''}".rstrip())
            for row in verdicts
        ),
        "lllrrl",
    )  # fmt: skip
    failed = [row for row in verdicts if not row.agrees]
    worst = max(verdicts, key=lambda row: row.difference.relative)
    say()
    fact("network", f"{net.architecture}, on an input of {shape_text(images.shape)}")
    if against == "tensorflow" and (trained := checks.trained_in(weights)) is not None:
        fact("precision", f"the file asks for {trained}; both sides compute in float32")
    fact("result", f"{len(verdicts) - len(failed)} of {len(verdicts)} layers agree with {against}")
    fact("largest", f"relative error {worst.difference.relative:.1e} at {worst.name}")
    fact(
        "allowed",
        f"relative error {RELATIVE:g} of a layer's norm; worst single value {WORST:g} of its root mean square",
    )
    if recording is not None and record is not None:
        recording.save(record)
        fact("recorded", f"{record} ({record.stat().st_size:,} bytes)")
    if failed:
        fail(f"verify: {len(failed)} of {len(verdicts)} layers disagree, first {failed[0].name!r}", 1)


def _photograph(net: ResNet, size: str | None) -> NDArray[np.float32]:
    """The bundled photograph as the network takes it. Where that is not in three colours, they are given in turn: any numbers
    will do for a comparison."""
    import numpy as np

    from ..data.photograph import photograph
    from ..images.prepare import prepare
    from ..network.operators import Input

    channels = net.graph.channels
    if channels == 3:
        return net.prepare(str(photograph()), size)
    entry = net.graph.layers[0].operator
    fixed = entry.size if size is None and isinstance(entry, Input) else None
    picture = prepare(str(photograph()), net.architecture.preprocessing, size if fixed is None else fixed[::-1])
    return np.ascontiguousarray(picture[..., np.arange(channels) % 3])
