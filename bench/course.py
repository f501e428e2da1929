"""The tables of the lessons, from what ``npresnet study`` finds on the demo network: no number there is typed by hand.

    python -m bench.course            write the tables into docs/lessons/*.md
    python -m bench.course --check    exit status 1 if one of them is not what is found now

A table stands between ``<!-- study: TOPIC ARGUMENT... ROWS -->`` and ``<!-- end -->``: the rows of a topic's JSON, as the command's own
table shows them. Recordings (``watch``) are the same on every machine, and a test holds them; others are close to the same.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npresnet import study
from npresnet.study.asm import TABLES as ASM_TABLES
from npresnet.study.errors import TABLES as ERRORS_TABLES
from npresnet.study.forms import Grid, plain
from npresnet.study.watch import tables_of
from npresnet.study.window import TABLES as WINDOW_TABLES
from npresnet.study.winograd import TABLES as WINOGRAD_TABLES

LESSONS = sorted((Path(__file__).parents[1] / "docs" / "lessons").glob("*.md"))
MARKED = re.compile(r"(<!-- study: ([^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


@functools.cache
def _demo() -> tuple[Any, Any]:
    """(network, image) of the demo, as the commands have them."""
    import npresnet
    from npresnet.cli.demo import demo_weights
    from npresnet.data.photograph import photograph

    net = npresnet.load(demo_weights()[0])
    return net, net.prepare(str(photograph()), (224, 224))


@functools.cache
def _found(topic: str, *arguments: str) -> tuple[Any, Sequence[Grid]]:
    """(a topic's JSON, its tables)."""
    match topic:
        case "watch":
            (kernel,) = arguments
            recording = study.watch(kernel)
            return plain(recording), tables_of(recording)
        case "asm":
            return plain(study.asm(*arguments)), ASM_TABLES
        case "window":
            layer, *at = arguments
            row, column, channel = map(int, at)
            return plain(study.window(*_demo(), layer, (row, column, channel))), WINDOW_TABLES
        case "winograd":
            return plain(study.winograd(*_demo())), WINOGRAD_TABLES
        case "errors":
            return plain(study.errors(*_demo())), ERRORS_TABLES
    raise SystemExit(f"course: there is no table of {topic!r}")


def table(marker: str) -> str:
    """The table that a marker such as "watch gemm_naive arrays" asks for, in Markdown."""
    topic, *arguments, rows = marker.split()
    data, grids = _found(topic, *arguments)
    grid = next(grid for grid in grids if grid.rows == rows)
    columns = grid.headings()
    lines = [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---:" if column.right else "---" for column in columns) + "|",
    ]
    for row in grid.cells(data):
        cells = (
            f"`{cell.text}`" if column.field == "text" else cell.text for cell, column in zip(row, columns, strict=True)
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rendered(text: str) -> str:
    """A lesson with its tables as they are found now."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a table is stale")
    check = parser.parse_args(arguments).check
    stale = [lesson for lesson in LESSONS if rendered(lesson.read_text()) != lesson.read_text()]
    for lesson in stale:
        if not check:
            lesson.write_text(rendered(lesson.read_text()))
        print(f"{'stale' if check else 'written'}: {lesson}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
