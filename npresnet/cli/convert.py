"""``npresnet convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import ArchitectureOption
from .printing import fact, guarded, print_unused, progress

__all__ = ["convert"]


@guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A Keras weight file (.h5, .keras, .weights.json).")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5 file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over OUT where it exists.")] = False,
    architecture: ArchitectureOption = None,
) -> None:
    """Write the network in a file as plain Keras weights, checked. What is not part of it is dropped and listed."""
    from ..network.convert import convert as converted

    with progress("converting", None):
        done = converted(source, target, architecture, force)
    fact("architecture", str(done.architecture))
    fact("written", f"{target} ({done.bytes:,} bytes), {done.layers} layers with {done.tensors} tensors")
    print_unused("dropped", done.dropped)
