"""Options that several commands take, and what is read from their text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..model import ResNet
    from ..network.graph import Graph

__all__ = [
    "Algorithm",
    "AlgorithmOption",
    "ArchitectureOption",
    "BatchesOption",
    "DeviceOption",
    "Precision",
    "PrecisionOption",
    "PreprocessingOption",
    "SizeOption",
    "SizesOption",
    "ThreadsOption",
    "WeightsArgument",
    "load_network",
    "parse_counts",
    "parse_size",
    "parse_sizes",
    "parse_words",
]


class Algorithm(StrEnum):
    """What ``load(algorithm=)`` takes."""

    auto = "auto"
    direct = "direct"
    im2col = "im2col"
    reference = "reference"


class Precision(StrEnum):
    """What ``load(precision=)`` takes."""

    fp32 = "fp32"
    tf32 = "tf32"
    exact = "3xtf32"


WeightsArgument = Annotated[
    Path,
    typer.Argument(metavar="WEIGHTS", help="A Keras weight file (.h5, .keras, .weights.json).", show_default=False),
]
AlgorithmOption = Annotated[Algorithm, typer.Option(help="How to compute.")]
ArchitectureOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="resnet101 or matterport/resnet101, say; else found in the file."),
]
BatchesOption = Annotated[str, typer.Option(metavar="A,B", help="Images at a time.")]
DeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", help="Where to run: cpu, cuda, or cuda:1 for the second card.")
]
PrecisionOption = Annotated[Precision, typer.Option(help="Of convolutions on a card.")]
PreprocessingOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="caffe, torch, tf, unit, none, matterport or nsfw; else what `info` shows."),
]
SizeOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="square, pad64, none or WIDTHxHEIGHT, such as 640x480; else what `info` shows."),
]
SizesOption = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Sizes of image: 224, or 640x480 (width x height); else the file's, or 224."),
]
ThreadsOption = Annotated[int | None, typer.Option(metavar="N", help="Threads to use; else all processors.", min=1)]


def load_network(
    weights: Path,
    architecture: str | None,
    device: str,
    algorithm: str,
    threads: int | None,
    precision: str = "fp32",
    preprocessing: str | None = None,
) -> ResNet:
    """``npresnet.load``, imported now: it takes longer than `--help` should."""
    from ..model import load

    # texts, not the options' enumerations
    return load(weights, architecture, device, str(algorithm), threads, str(precision), preprocessing)


def parse_words(option: str, text: str, allowed: Sequence[str] | None = None) -> list[str]:
    """The parts of "a,b", each once. Raises UsageError for none, and for one that is not allowed."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if allowed is not None and word not in allowed:
            raise UsageError(f"{option}: got {word!r}; it must be one of {', '.join(allowed)}")
    if not words:
        raise UsageError(f"{option}: got {text!r}, which names nothing; give one or more, separated by commas")
    return list(dict.fromkeys(words))


def parse_counts(option: str, text: str) -> list[int]:
    """The whole numbers of "1,2", each at least 1. Raises UsageError for anything else."""
    words = parse_words(option, text)
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 10000 for word in words):
        raise UsageError(f"{option}: got {text!r}; it must be whole numbers of at least 1, separated by commas")
    return [int(word) for word in words]


def parse_sizes(option: str, text: str | None, graph: Graph | None) -> list[tuple[int, int]]:
    """(height, width) of each size of "224,640x480"; without text the one that the file of ``graph`` fixes, or 224x224. Raises
    UsageError for anything else."""
    if text is None:
        return [graph.size if graph is not None and graph.size is not None else (224, 224)]
    return [parse_size(option, size) for size in parse_words(option, text)]


def parse_size(option: str, text: str) -> tuple[int, int]:
    """(height, width) of "224" or "640x480", which is width x height. Raises UsageError for anything else."""
    sides = [int(side) for side in text.split("x") if re.fullmatch("[0-9]{1,4}", side)]
    if len(sides) != text.count("x") + 1 or len(sides) > 2 or min(sides) < 1:
        raise UsageError(f"{option}: got {text!r}; it must be pixels, such as 224, or 640x480 (width x height)")
    return sides[-1], sides[0]
