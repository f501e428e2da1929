"""What the documents name is there: files, folders, modules, commands. (Figures: ``tests/peers/test_benchmark.py``.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "kernels/README.md", "kernels/TUNING.md",
    "npresnet/data/README.md", "tests/data/README.md", "docs/detect.md", "docs/extract.md", "docs/networks.md",
    "docs/lessons/im2col.md", "docs/lessons/registers.md", "docs/lessons/winograd.md", "docs/lessons/card.md",
]  # fmt: skip

PLACEHOLDER = re.compile(r"NAME\b")  # kernels/NAME.py


def missing_paths(text: str, folder: Path) -> set[str]:
    """The files and folders that a document in ``folder`` names, and that are not there."""
    rooted = re.findall(r"(?<![\w/.-])((?:npresnet|kernels|tests|bench)/[\w./-]*[\w/])", text)
    beside = [name for name in re.findall(r"`([\w/]+\.(?:py|md|toml))`", text) if name not in rooted]
    linked = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    found = {name for name in rooted if not (ROOT / name).exists()}
    found |= {name for name in beside if not any((place / name).exists() for place in (folder, ROOT))}
    found |= {name for name in linked if name and not (folder / name).exists()}
    return {name for name in found if not PLACEHOLDER.search(name)}


def missing_modules(text: str) -> set[str]:
    """The modules that a document runs or imports, or names with all their dots, and that are not there."""
    text = re.sub(r"^ *\| (.*?) \|", "", text, flags=re.MULTILINE) if text.startswith("# Changelog") else text
    run = re.findall(r"python -m ((?:npresnet|tests|bench)[\w.]*\w)", text)
    imported = re.findall(r"^from (npresnet\.[\w.]+) import", text, re.MULTILINE)
    named = re.findall(r"`(npresnet\.(?:\w+\.)+\w+)`", text)
    return {name for name in (*run, *imported, *named) if not _is_module(name)}


def _is_module(name: str) -> bool:
    """Whether there is such a module, or one with such a thing in it."""
    path = ROOT / name.replace(".", "/")
    if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
        return True
    within = path.parent.with_suffix(".py")
    return within.exists() and re.search(rf"\b{path.name}\b", within.read_text()) is not None


def commands(text: str) -> set[str]:
    """The commands of ``npresnet`` that a document shows."""
    shown = re.findall(r"(?:^\$ |&& |`)npresnet (\w+)", text, re.MULTILINE)
    return set(shown) | set(re.findall(r"python -m npresnet (\w+)", text))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_names_is_there(name):
    path = ROOT / name
    text = path.read_text()
    assert missing_paths(text, path.parent) == set()
    assert missing_modules(text) == set()


def test_commands_are_there():
    pytest.importorskip("typer")
    from npresnet.cli.app import app

    there = {command.callback.__name__ for command in app.registered_commands if command.callback}
    there |= {str(group.name) for group in app.registered_groups}
    shown = {command: name for name in DOCUMENTS for command in commands((ROOT / name).read_text())}
    assert set(shown) - there == set()
    assert there <= commands((ROOT / "README.md").read_text())


def test_every_document_is_looked_at():
    """All that git would keep; folders that begin with a dot are tools'."""
    own = [path.relative_to(ROOT) for folder in ("", "docs", "docs/lessons", "npresnet", "kernels", "tests", "bench", "npresnet/data", "tests/data")
           for path in (ROOT / folder).glob("*.md")]  # fmt: skip
    assert {path.as_posix() for path in own if path.parts[:2] != ("npresnet", "kernels")} == set(DOCUMENTS)


def test_what_is_not_there_is_found():
    text = (
        "`plan.py`, npresnet/plan.py, [kernels](kernels/none.md), `kernels/NAME.py`, kernels/README.md and `tests/cli`"
    )
    assert missing_paths(text, ROOT) == {"plan.py", "npresnet/plan.py", "kernels/none.md"}
    text = "`python -m bench.none`, `npresnet.plan.fusion` and `npresnet.plan.fission`, `npresnet.plan.times.StepTime`"
    assert missing_modules(text) == {"bench.none", "npresnet.plan.fission"}
    assert commands("`npresnet run x` and\n$ npresnet walk") == {"run", "walk"}


def test_the_layers_that_are_run_are_all_named():
    """But for spellings of old versions, and what acts in training only."""
    from npresnet.network.dialects import IDLE, LAYERS

    text = (ROOT / "docs" / "networks.md").read_text()
    text = text.replace("`GlobalAveragePooling` and `GlobalMaxPooling` 1D, 2D and 3D", "".join(
        f"`Global{kind}Pooling{rank}D`" for kind in ("Average", "Max") for rank in (1, 2, 3)
    ))  # fmt: skip
    old = {"BatchNormalizationV1", "BatchNormalizationV2", "Convolution2D", "SeparableConvolution2D"}
    inner = {"Channels", "ChannelReduce", "Divide", "Sigmoid"}  # what functions come to, and a layer of other packages
    assert {name for name in LAYERS if f"`{name}`" not in text} == old | inner | set(IDLE) - {
        "RandomFlip",
        "RandAugment",
        "MixUp",
    }
