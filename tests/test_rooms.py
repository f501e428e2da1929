"""The rooms of the house: what each part of the package may know of the others. ``python -m tests.test_rooms`` counts them.

A room is a folder of the package, or a module beside them. Every arrow, from a module to one that it imports, leads to its
own room or to a floor further up in this list; whatever is on one floor does not know of each other.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = (
    ("errors", "version", "data"),
    ("kernels",),  # which know nothing but themselves: see below
    ("kernels.cuda", "files.hdf5"),
    ("files",),
    ("network",),
    ("images", "plan"),
    ("cpu", "cuda", "detection"),
    ("model",),
    ("results", "verify"),
    ("peers",),
    ("study", "extraction"),
    ("ray",),
    ("__init__",),  # the package's public face
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

LONGEST = 520  # lines; a module of more has more than one concern


class Arrow(NamedTuple):
    """``source`` imports ``target``: modules of the package, without its name."""

    source: str
    target: str
    line: int
    for_types: bool  # under TYPE_CHECKING

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}, knows {self.target}{' for its types' if self.for_types else ''}"


def _sources() -> dict[str, str]:
    """{module: its text}; the packages themselves by the folder's name, the outermost one as "__init__"."""
    own = (path for path in (ROOT / "npresnet").rglob("*.py") if "kernels" not in path.relative_to(ROOT).parts)
    found = {path.relative_to(ROOT / "npresnet"): path for path in own}
    found |= {path.relative_to(ROOT): path for path in (ROOT / "kernels").rglob("*.py")}
    return {_name(place): path.read_text() for place, path in sorted(found.items())}


def _name(place: Path) -> str:
    parts = place.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _room(module: str) -> str:
    """The room that a module is in: the longest name on a floor that its own begins with."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOOR), parts[0])


def _arrows(sources: Mapping[str, str]) -> Iterator[Arrow]:
    """Everything that is imported: also inside functions, for types alone, or by a name in a string."""
    packages = {module.rpartition(".")[0] for module in sources}
    for module, text in sources.items():
        parts = [] if module in ("__init__", "__main__") else module.split(".")
        within = parts if module in packages else parts[:-1]
        for name, line, for_types in _imported(text, tuple(within)):
            target = name
            while target and target not in sources:
                target = target.rpartition(".")[0]
            if (target or "__init__") != module:
                yield Arrow(module, target or "__init__", line, for_types)


@functools.cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@functools.cache
def _imported(text: str, within: tuple[str, ...]) -> list[tuple[str, int, bool]]:
    """(name with dots and without the package's, line, whether for types alone) of what a module in the folder ``within``
    imports of the package."""

    def visit(node: ast.AST, for_types: bool) -> Iterator[tuple[str, int, bool]]:
        match node:
            case ast.ImportFrom(module=origin, names=aliases, level=level) if level:
                base = [*within[: len(within) - level + 1], *(origin.split(".") if origin else [])]
                names = [".".join([*base, alias.name]) for alias in aliases]
            case ast.ImportFrom(module=origin, names=aliases) if (origin or "").split(".")[0] == "npresnet":
                names = [".".join([*(origin or "").split(".")[1:], alias.name]) for alias in aliases]
            case ast.Import(names=aliases):
                names = [alias.name.partition(".")[2] for alias in aliases if alias.name.split(".")[0] == "npresnet"]
            case ast.Constant(value=str(value)):
                names = re.findall(r"(?:from|import) npresnet\.([\w.]+)", value)
            case _:
                names = []
        yield from ((name, getattr(node, "lineno", 0), for_types) for name in names)
        types_alone = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            # a string that stands alone is documentation, which may name whatever it likes
            if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                yield from visit(child, for_types or types_alone)

    return list(visit(_parsed(text), False))


def _backward(arrows: Iterator[Arrow]) -> list[str]:
    """The arrows that lead to another room on the same floor or on one further down, in words."""
    found = []
    for arrow in arrows:
        source, target = _room(arrow.source), _room(arrow.target)
        if source != target and FLOOR[target] >= FLOOR[source]:
            found.append(str(arrow))
    return found


def _cycle(arrows: Iterator[Arrow]) -> list[str]:
    """Modules that import each other in a circle, if any do."""
    known: dict[str, set[str]] = defaultdict(set)
    for arrow in arrows:
        known[arrow.source].add(arrow.target)
    try:
        graphlib.TopologicalSorter(known).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def count() -> tuple[int, int, int]:
    """(rooms, floors, arrows from room to room) of the package as it is."""
    sources = _sources()
    rooms = {_room(module) for module in sources}
    pairs = {(_room(arrow.source), _room(arrow.target)) for arrow in _arrows(sources)}
    return len(rooms), len({FLOOR[room] for room in rooms}), sum(source != target for source, target in pairs)


# The package ---------------------------------------------------------------------------------------------------------


def test_every_module_has_a_room():
    assert {_room(module) for module in _sources()} <= set(FLOOR)


def test_arrows_lead_one_way():
    assert _backward(_arrows(_sources())) == []


def test_no_module_imports_itself_through_others():
    assert _cycle(_arrows(_sources())) == []


def test_kernels_know_nothing_of_the_package():
    for arrow in _arrows(_sources()):
        if arrow.source.startswith("kernels"):
            assert arrow.target.startswith("kernels"), arrow


def test_nothing_knows_the_command_line():
    for arrow in _arrows(_sources()):
        if _room(arrow.target) == "cli":
            assert _room(arrow.source) in ("cli", "__main__"), arrow


def test_benchmarks_and_tests_are_not_imported():
    """They are not installed."""
    for module, text in _sources().items():
        assert not re.search(r"^\s*(?:from|import) (?:tests|bench)\b", text, re.MULTILINE), module


@pytest.mark.parametrize(
    ("module", "text", "words"),
    [
        ("plan.fusion", "from ..cpu.runner import Planner", "plan.fusion, line 1, knows cpu.runner"),
        ("plan.fusion", "def f():\n    from .. import model", "plan.fusion, line 2, knows model"),
        ("cuda.card", "from ..cpu import packing", "cuda.card, line 1, knows cpu.packing"),
        ("files.hdf5.source", "from ..layers import StoredFile", "files.hdf5.source, line 1, knows files.layers"),
        ("errors", "import npresnet.version", "errors, line 1, knows version"),
        ("model", "import npresnet", "model, line 1, knows __init__"),
        (
            "network.graph",
            "if TYPE_CHECKING:\n    from ..model import ResNet",
            "network.graph, line 2, knows model for its types",
        ),
        ("files.contained", 'CHILD = "from npresnet.cli.app import app"', "files.contained, line 1, knows cli.app"),
        ("kernels.add", "from .cuda.launch import Kernel", "kernels.add, line 1, knows kernels.cuda.launch"),
    ],
)
def test_an_arrow_that_leads_back_is_found(module, text, words):
    assert _backward(_arrows({**_sources(), module: text})) == [words]


def test_an_arrow_that_leads_on_is_none():
    text = (
        '"""As in `from npresnet.cli.app import app`."""\nimport numpy\nfrom ..plan import fusion\nfrom . import runner'
    )
    assert _backward(_arrows({**_sources(), "cpu.by_plan": text})) == []


def test_a_circle_is_found():
    back = {"network.graph": "def f():\n    from .weights import load_weights"}
    assert {"network.graph", "network.weights"} <= set(_cycle(_arrows({**_sources(), **back})))


# Modules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["npresnet", "kernels"])
def test_modules_are_short(folder):
    for path in (ROOT / folder).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("npresnet/kernels/"):
            continue
        assert len(path.read_text().splitlines()) <= LONGEST, name


def test_a_name_of_a_class_has_one_meaning():
    """Except that ``cpu`` and ``cuda`` have the same names for the same things."""
    places: dict[str, set[str]] = defaultdict(set)
    for module, text in _sources().items():
        for node in _parsed(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(re.sub(r"^cuda\.", "cpu.", module))
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


if __name__ == "__main__":
    print("{} rooms on {} floors, {} arrows".format(*count()))
