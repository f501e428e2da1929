"""Options that several commands take, and what is read from their text."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..model import ResNet

__all__ = [
    "Algorithm",
    "ArchitectureOption",
    "Device",
    "Precision",
    "Size",
    "Threads",
    "WeightsFile",
    "load_network",
    "numbers_of",
    "size_of",
    "words_of",
]


class Precision(StrEnum):
    fp32 = "fp32"
    tf32 = "tf32"
    exact = "3xtf32"


class Algorithm(StrEnum):
    auto = "auto"
    direct = "direct"
    im2col = "im2col"
    reference = "reference"


def load_network(
    weights: Path,
    architecture: str | None,
    device: str,
    algorithm: str,
    threads: int | None,
    precision: str = "fp32",
) -> ResNet:
    from ..model import load

    return load(weights, architecture, device, str(algorithm), threads, str(precision))  # not the options' enumerations


WeightsFile = Annotated[
    Path,
    typer.Argument(metavar="WEIGHTS", help="A Keras weight file (.h5, .keras, .weights.json).", show_default=False),
]
ArchitectureOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="resnet101 or matterport/resnet101, say; else found in the file."),
]
Threads = Annotated[int | None, typer.Option(metavar="N", help="Threads to use; else all processors.", min=1)]
Size = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="square, pad64, none or WIDTHxHEIGHT, such as 640x480; else the family's own."),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where to run: cpu, cuda, or cuda:1 for the second card.")]


def words_of(option: str, text: str, allowed: Sequence[str] | None = None) -> list[str]:
    """The parts of "a,b". Raises UsageError for none, and for one that is not allowed."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if allowed is not None and word not in allowed:
            raise UsageError(f"{option}: got {word!r}; it must be one of {', '.join(allowed)}")
    if not words:
        raise UsageError(f"{option}: got {text!r}, which names nothing; give one or more, separated by commas")
    return list(dict.fromkeys(words))


def numbers_of(option: str, text: str) -> list[int]:
    """The whole numbers of "1,2". Raises UsageError for anything else."""
    words = words_of(option, text)
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 10000 for word in words):
        raise UsageError(f"{option}: got {text!r}; it must be whole numbers of at least 1, separated by commas")
    return [int(word) for word in words]


def size_of(option: str, text: str) -> tuple[int, int]:
    """(height, width) of "224" or "640x480", which is width x height. Raises UsageError for anything else."""
    try:
        width, height = numbers_of(option, text.replace("x", ",")) * (1 if "x" in text else 2)
    except (UsageError, ValueError):
        raise UsageError(
            f"{option}: got {text!r}; it must be pixels, such as 224, or 640x480 (width x height)"
        ) from None
    return height, width
