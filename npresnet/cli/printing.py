"""What all commands print with: facts, tables, progress, errors."""

from __future__ import annotations

import errno
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import NpResNetError, WeightsWarning

__all__ = [
    "counted",
    "dimensions",
    "fact",
    "fail",
    "guarded",
    "print_table",
    "print_unused",
    "printable",
    "progress",
    "say",
    "shape_text",
]

_T = TypeVar("_T")

_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}  # file names stay in one piece


def printable(text: str) -> str:
    """``text`` with control characters written out: names in a file must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str = "") -> None:
    """Print a line of results."""
    print(printable(text))


def fact(label: str, text: str) -> None:
    """A labelled fact; what does not fit in a line of 80 characters goes on below itself."""
    first, rest = f"{label:<13} ", " " * 14
    print(textwrap.fill(printable(text), 80, initial_indent=first, subsequent_indent=rest, **_WHOLE_WORDS))


def fail(message: str, status: int) -> NoReturn:
    """End the command with ``message`` on standard error and the exit status ``status``."""
    _tell(message)
    raise typer.Exit(status)


def _tell(message: str) -> None:
    """A message on standard error."""
    text = printable(f"npresnet: {message}")
    if sys.stderr.isatty():  # in a pipe or a log, one message stays one line
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, **_WHOLE_WORDS)
    print(text, file=sys.stderr)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the library's errors into one paragraph and exit status 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("once", WeightsWarning)
                warnings.showwarning = lambda message, *where, **more: _tell(f"note: {message}")
                command(*args, **kwargs)
        except NpResNetError as error:
            fail(str(error), 2)
        except MemoryError as error:
            _fail_for_memory(error)
        except RuntimeError as error:
            if "can't start new thread" not in str(error):
                raise
            fail(f"out of memory, or of threads ({error}); raise the limit, or give --threads 1", 2)
        except BrokenPipeError:  # the reader of the results has gone
            raise
        except OSError as error:
            if error.errno == errno.ENOMEM or "shared object" in str(error):  # llvmlite's library, which found no room
                _fail_for_memory(error)
            name = f"{error.filename}: " if error.filename else ""
            fail(f"{name}cannot be read or written ({error.strerror or error}); is it there, and is the disk full?", 2)

    return run


def _fail_for_memory(error: Exception) -> NoReturn:
    fail(f"out of memory ({error}); use smaller or fewer images, or raise the limit (ulimit -v)", 2)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: str) -> None:
    """Print rows in aligned columns; ``right`` has an "r" for each column that is aligned to the right."""
    cells = [list(headings), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        pieces = (
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, right, strict=True)
        )
        print("  ".join(pieces).rstrip())


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, shown on terminals only; call what it yields once per step."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def counted(items: Iterable[_T], title: str, total: int) -> Iterator[_T]:
    """The items, with a progress bar that moves by one for each."""
    with progress(title, total) as advance:
        for item in items:
            yield item
            advance()


def dimensions(shape: Sequence[int]) -> str:
    """A shape as people write it: 1024x1024x3."""
    return "x".join(map(str, shape))


def shape_text(shape: Sequence[int]) -> str:
    """The shape of a layer's output; a batch of one is left out."""
    return dimensions(shape[1:] if shape and shape[0] == 1 else shape)


def print_unused(label: str, layers: Mapping[str, int]) -> None:
    """The layers of a file that are not part of its network, with their number of tensors."""
    fact(
        label,
        f"{len(layers)} layers with {sum(layers.values())} tensors, not part of the backbone" if layers else "none",
    )
    for name, count in layers.items():
        fact("", f"{name} ({count})")
