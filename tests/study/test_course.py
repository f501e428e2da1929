"""The course and the lessons: every command in them runs, on a thin network in the demo's place, and their tables are what is found."""

from __future__ import annotations

import html
import importlib
import json
import platform
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("typer")

from bench import course
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.seeded import random_weights, write_keras_file
from npresnet.study.forms import at, shown
from npresnet.study.timing import Ceilings

from ..cli.test_cli import cli

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "kernels" / "README.md"
TEXTS = {path.name: path.read_text() for path in (COURSE, *course.LESSONS)}


def commands(text: str) -> list[str]:
    """Those of ``npresnet study`` that a document shows."""
    shown = re.findall(r"^\$ npresnet (study .*)$", text, re.MULTILINE) + re.findall(r"`npresnet (study [^`]*)`", text)
    return [command for command in shown if not re.search(r"WEIGHTS|my_conv|^study page$", command)]


COMMANDS = sorted({command for text in TEXTS.values() for command in commands(text)})


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's network, but thin, and its picture small."""
    graph = build_graph(Architecture.standard(FAMILIES["matterport"], 50, width=32))
    return write_keras_file(tmp_path_factory.mktemp("demo") / "demo.h5", graph, random_weights(graph))


@pytest.fixture
def instead(demo, monkeypatch):
    for module in ("study", "topics"):
        monkeypatch.setattr(sys.modules[f"npresnet.cli.{module}"], "demo_weights", lambda: (demo, False))
    monkeypatch.setattr(sys.modules["npresnet.cli.topics"], "parse_sizes", lambda option, text, graph: [(64, 64)])
    for topic in ("layers", "ladder"):  # what a machine can do at most takes a second to measure
        importlib.import_module(f"npresnet.study.{topic}")
        module = sys.modules[f"npresnet.study.{topic}"]  # the package's name for it is the function's
        monkeypatch.setattr(module, "ceilings", lambda threads: Ceilings("", 1, 1e11, 1e10))
    # another tile is seconds of compiling in a process of its own; that it comes to that is tested in test_convolution.py
    here = SimpleNamespace(call=lambda what, environment, function, *arguments: function(*arguments))
    monkeypatch.setattr(sys.modules["npresnet.study.ladder"], "elsewhere", here)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(instead, command):
    if "cuda" in command:
        pytest.importorskip("numba_cuda")
    elif "study asm" in command and platform.machine() != "x86_64":
        pytest.skip("listings of a processor are read for x86 alone")
    for engine in ("tensorflow", "onnxruntime"):
        if engine in command:
            pytest.importorskip(engine)
    status, output = cli(*shlex.split(command))
    assert status == 0, output


def test_every_lesson_has_commands_for_what_it_claims():
    assert len(course.LESSONS) == 4
    for lesson in course.LESSONS:
        text = TEXTS[lesson.name]
        assert len(commands(text)) >= 3
        assert "**Guess first:**" in text
        prose = [line for line in text.splitlines() if not line.startswith("|")]
        assert len(" ".join(prose).split()) < 800  # a page
        assert f"docs/lessons/{lesson.name}" in TEXTS["README.md"]


def test_every_topic_is_in_the_course():
    shown = {command.split()[1] for command in commands(TEXTS["README.md"])}
    assert shown == {"layers", "window", "winograd", "errors", "ladder", "memory", "watch", "asm"}
    assert "npresnet study page" in TEXTS["README.md"]


@pytest.mark.parametrize("lesson", course.LESSONS, ids=lambda path: path.name)
def test_tables_of_recordings_are_what_is_recorded(lesson):
    for _, marker, _ in course.MARKED.findall(TEXTS[lesson.name]):
        body = re.search(rf"<!-- study: {re.escape(marker)} -->\n(.*?)\n<!-- end -->", TEXTS[lesson.name], re.DOTALL)
        assert body[1].startswith("| "), f"{marker}: run `python -m bench.course`"
        if marker.startswith("watch"):
            if "cuda" in marker:
                pytest.importorskip("numba_cuda")
            assert body[1] == course.table(marker), f"{marker}: run `python -m bench.course`"


def test_the_example_page():
    """It is of the demo, untimed, small, and its numbers are its JSON's."""
    text = (ROOT / "docs" / "study.html").read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["about"]["timed"] is False
    assert data["about"]["image"] == "photograph.jpg"
    spans = re.findall(r'<span data-key="([^"]*)" data-form="(\w+)">([^<]*)</span>', text)
    assert len(spans) > 2000
    assert [key for key, form, words in spans if html.unescape(words) != shown(form, at(data, key))] == []
