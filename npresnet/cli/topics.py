"""What all topics of ``npresnet study`` share: their options, how a network is opened, how tables are shown and JSON is kept."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..data.photograph import photograph
from ..files.safe_write import check_writable, replaced
from ..study.forms import Grid
from .demo import demo_weights
from .options import load_network, parse_sizes
from .printing import fact, guarded, printable, say, shape_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import ResNet
    from ..verify.recording import Recording

__all__ = [
    "ImageArgument",
    "JsonOption",
    "LayerOption",
    "SizeOption",
    "TimingOption",
    "WeightsArgument",
    "keep",
    "opened",
    "printable_lines",
    "show",
    "studied",
]

WeightsArgument = Annotated[
    Path | None,
    typer.Argument(metavar="WEIGHTS", help="A Keras weight file; else that of `npresnet demo`.", show_default=False),
]
ImageArgument = Annotated[
    Path | None,
    typer.Argument(metavar="IMAGE", help="A picture, or a .npy file; else the photograph.", show_default=False),
]
LayerOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which convolution; else the 3x3 that costs the most.")
]
SizeOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="224, or 640x480 (width x height); else the file's, or 224.")
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write all numbers as JSON; - for standard output, and all else to standard error.",
    ),
]
STDOUT = Path("-")
TimingOption = Annotated[
    bool, typer.Option("--timing/--no-timing", help="Time it; without, the same file gives the same bytes.")
]


def studied(command: Callable[..., None]) -> Callable[..., None]:
    """``guarded``, for a command that may be asked for its JSON on standard output: then nothing else goes there."""

    @guarded
    @wraps(command)
    def run(*args: Any, json_file: Path | None = None, **options: Any) -> None:
        if json_file != STDOUT:
            return command(*args, json_file=json_file, **options)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, "found.json")
            try:
                with redirect_stdout(sys.stderr):
                    command(*args, json_file=kept, **options)
            finally:
                if kept.exists():
                    sys.stdout.write(kept.read_text())

    return run


def opened(
    weights: Path | None,
    image: Path | None,
    size: str | None,
    threads: int | None,
    json_file: Path | None = None,
    recording: Recording | None = None,
) -> tuple[ResNet, NDArray[Any]]:
    """(network, prepared image, or that of a recording), before which nothing is computed that could be in vain."""
    if json_file is not None:
        check_writable(json_file)
    path = weights or demo_weights()[0]
    net = load_network(path, None, "cpu", "auto", threads)
    if recording is not None:
        images, name = recording.images, "that of the recording"
    else:
        height, width = parse_sizes("--size", size, net.graph)[0]
        images, name = net.prepare(str(image or photograph()), (width, height)), (image or photograph()).name
    fact("network", f"{net.architecture} ({path.name})")
    fact("image", f"{name}, prepared to {shape_text(images.shape)}")
    return net, images[:1]


def show(tables: tuple[Grid, ...], data: Any) -> None:
    """The tables of a topic, in 80 columns or as many as the terminal has."""
    console = Console(highlight=False)
    for table in tables:
        table, wide = table.filled(data), console.width >= 160
        shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for column in table.headings(wide):
            shown.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
        for row in table.cells(data, wide):
            red = any(cell.text == "spill" for cell in row)
            shown.add_row(*(Text(printable(cell.text), style="red" if red else "") for cell in row))
        if table.caption:
            say()
            fact("", table.caption)
        console.print(shown)


def keep(json_file: Path | None, topic: str, data: Any) -> None:
    if json_file is not None:
        from ..version import __version__

        with replaced(json_file) as temporary:
            temporary.write_text(
                json.dumps({"study": topic, "npresnet": __version__, "data": data}, indent=1, allow_nan=False) + "\n"
            )
        if sys.stdout is not sys.stderr:  # where nobody has asked for a file
            fact("saved", str(json_file))


def printable_lines(text: str) -> str:
    """Source text, each line printable."""
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())
