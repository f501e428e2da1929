"""The command line: demo, info, run, detect, extract, convert, verify, bench, warmup, tune, study. Each is a thin layer over the
library.

Exit status: 0 done; 1 the check failed, or a part of the work: results could not be printed, say; 2 wrong use, unreadable
input, or a file that cannot be written; 130 after Ctrl-C. Results go to standard output as plain aligned text, progress
and errors to standard error. Where a result cannot be written is said before the work, if it can be known by then.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ..version import __version__
from .bench import bench
from .convert import convert
from .demo import demo
from .detect import detect
from .extract import extract
from .info import info
from .printing import say
from .run import run
from .study import study
from .tune import tune
from .verify import verify
from .warmup import warmup

__all__ = ["app"]


app = typer.Typer(
    help="ResNet backbones straight from Keras weight files, without TensorFlow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    rich_markup_mode=None,
)


def _version(value: bool) -> None:
    if value:
        say(f"npresnet {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for _command in (demo, info, run, detect, extract, convert, verify, warmup, tune, bench):
    app.command()(_command)
app.add_typer(study, name="study")
