"""``npresnet info``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import ArchitectureOption
from .printing import dimensions, fact, fail, guarded, print_table, print_unused, say

if TYPE_CHECKING:
    from ..cuda.card import Found

__all__ = ["info"]

_SIZES = {"none": "each picture's own: the file fixes none"}


@guarded
def info(
    weights: Annotated[
        Path | None, typer.Argument(metavar="WEIGHTS", help="A Keras weight file (.h5 or .keras).", show_default=False)
    ] = None,
    architecture: ArchitectureOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer and the shapes of its weights.")] = False,
    devices: Annotated[bool, typer.Option("--devices", help="Show which devices networks can run on.")] = False,
) -> None:
    """Show what a weight file holds. Family, depth, layers matched, missing and unused, parameters, checks."""
    from ..images.conventions import CONVENTIONS, default_size
    from ..network.detector import PYRAMID
    from ..network.features import stage_ends
    from ..network.weights import inspect

    if devices:
        _print_devices()
        if weights is None:
            return
        say()
    if weights is None:
        raise typer.BadParameter("give WEIGHTS, a Keras weight file, or --devices")
    found = inspect(weights, architecture)
    total = len(found.graph.weighted)
    fact("file", f"{found.path} ({found.bytes:,} bytes)")
    version = f"Keras {found.keras_version}" if found.keras_version else "no Keras version noted (Keras 1?)"
    noted = f"; {version}, backend {found.backend or 'not noted'}" if found.layout.startswith("legacy") else ""
    fact("layout", found.layout + noted)
    fact("architecture", str(found.architecture))
    for reason in found.reasons:
        fact("", reason)
    fact("parameters", f"{found.parameters:,} in {found.tensors} tensors")
    maps = ", ".join(f"{feature} {name}" for feature, name in found.graph.features.items())
    fact("feature maps", maps or "none: no map is 4, 8, 16 or 32 times smaller than the images")
    if PYRAMID in found.graph.outputs:
        fact("pyramid", ", ".join(f"{level} {name}" for level, name in found.graph.outputs[PYRAMID].items()))
    ends = stage_ends(found.graph)
    if any(not 4 <= stride <= 32 for stride in ends):
        fact("", f"last of each size, by outputs=: {', '.join(f'1/{stride} {name}' for stride, name in ends.items())}")
    for doubt in found.doubts:
        fact("doubt", doubt)
    convention = found.architecture.preprocessing
    fact("preprocessing", f"{convention}: pixels go in as {CONVENTIONS[convention].in_words(found.graph.channels)}")
    fact("", found.preprocessing)
    size = default_size(found.architecture, found.graph)
    if isinstance(size, str):
        fact("picture size", _SIZES.get(size, f"{size}, as is usual: the file fixes none"))
    else:
        fact("picture size", f"{dimensions(size)} (width x height): the file fixes it")
    fact("matched", f"{len(found.matched)} of {total} layers with weights")
    for title, items in (("missing", found.missing), ("mis-shaped", found.misshaped), ("unusable", found.unsound)):
        fact(title, f"{len(items)} {'tensor' if len(items) == 1 else 'tensors'}" if items else "none")
        for item in items:
            fact("", item)
    for item in found.suspicious:
        fact("suspicious", item)
    print_unused("unused", found.unused)
    if layers:
        say()
        print_table(
            ("layer", "kind", "weights"),
            (
                (layer.name, layer.operator.kind, " ".join(map(dimensions, layer.operator.tensors().values())))
                for layer in found.graph.layers
            ),
            "lll",
        )
    if found.problems:
        fail(f"{weights}: these weights cannot be run; see above", 1)


def _warpgroups(card: Found) -> str:
    """What is known of ``wgmma`` on a card; nothing of those that do not have it."""
    from ..cuda.trial import CAPABILITY, remembered

    if card.capability != CAPABILITY:
        return ""
    match remembered(card.index):
        case None:
            return "wgmma will be tried when a network first runs in tf32"
        case "":
            return "tf32 by wgmma, which was tried and is right"
        case problem:
            return f"tf32 without wgmma: {problem}"


def _print_devices() -> None:
    """The processor, the cards, and what keeps a card from being used."""
    from importlib import metadata

    from ..cuda.card import find_cards, why_no_cuda
    from ..kernels.threads import available_threads
    from ..peers.machine import processor

    fact("cpu", f"{processor()}, {available_threads()} threads")
    for card in find_cards():
        memory = f", {card.free / 1e9:.1f} of {card.total / 1e9:.1f} GB free" if card.total else ""
        capability = f"compute capability {card.capability[0]}.{card.capability[1]}"
        fact(f"cuda:{card.index}", f"{card.name}, {capability}{memory}")
        fact("", f"not usable: {card.problem}" if card.problem else "usable")
        if card.problem is None and (said := _warpgroups(card)):
            fact("", said)
    reason = why_no_cuda()
    if reason is not None:
        fact("cuda", f"not usable: {reason}")
    versions = []
    for package in ("numba-cuda", "cuda-core", "cuda-toolkit"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    fact("packages", ", ".join(versions) or "none for CUDA")
