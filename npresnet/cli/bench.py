"""``npresnet bench``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import UsageError
from ..files.safe_write import check_writable, replaced
from ..peers.engines import PEERS
from .options import BatchesOption, SizesOption, parse_counts, parse_sizes, parse_words
from .printing import fact, fail, guarded, printable, say

if TYPE_CHECKING:
    from ..network.graph import Graph

__all__ = ["bench"]


@guarded
def bench(
    networks: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Networks, with seeded random weights; else matterport/resnet50."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="Measure this Keras file (.h5) instead.")
    ] = None,
    sizes: SizesOption = None,
    batches: BatchesOption = "1",
    threads: Annotated[str | None, typer.Option(metavar="A,B", help="Threads; else 1 and all processors.")] = None,
    engines: Annotated[str | None, typer.Option(metavar="A,B", help=f"{', '.join(PEERS)}; else all.")] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="How often each engine has its turn.", min=1)] = 5,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep every sample as JSON.")] = None,
) -> None:
    """Time this engine beside every engine that is installed. Results are compared first, engines take turns.

    Exit status 1 if an engine fails or disagrees, or one that --engines names is not installed.
    """
    from ..kernels.threads import available_threads
    from ..network.weights import load_weights
    from ..peers.case import Case, full_name, seeded_file
    from ..peers.machine import describe
    from ..peers.measure import ENGINES, measure

    if out is not None:
        check_writable(out)
    chosen = ENGINES if engines is None else parse_words("--engines", engines, ENGINES)
    counts = sorted({1, available_threads()}) if threads is None else parse_counts("--threads", threads)
    graph: Graph | None = None
    if weights is None:
        names = [full_name(name) for name in parse_words("--networks", networks or "matterport/resnet50")]
    elif networks is None:
        found = load_weights(weights)
        names, graph = [found.architecture.name], found.graph
        if graph.channels != 3:
            raise UsageError(f"{weights}: its images have {graph.channels} channels; engines are compared on three")
    else:
        raise UsageError(
            f"--networks: got {networks!r} beside --weights, whose network is in the file; give one of them"
        )
    shapes = parse_sizes("--sizes", sizes, graph)
    batch_sizes = parse_counts("--batches", batches)
    cases = [Case(name, (n, *shape), count) for name, shape, n, count in product(names, shapes, batch_sizes, counts)]
    fact("machine", describe())
    results = []
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as folder, _ConsoleWatcher() as watcher:
        for case in cases:
            watcher.note(str(case))
            watcher.doing("writing weights")
            file = weights or seeded_file(case.network, Path(folder))
            results.append(measure(case, file, chosen, rounds=rounds, watcher=watcher))
    for case, result in zip(cases, results, strict=True):
        say()
        _print_engines(str(case), result["engines"])
    say()
    _print_settings(results)
    if out is not None:
        with replaced(out) as temporary:
            temporary.write_text(json.dumps({"machine": describe(), "cases": results}, indent=1) + "\n")
        fact("saved", str(out))
    accepted = ("ok",) if engines is not None else ("ok", "missing")
    failed = [found for result in results for found in result["engines"].values() if found["status"] not in accepted]
    if failed:
        names = sorted({found["title"] for found in failed})
        fail(f"bench: {len(failed)} of the measurements failed ({', '.join(names)}); see above", 1)


class _ConsoleWatcher:
    """What a benchmark does, on standard error: lines that stay, and on a terminal one that changes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("starting")

    def __enter__(self) -> _ConsoleWatcher:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def note(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)

    def doing(self, text: str) -> None:
        self._status.update(escape(printable(text)))


def _print_engines(title: str, engines: Mapping[str, Mapping[str, Any]]) -> None:
    """One case's table, fastest engine first, and below it what was chosen for it, or why it has no time."""
    ours = engines["npresnet"].get("median")
    ranked = sorted(engines.values(), key=lambda found: found.get("median", float("inf")))
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("engine", "median ms", "min", "quartiles", "ratio", "error", "peak MB"):
        table.add_column(heading, justify="left" if heading == "engine" else "right", no_wrap=True)
    for found in ranked:
        if found["status"] == "ok":
            low, high = found["quartiles"]
            table.add_row(
                found["title"],
                f"{found['median'] * 1e3:.1f}",
                f"{found['min'] * 1e3:.1f}",
                f"{low * 1e3:.1f}-{high * 1e3:.1f}",
                f"{found['median'] / ours:.2f}" if ours else "",
                f"{found['error']:.1e}" if found["error"] else "",
                f"{found['peak_bytes'] / 1e6:.0f}",
            )
        else:
            table.add_row(found["title"], found["status"])
    Console(highlight=False).print(table)
    for found in ranked:
        remark = found.get("chosen") if found["status"] == "ok" else found["reason"]
        if remark:
            fact(found["title"], remark)


def _print_settings(results: Sequence[Mapping[str, Any]]) -> None:
    """How each engine was set, the same in all cases, and what the tables' columns mean."""
    engines = (found for result in results for found in result["engines"].values() if found["status"] == "ok")
    settings = {found["title"]: f"{found['version']}; {found['settings']}" for found in engines}
    for title, text in settings.items():
        fact(title, text)
    fact("precision", "float32; all make C1 to C5, and class probabilities where there is a classifier")
    fact("ratio", "median time over npresnet's")
    fact("error", "largest relative difference from npresnet's outputs")
