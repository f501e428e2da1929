"""How a number of a study is shown: the same words in the terminal and on the page, made of the same JSON.

A topic is a dataclass. ``plain`` makes JSON of it; a ``Grid`` says which of its fields are shown, in which columns and in which
``FORMS``. Every cell knows where in the JSON its value is, so that whoever doubts the text can look the number up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["FORMS", "Cell", "Column", "Grid", "at", "plain", "shown"]


def plain(value: Any) -> Any:
    """``value`` as JSON has it: dataclasses as objects, arrays as lists, float32 by its shortest digits; NaN and infinity, which
    JSON does not have, as the texts "NaN", "Infinity" and "-Infinity"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _listed(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def _number(value: Any) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(str(value))  # a float32's own digits, not those of the float64 nearest to it


def _listed(array: Any) -> Any:
    if array.dtype.kind in "biu":
        return array.tolist()
    if array.ndim == 0:
        return _number(array[()])
    return [_listed(part) for part in array] if array.ndim > 1 else [_number(value) for value in array]


def at(data: Any, path: str) -> Any:
    """The value at a path such as "rows.3.name"; null of whatever is null. Raises KeyError or IndexError where there is none."""
    for key in path.split(".") if path else ():
        if data is None:
            break
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


# Forms ---------------------------------------------------------------------------------------------------------------


def _three(value: float) -> str:
    """Three digits, without an exponent as long as that is readable."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    return f"{value:.{max(2 - size, 0)}f}" if -4 <= size < 7 else f"{value:.2e}"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= size:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f} bytes"


def _error(value: float) -> str:
    return "same bits" if value == 0 else f"{value:.1e}"


FORMS: Mapping[str, Callable[[Any], str]] = {
    "text": str,
    "count": lambda value: f"{value:,}",
    "three": _three,
    "value": lambda value: f"{value + 0.0:.4g}",  # without the sign of a zero
    "exact": lambda value: f"{value / 1e9:.3f}",
    "ms": lambda value: _three(value * 1e3),
    "spread": lambda value: f"{_three(value[0] * 1e3)}-{_three(value[1] * 1e3)}",
    "giga": lambda value: _three(value / 1e9),
    "percent": lambda value: f"{value * 100:.0f}%",
    "percent1": lambda value: f"{value * 100:.1f}%",
    "times": lambda value: f"{_three(value)}x",
    "bytes": _bytes,
    "error": _error,
    "shape": lambda value: "x".join(map(str, value)),
    "list": lambda value: ", ".join(map(str, value)),
    "yes": lambda value: "yes" if value else "",
}
"""Form -> what it makes of a value. ``exact``: thousands of millions, to three places; ``ms``: seconds, as milliseconds;
``giga``: the same to three digits; ``error``: a relative error, of which only equal bits make nothing."""


def shown(form: str, value: Any) -> str:
    """``value`` of the JSON in words; nothing for null. NaN and infinity, which are texts there, stay what they are."""
    if value is None:
        return ""
    return value if isinstance(value, str) else FORMS[form](value)


# Tables --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column: its heading, the field of each row that it shows, and in which form.

    wide  left out in the terminal, where there are 80 characters
    """

    heading: str
    field: str
    form: str = "text"
    wide: bool = False

    @property
    def right(self) -> bool:
        """Whether it is a column of numbers."""
        return self.form not in ("text", "shape", "list", "yes")


@dataclass(frozen=True)
class Cell:
    """One text, where its value is in the topic's JSON, and the form that makes the one of the other."""

    text: str
    key: str
    form: str
    right: bool = False


@dataclass(frozen=True)
class Grid:
    """Some of a topic's JSON as a table.

    rows      path to the list of rows
    columns   what is shown of each
    caption   what it shows, in a sentence
    """

    rows: str
    columns: tuple[Column, ...]
    caption: str = ""

    def headings(self, wide: bool = True) -> list[Column]:
        """The columns that there is room for."""
        return [column for column in self.columns if wide or not column.wide]

    def filled(self, data: Any) -> Grid:
        """The same without the columns in which no row has anything: times, where nothing was timed."""
        rows = at(data, self.rows)
        kept = tuple(c for c in self.columns if not rows or any(at(row, c.field) not in (None, "") for row in rows))
        return replace(self, columns=kept)

    def cells(self, data: Any, wide: bool = True) -> Iterator[list[Cell]]:
        """Row by row."""
        for number in range(len(at(data, self.rows))):
            row = []
            for column in self.headings(wide):
                key = f"{self.rows}.{number}.{column.field}".lstrip(".")
                row.append(Cell(shown(column.form, at(data, key)), key, column.form, column.right))
            yield row
