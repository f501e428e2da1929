"""What the commands' tests work in."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(shelf, tmp_path, monkeypatch) -> Path:
    """A working directory with links to the files of the module's ``shelf``, so that names are short and whatever is written is seen."""
    for path in shelf.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
