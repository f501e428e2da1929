"""The tables of the lessons, from what ``npresnet study`` finds on the demo network: no number there is typed by hand.

    python -m bench.course            write the tables into docs/lessons/*.md
    python -m bench.course --check    exit status 1 if one of them is not what is found now
    python -m bench.course --page     make the example page, docs/study.html, and its picture; the latter takes a browser, as the tests

A table stands between ``<!-- study: TOPIC ARGUMENT... ROWS -->`` and ``<!-- end -->``: the rows of a topic's JSON, as the command's own
table shows them. Recordings (``watch``) are the same on every machine, and a test holds them; others are close to the same.
"""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from npresnet import study
from npresnet.study.errors import TABLES as ERRORS_TABLES
from npresnet.study.forms import Grid, plain
from npresnet.study.listing import TABLES as ASM_TABLES
from npresnet.study.watch import tables_of
from npresnet.study.window import TABLES as WINDOW_TABLES
from npresnet.study.winograd import TABLES as WINOGRAD_TABLES

DOCS = Path(__file__).parents[1] / "docs"
LESSONS = sorted((DOCS / "lessons").glob("*.md"))
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
            kernel, width = arguments
            return plain(study.asm(kernel, width)), ASM_TABLES
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


def example() -> None:
    """The example page, of the demo at 128 x 128 pixels, untimed, and a picture of a part of it."""
    from playwright.sync_api import sync_playwright

    from npresnet.__main__ import main as command

    page = DOCS / "study.html"
    with suppress(SystemExit):
        sys.argv[1:] = ["study", "page", "--size", "128", "--no-timing", "--out", str(page)]
        command()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1160, "height": 640}, device_scale_factor=1)
        shown.goto(page.as_uri())
        shown.evaluate("document.querySelector('nav').style.display = 'none'")
        shown.locator("#maps").scroll_into_view_if_needed()
        shown.evaluate("scrollTo(0, document.querySelector('#maps').offsetTop + 20)")
        shown.click('[data-sheet="2"] >> nth=0')
        shown.evaluate("scrollTo(0, document.querySelector('#maps').offsetTop + 20)")
        shown.screenshot(path=str(page.with_suffix(".png")))
        browser.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a table is stale")
    parser.add_argument("--page", action="store_true", help="make the example page and its picture, no tables")
    given = parser.parse_args(arguments)
    if given.page:
        example()
        return 0
    check = given.check
    stale = [lesson for lesson in LESSONS if rendered(lesson.read_text()) != lesson.read_text()]
    for lesson in stale:
        if not check:
            lesson.write_text(rendered(lesson.read_text()))
        print(f"{'stale' if check else 'written'}: {lesson}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
