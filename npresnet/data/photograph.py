"""The photograph that comes with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["photograph"]


def photograph() -> Path:
    """The path of the photograph that comes with the package."""
    return Path(__file__).with_name("photograph.jpg")
